"""`@table_function`, and what an object of a FlexFun is told."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import json
import logging
import threading
import weakref
from typing import Annotated, Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from msgspec import Meta
from support import KEEP, LONG, SCHEMA, flight_code, function, serving, until

from flexhost import BadArgument, CachePolicy, Caller, FlexFun, table_function
from flexhost.call import Call, running
from flexhost.calls.coroutines import Awaited
from flexhost.errors import BadCall, Cancelled, FunctionFailed, StartError
from flexhost.functions.describe import describe
from flexhost.logs import JsonLines
from flexhost.registry import load


@table_function(SCHEMA)
def count(upto: int, step: Annotated[int, Meta(ge=1)] = 1):
    """The numbers up to one."""
    return pa.table({"n": list(range(0, upto, step))})


def ran(source, parameters=None, columns=None, headers=None, **more):
    call = Call(
        describe(source),
        parameters or {},
        columns,
        headers or {},
        deadline=100.0,
        emit=lambda event: None,
        keep=KEEP,
        **more,
    )
    call.run()
    return call.result()


def rows(result):
    tables = list(result) if not hasattr(result, "open") else [result.open().table]
    return [value for table in tables for value in table["n"].to_pylist()]


def listed(client):
    return {
        (told := json.loads(info.descriptor.command))["functionName"]: told["metadata"]
        for info in client.flight.list_flights()
    }


def test_the_hinted_arguments_of_a_function_are_its_parameters():
    assert rows(ran(count, {"upto": 3.0})) == [0, 1, 2]
    with pytest.raises(BadCall, match="upto is missing, expected int; step is 0, expected int >="):
        ran(count, {"step": 0})


def test_a_decorated_function_is_what_it_was_for_python():
    assert count(2).to_pydict() == {"n": [0, 1]}
    assert (count.__name__, count.__doc__) == ("count", "The numbers up to one.")


def test_a_function_is_served_under_its_name_with_its_schema_in_its_metadata():
    named = table_function(SCHEMA, name="other", metadata={"owner": "me"})(lambda: [])

    with serving(count, named) as client:
        assert client.call("count", upto=2).to_pydict() == {"n": [0, 1]}
        metadata = listed(client)

    assert metadata["count"]["parameters"]["required"] == ["upto"]
    assert metadata["count"]["parameters"]["properties"]["step"]["minimum"] == 1
    assert metadata["other"]["owner"] == "me"


def test_bad_input_is_refused_before_it_waits():
    with serving(count, threads=1) as client:
        with pytest.raises(fl.FlightServerError) as error:
            client.call("count", upto="x")
        assert len(client.results) == client.host.at_work == 0

    code, message = flight_code(error.value)
    assert code == 1
    assert message.startswith("upto is 'x', expected int [id ")


def test_columns_headers_and_the_caller_are_injected_where_they_are_named():
    seen = []

    @table_function(SCHEMA)
    def told(caller: Caller, *, columns=None, headers: Any = None, upto: int = 2):
        seen.append((caller.name, columns, headers, upto))
        return []

    ran(told, {}, ("n",), {"x": ["1"]}, caller=Caller("ann"))

    assert seen == [("ann", ("n",), {"x": ["1"]}, 2)]


def test_a_default_list_is_each_calls_own():
    @table_function(SCHEMA)
    def grows(numbers: list[int] = [1]):  # noqa: B006
        numbers.append(2)
        return [{"n": n} for n in numbers]

    assert rows(ran(grows)) == rows(ran(grows)) == [1, 2]


def test_reserved_names_are_no_parameters():
    @table_function(SCHEMA)
    def all_told(columns, context, filters, headers, caller):
        return []

    assert describe(all_told).metadata["parameters"]["properties"] == {}


def unhinted(n): ...
def several(*numbers: int): ...
def named(**numbers: int): ...
def placed(n: int, /): ...
def mangled(__n: int): ...
def lost(n: NoSuchType): ...  # type: ignore # noqa: F821
def odd(n: complex): ...
def context_too(executionContext: dict[str, Any]): ...  # noqa: N803


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (unhinted, "table function m.unhinted: argument 'n' has no type hint"),
        (several, "several: argument *numbers: 'int' cannot be given by its name"),
        (named, "named: argument **numbers: 'int' cannot be given by its name"),
        (placed, "placed: argument n: 'int' cannot be given by its name"),
        (mangled, "mangled: argument '__n' begins with two underscores, expected another name"),
        (lost, "lost: its type hints cannot be read: name 'NoSuchType' is not defined"),
        (odd, "odd: Parameters cannot be used: TypeError"),
        (context_too, "'executionContext' is no parameter"),
    ],
)
def test_arguments_that_cannot_be_parameters_end_the_start(plain, message, monkeypatch):
    monkeypatch.setattr(plain, "__module__", "m")
    with pytest.raises(StartError) as error:
        describe(table_function(SCHEMA)(plain))

    assert message in str(error.value)


def test_a_method_a_class_and_a_missing_schema_are_told_at_once():
    with pytest.raises(TypeError, match="stands on the method .*Methods.rows, expected a function"):

        class Methods:
            @table_function(SCHEMA)
            def rows(self): ...

    with pytest.raises(TypeError, match="stands on <class .*, expected a function"):
        table_function(SCHEMA)(dict)
    with pytest.raises(TypeError, match=r"stands on <function .*<lambda>.*, which needs a name="):
        table_function(SCHEMA)(lambda: [])
    with pytest.raises(TypeError, match="needs a pyarrow.Schema, it was given <function"):
        table_function(unhinted)


def test_the_limits_and_the_cache_of_a_function_are_those_of_its_decorator():
    limited = table_function(
        SCHEMA, cache=CachePolicy(1.0), deadline_sec=2, max_running=3, metadata={"a": 1}
    )(count)

    described = describe(limited)

    assert (described.deadline, described.max_running) == (2.0, 3)
    assert described.cache == CachePolicy(1.0)


def test_a_cached_generator_ends_the_start():
    @table_function(SCHEMA, cache=CachePolicy(1.0))
    def stream():
        yield pa.table({"n": [1]})

    @table_function(SCHEMA, cache=CachePolicy(1.0))
    async def asynchronous():
        yield pa.table({"n": [1]})

    for each in (stream, asynchronous):
        with pytest.raises(StartError, match="call returns a stream, which cannot be cached"):
            describe(each)


def test_what_a_cached_function_has_in_memory_is_cached_and_a_stream_is_refused():
    made = []

    @table_function(SCHEMA, cache=CachePolicy(9.0))
    def cached(stream: bool = False):
        made.append(1)
        return iter([pa.table({"n": [1]})]) if stream else [{"n": 1}]

    with serving(cached) as client:
        assert [client.call("cached").to_pylist() for _ in range(2)] == [[{"n": 1}]] * 2
        assert len(made) == 1
        with pytest.raises(fl.FlightServerError, match="has a Cache and returned a stream: only a"):
            client.call("cached", stream=True)


class Params(msgspec.Struct):
    upto: int = 3


class Typed(FlexFun):
    Name = "typed"
    Schema = SCHEMA
    Parameters = Params
    params: Params

    def call(self, parameters, columns, headers):
        assert parameters == {"upto": 2.0}  # as it was sent
        return [{"n": n} for n in range(self.params.upto)]


def test_an_object_has_its_typed_parameters():
    assert rows(ran(Typed, {"upto": 2.0})) == [0, 1]


def test_an_object_without_a_class_of_parameters_has_the_raw_ones():
    class Untyped(FlexFun):
        Name = "untyped"
        Schema = SCHEMA

        def call(self, parameters, columns, headers):
            assert self.params is parameters
            return [{"n": len(self.caller.name)}]

    assert rows(ran(Untyped, {"any": "thing"}, caller=Caller("ann"))) == [3]


def test_metadata_of_the_author_stands_beside_the_schema():
    class WithMetadata(Typed):
        Metadata = {"owner": "me"}  # noqa: RUF012

    assert set(describe(WithMetadata).metadata) == {"owner", "parameters"}
    assert set(describe(Typed).metadata) == {"parameters"}


def test_metadata_with_parameters_of_its_own_ends_the_start_of_a_typed_function_alone():
    class Twice(Typed):
        Metadata = {"parameters": "see the wiki"}  # noqa: RUF012

    class Untyped(Twice):
        Parameters = None

    with pytest.raises(StartError, match="Metadata has 'parameters', where the schema of its Par"):
        describe(Twice)
    assert describe(Untyped).metadata == {"parameters": "see the wiki"}


def test_attributes_that_a_class_has_for_itself_stay_as_they_are():
    class Own(FlexFun):
        Name = "own"
        Schema = SCHEMA

        def __init__(self):
            self.params = 5

        def caller(self):  # type: ignore[override]
            return 7

        def call(self, parameters, columns, headers):
            return [{"n": self.params}, {"n": self.caller()}]

    assert rows(ran(Own)) == [5, 7]


def test_a_foreign_class_with_slots_and_parameters_of_its_own_is_left_alone():
    class Foreign:
        Name = "foreign"
        Schema = SCHEMA
        Parameters = {"its": "own"}  # noqa: RUF012
        __slots__ = ()

        def call(self, parameters, columns, headers):
            return pa.table({"n": [len(parameters)]})

    assert rows(ran(Foreign, {"a": 1, "b": 2})) == [2]


def test_an_object_that_create_gives_twice_knows_nobodys_caller():
    class Shared(FlexFun):
        Name = "shared"
        Schema = SCHEMA

        def call(self, parameters, columns, headers):
            return [{"n": len(getattr(self, "caller", Caller()).name)}]

    only = Shared()
    Shared.create = classmethod(lambda cls: only)

    assert [rows(ran(Shared, caller=Caller("ann"))) for _ in range(3)] == [[3], [0], [0]]


def test_a_typed_function_whose_create_gives_an_object_twice_fails():
    class Shared(Typed):
        pass

    only = Shared()
    Shared.create = classmethod(lambda cls: only)
    ran(Shared, {"upto": 2.0})

    with pytest.raises(FunctionFailed, match="create returned the object of another call"):
        ran(Shared, {"upto": 2.0})


def test_a_frozen_class_can_be_told():
    class Frozen(Typed):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    assert rows(ran(Frozen, {"upto": 2.0})) == [0, 1]


def test_a_bad_argument_tells_the_caller_which_and_why():
    def call(parameters, columns, headers):
        raise BadArgument("region", "there is none called 'XX'")

    with serving(function(call), error_detail=False) as client:
        with pytest.raises(fl.FlightServerError) as error:
            client.call()

    code, message = flight_code(error.value)
    assert code == 1
    assert message.startswith("region: there is none called 'XX' [id ")


def test_a_class_of_parameters_that_fails_at_a_value_fails_the_call():
    class Breaks(msgspec.Struct):
        def __post_init__(self):
            raise KeyError("broken")

    class Broken(Typed):
        Parameters = Breaks

    with serving(Broken) as client:
        with pytest.raises(fl.FlightServerError, match="broken") as error:
            client.call("typed")
    assert flight_code(error.value)[0] == 5


def test_the_registry_finds_functions_as_it_finds_classes(tmp_path, monkeypatch):
    head = "import pyarrow as pa\nfrom flexhost import table_function\n"
    one = '@table_function(pa.schema([("n", pa.int64())]))\ndef {}(n: int): ...\n'
    (tmp_path / "pack7").mkdir()
    (tmp_path / "pack7" / "__init__.py").write_text(
        "from pack7.inner import a\nfrom other7 import b\n"
    )
    (tmp_path / "pack7" / "inner.py").write_text(head + one.format("a"))
    (tmp_path / "other7.py").write_text(head + one.format("b") + one.format("c"))
    (tmp_path / "again7.py").write_text("from other7 import c\n__all__ = ['c']\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert [f.name for f in load(["pack7", "again7"], None)] == ["a", "c"]
    assert load(["other7"], None)["b"].file.endswith("other7.py")


VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="")


@table_function(SCHEMA)
async def later(upto: int = 3):
    await asyncio.sleep(0)
    assert running.get() is not None
    return pa.table({"n": list(range(upto))})


@table_function(SCHEMA)
async def piecewise(upto: int = 3):
    VAR.set("kept")
    for n in range(upto):
        await asyncio.sleep(0)
        yield pa.table({"n": [n]})
        assert VAR.get() == "kept"


class AsyncClass(FlexFun):
    Name = "async_class"
    Schema = SCHEMA
    Parameters = Params

    async def call(self, parameters, columns, headers):
        await asyncio.sleep(0)
        return [{"n": n} for n in range(self.params.upto)]


# of calls in one loop; with none they run in threads, each with a loop of its own
IN_EITHER = pytest.mark.parametrize("tasks", [0, 9])


@IN_EITHER
@pytest.mark.parametrize("source", [later, piecewise, AsyncClass])
def test_async_functions_are_served(source, tasks):
    with serving(source, tasks=tasks) as client:
        (name,) = listed(client)
        assert client.call(name)["n"].to_pylist() == [0, 1, 2]


@IN_EITHER
def test_what_an_async_function_logs_carries_its_call(caplog, tasks):
    lines = []

    class Keeping(logging.Handler):
        def emit(self, record):
            lines.append(json.loads(JsonLines().format(record)))

    logger = logging.getLogger("test.async")
    logger.addHandler(Keeping())

    @table_function(SCHEMA, name="logging")
    async def logs():
        logger.warning("first")
        yield pa.table({"n": [1]})
        logger.warning("second")

    with serving(logs, tasks=tasks) as client:
        client.call("logging")

    assert [line["event"] for line in lines] == ["first", "second"]
    assert len({line["call_id"] for line in lines}) == 1


@IN_EITHER
def test_a_cancelled_call_cancels_its_task(tasks):
    began, ended = threading.Event(), []

    @table_function(SCHEMA, deadline_sec=LONG)
    async def waits():
        began.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    with serving(waits, tasks=tasks) as client:
        call = client.host.submit("waits", {}, None, {})
        assert began.wait(LONG)
        client.host.cancel(call.id)
        until(lambda: ended)
        until(lambda: not client.host.at_work)
        with pytest.raises(Cancelled):
            call.result()


@IN_EITHER
def test_an_async_stream_is_closed_with_its_reader_even_while_it_waits(tasks):
    waiting, ended = threading.Event(), []

    @table_function(SCHEMA)
    async def stuck():
        try:
            yield pa.table({"n": [0] * 100_000})
            waiting.set()
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            ended.append("closed")

    with serving(stuck, tasks=tasks) as client:
        reader = client.flight.do_get(client.ticket("stuck"))
        reader.read_chunk()
        assert waiting.wait(LONG)
        reader.cancel()
        del reader
        until(lambda: ended)


@IN_EITHER
def test_an_async_stream_that_nobody_reads_is_closed(tasks):
    ended = []

    @table_function(SCHEMA)
    async def unread():
        try:
            yield pa.table({"n": [0]})
            yield pa.table({"n": [1]})
        finally:
            ended.append("closed")

    with serving(unread, ttl=0.05, tasks=tasks) as client:
        client.ticket("unread")
        until(lambda: ended)


@pytest.fixture
def no_garbage_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("fails", [False, True])
def test_the_loop_of_an_async_function_is_closed_without_a_garbage_collection(fails):
    loops = []

    @table_function(SCHEMA)
    async def stream(whole: bool):
        loops.append(asyncio.get_running_loop())
        yield pa.table({"n": [0] * 100_000})
        if fails:
            raise ValueError("in the middle")

    @table_function(SCHEMA)
    async def table(whole: bool):
        loops.append(asyncio.get_running_loop())
        if fails:
            raise ValueError("at once")
        return pa.table({"n": [0]})

    with serving(stream, table, tasks=0) as client:
        for name in ("stream", "table"):
            with contextlib.suppress(fl.FlightServerError):
                client.call(name, whole=True)
        reader = client.flight.do_get(client.ticket("stream", whole=False))
        reader.read_chunk()
        reader.cancel()
        until(lambda: [loop.is_closed() for loop in loops] == [True] * 3)


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_stream_at_its_end_is_kept_by_nobody():
    class Streams:
        async def call(self):
            yield 1

    steps = Awaited(Streams()).call()
    assert list(steps) == [1]
    kept = weakref.ref(steps)
    del steps

    assert kept() is None


def test_a_stream_that_is_closed_inside_another_loop_has_its_end_all_the_same():
    ended = []

    @table_function(SCHEMA)
    async def stream():
        try:
            yield pa.table({"n": [0]})
            yield pa.table({"n": [1]})
        finally:
            ended.append("closed")

    result = ran(stream)

    async def another():
        result.close()

    asyncio.run(another())
    until(lambda: ended)


def test_an_error_of_an_async_stream_is_coded():
    @table_function(SCHEMA)
    async def breaks():
        yield pa.table({"n": [0] * 100_000})
        raise ValueError("in the middle")

    with serving(breaks) as client:
        with pytest.raises(fl.FlightServerError, match="in the middle") as error:
            client.call("breaks")
    assert flight_code(error.value)[0] == 1


def test_a_coroutine_that_nobody_awaited_is_no_result():
    async def forgotten(): ...

    made = []

    def call(parameters, columns, headers):
        made.append(forgotten())
        return made[0]

    with pytest.raises(FunctionFailed, match="returned coroutine, expected a pyarrow.Table"):
        ran(function(call))
    made[0].close()
