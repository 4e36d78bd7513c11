"""`python -m flexhost.spec`: the bytes of calls, in a shell."""

from __future__ import annotations

import io
import sys

import pytest
from runtime import port_of, standing_alone

from flexhost import spec

MODULE = """
import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated

def add_one(i: int, j: int) -> int:
    return i + j

def nothing() -> str:
    return "é"

def table(i: int) -> Iterator[int]:
    yield i

def takes_list(values: list[int]) -> int:
    return 0

def boom(i: int) -> int:
    raise ValueError(f"no {i}")
"""
TYPES = {
    "bool": ("bool", [("true", "AAE="), ("false", "AAA=")]),
    "tiny": ('Annotated[int, "TINYINT"]', [("-128", "AIA="), (r"\N", "AQ==")]),
    "small": ('Annotated[int, "SMALLINT"]', [("-2", "AP/+")]),
    "whole": ('Annotated[int, "INT"]', [("7", "AAAAAAc=")]),
    "narrow": ('Annotated[float, "FLOAT"]', [("1.5", "AD/AAAA=")]),
    "wide": ("float", [("1.5", "AD/4AAAAAAAA"), ("-1e300", None)]),
    "text": ("str", [("hé", "AAAAAANow6k="), ("", "AAAAAAA="), ("--", None), ("-x", None)]),
    "data": ("bytes", [("00ff", "AAAAAAIA/w==")]),
    "day": ("dt.date", [("2020-01-02", "AAAAR1c=")]),
    "hour": ("dt.time", [("01:02:03", "AAA4zvg=")]),
    "moment": ("dt.datetime", [("2020-01-02 03:04:05.123456", "AAAAAW9kNc0DAAb1QA==")]),
    "price": ('Annotated[Decimal, "DECIMAL(10, 2)"]', [("1.23", "AAAAAAAAAAB7")]),
    "long": ('Annotated[Decimal, "DECIMAL(38, 2)"]', [("-0.01", "AAAAAAH/")]),
    "instant": (
        'Annotated[dt.datetime, "TIMESTAMP_LTZ(3)"]',
        [("2020-01-02 03:04:05+00:00", "AAAAAW9kNcyI")],
    ),
    "span": ("dt.timedelta", [("86400000", "AAAAAAAFJlwA")]),
}
for name, (hint, _) in TYPES.items():
    MODULE += f"\ndef {name}(value: {hint} | None) -> {hint} | None:\n    return value\n"


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tool")
    (folder / "tool_udfs.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder


@pytest.fixture
def tool(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            spec.main([*arguments])
        told = capsys.readouterr()
        return ended.value.code, told.out if ended.value.code == 0 else told.err

    return run


@pytest.mark.parametrize(
    ("name", "text", "encoded"),
    [(name, text, encoded) for name, (_, all_) in TYPES.items() for text, encoded in all_],
)
def test_a_value_is_written_as_bytes_and_read_again(tool, name, text, encoded):
    status, written = tool(f"tool_udfs.{name}", "encode-args", text)

    assert status == 0
    assert written.strip() == encoded or encoded is None
    status, read = tool(f"tool_udfs.{name}", "decode-result", written)
    assert (status, read) == (0, f"{SHOWN.get(text, text)}\n")


SHOWN = {"true": "True", "false": "False", "-1e300": "-1e+300", "86400000": "1 day, 0:00:00"}


def test_a_result_is_read_from_the_standard_input(tool, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("AAAAAAAA\nAAAD\n"))

    assert tool("tool_udfs.add_one", "decode-result", "-") == (0, "3\n")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["add_one", "gen-spec"], 2, "'add_one' is no MODULE.NAME of a function"),
        (["tool_udfs", "gen-spec"], 2, "'tool_udfs' is no MODULE.NAME"),
        (["tool_udfs.add", "gen-spec"], 1, "module 'tool_udfs' has no 'add', did you mean"),
        (["no.such", "gen-spec"], 1, "module 'no' cannot be found"),
        (["tool_udfs.table", "gen-spec"], 1, "tool_udfs.table is no scalar function"),
        (["tool_udfs.takes_list", "gen-spec"], 1, "'values' is of type list"),
        (["tool_udfs.takes_list", "encode-args", "1"], 2, "values is '1', expected list"),
        (["tool_udfs.span", "gen-spec"], 1, "of type duration[ms], which a spec cannot have"),
        (["tool_udfs.add_one", "gen-spec", "x"], 2, "gen-spec takes nothing more"),
        (["tool_udfs.add_one", "encode-args", "1"], 2, "takes 2 arguments (i, j), it was given 1"),
        (["tool_udfs.add_one", "encode-args", "1", "x"], 2, "j is 'x', expected int64"),
        (["tool_udfs.add_one", "encode-args", "1", str(2**63)], 2, "expected int64"),
        (["tool_udfs.data", "encode-args", "zz"], 2, "value is 'zz', expected binary"),
        (["tool_udfs.add_one", "decode-result"], 2, "decode-result takes one text or -"),
        (["tool_udfs.add_one", "decode-result", "!"], 1, "the result is no base64"),
        (["tool_udfs.add_one", "decode-result", "AA=="], 1, "result 1 'result', at byte 0: ends"),
        (
            ["--at", "127.0.0.1:1", "tool_udfs.add_one", "call", "1", "2"],
            1,
            "127.0.0.1:1 gave no answer: UNAVAILABLE",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tool, arguments, status, message):
    found, told = tool(*arguments)

    assert found == status
    assert message in told
    assert told.count("\n") == 1


def test_bytes_of_calls_take_no_package_more(tool, monkeypatch):
    for name in ("grpc", "google.protobuf"):
        monkeypatch.setitem(sys.modules, name, None)

    assert tool("tool_udfs.add_one", "encode-args", "1", "2") == (0, "AAAAAAAAAAABAAAAAAAAAAAC\n")
    status, told = tool("tool_udfs.add_one", "gen-spec")
    assert (status, "gen-spec needs grpc: pip install grpcio" in told) == (2, True)


def test_it_asks_a_running_server_as_grpcurl_and_protoc_would(tool, tmp_path):
    with standing_alone(tmp_path, MODULE) as started:
        at = f"localhost:{port_of(started)}"
        described = tool("--at", at, "my_udfs.add_one", "describe")
        unknown = tool("--at", at, "my_udfs.add", "describe")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(tmp_path)
            called = tool("--at", at, "my_udfs.add_one", "call", "1", "-3")
            nothing = tool("--at", at, "my_udfs.nothing", "call")
            failed = tool("--at", at, "my_udfs.boom", "call", "1")

    assert described[1].splitlines()[-1] == 'function_kind: "SCALAR"'
    assert (unknown[0], "has no 'add', did you mean 'add_one'?" in unknown[1]) == (1, True)
    assert called == (0, "-2\n")
    assert nothing == (0, "é\n")
    assert failed[0] == 1
    assert "calling UDF: ValueError: no 1" in failed[1]
