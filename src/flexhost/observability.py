"""Events of the host → one log line a call, and metrics."""

from __future__ import annotations

import functools
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from flexhost.call import Call, State
from flexhost.errors import (
    BadCall,
    Cancelled,
    HostError,
    NotReady,
    ShuttingDown,
    TimedOut,
    Unauthenticated,
)
from flexhost.events import CallEnded, Event, ExchangeEnded, ReadEnded, Refused, WorkerAbandoned
from flexhost.logs import Line
from flexhost.masks import masked_text
from flexhost.writer import MOST, Sink, Writer

if TYPE_CHECKING:
    from flexhost.exchanges import Exchange
    from flexhost.metrics import Metrics
    from flexhost.tracing import Tracing

_logger = logging.getLogger("flexhost.calls")
_trouble = logging.getLogger("flexhost")


# Refusals of somebody who may be anybody, and lines about those of each kind in so many seconds:
# whoever tries tokens, or knocks before the host is ready, fills no disk.
_OF_ANYBODY = (Unauthenticated, NotReady)
_FAILED_LINES, _FAILED_SECONDS = 10, 60.0
# What ends a stream that its function did not end.
_STOPS = (Cancelled, TimedOut, ShuttingDown)

# Seconds that refusals are left together.
_BATCH = 0.05
# An event, a line of the host itself, or the end.
_Item: TypeAlias = Event | str | None


class Telemetry:
    """The host's one listener. Never raises: a broken log must not cost a call.

    Calls are counted, and their lines made, where they end: another thread would compete with
    requests for the interpreter. But refusals, which may come by thousands when each microsecond
    in a request costs many, are left to a thread. Lines are written by another one, see `later`:
    nobody waits for a log that is stuck.
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
            self._tell(self._clock(), event)
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
            del event  # and with it the call

    def _tell(self, at: float, event: _Item) -> None:
        try:
            if event is None:
                return
            if isinstance(event, str):
                _logger_line(_trouble, logging.INFO, masked_text(event), at, {})
                return
            if self.metrics is not None:
                self.metrics(event)
            if self.tracing is not None:
                self.tracing(event)
            if isinstance(event, Refused) and (limit := self._failed.get(type(event.error))):
                left_out = limit.admit(at)
                if left_out is not None:
                    _log(event, at, suppressed=left_out)
            else:
                _log(event, at)
        except Exception:
            _trouble.exception("an event of the host was lost: %s", type(event).__name__)


def _is_of_no_line(event: Event) -> bool:
    """Whether it is of a call in an exchange that went well."""
    if isinstance(event, CallEnded):
        return bool(event.call.exchange) and event.call.error is None
    return isinstance(event, ReadEnded) and bool(event.call.exchange) and event.error is None


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


def outcome(call: Call, error: HostError | None) -> str:
    """What became of a call, or of its stream, in one word."""
    if error is None:
        return "ok"
    stopped = call.state is State.STOPPED or isinstance(error, _STOPS)
    return error.code.lower() if stopped else "failed"


def _log(event: Event, at: float, suppressed: int = 0) -> None:
    """One line for each call: when it ended, or, if it is a stream, when that did. An exchange, of
    which there may be thousands of calls, has one line itself, and its failed call one.

    suppressed: lines like this one that were left out before it.
    """
    match event:
        case CallEnded(call=call, rows=rows):
            if call.error is not None:
                _line(at, call, call.error)
            elif rows is not None and not call.exchange:
                _line(at, call, None, rows=rows, bytes=event.bytes)
        case ReadEnded(stream=False):
            pass
        case ReadEnded(call=call) if not _is_of_no_line(event):
            _line(
                at,
                call,
                event.error,
                rows=event.rows,
                bytes=event.bytes,
                streaming_sec=round(event.seconds, 6),
                complete=event.complete,
            )
        case ExchangeEnded(exchange=exchange):
            _exchange_line(at, exchange, event.seconds, event.error)
        case WorkerAbandoned(call=abandoned, stack=stack, why=why):
            of: dict[str, Any] = {}
            if abandoned is not None:
                of = {
                    "call_id": abandoned.id,
                    "function": abandoned.function.name,
                    "caller": abandoned.caller.name or None,
                }
            _trouble.error(why, extra={"fields": {**of, "stack": stack}})
        case Refused():
            fields: dict[str, Any] = {
                "call_id": event.id,
                "function": _shown(event.function),
                "caller": _shown(event.caller),
                "request": event.request,
                "outcome": "refused",
            }
            if isinstance(event.error, Unauthenticated) and event.error.why:
                fields["why"] = masked_text(event.error.why)
            if suppressed:
                fields["suppressed"] = suppressed
            _write(at, fields, event.error)


def _line(at: float, call: Call, error: HostError | None, **more: Any) -> None:
    ended = call.ended_at or 0.0
    started = call.began_at
    fields = {
        "call_id": call.id,
        "function": _shown(call.function.name),
        "caller": _shown(call.caller.name),
        "outcome": outcome(call, error),
        "waiting_sec": round((ended if started is None else started) - call.accepted_at, 6),
        "running_sec": None if started is None else round(ended - started, 6),
    }
    if call.cache is not None:
        fields["cache"] = call.cache
    if call.exchange:
        fields["exchange_id"] = call.exchange
    if call.spans is not None:
        fields.update(call.spans.fields)
    fields.update(more)
    _write(at, fields, error)


def _exchange_line(at: float, exchange: Exchange, seconds: float, error: HostError | None) -> None:
    fields = {
        "exchange_id": exchange.id,
        "function": _shown(exchange.function.name),
        "caller": _shown(exchange.caller.name),
        "outcome": "ok" if error is None else error.code.lower(),
        "batches": exchange.batches,
        "rows": exchange.rows,
        "answered_rows": exchange.answered_rows,
        "open_sec": round(seconds, 6),
    }
    if error is not None:  # of a call, or of a refusal, which was told in full under this id
        fields |= {"code": error.code, "call_id": error.id or None}
    _logger_line(_logger, logging.INFO, "exchange", at, fields)


def _write(at: float, fields: dict[str, Any], error: HostError | None) -> None:
    level = logging.INFO
    if error is not None:
        fields |= {"code": error.code, "error": masked_text(_cut(str(error), 2_000))}
        if error.trace:
            callers = error.code == BadCall.code  # a mistake of its caller's, by its author's word
            level = logging.WARNING if callers else logging.ERROR
            fields["exception"] = masked_text(_cut(error.trace.rstrip(), 20_000))
    _logger_line(_logger, level, "call", at, fields)


def _logger_line(
    logger: logging.Logger, level: int, text: str, at: float, fields: dict[str, Any]
) -> None:
    if logger.isEnabledFor(level):
        # straight, without the search for the caller's file and line that `log` would make
        logger.handle(Line.of(logger, level, text, at, fields))


@functools.lru_cache(1024)
def _shown(name: str) -> str | None:
    """A name that comes again with each line."""
    return masked_text(name) or None


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
