"""Functions run with the kit: in this process, and over real Flight, with the same outcome."""

from __future__ import annotations

import contextlib
import datetime as dt
import subprocess
import sys
import threading

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import SCHEMA, function, until

from flexhost import BadArgument, Caller, FlexFun, table_function
from flexhost.errors import (
    BadCall,
    FunctionFailed,
    HostError,
    StartError,
    TimedOut,
    Unauthorized,
)
from flexhost.testing import elements, report, run, served, serving

CITIES = pa.schema([("region", pa.string()), ("city", pa.string()), ("people", pa.int64())])
ROWS = [
    {"region": "EU", "city": "Brno", "people": 4},
    {"region": "EU", "city": None, "people": 2},
    {"region": "US", "city": "Reno", "people": 3},
]


class Cities(FlexFun):
    Name = "Cities"
    Schema = CITIES
    ApplyFilters = True
    LabelElements = "host"

    def call(self, parameters, columns, headers):
        return ROWS


class ByShape:
    Name = "ByShape"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        return pa.table({"n": [parameters["upto"]]})


@table_function(SCHEMA)
def counted(upto: int):
    yield from (pa.record_batch([pa.array([n])], SCHEMA) for n in range(upto))


@table_function(SCHEMA)
async def awaited(upto: int):
    return [{"n": upto}]


@table_function(SCHEMA)
async def stepped(upto: int):
    for n in range(upto):
        yield pa.record_batch([pa.array([n])], SCHEMA)


calling = pytest.mark.parametrize("call", [run, served])


@calling
def test_every_kind_of_function_can_be_called(call):
    rows = {one: call(one, upto=3)["n"].to_pylist() for one in (counted, awaited, stepped)}

    assert rows == {counted: [0, 1, 2], awaited: [3], stepped: [0, 1, 2]}
    assert call(ByShape, {"upto": 5}).to_pydict() == {"n": [5]}


@calling
def test_filters_columns_and_elements_are_what_the_host_makes_of_them(call):
    filtered = call(Cities, report("people", "city").where(region="EU").where_not(city="Brno"))

    assert filtered.to_pydict() == {"people": [2], "city": [None]}
    assert call(Cities, report("people"), columns=["city"]).column_names == ["city"]
    assert call(Cities, elements("region").containing("e")).to_pydict() == {"region": ["EU"]}


@calling
def test_parameters_headers_and_the_caller_arrive_as_they_would(call):
    told = {}

    @table_function(SCHEMA)
    def telling(since: dt.date, tags: list[str], headers, caller):
        told.update(since=since, tags=tags, header=headers["x-tenant"], caller=caller.name)
        return []

    call(
        telling,
        {"tags": ("a", "b")},
        since=dt.date(2026, 1, 31),
        headers={"X-Tenant": "acme"},
        caller="ann",
    )

    assert told == {
        "since": dt.date(2026, 1, 31), "tags": ["a", "b"], "header": ["acme"], "caller": "ann",
    }  # fmt: skip


@calling
def test_a_caller_calls_what_it_may(call):
    assert call(Cities, caller=Caller("ann", functions=("Cit*",))).num_rows == 3
    with pytest.raises(Unauthorized):
        call(Cities, caller=Caller("ann", functions=("other",)))


class Params(msgspec.Struct):
    limit: int = 1


@calling
def test_errors_are_those_that_a_caller_sees(call):
    class Picky(FlexFun):
        Name = "Picky"
        Schema = SCHEMA
        Parameters = Params

        def call(self, parameters, columns, headers):
            match self.params.limit:
                case 1:
                    raise BadArgument("limit", "one is too few")
                case 2:
                    raise ValueError("two is no limit")
                case 3:
                    raise KeyError("three")
            yield pa.record_batch([pa.array([1])], SCHEMA)
            raise OSError("the disk is gone")

    def error(**given):
        with pytest.raises(HostError) as caught:
            call(Picky, **given)
        return caught.value

    assert "limit is 'x', expected int" in str(error(limit="x"))
    assert "no column 'm'" in str(error(columns=["m"]))
    assert "limit: one is too few" in str(error(limit=1))
    assert error(limit=2).code == error(limit=1).code == "BAD_ARGUMENT"
    assert isinstance(error(limit=3), FunctionFailed)
    assert "the disk is gone" in str(error(limit=4))
    assert error(limit=4).code == "COMMAND_FAILED"


def test_the_functions_own_exception_is_the_cause_with_its_lines():
    def fails(parameters, columns, headers):
        raise KeyError("lost")

    with pytest.raises(FunctionFailed, match="lost") as caught:
        run(function(fails))

    assert isinstance(caught.value.__cause__, KeyError)
    assert "raise KeyError" in caught.value.__cause__.__notes__[0]


@calling
def test_a_deadline_of_the_function_holds(call):
    over = threading.Event()

    class Slow(FlexFun):
        Name = "Slow"
        Schema = SCHEMA
        DeadlineSec = 0.1

        def call(self, parameters, columns, headers):
            over.wait(20)
            return []

        def cancel(self):
            over.set()
            return True

    with pytest.raises(TimedOut):
        call(Slow)
    assert over.wait(20)


@calling
def test_on_load_gets_the_settings_of_the_test_and_what_it_made_is_closed(call):
    told = []

    class Loaded(FlexFun):
        Name = "Loaded"
        Schema = SCHEMA

        @staticmethod
        def on_load(ctx):
            told.append((ctx.settings.my.url, ctx.location.uri.startswith(b"grpc")))
            ctx.enter(contextlib.closing(Closed()))

        def call(self, parameters, columns, headers):
            told.append(f"called in {self.filters.columns}")
            return []

    class Closed:
        def close(self):
            told.append("closed")

    call(Loaded, settings={"my": {"url": "db:1"}})

    assert told == [("db:1", True), "called in ()", "closed"]
    with pytest.raises(StartError, match="on_load of function 'Loaded' failed"):
        call(Loaded)


@calling
def test_the_fiscal_year_is_that_of_the_settings(call):
    days = pa.schema([("day", pa.date32())])

    @table_function(days, apply_filters=True)
    def years():
        return [{"day": dt.date(2026, month, 1)} for month in (3, 4)]

    asked = report().at("2026-05-01").relative("day", "FISCAL_YEAR", 0, 0)
    found = call(years, asked, settings={"flexfun": {"fiscal_year_start_month": 4}})

    assert found["day"].to_pylist() == [dt.date(2026, 4, 1)]


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        ({"columns": "region"}, "columns is 'region', expected a list of texts"),
        ({"region": object()}, "object"),
    ],
)
@calling
def test_what_cannot_be_sent_is_a_mistake_of_the_test(call, ask, told):
    with pytest.raises(TypeError, match=told):
        call(Cities, **ask)
    with pytest.raises(TypeError, match="'a' is given twice"):
        call(Cities, {"a": 1}, a=2)
    with pytest.raises(TypeError, match="expected report"):
        call(Cities, ["region"])


@calling
def test_columns_that_are_no_list_are_refused_as_over_the_wire(call):
    with pytest.raises(BadCall, match="columns"):
        call(Cities, {"columns": "region"})


@calling
def test_a_class_that_cannot_be_served_says_why(call):
    class Nameless(FlexFun):
        Schema = SCHEMA

    with pytest.raises(StartError, match="has no Name"):
        call(Nameless)


@calling
def test_nothing_is_left_over(call):
    before = set(threading.enumerate())
    call(Cities)
    call(counted, upto=5)

    until(lambda: not set(threading.enumerate()) - before)


def test_several_calls_share_one_host():
    loads = []

    class Shared(ByShape):
        Name = "Shared"

        @staticmethod
        def on_load(ctx):
            loads.append(ctx.location.uri.decode())

    with serving(Shared) as call:
        with fl.connect(call.location) as client:
            [flight] = client.list_flights()
        assert call(upto=1) == run(Shared, upto=1)
        assert call({"upto": 2}, caller="ann").to_pydict() == {"n": [2]}
        with pytest.raises(HostError) as caught:
            call()

    assert loads[0] == call.location
    assert b"Shared" in flight.descriptor.command
    assert isinstance(caught.value.__cause__, fl.FlightServerError)
    assert not hasattr(sys, "tracebacklimit")


def test_a_token_of_one_call_is_not_shown_to_the_function():
    seen = []

    def call(parameters, columns, headers):
        seen.append(headers["authorization"])
        return []

    served(function(call), caller="ann")

    assert seen == [["***"]]


def test_the_kit_takes_neither_pytest_nor_flight_until_they_are_wanted():
    code = (
        "import sys, pyarrow as pa\n"
        "from flexhost import FlexFun\n"
        "from flexhost.testing import report, run\n"
        "class One(FlexFun):\n"
        "    Name, Schema = 'One', pa.schema([('n', pa.int64())])\n"
        "    def call(self, parameters, columns, headers): return [{'n': 1}]\n"
        "assert run(One, report('n').where(n=1)).num_rows == 1\n"
        "print([name for name in ('pytest', 'pyarrow.flight', 'dynaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_no_thread_is_at_work_any_more_when_a_call_has_failed():
    class Slow:
        """Of a wrong type, and taken apart slowly, as what reads ahead in native code is."""

        def __del__(self):
            threading.Event().wait(0.3)

    @table_function(SCHEMA)
    def slow():
        return Slow()

    with pytest.raises(FunctionFailed):
        run(slow)

    assert not [one for one in threading.enumerate() if one.name == "worker"]
