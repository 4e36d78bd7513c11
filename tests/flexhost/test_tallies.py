"""What is counted of calls and reads, by many threads at once."""

from __future__ import annotations

import math
import threading

import pyarrow as pa
from support import KEEP, LONG, function

from flexhost.call import Call
from flexhost.errors import Cancelled
from flexhost.functions.describe import describe
from flexhost.telemetry.events import ReadEnded
from flexhost.telemetry.tallies import Tallies, Tally

NUMBERS = describe(function(lambda *_: pa.table({"n": [1, 2, 3]})))
WELL = ("ok", "OK")


def made(*times):
    """A call whose clock shows these."""
    clock = iter(times).__next__
    return Call(
        NUMBERS, {}, None, {}, deadline=99.0, emit=lambda event: None, keep=KEEP, clock=clock
    )


def ended():
    call = made(0.0, 1.0, 4.0, 4.0)
    call.run()
    return call


CALL = ended()


def read(rows=3, seconds=0.5, complete=True, error=None):
    return ReadEnded(CALL, rows, 24, seconds, complete, error)


def within(spread):
    return dict(spread.up_to)


def test_a_call_is_counted_with_the_time_it_waited_and_ran():
    tally = Tally()
    tally.ended(CALL)
    calls, _, (waiting, running, *_) = tally.totals()

    assert calls == {WELL: 1}
    assert (waiting.sum, running.sum) == (1.0, 3.0)


def test_a_call_that_never_ran_has_waited_only():
    call = made(0.0, 2.0)
    call.stop(Cancelled("nobody wants it"))
    tally = Tally()
    tally.ended(call)
    calls, _, (waiting, running, *_) = tally.totals()

    assert calls == {("command_cancelled", "COMMAND_CANCELLED"): 1}
    assert (waiting.sum, within(waiting)[math.inf], within(running)[math.inf]) == (2.0, 1, 0)


def test_a_read_that_was_left_is_counted_as_cancelled():
    tally = Tally()
    tally.read(read(complete=False))

    assert tally.totals().reads == {"COMMAND_CANCELLED": 1}


def test_a_value_is_within_its_own_bound_and_all_above():
    tally = Tally()
    for rows in (0, 10, 11, 10**9):
        tally.read(read(rows=rows))
    rows = within(tally.totals().spreads[3])

    assert (rows[0], rows[1], rows[10], rows[100], rows[1e8], rows[math.inf]) == (1, 1, 2, 3, 3, 4)


def test_what_is_expected_is_counted_from_0_and_never_set_back():
    tally = Tally()
    tally.expect()
    tally.ended(CALL)
    tally.expect()
    calls, reads, _ = tally.totals()

    assert calls == {WELL: 1, ("failed", "COMMAND_FAILED"): 0}
    assert reads == {"OK": 0}


def test_nothing_is_lost_where_many_threads_tell_and_totals_agree_meanwhile():
    tallies, threads, each = Tallies(), 8, 5_003
    start = threading.Barrier(threads + 1)

    def tell():
        start.wait(LONG)
        for _ in range(each):
            tallies["numbers"].ended(CALL)
            tallies["numbers"].read(read())

    telling = [threading.Thread(target=tell) for _ in range(threads)]
    for thread in telling:
        thread.start()
    start.wait(LONG)
    seen = [tallies["numbers"].totals()]
    while any(thread.is_alive() for thread in telling):
        seen.append(tallies["numbers"].totals())
    seen.append(tallies["numbers"].totals())

    for calls, reads, spreads in seen:
        called, was_read = calls.get(WELL, 0), reads.get("OK", 0)
        counted = [within(spread)[math.inf] for spread in spreads]
        assert counted == [called, called, was_read, was_read, was_read]
        assert was_read <= called
    assert (called, was_read) == (threads * each, threads * each)
    assert [spread.sum for spread in spreads[:3]] == [called * s for s in (1.0, 3.0, 0.5)]


class Freed(int):
    """Told as rows: it is freed amidst the counting, where the garbage collector may free the
    stream of a request, which tells of its read then."""

    tally: Tally

    def __del__(self):
        for _ in range(150):
            self.tally.read(read())


def test_what_is_told_amidst_the_counting_by_the_thread_that_counts_is_counted_later():
    tally, rows = Tally(), Freed(3)
    rows.tally = tally
    tally.read(read(rows=rows))
    del rows
    first, then = tally.totals().reads, tally.totals().reads

    assert (first, then) == ({"OK": 1}, {"OK": 151})
