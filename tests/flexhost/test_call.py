"""One call: its states, and what a function can do to it."""

from __future__ import annotations

import contextvars
import inspect
import threading
import weakref

import pyarrow as pa
import pytest
from support import KEEP, LONG, SCHEMA, function

from flexhost import FlexFun
from flexhost.call import Call, State, running
from flexhost.caller import Caller
from flexhost.errors import BadCall, Cancelled, FunctionFailed, TimedOut
from flexhost.functions.describe import describe
from flexhost.telemetry.events import CallEnded

TABLE = pa.table({"n": [1, 2, 3]})


def made(call=lambda *_: TABLE, emit=lambda event: None, hint=None, cls=None, **more):
    described = describe(cls or function(call))
    return Call(
        described, {}, hint, {}, deadline=100.0, emit=emit, keep=KEEP, clock=lambda: 0.0, **more
    )


def test_a_call_that_ran_has_its_data():
    call = made()

    call.run()

    assert call.state is State.FINISHED
    assert call.result().open().table.equals(TABLE)


def test_the_first_outcome_wins():
    call = made()
    assert call.stop(Cancelled("first"))

    call.run()

    assert not call.stop(TimedOut("third"))
    with pytest.raises(Cancelled, match="first"):
        call.result()


def test_a_call_that_was_stopped_while_it_waited_is_never_run():
    ran = []
    call = made(lambda *_: ran.append(1))
    call.stop(Cancelled("nobody wants it"))

    call.run()

    assert ran == []


def test_a_result_that_comes_after_the_call_was_stopped_is_closed():
    closed = threading.Event()

    def rows():
        try:
            yield pa.record_batch({"n": [1]})
        finally:
            closed.set()

    def late(*_):
        call.stop(Cancelled("meanwhile"))
        generator = rows()
        first = next(generator)

        def rest():
            yield first
            yield from generator

        return pa.RecordBatchReader.from_batches(SCHEMA, rest())

    call = made(late)

    call.run()

    assert call.data is None
    assert closed.wait(LONG)


def test_a_call_stopped_before_its_instance_exists_does_not_call_the_function():
    ran = []

    class Slow(function(lambda *_: ran.append(1))):
        @classmethod
        def create(cls):
            call.stop(Cancelled("meanwhile"))
            return cls()

    call = made(cls=Slow)

    call.run()

    assert ran == []


def test_cancel_of_the_function_is_called_once_and_only_while_it_runs():
    asked = []

    class Cancellable(function(lambda *_: [call.ask_to_cancel() for _ in range(2)])):
        def cancel(self):
            asked.append(self)
            return True

    call = made(cls=Cancellable)
    call.ask_to_cancel()

    call.run()
    call.ask_to_cancel()

    assert len(asked) == 1


def test_the_outcome_is_told_once_and_before_anybody_who_waits_goes_on():
    told = []
    call = made(emit=lambda event: told.append((event, event.call.ended.is_set())))

    call.run()

    assert told == [(CallEnded(call, 3, 24), False)]
    assert call.ended.is_set()


def test_an_ended_call_lets_go_of_what_the_function_held():
    class Heavy:
        pass

    held = []

    def fails(parameters, columns, headers):
        heavy = Heavy()
        held.append(weakref.ref(heavy))
        raise RuntimeError("with a frame that holds it") from ValueError(heavy)

    call = made(fails)

    call.run()

    assert isinstance(call.error, FunctionFailed)
    assert held[0]() is None


def test_an_unknown_hinted_column_makes_no_call():
    with pytest.raises(BadCall, match="no column 'm'"):
        made(hint=("m",))


def test_the_thread_that_runs_a_call_knows_which():
    seen = []
    call = made(lambda *_: seen.append(running.get()))

    call.run()

    assert seen == [call]
    assert running.get() is None


def test_a_call_is_given_up_only_after_somebody_has_waited_for_it():
    call = made()
    assert not call.abandoned_by_all

    call.join()
    assert not call.abandoned_by_all

    call.leave()
    assert call.abandoned_by_all


@pytest.mark.parametrize(
    "call",
    [
        lambda self, headers, columns, parameters: (parameters, columns, headers),
        lambda self, *, parameters, columns, headers: (parameters, columns, headers),
        lambda self, p, c, h: (p, c, h),
        lambda self, *all: all,
        lambda self, parameters, columns, headers, more=1: (parameters, columns, headers),
    ],
)
def test_arguments_are_passed_by_name_where_call_has_the_names(call):
    seen = []

    class Named(function(None)):
        pass

    Named.call = lambda self, *args, **names: (seen.append(call(self, *args, **names)), TABLE)[1]
    Named.call.__signature__ = inspect.signature(call)

    made(cls=Named).run()

    assert seen == [({}, None, {})]


@pytest.mark.parametrize(
    "call",
    [
        lambda self, parameters, columns, headers, caller: caller,
        lambda self, *, caller=None, parameters, columns, headers: caller,
        lambda self, p, c, h, caller: caller,
        lambda self, p, c, h, *, caller: caller,
    ],
)
def test_a_call_that_has_a_caller_argument_is_told_who_calls(call):
    seen = []

    class Asking(function(None)):
        pass

    Asking.call = lambda self, *args, **names: (seen.append(call(self, *args, **names)), TABLE)[1]
    Asking.call.__signature__ = inspect.signature(call)
    ann = Caller("ann", identity={"team": 5})

    made(cls=Asking, caller=ann).run()

    assert seen == [ann]


@pytest.mark.parametrize(
    "call",
    [
        lambda self, **all: all,  # written before there was a caller
        lambda self, parameters, columns, caller: caller,  # its own name for the headers
    ],
)
def test_a_call_without_a_caller_argument_gets_what_it_always_got(call):
    class Old(function(None)):
        pass

    Old.call = call

    assert not describe(Old).wants_caller


def test_an_ended_call_keeps_its_arguments_no_longer():
    class Large(dict):
        pass

    large = Large()
    gone = weakref.ref(large)
    call = Call(
        describe(function(lambda *_: TABLE)),
        large,
        None,
        {},
        deadline=9.0,
        emit=lambda e: None,
        keep=KEEP,
    )
    del large

    call.run()

    assert gone() is None


def begun():
    """A call of an async function, its `steps`, and the context of these."""

    class Async(FlexFun):
        Name = "numbers"
        Schema = SCHEMA

        async def call(self, parameters, columns, headers):
            raise AssertionError("nobody here awaits it")

    call, context = made(cls=Async), contextvars.Context()
    steps = call.steps()
    returned = context.run(next, steps)
    assert inspect.iscoroutine(returned)
    returned.close()
    return call, steps, context


def test_what_came_of_an_async_call_is_sent_to_it():
    call, steps, context = begun()
    assert call.state is State.RUNNING

    with pytest.raises(StopIteration):
        context.run(steps.send, TABLE)

    assert call.result().open().table.equals(TABLE)
    assert call.returned


def test_an_error_of_an_async_call_is_thrown_into_it():
    call, steps, context = begun()

    with pytest.raises(StopIteration):
        context.run(steps.throw, RuntimeError("no database"))

    with pytest.raises(FunctionFailed, match="no database"):
        call.result()


def test_what_comes_of_an_async_call_after_it_was_stopped_is_thrown_away():
    call, steps, context = begun()
    call.stop(Cancelled("first"))

    with pytest.raises(StopIteration):
        context.run(steps.send, TABLE)

    assert (call.state, call.data, call.returned) == (State.STOPPED, None, True)
