"""Where calls wait."""

from __future__ import annotations

import threading

import pytest
from support import LONG, until

from flexhost.call_queue import CallQueue
from flexhost.errors import Busy


def test_calls_are_taken_in_the_order_they_came():
    queue = CallQueue(size=9, workers=1)
    for call in "abc":
        queue.put(call)

    assert [queue.take() for _ in "abc"] == ["a", "b", "c"]


def test_a_full_queue_refuses_the_next_call():
    queue = CallQueue(size=1, workers=1)
    queue.put("runs")
    queue.take()
    queue.put("waits")

    with pytest.raises(Busy, match="1 calls run and 1 are waiting"):
        queue.put("too many")


def test_a_queue_of_size_0_takes_what_a_worker_can_take_at_once():
    queue = CallQueue(size=0, workers=2)
    queue.put("a")
    queue.put("b")

    with pytest.raises(Busy):
        queue.put("c")


def test_a_worker_that_comes_back_frees_its_place():
    queue = CallQueue(size=0, workers=1)
    queue.put("a")
    queue.take()
    back = threading.Thread(target=queue.take, args=["a"])
    back.start()
    until(lambda: queue.running == 0)

    queue.put("b")

    back.join(LONG)
    assert queue.running == 1


def test_workers_are_started_one_for_each_call_up_to_their_number():
    queue = CallQueue(size=9, workers=2)

    assert [queue.put(call) for call in "abcd"] == [True, True, False, False]


def test_no_worker_is_started_for_a_call_that_an_idle_one_can_take():
    queue = CallQueue(size=9, workers=2)
    assert queue.put("a")
    taken = []

    def work() -> None:
        call = None
        while (call := queue.take(call)) is not None:
            taken.append(call)

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: taken == ["a"] and queue.running == 0)

    assert not queue.put("b")
    until(lambda: taken == ["a", "b"])
    queue.close()
    worker.join(LONG)


def test_a_discarded_call_is_not_taken():
    queue = CallQueue(size=9, workers=1)
    queue.put("a")
    queue.put("b")

    assert queue.discard("a")
    assert not queue.discard("a")
    assert queue.take() == "b"


def test_workers_of_a_closed_queue_leave_once_no_call_waits():
    queue = CallQueue(size=9, workers=1)
    queue.put("a")
    queue.close()

    assert queue.take() == "a"
    assert queue.take("a") is None
