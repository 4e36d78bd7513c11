"""Who waits, who is late, and how a host drains. `look` is what its watcher does all the time."""

from __future__ import annotations

import contextlib
import threading
import time

import pyarrow as pa
import pytest
from support import LONG, SCHEMA, function, until

from flexhost import CachePolicy
from flexhost.call import State
from flexhost.caller import Caller
from flexhost.calls.waiters import AT_ONCE, EVERY, Waiters
from flexhost.errors import (
    Busy,
    Cancelled,
    NoResult,
    NotReady,
    ShuttingDown,
    TimedOut,
    Unauthorized,
    UnknownFunction,
)
from flexhost.executors.threads import Threads
from flexhost.functions.describe import describe
from flexhost.host import UNREAD, Host
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.system.closers import Closers

TABLE = pa.table({"n": [1]})


@pytest.fixture
def closing():
    hosts = []
    yield hosts.append
    for host in hosts:
        host.close()


@pytest.fixture
def hosting(closing):
    def make(*calls, threads=1, waiting=4, deadline=60.0, **options):
        closers = Closers(1)
        results = Results(60.0, closers, lambda event: None)
        host = Host(
            Threads(threads, waiting, lambda event: None),
            results,
            closers,
            deadline=deadline,
            emit=lambda event: None,
            **options,
        )
        names = ["first", "second"]
        host.open(Registry([describe(function(c, n)) for c, n in zip(calls, names, strict=False)]))
        closing(host)
        return host

    return make


def here():
    return False


def test_a_host_without_functions_is_not_ready():
    closers = Closers(1)
    host = Host(
        Threads(1, 1, print),
        Results(1.0, closers, print),
        closers,
        deadline=1.0,
        emit=print,
    )

    with pytest.raises(NotReady):
        host.submit("first", {}, None, {})
    host.close()


def test_a_call_whose_caller_has_gone_is_stopped_and_its_function_asked_to_cancel(hosting):
    asked, started = threading.Event(), threading.Event()

    class Slow(function(lambda *_: started.set() or (asked.wait(LONG) and TABLE), "slow")):
        def cancel(self):
            asked.set()
            return True

    host = hosting()
    host.open(Registry([describe(Slow)]))
    call = host.submit("slow", {}, None, {})
    assert started.wait(LONG)

    assert host.wait(call, lambda: True)

    with pytest.raises(Cancelled, match="nobody waits"):
        call.result()
    assert asked.wait(LONG)


def test_a_waiting_call_whose_caller_has_gone_is_never_started(hosting):
    release, ran = threading.Event(), []
    host = hosting(lambda *_: release.wait(LONG) and TABLE, lambda *_: ran.append(1) or TABLE)
    running = host.submit("first", {}, None, {})
    waiting = host.submit("second", {}, None, {})

    host.wait(waiting, lambda: True)
    release.set()

    assert host.wait(running, here)
    until(lambda: host.at_work == 0)
    assert ran == []


def test_a_late_call_is_answered_with_timed_out_while_its_function_still_runs(hosting):
    release = threading.Event()
    host = hosting(lambda *_: release.wait(LONG) and TABLE, deadline=0.05)
    call = host.submit("first", {}, None, {})

    assert host.wait(call, here)

    with pytest.raises(TimedOut):
        call.result()
    release.set()


def test_a_refused_call_leaves_nothing_behind(hosting):
    release = threading.Event()
    host = hosting(lambda *_: release.wait(LONG) and TABLE, waiting=0)
    running = host.submit("first", {}, None, {})

    with pytest.raises(Busy) as error:
        host.submit("first", {}, None, {})

    assert error.value.function == "first"
    assert host.at_work == 1
    assert len(host._results) == 1
    release.set()
    assert host.wait(running, here)


class Refusing(Threads):
    """Takes nothing, after somebody else came to share what it is asked to run."""

    def submit(self, call):
        self.meanwhile()
        raise Busy("no room", bound="task_queue_size")


def test_a_shared_run_that_is_refused_leaves_nothing_behind_and_all_are_told(hosting):
    closers = Closers(1)
    executor = Refusing(1, 1, print)
    emit = lambda event: None  # noqa: E731  # a function of one word
    host = Host(executor, Results(60.0, closers, emit), closers, deadline=60.0, emit=emit)
    cached = function(lambda *_: TABLE)
    cached.Cache = CachePolicy(ttl_sec=60)
    host.open(Registry([describe(cached)]))
    others = []
    executor.meanwhile = lambda: others.append(host.submit("numbers", {}, None, {}))

    with pytest.raises(Busy):
        host.submit("numbers", {}, None, {})

    [other] = others
    assert other.ended.is_set()
    with pytest.raises(Busy):
        other.result()
    until(lambda: host.at_work == 0)
    assert len(host._results.cache) == 0
    host.close()


def test_a_call_that_was_told_and_still_runs_does_not_hold_up_a_drain(hosting):
    release = threading.Event()
    host = hosting(lambda *_: release.wait(LONG) and TABLE, deadline=0.05)
    call = host.submit("first", {}, None, {})
    assert host.wait(call, here)
    begun = time.monotonic()

    host.drain(LONG)

    assert time.monotonic() - begun < LONG / 2
    assert host.at_work == 1
    release.set()


def test_each_call_that_a_drain_ends_has_an_error_of_its_own(hosting):
    release = threading.Event()
    host = hosting(lambda *_: release.wait(LONG) and TABLE)
    calls = [host.submit("first", {}, None, {}) for _ in range(3)]

    host.drain(0.0)

    assert [call.error.id for call in calls] == [call.id for call in calls]
    release.set()


def test_a_caller_is_never_asked_for_after_its_request_is_over():
    asked = []
    waiters = Waiters(lambda: 0.0)
    waiter = waiters.enter(lambda: asked.append(1) or False, lambda gone: None)
    waiters.look(0.9 * EVERY)
    assert asked == []  # most are here for a shorter time
    waiters.look(EVERY)
    waiters.look(2 * EVERY)
    assert len(asked) == 2

    waiter.leave()
    waiters.look(10 * EVERY)

    assert len(asked) == 2


def test_of_many_callers_a_look_asks_some_and_the_next_one_others():
    asked = []
    waiters = Waiters(lambda: 0.0)
    for number in range(2 * AT_ONCE + 1):
        waiters.enter(lambda number=number: asked.append(number), lambda gone: None)

    for _ in range(4):
        waiters.look(EVERY)

    assert asked == list(range(2 * AT_ONCE + 1))


def test_callers_that_all_left_are_found_in_one_look():
    left = []
    waiters = Waiters(lambda: 0.0)
    for _ in range(3 * AT_ONCE):
        waiters.enter(lambda: True, left.append)

    waiters.look(EVERY)

    assert left == 3 * AT_ONCE * [True]


def test_leaving_waits_for_a_question_under_way():
    asking, answer, left = threading.Event(), threading.Event(), threading.Event()

    def gone():
        asking.set()
        answer.wait(LONG)
        assert not left.is_set(), "asked for a request that was over"
        return False

    waiters = Waiters(lambda: 0.0)
    waiter = waiters.enter(gone, lambda gone: None)
    look = threading.Thread(target=waiters.look, args=[EVERY])
    look.start()
    assert asking.wait(LONG)
    leave = threading.Thread(target=lambda: (waiter.leave(), left.set()))
    leave.start()
    answer.set()
    look.join(LONG)
    leave.join(LONG)

    assert left.is_set()


def test_a_caller_that_was_found_gone_leaves_once():
    left = []
    waiters = Waiters(lambda: 0.0)
    waiter = waiters.enter(lambda: True, left.append)

    waiters.look(EVERY)
    waiter.leave()

    assert left == [True]


def test_a_host_with_nothing_to_do_drains_at_once(hosting):
    host = hosting(lambda *_: TABLE)

    host.drain(LONG)

    assert not host.ready
    with pytest.raises(ShuttingDown):
        host.submit("first", {}, None, {})


def test_the_result_of_a_call_that_ends_late_in_a_drain_can_still_be_read(hosting):
    go, now, looks = threading.Event(), [0.0], []

    def clock():
        looks.append(threading.current_thread())
        return now[0]

    def look_twice(drain):
        seen = looks.count(drain)
        until(lambda: looks.count(drain) > seen + 1)

    host = hosting(lambda *_: go.wait(LONG) and TABLE, clock=clock, deadline=1e6)
    call = host.submit("first", {}, None, {})
    drain = threading.Thread(target=host.drain, args=[1000.0])
    drain.start()
    now[0] = 100.0
    look_twice(drain)  # the call is at work
    go.set()
    call.ended.wait(LONG)
    look_twice(drain)

    assert drain.is_alive()
    now[0] += UNREAD
    drain.join(LONG)
    assert not drain.is_alive()


def test_draining_waits_for_calls_and_for_reads(hosting):
    release = threading.Event()
    host = hosting(lambda *_: release.wait(LONG) and pa.Table.to_reader(TABLE))
    call = host.submit("first", {}, None, {})
    drain = threading.Thread(target=host.drain, args=[LONG])
    drain.start()
    until(lambda: not host.ready)

    release.set()
    assert host.wait(call, here)
    reading = host.read(call.id)
    assert [table.num_rows for table in reading] == [1]
    assert drain.is_alive()

    reading.close()
    drain.join(LONG)
    assert not drain.is_alive()


def test_what_is_left_after_the_drain_is_stopped(hosting):
    release = threading.Event()

    def endless():
        while True:
            yield pa.record_batch({"n": [1]})

    host = hosting(
        lambda *_: release.wait(LONG) and TABLE,
        lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, endless()),
        threads=2,
    )
    call, streaming = (host.submit(name, {}, None, {}) for name in ("first", "second"))
    host.wait(streaming, here)
    reading = host.read(streaming.id)

    host.drain(0.0)

    with pytest.raises(ShuttingDown):
        call.result()
    with pytest.raises(ShuttingDown):
        next(reading)
    release.set()


ANN, BOB = Caller("ann"), Caller("bob")


def test_a_call_is_found_by_its_own_caller_alone(hosting):
    host = hosting(lambda *_: TABLE)
    call = host.submit("first", {}, None, {}, caller=ANN)

    assert host.find(call.id, Caller("ann", max_running=5)) is call  # the name counts
    assert host.find(call.id, BOB) is host.find(call.id) is None


def test_the_result_of_another_callers_call_is_as_one_that_never_was(hosting):
    host = hosting(lambda *_: TABLE)
    call = host.submit("first", {}, None, {}, caller=ANN)
    host.wait(call, here)

    with pytest.raises(NoResult) as another:
        host.read(call.id, caller=BOB)
    with pytest.raises(NoResult) as unknown:
        host.read("0" * 32, caller=BOB)

    assert str(another.value) == str(unknown.value).replace("0" * 32, call.id)
    assert host.read(call.id, caller=ANN).table is not None


def test_nobody_cancels_the_call_of_another_caller(hosting):
    go = threading.Event()
    host = hosting(lambda *_: go.wait(LONG) and TABLE)
    call = host.submit("first", {}, None, {}, caller=ANN)

    host.cancel(call.id, BOB)
    assert not call.ended.is_set()

    host.cancel(call.id, ANN)
    go.set()
    assert call.state is State.STOPPED


def test_a_caller_has_as_many_calls_under_way_as_it_may(hosting):
    go = threading.Event()
    host = hosting(lambda *_: go.wait(LONG) and TABLE)
    few = Caller("few", max_running=2)
    calls = [host.submit("first", {}, None, {}, caller=few) for _ in range(2)]

    with pytest.raises(Busy, match="caller 'few' has 2 calls under way") as busy:
        host.submit("first", {}, None, {}, caller=few)
    host.submit("first", {}, None, {}, caller=ANN)
    host.submit("first", {}, None, {}, caller=Caller("more", max_running=1))

    go.set()
    until(lambda: calls[0].returned)
    host.submit("first", {}, None, {}, caller=few)
    assert busy.value.reason == "max_running"


def test_a_call_that_was_cancelled_and_still_runs_counts_for_its_caller(hosting):
    go, started = threading.Event(), threading.Event()
    host = hosting(lambda *_: started.set() or (go.wait(LONG) and TABLE))
    one = Caller("one", max_running=1)
    call = host.submit("first", {}, None, {}, caller=one)
    assert started.wait(LONG)
    host.cancel(call.id, one)
    assert call.ended.is_set()

    with pytest.raises(Busy, match="caller 'one' has 1 calls under way"):
        host.submit("first", {}, None, {}, caller=one)

    go.set()
    until(lambda: host.at_work == 0)
    host.submit("first", {}, None, {}, caller=one)


def test_many_at_once_do_not_get_past_what_a_caller_may_have(hosting):
    go = threading.Event()
    host = hosting(lambda *_: go.wait(LONG) and TABLE, waiting=100)
    accepted = []

    def submit():
        with contextlib.suppress(Busy):
            accepted.append(host.submit("first", {}, None, {}, caller=Caller("few", max_running=3)))

    threads = [threading.Thread(target=submit) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)

    go.set()
    assert len(accepted) == 3


def test_a_function_that_a_caller_may_not_call_is_as_one_that_is_not_there(hosting):
    host = hosting(lambda *_: TABLE, lambda *_: TABLE)
    some = Caller("some", functions=("fir*", "other"))

    assert [one.name for one in host.functions.of(some)] == ["first"]
    with pytest.raises(Unauthorized, match="caller 'some' may not call function 'second'"):
        host.submit("second", {}, None, {}, caller=some)
    with pytest.raises(Unauthorized, match="caller 'some' may not call function 'missing'"):
        host.submit("missing", {}, None, {}, caller=some)
    with pytest.raises(UnknownFunction):
        host.submit("missing", {}, None, {}, caller=ANN)


def test_patterns_of_functions_mind_the_case():
    assert Caller("a", functions=("Sales*",)).may_call("SalesToday")
    assert not Caller("a", functions=("Sales*",)).may_call("salesToday")
    assert not Caller("a", functions=()).may_call("any")
