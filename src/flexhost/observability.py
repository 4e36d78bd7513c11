"""Events of the host → one log line a call, and metrics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flexhost.call import Call, State
from flexhost.errors import HostError
from flexhost.events import CallEnded, Event, ReadEnded, Refused, WorkerAbandoned

if TYPE_CHECKING:
    from flexhost.metrics import Metrics

_logger = logging.getLogger("flexhost.calls")
_trouble = logging.getLogger("flexhost")


class Telemetry:
    """The host's one listener. Never raises: a broken log must not cost a call."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics

    def __call__(self, event: Event) -> None:
        try:
            _log(event)
            if self._metrics is not None:
                self._metrics(event)
        except Exception:
            _trouble.exception("an event of the host was lost: %s", type(event).__name__)


def outcome(call: Call, error: HostError | None) -> str:
    """What became of a call, in one word."""
    if error is None:
        return "ok"
    return error.code.lower() if call.state is State.STOPPED else "failed"


def _log(event: Event) -> None:
    """One line for each call: when it ended, or, if it is a stream, when that did."""
    match event:
        case CallEnded(call=call):
            if call.error is not None:
                _line(call, call.error)
            elif isinstance(call.data, pa.Table):
                _line(call, None, rows=call.data.num_rows, bytes=call.data.nbytes)
        case ReadEnded(call=call) if not isinstance(call.data, pa.Table):
            _line(
                call,
                event.error,
                rows=event.rows,
                bytes=event.bytes,
                streaming_sec=round(event.seconds, 6),
                complete=event.complete,
            )
        case WorkerAbandoned(call=call, stack=stack):
            _trouble.error(
                "a thread is stuck in a call past its deadline",
                extra={
                    "fields": {"call_id": call.id, "function": call.function.name, "stack": stack}
                },
            )
        case Refused():
            fields = {
                "call_id": event.id,
                "function": event.function or None,
                "request": event.request,
                "outcome": "refused",
            }
            _write(fields, event.error)


def _line(call: Call, error: HostError | None, **more: Any) -> None:
    ended = call.ended_at or 0.0
    started = call.started_at
    fields = {
        "call_id": call.id,
        "function": call.function.name,
        "outcome": outcome(call, error),
        "waiting_sec": round((ended if started is None else started) - call.accepted_at, 6),
        "running_sec": None if started is None else round(ended - started, 6),
        **more,
    }
    _write(fields, error)


def _write(fields: dict[str, Any], error: HostError | None) -> None:
    level = logging.INFO
    if error is not None:
        fields |= {"code": error.code, "error": str(error)}
        if error.trace:
            level = logging.ERROR
            fields["exception"] = error.trace.rstrip()
    _logger.log(level, "call", extra={"fields": fields})
