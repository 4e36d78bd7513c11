"""Which executor runs a function."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support import SCHEMA, function

from flexhost import FlexFun, table_function
from flexhost.errors import SettingsError, StartError
from flexhost.functions.describe import describe
from flexhost.settings import load

TABLE = pa.table({"n": [1]})
PATTERNS = {"num*": "processes", "numbers": "threads"}


def named(executor):
    return type("Named", (function(lambda *_: TABLE),), {"Executor": executor})


def test_threads_run_a_function_unless_something_else_is_said():
    assert describe(function(lambda *_: TABLE)).executor == "threads"


def test_a_class_names_its_executor():
    assert describe(named("processes")).executor == "processes"


def test_a_table_function_names_its_executor():
    @table_function(SCHEMA, executor="processes")
    def numbers():
        return TABLE

    assert describe(numbers).executor == "processes"


def test_the_first_pattern_that_fits_its_name_decides():
    assert describe(function(lambda *_: TABLE), executors=PATTERNS).executor == "processes"


def test_the_class_wins_over_patterns():
    assert describe(named("threads"), executors=PATTERNS).executor == "threads"


@pytest.mark.parametrize("executor", ["process", 3, ""])
def test_an_executor_that_is_none_ends_the_start(executor):
    with pytest.raises(StartError, match=f"Executor is {executor!r}, expected one of 'threads'"):
        describe(named(executor))


def test_patterns_stand_in_the_settings(tmp_path):
    file = tmp_path / "host.toml"
    file.write_text('[flexfun.executors]\n"Sales*" = "processes"\n')

    assert load([str(file)]).settings.flexfun.executors == {"Sales*": "processes"}


def test_a_pattern_for_an_executor_that_is_none_ends_the_start(tmp_path):
    file = tmp_path / "host.toml"
    file.write_text('[flexfun.executors]\n"Sales*" = "gpu"\n')

    with pytest.raises(SettingsError, match=r"executors is .*gpu.*, expected a table of patterns"):
        load([str(file)])


async def later():
    return TABLE


class Async(FlexFun):
    Name = "async"
    Schema = SCHEMA

    async def call(self, parameters, columns, headers):
        return TABLE


class AsyncStream(Async):
    async def call(self, parameters, columns, headers):
        yield TABLE


class PlainElements(Async):
    def label_elements(self, parameters, columns, headers):
        return TABLE


@pytest.mark.parametrize("cls", [Async, AsyncStream, table_function(SCHEMA)(later)])
def test_coroutines_run_an_async_function_unless_something_else_is_said(cls):
    assert describe(cls).executor == "coroutines"
    assert describe(cls, executors={"*": "processes"}).executor == "processes"


def test_an_async_function_may_name_threads():
    assert describe(type("Named", (Async,), {"Executor": "threads"})).executor == "threads"


def test_what_is_async_in_part_runs_on_threads():
    assert describe(PlainElements).executor == "threads"


@pytest.mark.parametrize(
    ("cls", "plain"), [(named(None), "call"), (PlainElements, "label_elements")]
)
def test_what_is_not_async_and_is_to_run_on_coroutines_ends_the_start(cls, plain):
    told = f"its executor is 'coroutines', and {plain!r} is not async"

    with pytest.raises(StartError, match=told):
        describe(type("Named", (cls,), {"Executor": "coroutines"}))
    with pytest.raises(StartError, match=told):
        describe(cls, executors={"*": "coroutines"})
