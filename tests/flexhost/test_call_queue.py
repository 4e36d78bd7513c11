"""Where calls wait, and whose turn it is."""

from __future__ import annotations

import contextlib
import threading

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import KEEP, LONG, function, until

from flexhost.call import Call
from flexhost.call_queue import CallQueue
from flexhost.calls.shares import share_by
from flexhost.errors import Busy
from flexhost.functions.describe import describe

ANY = describe(function(lambda *_: pa.table({"n": [1]})))


def call(share="", of=ANY):
    return Call(of, {}, None, {}, deadline=9.0, emit=lambda event: None, keep=KEEP, share=share)


def bounded(most):
    """A function that may run so many times at once."""

    class Bounded(function(lambda *_: pa.table({"n": [1]}))):
        MaxRunning = most

    return describe(Bounded)


def test_calls_are_taken_in_the_order_they_came():
    queue = CallQueue(size=9, workers=1)
    calls = [call() for _ in range(3)]
    for each in calls:
        queue.put(each)

    assert [queue.take() for _ in calls] == calls


def test_a_full_queue_refuses_the_next_call_and_says_when_to_come_again():
    queue = CallQueue(size=1, workers=1)
    queue.put(call())
    queue.take()
    queue.put(call())

    with pytest.raises(Busy, match="1 calls run and 1 are waiting; try again in") as error:
        queue.put(call())

    assert (error.value.reason, queue.full) == ("task_queue_size", True)
    assert 0.1 <= error.value.retry_after <= 30


def test_the_wait_that_is_told_grows_with_how_long_calls_run():
    queue = CallQueue(size=1, workers=1)
    short = queue.busy().retry_after
    done = call()
    for _ in range(50):
        queue.put(done)
        queue.take()
        done.seconds_run = 7.0
        queue.done(done)

    assert queue.busy().retry_after > 10 * short


def test_a_queue_of_size_0_takes_what_a_worker_can_take_at_once():
    queue = CallQueue(size=0, workers=2)
    queue.put(call())
    queue.put(call())

    with pytest.raises(Busy):
        queue.put(call())


def test_a_worker_that_comes_back_frees_its_place():
    queue = CallQueue(size=0, workers=1)
    first = call()
    queue.put(first)
    queue.take()
    assert queue.done(first)

    queue.put(call())

    assert queue.waiting == 1


def test_workers_are_started_one_for_each_call_up_to_their_number():
    queue = CallQueue(size=9, workers=2)

    assert [queue.put(call())[0] for _ in range(4)] == [True, True, False, False]


def test_no_worker_is_started_for_a_call_that_an_idle_one_can_take():
    queue = CallQueue(size=9, workers=2)
    assert queue.put(call())[0]
    taken = []

    def work() -> None:
        while (one := queue.take()) is not None:
            taken.append(one)
            queue.done(one)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: len(taken) == 1 and queue.running == 0)

    assert not queue.put(call())[0]
    until(lambda: len(taken) == 2)
    queue.close()
    worker.join(LONG)


def test_a_discarded_call_is_not_taken():
    queue = CallQueue(size=9, workers=1)
    first, second = call(), call()
    queue.put(first)
    queue.put(second)

    assert queue.discard(first)
    assert not queue.discard(first)
    assert queue.take() is second


def test_a_worker_whose_call_was_given_up_leaves_and_another_takes_its_place():
    queue = CallQueue(size=9, workers=1)
    stuck, next_ = call(), call()
    queue.put(stuck)
    queue.take()
    queue.put(next_)

    assert queue.give_up(stuck)
    assert queue.take() is next_
    assert not queue.done(stuck)
    assert queue.running == 1


def test_a_worker_that_waits_can_be_woken_without_a_call():
    queue = CallQueue(size=9, workers=1)
    woken = threading.Event()

    def wait():
        with contextlib.suppress(InterruptedError):
            queue.take()
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    until(lambda: queue.wake() or woken.is_set())


def test_workers_of_a_closed_queue_leave_once_no_call_waits():
    queue = CallQueue(size=9, workers=1)
    last = call()
    queue.put(last)
    queue.close()

    assert queue.take() is last
    assert queue.done(last)
    assert queue.take() is None


def test_shares_take_turns_however_many_calls_one_of_them_has():
    queue = CallQueue(size=99, workers=1)
    for share in ["a"] * 5 + ["b"] * 2 + ["c"]:
        queue.put(call(share))

    assert "".join(queue.take().share for _ in range(8)) == "abcabaaa"


def test_a_full_queue_puts_out_the_newest_call_of_the_share_that_has_most():
    queue = CallQueue(size=3, workers=0)
    calls = [call("many") for _ in range(3)]
    for each in calls:
        queue.put(each)

    assert queue.put(call("one"))[1] is calls[-1]
    assert queue.waiting == 3


def test_a_share_that_has_its_part_is_refused_like_any_other():
    queue = CallQueue(size=4, workers=0)
    for share in "aabb":
        queue.put(call(share))

    for share in "ab":
        with pytest.raises(Busy):
            queue.put(call(share))


def test_a_function_at_its_bound_is_passed_over_and_blocks_no_other():
    queue, one = CallQueue(size=9, workers=3), bounded(1)
    first, second, third, other = call(of=one), call(of=one), call(of=one), call()
    for each in (first, second, third, other):
        queue.put(each)

    assert [queue.take(), queue.take()] == [first, other]
    assert queue.waiting == 2
    queue.done(first)
    assert queue.take() is second


def test_calls_that_are_held_back_still_take_turns_and_can_be_taken_out():
    queue, one = CallQueue(size=9, workers=3), bounded(1)
    calls = [call("a", one), call("a", one), call("b", one), call("a", one)]
    for each in calls:
        queue.put(each)
    queue.done(queue.take())

    assert queue.take() is calls[2]
    assert queue.discard(calls[1])
    queue.done(calls[2])
    assert queue.take() is calls[3]


def test_no_worker_is_started_for_a_call_that_may_not_run_yet():
    queue, one = CallQueue(size=9, workers=3), bounded(1)

    assert [queue.put(call(of=one))[0] for _ in range(2)] == [True, False]
    queue.take()
    assert not queue.put(call(of=one))[0]


def test_a_call_that_is_stuck_still_counts_for_its_function():
    queue, one = CallQueue(size=9, workers=1), bounded(1)
    stuck, held = call(of=one), call(of=one)
    queue.put(stuck)
    queue.take()
    queue.put(held)

    assert not queue.give_up(stuck)
    assert queue.done(stuck)  # its worker stays: there is a call for it now
    assert queue.take() is held


def test_workers_of_a_closed_queue_do_not_wait_for_calls_that_are_held_back():
    queue, one = CallQueue(size=9, workers=2), bounded(1)
    for _ in range(2):
        queue.put(call(of=one))
    running = queue.take()
    queue.close()

    assert queue.take() is None
    queue.done(running)
    assert queue.take() is not None


@settings(max_examples=200)
@given(st.lists(st.sampled_from("abcdA"), max_size=60), st.integers(0, 6), st.integers(0, 3))
def test_whatever_comes_the_queue_keeps_its_bound_and_loses_no_call(shares, size, workers):
    """A capital letter takes a call instead."""
    queue = CallQueue(size, workers)
    inside, taken = set(), []
    for share in shares:
        if share == "A":
            if queue.waiting and queue.running < workers:
                taken.append(queue.take())
                inside.remove(taken[-1])
            continue
        one = call(share)
        try:
            _, put_out = queue.put(one)
        except Busy:
            assert queue.full
            continue
        inside.add(one)
        inside.discard(put_out)

    assert queue.waiting == len(inside)
    assert queue.waiting + queue.running <= size + workers
    assert queue.running == len(taken)


@given(st.lists(st.sampled_from(["free", "one", "two", "take", "done", "drop"]), max_size=60))
def test_no_function_runs_more_often_than_it_may_and_every_call_has_its_turn(steps):
    kinds = {"free": ANY, "one": bounded(1), "two": bounded(2)}
    queue, waiting, running, taken = CallQueue(100, 100), [], [], []

    def ready(one):
        most = one.function.max_running
        return most is None or sum(each.function is one.function for each in running) < most

    def take():
        one = queue.take()
        assert ready(one)
        waiting.remove(one)
        running.append(one)
        taken.append(one)

    for step in steps:
        if step in kinds:
            waiting.append(call(step, kinds[step]))
            queue.put(waiting[-1])
        elif step == "take" and any(map(ready, waiting)):
            take()
        elif step == "done" and running:
            queue.done(running.pop(0))
        elif step == "drop" and waiting:
            assert queue.discard(waiting.pop())
    while waiting:
        while any(map(ready, waiting)):
            take()
        queue.done(running.pop(0))

    assert len(taken) == len(set(taken))
    for name in ("one", "two", "free"):
        assert [one for one in taken if one.share == name] == sorted(
            (one for one in taken if one.share == name), key=lambda one: one.accepted_at
        )


@pytest.mark.parametrize(
    ("rule", "parameters", "headers", "share"),
    [
        ("", {"a": 1}, {"x": ["1"]}, ""),
        ("header:X-Tenant", {}, {"x-tenant": ["one"]}, "one"),
        ("header:x-tenant", {}, {}, ""),
        ("header:x-bin", {}, {"x-bin": [b"\x00"]}, "b'\\x00'"),
        (
            "parameters:executionContext.workspaceId",
            {"executionContext": {"workspaceId": "w"}},
            {},
            "w",
        ),
        ("parameters:executionContext.workspaceId", {"executionContext": "no"}, {}, ""),
        ("parameters:n", {"n": 5}, {}, "5"),
    ],
)
def test_the_share_of_a_call_is_what_it_has_at_the_place_of_the_rule(
    rule, parameters, headers, share
):
    assert share_by(rule)(parameters, headers) == share


@pytest.mark.parametrize("rule", ["header:", "parameters:", "parameters:a..b", "tenant", "x:y"])
def test_a_rule_that_is_none_is_refused(rule):
    with pytest.raises(ValueError, match=rule):
        share_by(rule)
