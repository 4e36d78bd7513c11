"""One table of calls, and what is read from it. The clock is the test's own."""

from __future__ import annotations

import threading

import pyarrow as pa
import pytest
from support import KEEP, LONG, SCHEMA, function

from flexhost.call import Call
from flexhost.errors import Busy, Cancelled, FunctionFailed, NoResult, ResultConsumed, ShuttingDown
from flexhost.functions.describe import describe
from flexhost.results import Results
from flexhost.system.closers import Closers
from flexhost.telemetry.events import ReadEnded

TABLE = pa.table({"n": [1, 2, 3]})


class Bench:
    """Results with a manual clock, and what they told."""

    def __init__(self, ttl=60.0, **options):
        self.now = 0.0
        self.told = []
        clock = lambda: self.now  # noqa: E731  # a function of one word
        self.results = Results(ttl, Closers(1), self.told.append, clock=clock, **options)

    def ended(self, result):
        described = describe(function(lambda *_: result() if callable(result) else result))
        call = Call(
            described,
            {},
            None,
            {},
            deadline=9.0,
            emit=lambda e: None,
            keep=self.results.retained.keep,
            clock=lambda: self.now,
        )
        self.results.add(call)
        call.run()
        return call


def stream(closed=None, rows=3):
    def batches():
        try:
            for n in range(rows):
                yield pa.record_batch({"n": [n]})
        finally:
            if closed is not None:
                closed.set()

    return lambda: pa.RecordBatchReader.from_batches(SCHEMA, batches())


def test_a_table_is_there_until_its_time_is_over():
    bench = Bench(ttl=60.0)
    call = bench.ended(TABLE)

    bench.results.expire(59.9)
    assert bench.results.read(call.id).table.equals(TABLE)

    bench.results.expire(61.0)
    with pytest.raises(NoResult):
        bench.results.read(call.id)
    assert len(bench.results) == 0


def test_the_time_to_live_counts_from_the_end_of_the_call():
    bench = Bench(ttl=60.0)
    bench.now = 50.0
    bench.ended(TABLE)

    bench.results.expire(100.0)

    assert len(bench.results) == 1


def test_an_expired_table_is_freed():
    bench = Bench()
    before = pa.total_allocated_bytes()
    bench.ended(lambda: pa.table({"n": pa.array(range(100_000))}))
    assert pa.total_allocated_bytes() - before >= 800_000

    bench.results.expire(61.0)

    assert pa.total_allocated_bytes() == before


def test_a_stream_that_nobody_read_is_closed_when_it_expires():
    bench, closed = Bench(), threading.Event()

    def begun():
        reader = stream(closed)()
        reader.read_next_batch()  # a generator that never began has nothing to close
        return reader

    call = bench.ended(begun)

    bench.results.expire(61.0)

    assert closed.wait(LONG)
    with pytest.raises(NoResult):
        bench.results.read(call.id)


def test_a_stream_has_one_reader():
    bench = Bench()
    call = bench.ended(stream())
    first = bench.results.read(call.id)

    with pytest.raises(ResultConsumed):
        bench.results.read(call.id)

    assert pa.concat_tables(first)["n"].to_pylist() == [0, 1, 2]


def test_a_call_that_is_not_over_has_no_result_yet():
    bench = Bench()
    described = describe(function(lambda *_: TABLE))
    call = Call(described, {}, None, {}, deadline=9.0, emit=lambda e: None, keep=KEEP)
    bench.results.add(call)

    with pytest.raises(NoResult, match="no result yet"):
        bench.results.read(call.id)


def test_the_error_of_a_failed_call_is_what_its_reader_gets():
    bench = Bench()
    call = bench.ended("not a table")

    with pytest.raises(FunctionFailed, match="returned str"):
        bench.results.read(call.id)


def test_a_read_is_told_once_with_its_rows_bytes_and_time():
    bench = Bench()
    call = bench.ended(stream())
    reading = bench.results.read(call.id)
    assert bench.results.open == [reading]
    next(reading)
    bench.now = 2.5

    reading.close()
    reading.close()

    assert bench.told == [ReadEnded(call, 1, 8, 2.5, False, None, stream=True)]
    assert bench.results.open == []


def test_a_stream_read_to_its_end_is_told_as_complete():
    bench = Bench()
    reading = bench.results.read(bench.ended(stream()).id)
    list(reading)

    reading.close()

    assert bench.told[0].complete


def test_a_reader_is_told_why_its_stream_was_closed():
    bench = Bench()
    reading = bench.results.read(bench.ended(stream()).id)
    next(reading)

    reading.close(ShuttingDown("enough"))

    with pytest.raises(ShuttingDown, match="enough"):
        next(reading)


def test_closing_a_stream_closes_the_authors_generator():
    bench, closed = Bench(), threading.Event()
    reading = bench.results.read(bench.ended(stream(closed)).id)
    next(reading)

    reading.close(Cancelled("the reader left"))

    assert closed.is_set()


def test_a_table_goes_so_long_after_it_was_first_read_to_its_end():
    bench = Bench(after_read=10.0)
    call = bench.ended(TABLE)

    for bench.now in (1.0, 8.0):
        reading = bench.results.read(call.id)
        list(reading)
        reading.close()

    bench.results.expire(10.9)
    assert len(bench.results) == 1
    bench.results.expire(12.0)
    assert len(bench.results) == 0


def test_cached_tables_expire_with_the_others():
    bench = Bench()
    expired = []
    bench.results.cache.expire = lambda: expired.append(1)

    bench.results.expire(1.0)

    assert expired


def test_a_read_too_many_leaves_nothing_open():
    bench = Bench(reads=1)
    call = bench.ended(lambda: pa.table({"n": pa.array(range(100_000))}))
    reading = bench.results.read(call.id)
    with pytest.raises(Busy, match="1 results are being read"):
        bench.results.read(call.id)

    reading.close()
    bench.results.drop(call)

    assert bench.results.retained.bytes == 0


def test_an_error_keeps_nothing_of_the_result_that_it_is_about():
    before = pa.total_allocated_bytes()
    bench = Bench()

    call = bench.ended(lambda: pa.table({"m": pa.array(range(100_000))}))

    assert isinstance(call.error, FunctionFailed)
    assert pa.total_allocated_bytes() == before


def test_results_nobody_has_read_are_counted():
    bench = Bench()
    calls = [bench.ended(TABLE), bench.ended(stream()), bench.ended("fails")]
    assert bench.results.unread == 2

    bench.results.read(calls[0].id)

    assert bench.results.unread == 1
