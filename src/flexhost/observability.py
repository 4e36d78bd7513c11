"""Events of the host → metrics, spans, and lines that are written later."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from flexhost.errors import HostError, NotReady, Unauthenticated
from flexhost.telemetry import lines
from flexhost.telemetry.events import Event, Refused
from flexhost.telemetry.writer import MOST, Sink, Writer

if TYPE_CHECKING:
    from flexhost.telemetry.metrics import Metrics
    from flexhost.telemetry.tracing import Tracing

_logger = logging.getLogger("flexhost")


# Refusals of somebody who may be anybody, and lines about those of each kind in so many seconds:
# whoever tries tokens, or knocks before the host is ready, fills no disk.
_OF_ANYBODY = (Unauthenticated, NotReady)
_FAILED_LINES, _FAILED_SECONDS = 10, 60.0

# Seconds that refusals are left together.
_BATCH = 0.05
# A refusal, a line of the host itself, or the end.
_Item: TypeAlias = Refused | str | None


class Telemetry:
    """The host's one listener. Never raises: a broken log must not cost a call.

    Calls are counted where they end. Their lines are made and written by a thread, many at once,
    which costs a quarter of what it costs in the way of a call: nobody waits for a log that is
    stuck. Refusals, which may come by thousands when each microsecond in a request costs many, are
    left to a thread of their own, so that they are counted while the log is stuck.
    """

    def __init__(
        self, metrics: Metrics | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.metrics = metrics
        self.tracing: Tracing | None = None
        self._clock = clock
        self._events: queue.SimpleQueue[tuple[float, _Item]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._writer = Writer()
        self._failed: dict[type[HostError], _Limit] = {
            kind: _Limit(_FAILED_LINES, _FAILED_SECONDS) for kind in _OF_ANYBODY
        }
        self._thread = threading.Thread(target=self._tell_all, name="telemetry", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        if type(event) is not Refused:
            self._count(event)
            self._log(event, self._clock())
        elif self._events.qsize() > MOST:
            self._writer.left_out += 1
        else:
            self._events.put((self._clock(), event))

    def say(self, text: str) -> None:
        """A line of the host itself, written in its turn: nobody waits for a log that is stuck."""
        self._events.put((self._clock(), text))

    def later(self, write: Callable[[], object], size: int = 0) -> bool:
        """See `Writer`."""
        return self._writer.later(write, size)

    def text_later(self, sink: Sink, text: str) -> bool:
        """See `Writer`."""
        return self._writer.text_later(sink, text)

    def close(self, seconds: float) -> None:
        """Tell and write what came until now, each for at most so long."""
        self._closing.set()
        self._events.put((0.0, None))
        self._thread.join(seconds)
        while not (self._thread.is_alive() or self._events.empty()):
            self._tell(*self._events.get())  # what came together with the end
        self._writer.close(seconds)
        if self.tracing is not None:
            self.tracing.close(seconds)

    def _tell_all(self) -> None:
        while True:
            at, event = self._events.get()
            self._closing.wait(_BATCH)
            while event is not None:
                self._tell(at, event)
                if self._events.empty():
                    break
                at, event = self._events.get()
            if event is None:
                return

    def _tell(self, at: float, event: _Item) -> None:
        try:
            if event is None:
                return
            if isinstance(event, str):
                self._later(lines.of_host(event, at))
                return
            self._count(event)
            limit = self._failed.get(type(event.error))
            left_out = 0 if limit is None else limit.admit(at)
            if left_out is not None:
                self._log(event, at, left_out)
        except Exception:
            _lost(event)

    def _log(self, event: Event, at: float, suppressed: int = 0) -> None:
        try:
            said = lines.of(event, at, suppressed)
            if said is not None:
                self._later(said)
        except Exception:
            _lost(event)

    def _later(self, said: lines.Said) -> None:
        if not self._writer.made_later(said.log, said.size):
            said.log()

    def _count(self, event: Event) -> None:
        try:
            if self.metrics is not None:
                self.metrics(event)
            if self.tracing is not None:
                self.tracing(event)
        except Exception:
            _lost(event)


def _lost(event: Event | str | None) -> None:
    _logger.exception("an event of the host was lost: %s", type(event).__name__)


class _Limit:
    """At most so many lines in so many seconds."""

    def __init__(self, lines: int, seconds: float) -> None:
        self._seconds = seconds
        self._written: deque[float] = deque(maxlen=lines)
        self._left_out = 0

    def admit(self, at: float) -> int | None:
        """None for a line too many; else how many were left out since the last one."""
        full = len(self._written) == self._written.maxlen
        if full and 0 <= at - self._written[0] < self._seconds:
            self._left_out += 1
            return None
        self._written.append(at)
        left_out, self._left_out = self._left_out, 0
        return left_out
