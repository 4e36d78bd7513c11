"""One table of all calls, from acceptance to expiry, so that a call is never in neither; and what
is being read from it."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from flexhost.batches import size_of
from flexhost.cache import Cache
from flexhost.call import Call, running
from flexhost.caller import ANYONE, Caller
from flexhost.closers import Closers
from flexhost.contract import Stream
from flexhost.errors import Busy, Cancelled, HostError, NoResult, ResultConsumed
from flexhost.events import Emit, ReadEnded
from flexhost.failures import failure
from flexhost.joined import Joined
from flexhost.kept import Kept, Opened
from flexhost.retained import Retained
from flexhost.spans import ReadSpans

# Seconds between two looks at everything that is kept.
EXPIRE_EVERY = 1.0


class Reading:
    """One read of a result. Whoever opened it closes it; any thread may, any number of times.

    table:      the data, when it is a table, which may be sent as it is (`whole`). Iterating gives
                it in pieces, and a stream table by table.
    size:       of the table, in bytes.
    to_the_end: it matters whether all of it is taken: iterate.
    cut:        breaks the connection to the reader; for one that takes nothing more.
    """

    def __init__(
        self,
        call: Call,
        data: Opened | Stream,
        results: Results,
        cut: Callable[[], object] | None = None,
    ) -> None:
        self.call = call
        self.table: pa.Table | None = None
        self.size = 0
        self._stream: Stream | None = None
        self._joined: Joined | None = None
        self._tables: Iterator[pa.Table]
        # each time that gRPC calls it is in a new one: what a function binds would be lost
        self._context = contextvars.Context()
        if isinstance(data, Stream):
            self.schema: pa.Schema = data.schema
            self._stream = data
            self._context.run(running.set, call)
            self._tables = self._joined = Joined(data, self._context)
        else:
            self.schema = data.table.schema
            self.table, self.size, self._close_table = data
            self._tables = _chunks(data.table)
        self.to_the_end = results.after_read is not None
        self._spans: ReadSpans | None = None
        self._results = results
        self._cut = cut
        self._opened = results.clock()
        self._given_at: float | None = None  # when the reader got what it still takes
        self._rows = self._bytes = 0
        self._complete = False
        self._error: HostError | None = None

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        """Raises the error it was closed with, and FunctionFailed."""
        self._given_at = None
        try:
            if self._error is not None:
                raise self._error
            table = next(self._tables)
        except StopIteration:
            if self._error is not None:
                raise self._error from None
            self._complete = True
            raise
        except BaseException as error:
            if self._error is None:  # or it was closed meanwhile, under its hands
                self._error = failure(error, self.call.function)
                self._error.id, self._error.function = self.call.id, self.call.function.name
            raise self._error from None
        self._rows += table.num_rows
        self._bytes += size_of(table)
        self._given_at = self._results.clock()
        return table

    def whole(self) -> pa.Table:
        """The table, for somebody who sends all of it."""
        assert self.table is not None
        self._rows, self._bytes = self.table.num_rows, self.size
        self._complete = True
        return self.table

    def stalled(self, now: float, seconds: float) -> bool:
        """Whether the reader has taken nothing of what it was given last for so long."""
        return self._given_at is not None and now - self._given_at >= seconds

    def cut(self) -> None:
        """Give up on a reader that has stalled: its connection is broken."""
        self.close(Cancelled("the reader took nothing more"))
        if self._cut is not None:
            self._cut()

    def close(self, error: HostError | None = None) -> None:
        """error: why the rest of a stream cannot be had; whoever iterates gets it."""
        if not self._results.forget(self):
            return
        if error is not None and not self._complete:
            self._error = error
        if self._stream is not None:
            self._close_stream(self._stream)
        if self._joined is not None:
            self._joined.close()
        if self.table is not None:
            self.table, self._tables = None, iter(())
            self._close_table()
            if self._complete:
                self._results.was_read(self.call)
        if self._spans is not None:
            self._spans.end(self._rows, self._bytes, self._error)
        self._results.emit(
            ReadEnded(
                call=self.call,
                rows=self._rows,
                bytes=self._bytes,
                seconds=self._results.clock() - self._opened,
                complete=self._complete,
                error=self._error,
                stream=self._stream is not None,
            )
        )

    def trace(self, spans: ReadSpans) -> None:
        self._spans = spans
        self._context.run(spans.begin)

    def _close_stream(self, stream: Stream) -> None:
        """With the author's `finally`, in the context of what came before it."""
        try:
            self._context.run(stream.close)
        except RuntimeError:  # another thread is at work in it, and closes it there
            stream.close()


class Results:
    """ttl:        seconds that a call is kept after it ended.
    retained:   where the tables are, in `keep`.
    reads:      that may be open at once.
    after_read: seconds that a table is kept after somebody has read all of it; None for its ttl.
    clock:      monotonic seconds.
    """

    def __init__(
        self,
        ttl: float,
        closers: Closers,
        emit: Emit,
        *,
        retained: Retained | None = None,
        reads: int = 256,
        after_read: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.emit = emit
        self.clock = clock
        self.retained = retained or Retained()
        self.cache = Cache(emit, clock)
        self._ttl = ttl
        self.after_read = after_read
        self._closers = closers
        self._max_reads = reads
        self._calls: dict[str, Call] = {}
        self._readings: set[Reading] = set()
        self._expire_at = 0.0
        self._lock = threading.Lock()  # of the "only once" decisions

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def open(self) -> list[Reading]:
        return list(self._readings)

    @property
    def unread(self) -> int:
        """Results that nobody has begun to read."""
        return sum(call.data is not None and not call.read for call in list(self._calls.values()))

    def add(self, call: Call) -> None:
        self._calls[call.id] = call

    def find(self, call_id: str, caller: Caller = ANYONE) -> Call | None:
        """A call of this caller; None for one of somebody else, as for one that never was."""
        call = self._calls.get(call_id)
        return call if call is not None and call.caller.name == caller.name else None

    def drop(self, call: Call) -> None:
        """Forget a call. A stream that nobody began to read is closed, aside: that may block."""
        self._calls.pop(call.id, None)
        with self._lock:
            data, call.data = call.data, None  # whoever still has the call has not its data
        if isinstance(data, Kept):
            data.release()
        elif data is not None and self._first_read(call):
            unread = Reading(call, data, self)
            with self._lock:
                self._readings.add(unread)
            self._closers.submit(lambda: unread.close(Cancelled("nobody read the result in time")))

    def read(
        self, call_id: str, cut: Callable[[], object] | None = None, *, caller: Caller = ANYONE
    ) -> Reading:
        """A table as often as asked, a stream once. cut: see Reading. caller: see `find`.

        Raises NoResult, ResultConsumed, Busy, and the error of a call that failed.
        """
        call = self.find(call_id, caller)
        if call is None:
            raise NoResult(f"call {call_id!r} has no result here, or it has expired")
        if not call.ended.is_set():
            raise NoResult(f"call {call_id!r} has no result yet")
        data = call.result()
        opened = data if isinstance(data, Stream) else data.open()
        reading = Reading(call, opened, self, cut)
        try:
            self._begin(reading, once=isinstance(data, Stream))
        except HostError:
            if isinstance(opened, Opened):
                opened.close()
            raise
        if call.spans is not None:
            reading.trace(call.spans.reading())
        return reading

    def _begin(self, reading: Reading, *, once: bool) -> None:
        call = reading.call
        with self._lock:
            if call.read and once:
                raise ResultConsumed(f"the stream of call {call.id!r} was already read")
            if len(self._readings) >= self._max_reads:
                raise Busy(f"{len(self._readings)} results are being read", bound="max_streams")
            call.read = True
            self._readings.add(reading)

    def was_read(self, call: Call) -> None:
        """All of its table, by somebody."""
        if call.read_at is None:
            call.read_at = self.clock()

    def expires_at(self, call: Call) -> float:
        """When an ended call goes at the earliest, on the clock. Later answers are never sooner."""
        assert call.ended_at is not None
        if self.after_read is None or isinstance(call.data, Stream):
            return call.ended_at + self._ttl
        goes_at = self._goes_at(call, call.ended_at)
        # somebody may read it all right now
        return goes_at if call.read_at is not None else min(goes_at, self.clock() + self.after_read)

    def forget(self, reading: Reading) -> bool:
        """Whether the reading was open; it is not any more."""
        with self._lock:
            if reading not in self._readings:
                return False
            self._readings.remove(reading)
            return True

    def expire(self, now: float) -> None:
        if now < self._expire_at:
            return
        self._expire_at = now + EXPIRE_EVERY
        for call in list(self._calls.values()):
            if call.ended_at is not None and now >= self._goes_at(call, call.ended_at):
                self.drop(call)
        self.cache.expire()
        self.retained.take_over()

    def close(self) -> None:
        """Forget everything."""
        self.cache.close()
        for call in list(self._calls.values()):
            self.drop(call)
        self.retained.close()

    def _goes_at(self, call: Call, ended_at: float) -> float:
        ends = ended_at + self._ttl
        if self.after_read is None or call.read_at is None:
            return ends
        return min(ends, call.read_at + self.after_read)

    def _first_read(self, call: Call) -> bool:
        with self._lock:
            first, call.read = not call.read, True
            return first


def _chunks(table: pa.Table) -> Iterator[pa.Table]:
    for batch in table.to_batches():
        yield pa.Table.from_batches([batch])
