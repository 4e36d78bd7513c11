"""One table of all calls, from acceptance to expiry, so that a call is never in neither; and what
is being read from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pyarrow as pa

from flexhost.call import Call, failure
from flexhost.closers import Closers
from flexhost.contract import Stream
from flexhost.errors import Cancelled, HostError, NoResult, ResultConsumed
from flexhost.events import Emit, ReadEnded

# Seconds between two looks at everything that is kept.
EXPIRE_EVERY = 1.0


class Reading:
    """One read of a result. Whoever opened it closes it; any thread may, any number of times.

    table:  the data, when it is a table: to be sent as it is.
    Iterating gives the tables of a stream.
    """

    def __init__(self, call: Call, data: pa.Table | Stream, results: Results) -> None:
        self.call = call
        self.table = data if isinstance(data, pa.Table) else None
        self.schema: pa.Schema = data.schema
        self._stream = data if isinstance(data, Stream) else None
        self._results = results
        self._opened = results.clock()
        self._rows = self._bytes = 0
        self._complete = False
        self._error: HostError | None = None
        if self.table is not None:
            self._rows, self._bytes = self.table.num_rows, self.table.nbytes
            self._complete = True

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        """Raises the error it was closed with, and what the function raises."""
        try:
            if self._error is not None:
                raise self._error
            if self._stream is None:
                raise StopIteration
            table = next(self._stream)
        except StopIteration:
            if self._error is not None:
                raise self._error from None
            self._complete = True
            raise
        except BaseException as error:
            self._error = failure(error, self.call.function)
            self._error.id, self._error.function = self.call.id, self.call.function.name
            raise self._error from None
        self._rows += table.num_rows
        self._bytes += table.nbytes
        return table

    def close(self, error: HostError | None = None) -> None:
        """error: why the rest of a stream cannot be had; whoever iterates gets it."""
        if not self._results.forget(self):
            return
        if error is not None and not self._complete:
            self._error = error
        if self._stream is not None:
            self._stream.close()
        self._results.emit(
            ReadEnded(
                call=self.call,
                rows=self._rows,
                bytes=self._bytes,
                seconds=self._results.clock() - self._opened,
                complete=self._complete,
                error=self._error,
            )
        )


class Results:
    """ttl: seconds that a call is kept after it ended. clock: monotonic seconds."""

    def __init__(
        self,
        ttl: float,
        closers: Closers,
        emit: Emit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl = ttl
        self.emit = emit
        self.clock = clock
        self._closers = closers
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

    def get(self, call_id: str) -> Call:
        """Raises NoResult."""
        try:
            return self._calls[call_id]
        except KeyError:
            raise NoResult(f"call {call_id!r} has no result here, or it has expired") from None

    def drop(self, call: Call) -> None:
        """Forget a call. A stream that nobody began to read is closed, aside: that may block."""
        self._calls.pop(call.id, None)
        if isinstance(call.data, Stream) and self._first_read(call):
            unread = Reading(call, call.data, self)
            self._readings.add(unread)
            self._closers.submit(lambda: unread.close(Cancelled("nobody read the result in time")))

    def read(self, call_id: str) -> Reading:
        """A table as often as asked, a stream once.

        Raises NoResult, ResultConsumed, and the error of a call that failed.
        """
        call = self.get(call_id)
        if not call.ended.is_set():
            raise NoResult(f"call {call_id!r} has no result yet")
        data = call.result()
        if not self._first_read(call) and isinstance(data, Stream):
            raise ResultConsumed(f"the stream of call {call_id!r} was already read")
        reading = Reading(call, data, self)
        self._readings.add(reading)
        return reading

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
            if call.ended_at is not None and now - call.ended_at >= self.ttl:
                self.drop(call)

    def _first_read(self, call: Call) -> bool:
        with self._lock:
            first, call.read = not call.read, True
            return first
