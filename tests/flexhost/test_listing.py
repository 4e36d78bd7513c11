"""`flexhost functions` and `flexhost describe`."""

from __future__ import annotations

import json

import pytest
from shell import Shell
from support import NUMBERS, Process

SALES = """
from typing import Annotated, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta

from flexhost import CachePolicy, FlexFun


class Period(msgspec.Struct):
    since: str


class Params(msgspec.Struct):
    owner: str
    region: str = "EU"
    limit: Annotated[int, Meta(ge=1, le=1000, description="rows to return")] = 100
    size: Literal["s", "l"] = "s"
    tags: list[str] = []
    period: Period | None = None


class Sales(FlexFun):
    Name = "Sales"
    Schema = pa.schema([("region", pa.string()), ("at", pa.timestamp("us", "UTC"))])
    Metadata = {"owner": {"team": "sales"}}
    Parameters = Params
    DeadlineSec = 30.0
    MaxRunning = 2
    Cache = CachePolicy(ttl_sec=60, shared=True, vary_by=("header:x-tenant",))

    def call(self, parameters, columns, headers):
        return []

    @staticmethod
    def on_load(ctx):
        raise RuntimeError("nobody may call this to list functions")
"""


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    return Shell(tmp_path_factory.mktemp("project"), numbers=NUMBERS, sales=SALES)


@pytest.fixture(scope="module")
def running(shell):
    """The URL of a host of the same functions."""
    (shell.package / "served.py").write_text(NUMBERS + SALES.partition("    @staticmethod")[0])
    config = shell.folder / "src" / "host.toml"
    config.write_text('[flexfun]\nfunctions = ["flexfun.served"]\n[server]\nlisten_port = 0\n')
    process = Process([config], [], {})
    yield f"grpc://127.0.0.1:{process.port()}"
    process.process.kill()
    process.process.wait()


def test_functions_are_listed_with_their_columns_and_modules(shell):
    assert shell("functions").out.splitlines() == [
        "NAME     COLUMNS     MODULE",
        "numbers  n           flexfun.numbers",
        "Sales    region, at  flexfun.sales",
    ]


def test_functions_of_a_running_host_are_listed(shell, running):
    assert shell("functions", "--host", running).out.splitlines() == [
        "NAME     COLUMNS",
        "numbers  n",
        "Sales    region, at",
    ]


COMMON = """\

columns
  region  string
  at      timestamp[us, tz=UTC]

parameters
  owner   string          needed
  region  string          default "EU"
  limit   integer         default 100   >= 1, <= 1000; rows to return
  size    "l" or "s"      default "s"
  tags    list of string  default []
  period  Period or null  default null

metadata
  owner  {"team": "sales"}
"""


def test_a_function_is_described(shell):
    done = shell("describe", "Sales")

    assert done.out == (
        "Sales  flexfun.sales\n"
        + COMMON
        + """
limits
  runs on   threads
  deadline  30 s
  at once   2

cache
  60 s, shared by callers, by header:x-tenant
"""
    ), done.err


def test_a_function_of_a_running_host_is_described_as_far_as_it_tells(shell, running):
    assert shell("describe", "Sales", "--host", running).out == f"Sales\n{COMMON}"


def test_a_function_without_types_takes_any_parameters(shell):
    assert "parameters\n  any: it has no types for them\n" in shell("describe", "numbers").out


def test_a_description_is_json_where_that_is_asked_for(shell):
    told = json.loads(shell("describe", "Sales", "--json").out)

    assert told["columns"][0] == {"name": "region", "type": "string"}
    assert told["parameters"]["properties"]["limit"]["maximum"] == 1000
    assert told["metadata"] == {"owner": {"team": "sales"}}
    assert told["cache"] == {"ttl_sec": 60, "vary_by": ["header:x-tenant"], "shared": True}
    assert (told["deadline_sec"], told["max_running"]) == (30.0, 2)


def test_an_unknown_function_is_told(shell, running):
    for where in ([], ["--host", running]):
        done = shell("describe", "Sale", *where)
        assert (done.status, done.out) == (1, "")
        told = "no function is named 'Sale', did you mean 'Sales'?"
        assert done.err == f"flexhost: BAD_ARGUMENT: {told}\n"


@pytest.mark.parametrize("name", ["stock", "Stock"])
def test_a_function_that_is_written_and_not_listed_is_told_how_to_be(shell, name):
    (shell.package / "stock.py").touch()

    for command in ("describe", "call"):
        told = shell(command, name).err.strip()
        assert told.endswith(
            '; src/flexfun/stock.py is not listed: add "flexfun.stock" to functions in '
            "config/flexfun.config.toml, a plain function to those of [udf]"
        )


def test_no_function_at_all_is_told(shell):
    empty = shell.folder / "empty.toml"
    empty.write_text("[flexfun]\nfunctions = []\n")
    done = shell("functions", "--config", str(empty))

    assert (done.status, done.out, done.err) == (0, "", "there is no function\n")


def test_a_module_that_cannot_be_imported_is_told(shell):
    broken = shell.folder / "broken.toml"
    broken.write_text('[flexfun]\nfunctions = ["flexfun.no"]\n')
    done = shell("functions", "--config", str(broken))

    assert done.status == 1
    assert "function module 'flexfun.no' cannot be found" in done.err
