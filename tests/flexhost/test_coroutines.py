"""Async functions in one event loop, that of asyncio and that of uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref

import pyarrow as pa
import pyarrow.flight as fl
import pytest
import uvloop
from contexts import only, parameters
from support import LONG, SCHEMA, command, flight_code, function, serving, total, until
from test_polling import poll

from flexhost import CachePolicy, FlexFun, table_function
from flexhost.call import State, running
from flexhost.calls.coroutines import Steps
from flexhost.calls.loop_thread import Flow, LoopThread
from flexhost.errors import Busy, Cancelled, FunctionFailed, TimedOut
from flexhost.storage.retained import Retained
from flexhost.storage.spool import Spool
from flexhost.telemetry.events import CallEnded, WorkerAbandoned

TABLE = pa.table({"n": [1, 2, 3]})
VAR: contextvars.ContextVar[str] = contextvars.ContextVar("of_this_test", default="unset")


class Gate:
    """What async functions wait at, in whichever loop, until a thread opens it."""

    def __init__(self):
        self.waiting = []
        self.cancelled = 0

    async def passed(self):
        loop = asyncio.get_running_loop()
        opened = loop.create_future()
        self.waiting.append((loop, opened))
        try:
            await opened
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    def open(self):
        for loop, opened in self.waiting:
            with contextlib.suppress(RuntimeError):  # a loop that has ended
                loop.call_soon_threadsafe(lambda one: one.done() or one.set_result(None), opened)


@pytest.fixture
def gate():
    return Gate()


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def served(request):
    """`serving`, with either loop."""

    def hosted(*functions, **options):
        return serving(*functions, new_loop=request.param, **options)

    return hosted


def waits(gate, **attributes):
    class Waits(FlexFun):
        Name = "waits"
        Schema = SCHEMA

        async def call(self, parameters, columns, headers):
            await gate.passed()
            return pa.table({"n": [parameters.get("n", 0), threading.get_ident()]})

    for name, value in attributes.items():
        setattr(Waits, name, value)
    return Waits


@table_function(SCHEMA)
async def quick():
    return TABLE


def submit(client, name="waits", **parameters):
    return client.host.submit(name, parameters, None, {})


def ended(call):
    assert call.ended.wait(LONG)
    return call.result().open().table["n"].to_pylist()


# --- many calls, one thread


def test_thousands_of_calls_wait_on_one_thread(served, gate):
    with served(waits(gate), tasks=3000) as client:
        before = threading.active_count()
        calls = [submit(client, n=n) for n in range(3000)]
        until(lambda: len(gate.waiting) == 3000)
        assert client.executor.running == 3000
        assert threading.active_count() - before <= 2  # the loop, and who looks after it

        gate.open()
        rows = [ended(call) for call in calls]
        assert [n for n, _ in rows] == list(range(3000))
        assert len({thread for _, thread in rows}) == 1
        until(lambda: client.executor.running == 0)


def test_a_thousand_polling_callers_have_no_thread_each(served, gate):
    with served(waits(gate), tasks=1000, poll=0.001) as client:
        retries = [poll(client, command("waits", n=n))[1] for n in range(1000)]
        until(lambda: len(gate.waiting) == 1000)
        assert client.frontend.under_way == 0

        gate.open()
        for n, retry in enumerate(retries):
            info = None
            while info is None:
                info, retry, _ = poll(client, retry)
            assert client.read(info.endpoints[0].ticket)["n"][0].as_py() == n


def test_a_call_has_a_context_of_its_own(served):
    @table_function(SCHEMA)
    async def binding():
        before = VAR.get()
        VAR.set("bound")
        await asyncio.sleep(0)
        child = await asyncio.create_task(asyncio.sleep(0, (VAR.get(), running.get())))
        assert (before, *child) == ("unset", "bound", running.get())
        return TABLE

    with served(binding) as client:
        for _ in range(3):
            assert client.call("binding").num_rows == 3


# --- bounds


def test_a_call_beyond_bound_and_queue_is_refused_and_tells_when_to_come_again(served, gate):
    with served(waits(gate), tasks=2, waiting=1) as client:
        calls = [submit(client, n=n) for n in range(3)]
        until(lambda: len(gate.waiting) == 2)
        assert (client.executor.running, client.executor.waiting) == (2, 1)

        with pytest.raises(fl.FlightUnavailableError) as error:
            client.info(command("waits"))
        assert flight_code(error.value)[0] == 102
        assert isinstance(client.executor.refusal(), Busy)
        gate.open()
        until(lambda: len(gate.waiting) == 3)
        gate.open()
        assert [ended(call)[0] for call in calls] == [0, 1, 2]


def test_no_more_calls_run_than_max_running(served, gate):
    with served(waits(gate, MaxRunning=2), quick) as client:
        calls = [submit(client, n=n) for n in range(4)]
        until(lambda: len(gate.waiting) == 2)
        assert client.call("quick").num_rows == 3  # others are not held up

        assert (client.executor.running, len(gate.waiting)) == (2, 2)
        gate.open()
        until(lambda: len(gate.waiting) == 4)
        gate.open()
        assert sorted(ended(call)[0] for call in calls) == [0, 1, 2, 3]


def test_shares_take_turns(served, gate):
    order = []

    @table_function(SCHEMA)
    async def ordered(n: int = 0):
        order.append(n)
        if not n:
            await gate.passed()
        return TABLE

    with served(ordered, tasks=1, fair="header:team") as client:
        submit(client, "ordered")
        until(lambda: gate.waiting)
        for n, team in ((1, "a"), (2, "a"), (3, "b")):
            client.host.submit("ordered", {"n": n}, None, {"team": [team]})
        gate.open()
        until(lambda: len(order) == 4)

    assert order == [0, 1, 3, 2]


# --- the end of a call


def test_a_cancelled_call_has_its_task_and_its_own_cancel_called(served, gate):
    asked = []
    with served(waits(gate, cancel=lambda self: asked.append(running.get()))) as client:
        call = submit(client)
        until(lambda: gate.waiting)
        client.host.cancel(call.id)

        until(lambda: asked and gate.cancelled and not client.executor.running)
        assert asked == [call]
        with pytest.raises(Cancelled):
            call.result()


def test_a_call_that_is_cancelled_while_it_waits_is_never_begun(served, gate):
    with served(waits(gate), tasks=1) as client:
        first, second = submit(client, n=1), submit(client, n=2)
        until(lambda: gate.waiting)
        client.host.cancel(second.id)
        gate.open()

        assert ended(first)[0] == 1
        until(lambda: not client.host.at_work)
        assert len(gate.waiting) == 1


def test_a_late_call_is_answered_and_its_task_cancelled(served, gate):
    with served(waits(gate, DeadlineSec=0.1)) as client:
        with pytest.raises(fl.FlightTimedOutError) as error:
            client.info(command("waits"))

        assert flight_code(error.value)[0] == 100
        until(lambda: gate.cancelled)
        until(lambda: not client.executor.running)


def test_what_comes_after_a_cancel_is_thrown_away(served, gate):
    @table_function(SCHEMA)
    async def deaf():
        try:
            await gate.passed()
        except asyncio.CancelledError:
            return TABLE

    with served(deaf) as client:
        call = submit(client, "deaf")
        until(lambda: gate.waiting)
        client.host.cancel(call.id)
        until(lambda: not client.host.at_work)

        assert (call.state, call.data) == (State.STOPPED, None)
        assert client.results.retained.bytes == 0


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, asyncio.CancelledError])
def test_an_error_costs_its_call_alone(served, gate, error):
    @table_function(SCHEMA)
    async def fails():
        await asyncio.sleep(0)
        raise error("on purpose")

    with served(fails, waits(gate)) as client:
        other = submit(client, n=7)
        with pytest.raises(fl.FlightError, match="on purpose") as raised:
            client.info(command("fails"))
        assert flight_code(raised.value)[0] == (1 if error is ValueError else 5)
        assert client.event(CallEnded).call.error.trace
        until(lambda: gate.waiting)
        gate.open()
        assert ended(other)[0] == 7


def test_a_task_of_a_function_that_ends_the_loop_ends_nothing_else(served, gate):
    async def leaves():
        raise SystemExit(3)

    @table_function(SCHEMA)
    async def begins():
        task = asyncio.create_task(leaves())
        await asyncio.wait([task])
        return TABLE

    with served(begins, waits(gate)) as client:
        other = submit(client, n=7)
        until(lambda: gate.waiting)

        assert client.call("begins").num_rows == 3
        gate.open()
        assert ended(other)[0] == 7


def test_equal_calls_share_one_run(served, gate):
    with served(waits(gate, Cache=CachePolicy(9.0))) as client:
        calls = [submit(client, n=1) for _ in range(3)]
        until(lambda: gate.waiting)
        gate.open()

        assert len({tuple(ended(call)) for call in calls}) == 1
        assert len(gate.waiting) == 1


def test_filters_are_applied_to_what_an_async_function_returns(served):
    @table_function(pa.schema([("region", pa.string())]), apply_filters=True)
    async def regions():
        return [{"region": "EU"}, {"region": "US"}]

    with served(regions) as client:
        table = client.call("regions", **parameters(only("region", "US")))

    assert table["region"].to_pylist() == ["US"]


def test_elements_of_a_label_come_from_an_async_method(served):
    class Regions(FlexFun):
        Name = "regions"
        Schema = pa.schema([("region", pa.string())])

        async def call(self, parameters, columns, headers):
            raise AssertionError("not asked for")

        async def label_elements(self, parameters, columns, headers):
            await asyncio.sleep(0)
            return [{"region": "EU"}]

    sent = {"label": "region", "limit": 10}
    asked = parameters(executionType="LABEL_ELEMENTS", labelElementsExecutionRequest=sent)
    with served(Regions) as client:
        assert client.call("regions", **asked)["region"].to_pylist() == ["EU"]


def test_nothing_of_a_call_is_kept_without_a_garbage_collection(served):
    made = []

    class Objects(FlexFun):
        Name = "objects"
        Schema = SCHEMA

        async def call(self, parameters, columns, headers):
            made.append(weakref.ref(self))
            await asyncio.sleep(0)
            if parameters.get("fail"):
                raise KeyError("on purpose")
            return TABLE

    gc.collect()
    gc.disable()
    try:
        with served(Objects) as client:
            client.call("objects")
            with pytest.raises(fl.FlightError):
                client.call("objects", fail=True)
            until(lambda: [gone() for gone in made] == [None, None])
    finally:
        gc.enable()


# --- what takes long after the await


def test_what_takes_long_to_finish_holds_up_no_other_call(served):
    begun, release = threading.Event(), threading.Event()

    @table_function(SCHEMA)
    async def lazily():
        def batches():
            begun.set()
            release.wait(LONG)
            yield pa.record_batch({"n": [1]})

        return batches()

    with served(lazily, quick) as client:
        call = submit(client, "lazily")
        assert begun.wait(LONG)
        assert client.call("quick").num_rows == 3
        assert not call.ended.is_set()

        release.set()
        assert call.ended.wait(LONG)
        assert [table.num_rows for table in client.host.read(call.id)] == [1]


def test_what_does_not_finish_past_the_deadline_is_reported_with_its_thread(served):
    release = threading.Event()

    @table_function(SCHEMA, deadline_sec=0.1)
    async def lazily():
        return (release.wait(LONG) and TABLE for _ in range(1))

    with served(lazily) as client:
        call = submit(client, "lazily")
        told = client.event(WorkerAbandoned)
        release.set()
        until(lambda: client.executor.abandoned == 0)

    assert told.call is call
    assert "release.wait(LONG)" in told.stack


def test_a_result_past_the_budget_goes_to_the_spool(served, tmp_path):
    @table_function(SCHEMA)
    async def large(rows: int):
        return pa.table({"n": list(range(rows))})

    size = total(pa.table({"n": list(range(100_000))}))
    retained = Retained(size * 1.5, Spool(1 << 30, tmp_path))
    with served(large, retained=retained) as client:
        tickets = [client.ticket("large", rows=100_000) for _ in range(3)]

        assert client.results.retained.spilled > 0
        assert [client.read(ticket).num_rows for ticket in tickets] == [100_000] * 3


# --- streams


@table_function(SCHEMA)
async def numbered(upto: int, rows: int = 1, of: int = 0):
    token = VAR.set("bound")
    for _ in range(upto):
        await asyncio.sleep(0)
        assert (VAR.get(), running.get().function.name) == ("bound", "numbered")
        yield pa.record_batch({"n": [of] * rows})
    VAR.reset(token)


def test_a_stream_is_read_to_its_end(served):
    with served(numbered) as client:
        assert client.call("numbered", upto=5, of=3)["n"].to_pylist() == [3] * 5
        assert client.call("numbered", upto=0).num_rows == 0
        assert client.call("numbered", upto=4, rows=100_000).num_rows == 400_000


def test_two_streams_go_on_in_turns_on_one_thread(served):
    threads, taken = set(), []

    @table_function(SCHEMA)
    async def turns(of: int):
        while True:
            threads.add(threading.get_ident())
            await asyncio.sleep(0)
            yield pa.record_batch({"n": [of] * 100_000})

    with served(turns) as client:
        readers = [client.flight.do_get(client.ticket("turns", of=of)) for of in range(2)]
        for _ in range(20):
            taken += [reader.read_chunk().data["n"][0].as_py() for reader in readers]
        for reader in readers:
            reader.cancel()

    assert taken == [0, 1] * 20
    assert len(threads) == 1


def test_a_stream_goes_no_further_than_its_reader(served):
    given = []

    @table_function(SCHEMA)
    async def eager():
        for n in range(40):
            given.append(n)
            yield pa.record_batch({"n": [n] * 500_000})  # 4 MB

    with served(eager) as client:
        ticket = client.ticket("eager")
        assert given == [0]  # nobody reads
        reader = client.flight.do_get(ticket)
        reader.read_chunk()
        client.call("eager")  # another one, from its beginning to its end

        assert len(given) - 40 < 20
        reader.cancel()


def test_an_error_in_mid_stream_keeps_its_code(served):
    @table_function(SCHEMA)
    async def breaks():
        yield pa.record_batch({"n": [1] * 100_000})
        raise ValueError("half way")

    with served(breaks) as client:
        with pytest.raises(fl.FlightError, match="half way") as error:
            client.call("breaks")

    assert flight_code(error.value)[0] == 1


def test_an_error_before_the_first_batch_fails_the_call(served):
    @table_function(SCHEMA)
    async def breaks():
        await asyncio.sleep(0)
        raise KeyError("at once")
        yield

    with served(breaks) as client:
        with pytest.raises(fl.FlightError, match="at once"):
            client.info(command("breaks"))


def test_a_timeout_around_a_yield_ends_the_step_that_it_waits_in(served):
    @table_function(SCHEMA)
    async def slow():
        async with asyncio.timeout(0.1):
            yield pa.record_batch({"n": [1] * 100_000})
            await asyncio.Event().wait()

    with served(slow) as client:
        call = submit(client, "slow")
        assert call.ended.wait(LONG)
        with pytest.raises(FunctionFailed) as error:
            list(client.host.read(call.id))

    assert "TimeoutError" in str(error.value)


def test_a_task_that_fails_beside_a_yield_ends_its_stream(served):
    failed = threading.Event()

    async def fails():
        failed.set()
        raise ValueError("beside it")

    @table_function(SCHEMA)
    async def grouped():
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            yield pa.record_batch({"n": [1] * 100_000})
            await asyncio.Event().wait()

    with served(grouped) as client:
        call = submit(client, "grouped")
        assert failed.wait(LONG)  # while nobody reads
        with pytest.raises(FunctionFailed, match="1 sub-exception"):
            list(client.host.read(call.id))


def test_all_of_a_stream_is_one_task(served):
    tasks = []

    @table_function(SCHEMA)
    async def told():
        try:
            for _ in range(3):
                tasks.append(asyncio.current_task())
                yield pa.record_batch({"n": [1] * 100_000})
        finally:
            tasks.append(asyncio.current_task())

    with served(told) as client:
        assert client.call("told").num_rows == 300_000
        client.flight.do_get(client.ticket("told")).cancel()
        until(lambda: len(tasks) >= 6)

    assert len(set(tasks)) == 2


def test_what_a_generator_raises_when_it_is_closed_is_logged_with_its_call(served, caplog):
    @table_function(SCHEMA)
    async def fails():
        try:
            yield TABLE
        finally:
            raise ValueError("when closed")

    told = []
    caplog.handler.addFilter(lambda record: told.append(running.get()) or True)
    with served(fails) as client:
        client.ticket("fails")

    [record] = [one for one in caplog.records if one.exc_info]
    assert "when it was closed" in record.message
    assert [call.function.name for call in told] == ["fails"]


def test_what_a_stream_has_given_is_not_kept_until_it_is_asked_for_more():
    class Item:
        pass

    given, flows, tasks = [], [], []

    def item():
        made = Item()
        given.append(weakref.ref(made))
        return made

    async def items():
        while True:
            yield item()

    async def begun(source):
        flows.append(Flow(loop, source, {}))
        await flows[0].go_on()

    loop, source = LoopThread(), items()
    loop.post(lambda: tasks.append(asyncio.ensure_future(begun(source))))
    until(lambda: flows)
    steps = Steps(flows[0], source)
    next(steps)
    until(lambda: given[0]() is None)
    assert len(given) == 1
    loop.close()
    assert loop.join(LONG)


def test_a_stream_that_nobody_has_read_is_closed_when_the_host_ends(served):
    closed = []

    @table_function(SCHEMA)
    async def unread():
        try:
            yield TABLE
            yield TABLE
        finally:
            await asyncio.sleep(0)
            closed.append(running.get().function.name)

    with served(unread) as client:
        client.ticket("unread")

    assert closed == ["unread"]


def test_a_thousand_streams_wait_for_their_first_batch_on_one_thread(served, gate):
    @table_function(SCHEMA)
    async def later():
        await gate.passed()
        yield TABLE

    with served(later, tasks=1000) as client:
        before = threading.active_count()
        calls = [submit(client, "later") for _ in range(1000)]
        until(lambda: len(gate.waiting) == 1000)
        assert threading.active_count() - before <= 2
        gate.open()
        assert all(call.ended.wait(LONG) for call in calls)


# --- a function that holds up the loop, or goes on for ever


def blocking(release):
    @table_function(SCHEMA)
    async def blocks():
        await asyncio.sleep(0)
        release.wait(LONG)
        return pa.table({"n": [threading.get_ident()]})

    return blocks


def test_a_blocked_loop_is_reported_and_others_go_on_in_it_afterwards(served, gate):
    release = threading.Event()
    with served(blocking(release), waits(gate), quick) as client:
        there = submit(client, n=1)
        until(lambda: gate.waiting)
        blocked = submit(client, "blocks")
        told = client.event(WorkerAbandoned)
        assert told.call is blocked
        assert "release.wait(LONG)" in told.stack
        assert told.why == "an async function blocks the event loop"
        assert client.executor.abandoned == 1
        waiting = submit(client, "quick")
        assert not waiting.ended.wait(0.6)  # longer than two looks

        release.set()
        assert ended(waiting) == [1, 2, 3]
        (own,) = ended(blocked)
        gate.open()
        assert ended(there) == [1, own]  # no other loop has taken its place
        until(lambda: client.executor.abandoned == 0)


def test_late_calls_in_a_blocked_loop_are_not_blamed(served, gate):
    release = threading.Event()
    late = waits(gate, DeadlineSec=0.1)
    with served(blocking(release), late, deadline=0.2, tasks=2) as client:
        waiting = submit(client)
        until(lambda: gate.waiting)
        submit(client, "blocks")
        told = client.event(WorkerAbandoned)
        assert told.call.function.name == "blocks"
        assert client.host.wait(waiting, lambda: False, LONG)
        with pytest.raises(TimedOut):
            waiting.result()

        assert client.executor.abandoned == 1
        release.set()
        until(lambda: client.executor.abandoned == 0 and gate.cancelled)
        until(lambda: not client.host.at_work)


def test_a_call_that_swallows_its_cancel_is_reported_and_its_place_given_away(served, gate):
    async def deep():
        while True:
            try:
                await gate.passed()
                return
            except asyncio.CancelledError:
                continue

    @table_function(SCHEMA, deadline_sec=0.1)
    async def deaf():
        await deep()
        return TABLE

    with served(deaf, quick, tasks=1) as client:
        call = submit(client, "deaf")
        told = client.event(WorkerAbandoned)
        assert told.call is call
        assert "await gate.passed()" in told.stack
        assert told.why == "an async call goes on past its deadline, though it was cancelled"

        assert client.call("quick").num_rows == 3  # the only place is free
        assert client.executor.abandoned == 1
        gate.open()
        until(lambda: client.executor.abandoned == 0 and not client.host.at_work)
        assert client.call("quick").num_rows == 3


def test_a_reader_can_leave_a_stream_whose_loop_is_blocked(served):
    release, stepping = threading.Event(), threading.Event()

    @table_function(SCHEMA)
    async def blocks():
        yield pa.record_batch({"n": [1] * 100_000})
        stepping.set()
        release.wait(LONG)

    with served(blocks) as client:
        reader = client.flight.do_get(client.ticket("blocks"))
        reader.read_chunk()
        assert stepping.wait(LONG)
        reader.cancel()
        until(lambda: not client.results.open)
        until(lambda: client.frontend.under_way == 0)
        release.set()


def test_function_and_async_function_are_run_by_their_executors(served):
    @table_function(SCHEMA)
    async def asynchronous():
        return pa.table({"n": [threading.get_ident()]})

    plain = function(lambda *_: pa.table({"n": [threading.get_ident()]}))
    with served(asynchronous, plain) as client:
        one, other = client.call("asynchronous"), client.call()

    assert one != other


def test_a_stream_that_ended_is_closed_without_the_garbage_collector():
    @table_function(SCHEMA)
    async def some():
        yield pa.table({"n": [1]}, schema=SCHEMA)

    gc.disable()
    try:
        with serving(some) as client:
            assert client.call("some").num_rows == 1
            until(lambda: not client.results.open)
    finally:
        gc.enable()
