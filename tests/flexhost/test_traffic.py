"""Real traffic: bounds that are reached, callers who leave, functions that hang. Over real sockets,
with callers in processes of their own where they must die."""

from __future__ import annotations

import base64
import gc
import json
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest
import structlog
from support import LONG, SCHEMA, Client, command, flight_code, function, serving, until

from flexhost.errors import Cancelled
from flexhost.telemetry.events import CallEnded, ReadEnded, WorkerAbandoned

BACKPRESSURE = 102 | 0x3_0000
TABLE = pa.table({"n": [1, 2, 3]})


class Gate:
    """A function that runs until it is opened; `cancel` opens it unless it is deaf."""

    def __init__(self, name="gated", *, deaf=False):
        self.opened = threading.Event()
        self.started = threading.Semaphore(0)
        self.runs = []
        gate = self

        def call(parameters, columns, headers):
            gate.runs.append((parameters.get("who"), time.monotonic()))
            gate.started.release()
            gate.opened.wait(LONG)
            return TABLE

        class Gated(function(call, name)):
            def cancel(self):
                if not deaf:
                    gate.opened.set()
                return True

        self.function = Gated


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()


class Caller(threading.Thread):
    """A call in a thread of its own: its error, or None."""

    def __init__(self, client, name="gated", **parameters):
        super().__init__()
        self.client = Client(client.frontend.port)
        self.data = command(name, **parameters)
        self.error = None
        self.start()

    def run(self):
        try:
            self.client.info(self.data)
        except fl.FlightError as error:
            self.error = error

    def code(self):
        self.join(LONG)
        assert not self.is_alive()
        return self.error and flight_code(self.error)[0]


def refused(ask):
    """The message and the hint of a refusal, in milliseconds."""
    with pytest.raises(fl.FlightUnavailableError) as error:
        ask()
    info = json.loads(error.value.extra_info)
    assert info["code"] == BACKPRESSURE
    hint = json.loads(base64.b64decode(info["body"]))["retry_after_ms"]
    assert hint >= 100
    return info["msg"]


# --- bounds


def test_running_and_waiting_calls_are_bounded(gate):
    with serving(gate.function, threads=2, waiting=3) as client:
        callers = [Caller(client) for _ in range(5)]
        until(lambda: client.host.at_work == 5)
        assert len(gate.runs) == 2

        assert "2 calls run and 3 are waiting" in refused(lambda: client.info(command("gated")))
        gate.opened.set()
        assert [caller.code() for caller in callers] == [None] * 5


def test_requests_under_way_are_bounded_whatever_they_ask(gate):
    with serving(gate.function, function(lambda *_: TABLE, "fast"), rpcs=2) as client:
        ticket = client.ticket("fast")
        callers = [Caller(client) for _ in range(2)]
        until(lambda: client.frontend.under_way == 2)

        for ask in (
            lambda: client.info(command("fast")),
            lambda: client.read(ticket),
            lambda: list(client.flight.list_flights()),
        ):
            assert "2 requests are under way" in refused(ask)
        gate.opened.set()
        assert [caller.code() for caller in callers] == [None, None]
        assert client.read(ticket).num_rows == 3
        until(lambda: client.frontend.under_way == 0)


def endless(closed=None):
    def batches():
        try:
            while True:
                yield pa.record_batch({"n": pa.array(range(100_000))})
        finally:
            if closed is not None:
                closed.set()

    return pa.RecordBatchReader.from_batches(SCHEMA, batches())


def test_open_streams_are_bounded_and_a_refused_one_can_be_read_later():
    with serving(function(lambda *_: endless()), reads=1) as client:
        first, second = client.ticket(), client.ticket()
        reader = client.flight.do_get(first)
        reader.read_chunk()

        assert "1 results are being read" in refused(lambda: client.read(second))
        reader.cancel()
        until(lambda: not client.results.open)
        again = client.flight.do_get(second)
        assert again.read_chunk().data.num_rows == 100_000
        again.cancel()
        until(lambda: client.frontend.under_way == 0)


def test_a_command_is_bounded(gate):
    with serving(gate.function, command=1000) as client:
        largest = command("gated") + b" " * (1000 - len(command("gated")))
        gate.opened.set()
        assert client.info(largest).total_records == 3

        with pytest.raises(fl.FlightServerError, match="has 1001 bytes, at most 1000") as error:
            client.info(largest + b" ")

    assert flight_code(error.value)[0] == 1


def test_a_ticket_is_bounded(gate):
    with serving(gate.function) as client:
        with pytest.raises(fl.FlightServerError, match="at most 1024") as error:
            client.read(fl.Ticket(b"x" * 2000))

    assert flight_code(error.value)[0] == 1


# --- nobody waiting, nothing done


def test_a_passed_client_deadline_ends_the_call_within_half_a_second(gate):
    with serving(gate.function) as client:
        descriptor = fl.FlightDescriptor.for_command(command("gated"))
        with pytest.raises(fl.FlightTimedOutError):
            client.flight.get_flight_info(descriptor, fl.FlightCallOptions(timeout=0.3))
        left = time.monotonic()
        ended = client.event(CallEnded).call

    assert isinstance(ended.error, Cancelled)
    assert ended.ended_at - left < 0.5
    assert gate.opened.wait(LONG)  # its function was asked to cancel


def test_a_waiting_call_whose_caller_is_killed_never_runs(gate):
    code = (
        "import pyarrow.flight as fl, sys\n"
        "client = fl.connect(sys.argv[1])\n"
        "client.get_flight_info(fl.FlightDescriptor.for_command(sys.argv[2]))\n"
    )
    with serving(gate.function, threads=1) as client:
        first = Caller(client, who="first")
        assert gate.started.acquire(timeout=LONG)
        address = f"grpc://127.0.0.1:{client.frontend.port}"
        sent = command("gated", who="killed").decode()
        killed = subprocess.Popen([sys.executable, "-c", code, address, sent])
        until(lambda: client.host.at_work == 2)

        killed.kill()
        killed.wait()
        left = time.monotonic()
        ended = client.event(CallEnded).call
        assert ended.ended_at - left < 0.5
        gate.opened.set()
        assert first.code() is None

    assert [who for who, _ in gate.runs] == ["first"]


def test_no_call_starts_more_than_half_a_second_after_its_caller_left():
    left, started = {}, {}

    def call(parameters, columns, headers):
        started[parameters["who"]] = time.monotonic()
        threading.Event().wait(0.05)
        return TABLE

    with serving(function(call, "short"), threads=1, waiting=100) as client:

        def leave(who):
            descriptor = fl.FlightDescriptor.for_command(command("short", who=who))
            options = fl.FlightCallOptions(timeout=0.1 + who % 7 / 10)
            try:
                client.flight.get_flight_info(descriptor, options)
            except fl.FlightTimedOutError:
                left[who] = time.monotonic()

        threads = [threading.Thread(target=leave, args=[n]) for n in range(60)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        until(lambda: client.host.at_work == 0)

    assert len(left) > 30
    assert [started[who] - at for who, at in left.items() if started.get(who, 0) > at + 0.5] == []
    assert len(started) < 40  # most of the work was for nobody, and not done


def test_a_client_that_leaves_a_stream_has_its_generator_closed_and_its_slot_freed():
    closed = threading.Event()
    code = (
        "import pyarrow.flight as fl, sys\n"
        "reader = fl.connect(sys.argv[1]).do_get(fl.Ticket(sys.argv[2]))\n"
        "reader.read_chunk()\nprint('reads', flush=True)\nsys.stdin.read()\n"
    )
    with serving(function(lambda *_: endless(closed))) as client:
        ticket = client.ticket().ticket.decode()
        address = f"grpc://127.0.0.1:{client.frontend.port}"
        reader = subprocess.Popen(
            [sys.executable, "-c", code, address, ticket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert reader.stdout.readline() == b"reads\n"
        reader.kill()
        reader.communicate()
        left = time.monotonic()

        assert closed.wait(LONG)
        assert time.monotonic() - left < 0.5
        until(lambda: not client.results.open and client.frontend.under_way == 0)


def test_a_stream_that_never_started_frees_its_slot():
    with serving(function(lambda *_: endless()), threads=8, waiting=300) as client:
        tickets = [client.ticket() for _ in range(100)]
        for ticket in tickets:
            options = fl.FlightCallOptions(timeout=0.0005)
            with pytest.raises(fl.FlightError):
                client.flight.do_get(ticket, options).read_all()

        until(lambda: not client.results.open and client.frontend.under_way == 0)


def test_a_stream_of_empty_batches_ends_with_its_reader():
    closed, begun = threading.Event(), threading.Event()

    def heartbeats():
        try:
            yield pa.record_batch({"n": [1]})
            begun.set()
            while not closed.is_set():
                threading.Event().wait(0.01)
                yield pa.record_batch({"n": pa.array([], pa.int64())})
        finally:
            closed.set()

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, heartbeats()))
    with serving(made) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()
        assert begun.wait(LONG)
        reader.cancel()

        assert closed.wait(LONG)
        until(lambda: not client.results.open and client.frontend.under_way == 0)


def test_the_slot_of_a_reader_who_left_is_free_although_the_function_works_on():
    working, go_on = threading.Event(), threading.Event()

    def slow():
        for n in range(3):
            yield pa.record_batch({"n": [n]})
        working.set()
        go_on.wait(LONG)

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, slow()))
    with serving(made) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()
        assert working.wait(LONG)
        reader.cancel()

        until(lambda: not client.results.open and client.frontend.under_way == 0)
        go_on.set()


def test_a_reader_that_stalls_is_cut_off():
    with serving(function(lambda *_: endless()), stall=0.3) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()  # and no more

        event = client.event(ReadEnded)
        assert not event.complete
        assert "took nothing more" in str(event.error)
        with pytest.raises(pa.ArrowException):
            reader.read_all()
        until(lambda: client.frontend.under_way == 0)


def test_an_error_keeps_neither_its_request_nor_its_slot():
    def broken():
        yield pa.record_batch({"n": [1]})
        raise RuntimeError("in mid-stream")

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, broken()))
    gc.disable()
    try:
        with serving(made, function(lambda *_: None, "fails")) as client:
            for _ in range(3):
                with pytest.raises(fl.FlightServerError, match="in mid-stream"):
                    client.call()
                with pytest.raises(fl.FlightServerError):
                    client.info(command("fails"), {"x-quiver-pollable": "1"})

            until(lambda: client.frontend.under_way == 0)
            kept = [call.error for call in client.results._calls.values() if call.error]
            assert len(kept) == 3
            assert not any(error.__traceback__ for error in kept)
    finally:
        gc.enable()


def test_a_reader_that_takes_its_time_between_batches_is_not_cut_off():
    release, working = threading.Event(), threading.Event()

    def slow():
        yield pa.record_batch({"n": [1]})
        working.set()
        release.wait(LONG)  # the function is slow, not the reader
        yield pa.record_batch({"n": [2]})

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, slow()))
    with serving(made, function(lambda *_: TABLE, "table"), stall=5.0) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()
        assert working.wait(LONG)
        client.host.look(time.monotonic() + 10)
        release.set()

        assert reader.read_all().num_rows == 1
        assert client.call("table").equals(TABLE)


# --- a function cannot hurt the host


def test_a_stuck_thread_is_reported_with_its_stack_and_replaced():
    stuck = Gate(deaf=True)
    with serving(stuck.function, function(lambda *_: TABLE), threads=1, deadline=0.2) as client:
        assert Caller(client).code() == 100
        abandoned = client.event(WorkerAbandoned)
        assert "gate.opened.wait" in abandoned.stack
        assert abandoned.call.function.name == "gated"

        assert client.call().num_rows == 3
        assert client.executor.abandoned == 1
        stuck.opened.set()
        until(lambda: client.executor.abandoned == 0)
        assert client.call().num_rows == 3
        until(lambda: client.executor.running == 0)


def test_more_stuck_threads_than_are_replaced_keep_their_places():
    stuck = Gate(deaf=True)
    with serving(stuck.function, threads=2, waiting=0, max_abandoned=1, deadline=0.1) as client:
        assert [Caller(client).code() for _ in range(2)] == [100, 100]
        until(lambda: client.executor.abandoned == 2)
        assert Caller(client).code() == 100  # in the place of the first

        until(lambda: client.executor.abandoned == 3)
        assert client.executor.running == 2
        refused(lambda: client.info(command("gated")))
        stuck.opened.set()
        until(lambda: client.executor.abandoned == 0 and client.executor.running == 0)
        assert client.info(command("gated")).total_records == 3


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def recursion():
    return recursion()


def raises(error):
    raise error


@pytest.mark.parametrize(
    "misbehave",
    [
        lambda: raises(SystemExit(1)),
        lambda: raises(KeyboardInterrupt()),
        lambda: raises(Wordless()),
        lambda: raises(RuntimeError("\ud800")),
        recursion,
        object,
    ],
    ids=["SystemExit", "KeyboardInterrupt", "wordless", "surrogate", "recursion", "no data"],
)
def test_two_hundred_misbehaving_calls_cost_nothing_but_themselves(misbehave):
    bad, good = function(lambda *_: misbehave(), "bad"), function(lambda *_: TABLE, "good")
    with serving(bad, good, threads=2) as client:
        for _ in range(200):
            with pytest.raises(fl.FlightServerError) as error:
                client.info(command("bad"))
            assert flight_code(error.value)[0] == 5

        assert client.call("good").num_rows == 3
        until(lambda: client.host.at_work == 0)
        assert len(client.results) == 1
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("worker") <= 2


def test_an_expired_table_is_freed_although_its_worker_waits():
    made = function(lambda *_: pa.table({"n": pa.array(range(1_000_000))}))
    with serving(made, threads=2, ttl=0.0) as client:
        before = pa.total_allocated_bytes()
        for _ in range(4):
            client.info(command())

        until(lambda: len(client.results) == 0)
        until(lambda: pa.total_allocated_bytes() - before < 1_000_000)


def test_what_a_function_binds_to_its_context_is_gone_in_the_next_call():
    seen = []

    def call(parameters, columns, headers):
        seen.append(structlog.contextvars.get_contextvars())
        structlog.contextvars.bind_contextvars(tenant="acme")
        return TABLE

    with serving(function(call), threads=1) as client:
        client.call()
        client.call()

    assert seen == [{}, {}]


def test_what_a_generator_binds_to_its_context_is_there_until_it_ends():
    seen = []

    def rows(tenant):
        seen.append(structlog.contextvars.get_contextvars())
        structlog.contextvars.bind_contextvars(tenant=tenant)
        try:
            for n in range(4):
                yield pa.record_batch({"n": [n]})
                seen.append(structlog.contextvars.get_contextvars())
        finally:
            seen.append(structlog.contextvars.get_contextvars())

    def call(parameters, columns, headers):
        return pa.RecordBatchReader.from_batches(SCHEMA, rows(parameters["tenant"]))

    with serving(function(call), threads=1) as client:
        for tenant in ("acme", "shop"):
            client.call(tenant=tenant)

    acme, shop = {"tenant": "acme"}, {"tenant": "shop"}
    assert seen == [{}, *[acme] * 5, {}, *[shop] * 5]


def test_two_cancels_that_never_end_hold_up_nothing():
    stuck, closed = threading.Event(), threading.Event()

    class Stuck(function(lambda *_: stuck.wait(LONG) and TABLE, "stuck")):
        def cancel(self):
            stuck.wait(LONG)

    def rows():
        try:
            yield pa.record_batch({"n": [1]})
        finally:
            closed.set()

    def begun(*_):
        reader = pa.RecordBatchReader.from_batches(SCHEMA, rows())
        reader.read_next_batch()
        return reader

    with serving(Stuck, function(begun), deadline=0.1, ttl=0.0) as client:
        assert [Caller(client, "stuck").code() for _ in range(3)] == [100] * 3
        client.info(command())

        assert closed.wait(LONG)  # the stream that nobody read was closed
        stuck.set()


# --- fairness


def test_a_tenant_with_many_calls_neither_holds_up_nor_locks_out_another(gate):
    fair = "parameters:executionContext.workspaceId"
    with serving(gate.function, threads=1, waiting=10, fair=fair) as client:
        first = Caller(client, who="first")
        assert gate.started.acquire(timeout=LONG)
        crowd = [
            Caller(client, who="crowd", executionContext={"workspaceId": "big"}) for _ in range(10)
        ]
        until(lambda: client.executor.waiting == 10)
        refused(lambda: client.info(command("gated", executionContext={"workspaceId": "big"})))

        small = Caller(client, who="small", executionContext={"workspaceId": "small"})
        until(lambda: [caller for caller in crowd if not caller.is_alive()])
        (put_out,) = [caller for caller in crowd if not caller.is_alive()]
        assert put_out.code() == 102
        gate.opened.set()
        assert (small.code(), first.code()) == (None, None)
        assert sorted(map(str, (caller.code() for caller in crowd))) == ["102"] + ["None"] * 9

    # served second of the waiting, before eight of the crowd
    assert [who for who, _ in gate.runs].index("small") == 2


# --- stopping


def test_nothing_accepted_is_lost_by_a_drain_under_load():
    def call(parameters, columns, headers):
        threading.Event().wait(0.02)
        return TABLE

    with serving(function(call, "short"), threads=4, waiting=100) as client:
        outcomes = []

        def go_on():
            own = Client(client.frontend.port)
            while True:
                try:
                    outcomes.append(own.call("short").num_rows)
                except fl.FlightUnavailableError as error:
                    outcomes.append(flight_code(error)[0])
                    return

        threads = [threading.Thread(target=go_on) for _ in range(20)]
        for thread in threads:
            thread.start()
        until(lambda: len(outcomes) > 100)
        client.host.drain(LONG)
        for thread in threads:
            thread.join(LONG)

    assert sorted(set(outcomes)) == [3, 502]
    assert outcomes.count(502) == 20
