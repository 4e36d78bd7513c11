"""What a type checker sees of the names that authors import."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from support import ROOT

AUTHORS = """
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from flexhost import BadArgument, Caller, FlexFun, LoadContext, table_function

SCHEMA = pa.schema([("n", pa.int64())])
Columns = tuple[str, ...] | None


class Params(msgspec.Struct):
    upto: int = 3


class Typed(FlexFun):
    Name = "typed"
    Schema = SCHEMA
    Parameters = Params
    DeadlineSec = 5
    MaxRunning = 2
    params: Params

    @staticmethod
    def on_load(ctx: LoadContext) -> None:
        file = ctx.enter(open("x"))
        ctx.on_close(file.close)
        reveal_type(file.read())

    def call(
        self, parameters: dict[str, Any], columns: Columns, headers: dict[str, list[str]]
    ) -> Iterator[pa.Table]:
        reveal_type(self.params.upto)
        reveal_type(self.caller)
        yield pa.table({"n": [1]})


class Nested(FlexFun):
    Name = "nested"
    Schema = SCHEMA

    @dataclass
    class Parameters:
        upto: int = 3

    params: Parameters

    async def call(
        self, parameters: dict[str, Any], columns: Columns, headers: dict[str, list[str]]
    ) -> list[dict[str, int]]:
        if self.params.upto > 5:
            raise BadArgument("upto", "too far")
        return [{"n": self.params.upto}]


@table_function(SCHEMA, name="squares", metadata={"owner": "me"}, deadline_sec=1.5, max_running=3)
def squares(upto: int, caller: Caller, step: int = 1) -> list[dict[str, int]]:
    return []


@table_function(SCHEMA)
async def later(upto: int) -> AsyncIterator[pa.Table]:
    yield pa.table({"n": [upto]})


reveal_type(squares(3, Caller("ann")))
squares("3", Caller("ann"))
"""


def test_authors_get_the_types_of_what_they_write(tmp_path):
    (tmp_path / "mine.py").write_text(AUTHORS)
    config = ROOT / "pyproject.toml"

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(config), "--strict", "mine.py"],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )

    told = checked.stdout.replace("builtins.", "")  # as older ones say
    assert re.findall(r'Revealed type is "([^"]+)"', told) == [
        "str",
        "int",
        "flexhost.caller.Caller",
        "list[dict[str, int]]",
    ], told
    errors = [line for line in told.splitlines() if " error: " in line]
    assert len(errors) == 1, errors
    assert 'Argument 1 to "squares" has incompatible type "str"; expected "int"' in errors[0]


def test_the_package_says_that_it_has_types():
    assert (ROOT / "src" / "flexhost" / "py.typed").exists()
    assert 'flexhost = ["py.typed", ' in (ROOT / "pyproject.toml").read_text()
