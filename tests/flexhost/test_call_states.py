"""Whatever is done to a call, in any order and from several threads: no illegal state, no lost
wake-up, no data after a cancel, nothing left open."""

from __future__ import annotations

import threading

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from support import KEEP, LONG, SCHEMA, function

from flexhost.call import Call, State
from flexhost.errors import Cancelled, FunctionFailed, HostError, TimedOut
from flexhost.functions.describe import describe
from flexhost.results import Results
from flexhost.system.closers import Closers
from flexhost.telemetry.events import CallEnded, ReadEnded

TTL = 60.0
CLOSERS = Closers(2)
ENDS = {State.FINISHED, State.FAILED, State.STOPPED}

OPERATIONS = st.sampled_from(
    ["run", "cancel", "deadline", "ask", "wait", "read", "read half", "expire", "drop"]
)


class Stage:
    """One call in Results, with what can be done to it and what was seen."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.told = []
        self.opened = self.closed = 0
        self.stopped = threading.Event()  # some stop was successful
        self.after_stop = []  # data that was got although the call was stopped before
        self.results = Results(TTL, CLOSERS, self.told.append, clock=lambda: 0.0)
        made = describe(function(self.call))
        self.one = Call(
            made, {}, None, {}, deadline=1.0, emit=self.told.append, keep=KEEP, clock=lambda: 0.0
        )
        self.results.add(self.one)

    def call(self, parameters, columns, headers):
        if self.kind == "fails":
            raise RuntimeError("fails")
        if self.kind == "table":
            return pa.table({"n": [1, 2]})
        return pa.RecordBatchReader.from_batches(SCHEMA, self.batches())

    def batches(self):
        self.opened += 1
        try:
            for n in range(3):
                yield pa.record_batch({"n": [n]})
        finally:
            self.closed += 1

    def do(self, operation: str) -> None:
        match operation:
            case "run":
                self.one.run()
            case "cancel" | "deadline":
                error = Cancelled("c") if operation == "cancel" else TimedOut("d")
                if self.one.stop(error):
                    self.stopped.set()
            case "ask":
                self.one.ask_to_cancel()
            case "wait":
                assert self.one.ended.wait(LONG), "a wake-up was lost"
                assert self.one.state in ENDS
            case "read" | "read half":
                self.read(half=operation == "read half")
            case "expire":
                self.results.expire(TTL + 1)
            case "drop":
                self.results.drop(self.one)

    def read(self, *, half: bool) -> None:
        stopped_before = self.stopped.is_set()
        try:
            reading = self.results.read(self.one.id)
        except HostError:
            return
        if stopped_before:
            self.after_stop.append(reading)
        rows = 0
        for table in reading:
            rows += table.num_rows
            if half:
                break
        else:
            assert rows == (2 if self.kind == "table" else 3)
        reading.close()


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["table", "stream", "fails"]),
    st.lists(st.lists(OPERATIONS, min_size=1, max_size=5), min_size=2, max_size=4),
)
def test_any_order_of_what_can_be_done_to_a_call_is_legal(kind, scripts):
    stage = Stage(kind)
    together = threading.Barrier(len(scripts) + 1)
    failed = []

    def play(script):
        together.wait(LONG)
        try:
            for operation in script:
                stage.do(operation)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=play, args=[script]) for script in scripts]
    for thread in threads:
        thread.start()
    together.wait(LONG)
    stage.do("run")  # so that those who wait have something to wait for
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive(), "a thread hangs"
    assert failed == []

    call = stage.one
    assert call.state in ENDS
    assert call.ended.is_set()
    assert call.data is None or call.error is None
    assert (call.state is State.STOPPED) == stage.stopped.is_set()
    assert call.state is not State.FAILED or isinstance(call.error, FunctionFailed)
    assert [e.call for e in stage.told if isinstance(e, CallEnded)] == [call]
    assert stage.after_stop == []

    stage.results.drop(call)
    done = threading.Event()
    CLOSERS.submit(done.set)
    CLOSERS.submit(done.set)
    assert done.wait(LONG)
    assert len(stage.results) == 0
    assert kind == "table" or sum(isinstance(e, ReadEnded) for e in stage.told) <= 1
