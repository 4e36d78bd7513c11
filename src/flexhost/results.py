"""One table of all calls, from acceptance to expiry, so that a call is never in neither."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from flexhost.call import Call
from flexhost.caller import ANYONE, Caller
from flexhost.contract import Stream
from flexhost.errors import Busy, Cancelled, HostError, NoResult, ResultConsumed
from flexhost.storage.cache import Cache
from flexhost.storage.kept import Kept, Opened
from flexhost.storage.reading import Reading
from flexhost.storage.retained import Retained
from flexhost.system.closers import Closers
from flexhost.telemetry.events import Emit

# Seconds between two looks at everything that is kept.
EXPIRE_EVERY = 1.0


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
        self.keep = self.retained.keep  # one for all calls
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
            reading.trace(call.spans.reading(ends_request=not call.exchange))
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
