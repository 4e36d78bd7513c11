"""Events of the host → lines of its log."""

from __future__ import annotations

import functools
import logging
from typing import Any, NamedTuple

from flexhost.call import Call, State
from flexhost.errors import (
    BadCall,
    Cancelled,
    HostError,
    ShuttingDown,
    TimedOut,
    Unauthenticated,
)
from flexhost.logs import Line
from flexhost.telemetry.events import (
    CallEnded,
    Event,
    ExchangeEnded,
    ReadEnded,
    Refused,
    WorkerAbandoned,
)
from flexhost.telemetry.masks import masked_text

_calls = logging.getLogger("flexhost.calls")
_host = logging.getLogger("flexhost")

# What ends a stream that its function did not end.
_STOPS = (Cancelled, TimedOut, ShuttingDown)
# Characters of a line without an error, about.
_USUAL = 400


class Said(NamedTuple):
    """What a line says, before it has a form.

    at:   seconds since the epoch.
    size: of its texts, about, in characters.
    """

    at: float
    text: str
    fields: dict[str, Any]
    level: int = logging.INFO
    logger: logging.Logger = _calls
    size: int = _USUAL

    def log(self) -> None:
        if self.logger.isEnabledFor(self.level):
            # straight, without the search for the caller's file and line that `log` would make
            self.logger.handle(Line.of(self.logger, self.level, self.text, self.at, self.fields))


def of_host(text: str, at: float) -> Said:
    return Said(at, masked_text(text), {}, logger=_host)


def of(event: Event, at: float, suppressed: int = 0) -> Said | None:
    """One for each call: when it ended, or, if it is a stream, when that did. An exchange, of which
    there may be thousands of calls, has one line itself, and its failed call one.

    suppressed: lines like this one that were left out before it.
    """
    match event:
        case CallEnded(call=call):
            if call.error is not None:
                return _of_call(at, call, call.error, {})
            if event.rows is not None and not call.exchange:
                return _of_call(at, call, None, {"rows": event.rows, "bytes": event.bytes})
        case ReadEnded(call=call):
            if event.stream and not (call.exchange and event.error is None):
                more = {
                    "rows": event.rows,
                    "bytes": event.bytes,
                    "streaming_sec": round(event.seconds, 6),
                    "complete": event.complete,
                }
                return _of_call(at, call, event.error, more)
        case ExchangeEnded():
            return _of_exchange(at, event)
        case WorkerAbandoned(call=abandoned, stack=stack, why=why):
            of_its_call = {} if abandoned is None else _named(abandoned)
            fields = {**of_its_call, "stack": masked_text(stack)}
            return Said(at, why, fields, logging.ERROR, _host, _USUAL + len(stack))
        case Refused():
            return _of_refusal(at, event, suppressed)
    return None


def outcome(call: Call, error: HostError | None) -> str:
    """What became of a call, or of its stream, in one word."""
    if error is None:
        return "ok"
    stopped = call.state is State.STOPPED or isinstance(error, _STOPS)
    return error.code.lower() if stopped else "failed"


def _of_call(at: float, call: Call, error: HostError | None, more: dict[str, Any]) -> Said:
    ended = call.ended_at or 0.0
    started = call.began_at
    fields = {
        **_named(call),
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
    return Said(at, "call", fields) if error is None else _failed(at, fields, error)


def _of_exchange(at: float, event: ExchangeEnded) -> Said:
    exchange, error = event.exchange, event.error
    fields = {
        "exchange_id": exchange.id,
        "function": _shown(exchange.function.name),
        "caller": _shown(exchange.caller.name),
        "outcome": "ok" if error is None else error.code.lower(),
        "batches": exchange.batches,
        "rows": exchange.rows,
        "answered_rows": exchange.answered_rows,
        "open_sec": round(event.seconds, 6),
    }
    if error is not None:  # of a call, or of a refusal, which was told in full under this id
        fields |= {"code": error.code, "call_id": error.id or None}
    return Said(at, "exchange", fields)


def _of_refusal(at: float, event: Refused, suppressed: int) -> Said:
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
    return _failed(at, fields, event.error)


def _named(call: Call) -> dict[str, Any]:
    return {
        "call_id": call.id,
        "function": _shown(call.function.name),
        "caller": _shown(call.caller.name),
    }


def _failed(at: float, fields: dict[str, Any], error: HostError) -> Said:
    level, trace = logging.INFO, ""
    fields |= {"code": error.code, "error": masked_text(_cut(str(error), 2_000))}
    if error.trace:
        callers = error.code == BadCall.code  # a mistake of its caller's, by its author's word
        level = logging.WARNING if callers else logging.ERROR
        fields["exception"] = trace = masked_text(_cut(error.trace.rstrip(), 20_000))
    return Said(at, "call", fields, level, size=_USUAL + len(fields["error"]) + len(trace))


@functools.lru_cache(1024)
def _shown(name: str) -> str | None:
    """A name that comes again with each line."""
    return masked_text(name) or None


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
