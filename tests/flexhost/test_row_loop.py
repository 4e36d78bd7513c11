"""Rows through a plain function: how often it is looked whether anybody waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest
from batches_given import answer_of
from support import LONG, until

from flexhost import in_process
from flexhost.functions.describe import describe
from flexhost.functions.row_loop import LOOK, Pace, results
from flexhost.registry import Registry

batch = pa.record_batch


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def paced(seconds_a_row, rows):
    """How many rows go between looks, when each takes so long."""
    clock, slices, left = Clock(), [], rows
    pace = Pace(clock)
    while left > 0:
        slices.append(pace.rows)
        clock.now += pace.rows * seconds_a_row
        left -= pace.rows
        pace.look()
    return slices


def test_fast_rows_are_looked_at_seldom_and_slow_ones_each():
    assert paced(1e-7, 10_000_000)[-1] == pytest.approx(LOOK / 1e-7, rel=0.01)
    assert paced(1.0, 40)[-1] == 1
    assert len(paced(1e-7, 10_000_000)) < 40


def test_rows_that_become_slower_are_looked_at_sooner():
    clock = Clock()
    pace = Pace(clock)
    for _ in range(20):
        clock.now += pace.rows * 1e-6
        pace.look()
    before = pace.rows
    clock.now += pace.rows * 1e-3
    pace.look()

    assert pace.rows == pytest.approx(before * 1e-3, rel=0.1)


def test_results_stand_in_the_order_of_the_rows():
    out = []

    results(lambda a, b: (a, b), [list(range(1000)), list(range(1000))], 1000, out)

    assert out == [(n, n) for n in range(1000)]


def test_the_length_of_the_results_tells_the_row_that_failed():
    out = []

    with pytest.raises(ZeroDivisionError):
        results(lambda n: 1 // (500 - n), [list(range(1000))], 1000, out)

    assert len(out) == 500


@pytest.fixture
def host():
    with in_process.hosting() as host:
        yield host


def test_a_cancelled_scalar_stops_within_its_batch(host):
    begun, go_on, called = threading.Event(), threading.Event(), []

    def slow(n: int) -> int:
        called.append(n)
        begun.set()
        go_on.wait(LONG)
        return n

    host.open(Registry([describe(slow)]))
    call = host.submit("slow", batch({"n": list(range(100_000))}), None, {})
    assert begun.wait(LONG)
    host.cancel(call.id)
    go_on.set()
    until(lambda: call.returned)

    assert call.error.code == "COMMAND_CANCELLED"
    assert len(called) < 100


def test_a_generator_is_closed_when_its_call_is_cancelled(host):
    begun, go_on, closed = threading.Event(), threading.Event(), threading.Event()

    def endless(n: int) -> Iterator[int]:
        try:
            while True:
                begun.set()
                go_on.wait(LONG)
                yield n
        finally:
            closed.set()

    host.open(Registry([describe(endless)]))
    call = host.submit("endless", {"n": 1}, None, {})
    assert begun.wait(LONG)
    host.cancel(call.id)
    go_on.set()

    assert closed.wait(LONG)


def test_a_generator_is_closed_when_nobody_reads_on(host):
    closed = threading.Event()

    def endless(n: int) -> Iterator[int]:
        try:
            while True:
                yield n
        finally:
            closed.set()

    host.open(Registry([describe(endless)]))
    call = host.submit("endless", batch({"n": [1]}), None, {})
    host.wait(call, lambda: False)
    reading = host.read(call.id)
    next(iter(reading))
    reading.close()

    assert closed.wait(LONG)


def test_a_function_of_no_rows_is_not_called(host):
    def fails(n: int) -> int:
        raise AssertionError

    host.open(Registry([describe(fails)]))

    assert answer_of(host, "fails", batch({"n": pa.array([], pa.int64())})).num_rows == 0
