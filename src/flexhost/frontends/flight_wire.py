"""The bytes of commands, tickets and errors, as a FLIGHTRPC data source exchanges them."""

from __future__ import annotations

import base64
import difflib
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.flight as fl

from flexhost.errors import BadCall, Busy, Cancelled, FunctionFailed, HostError, NotOffered
from flexhost.function import Function

RETRY_HERE = 0x1_0000
RETRY_OTHER = 0x2_0000
RETRY_ANY = 0x3_0000

# Error name → its number with the retry flags, and the Flight error that carries it.
CODES: dict[str, tuple[int, type[fl.FlightError]]] = {
    "UNKNOWN": (0, fl.FlightServerError),
    "BAD_ARGUMENT": (1, fl.FlightServerError),
    "BAD_REQUEST": (2, fl.FlightServerError),
    "INVALID_TICKET": (4, fl.FlightServerError),
    "COMMAND_FAILED": (5, fl.FlightServerError),
    "COMMAND_CANCELLED": (6, fl.FlightServerError),
    "COMMAND_RESULT_CONSUMED": (8, fl.FlightServerError),
    "TIMEOUT": (100, fl.FlightTimedOutError),
    "UNAUTHENTICATED": (110, fl.FlightUnauthenticatedError),
    "UNAUTHORIZED": (111, fl.FlightUnauthorizedError),
    "POLL": (101 | RETRY_HERE, fl.FlightTimedOutError),
    "BACKPRESSURE": (102 | RETRY_ANY, fl.FlightUnavailableError),
    "INTERNAL_ERROR": (500 | RETRY_OTHER, fl.FlightInternalError),
    "NOT_READY": (501 | RETRY_ANY, fl.FlightUnavailableError),
    "SHUTTING_DOWN": (502 | RETRY_OTHER, fl.FlightUnavailableError),
    "NOT_IMPLEMENTED": (503, fl.FlightServerError),
}

# A header, with any value: the caller wants to poll.
POLLABLE = "x-quiver-pollable"
RETRY, CANCEL = b"r:", b"c:"

# Action → what ListActions says of it.
INVALIDATE, PROTOCOL_VERSION = "invalidate", "protocol_version"
ACTIONS = {
    INVALIDATE: "Forget the cached results of a function, so that its next calls run. Body: JSON "
    '{"functionName": str, "parameters": object?}, with parameters only of calls that have these. '
    'Result: JSON {"invalidated": int}, how many there were that are yours or shared.',
    PROTOCOL_VERSION: "The version of what DoExchange speaks: one byte, 2.",
}

# Errors travel in HTTP/2 trailers, the text twice; past 8 KB in all they are damaged (measured).
MESSAGE_BYTES = 256
DETAIL_BYTES = 512
TICKET_BYTES = 1024
EXTRA_INFO_BYTES = 2048
_CUT = " [truncated]"


class Invocation(msgspec.Struct):
    """The command of GetFlightInfo and GetSchema."""

    functionName: str  # noqa: N815  # the name on the wire
    parameters: dict[str, Any] | None = None


class _Invalidate(msgspec.Struct, forbid_unknown_fields=True):
    """The body of the action `invalidate`."""

    functionName: str  # noqa: N815  # the name on the wire
    parameters: dict[str, Any] | None = None


class _Ticket(msgspec.Struct):
    task_id: str


_invocation = msgspec.json.Decoder(Invocation)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_invalidate = msgspec.json.Decoder(_Invalidate)
_ticket = msgspec.json.Decoder(_Ticket)
_to_json = msgspec.json.Encoder().encode


def command_of(descriptor: fl.FlightDescriptor, most: int) -> bytes | None:
    """The bytes of a descriptor's command; None when it is no command. Raises BadCall: over `most`
    bytes."""
    command: bytes | None = descriptor.command
    if command is not None and len(command) > most:
        raise _too_large(len(command), most, "command")
    return command


def _too_large(size: int, most: int, what: str) -> BadCall:
    error = BadCall(f"the {what} has {size} bytes, at most {most} are taken")
    error.reason = "max_command_bytes"
    return error


def decode_poll(command: bytes) -> tuple[bytes, str] | None:
    """RETRY or CANCEL with the id of the call, or None for a command of another kind."""
    if not command.startswith((RETRY, CANCEL)):
        return None
    return command[:2], command[2:].decode("utf-8", "replace")


def decode_command(command: bytes) -> tuple[str, dict[str, Any], tuple[str, ...] | None]:
    """Function name, parameters, column hint.

    Raises BadCall: not JSON, a field that is missing or of the wrong type.
    """
    invocation: Invocation = _decode(_invocation, command, "command")
    if not invocation.functionName:
        raise BadCall("the command's functionName is empty")
    parameters = invocation.parameters
    if parameters is None:
        _refuse_misspelled(command)
        return invocation.functionName, {}, None
    return invocation.functionName, parameters, _hint(parameters, "command")


def _hint(parameters: dict[str, Any], what: str) -> tuple[str, ...] | None:
    if (columns := parameters.get("columns")) is None:
        return None
    try:
        return tuple(msgspec.convert(columns, list[str]))
    except msgspec.ValidationError as error:
        raise BadCall(f"the {what}'s parameters.columns: {_reason(error)}") from None


def decode_ticket(ticket: fl.Ticket) -> str:
    """The id of the call. Raises BadCall."""
    data: bytes = ticket.ticket
    if len(data) > TICKET_BYTES:
        raise BadCall(f"the ticket has {len(data)} bytes, at most {TICKET_BYTES} are taken")
    decoded: _Ticket = _decode(_ticket, data, "ticket")
    return decoded.task_id


def decode_invalidate(action: fl.Action, most: int) -> tuple[str, dict[str, Any] | None]:
    """Function name, parameters.

    Raises NotOffered for another action, and BadCall: over `most` bytes, not JSON, a field that is
    missing, unknown or of the wrong type.
    """
    if action.type != INVALIDATE:
        raise NotOffered(f"there is no action {_cut(action.type, 64)!r}")
    if action.body.size > most:
        raise _too_large(action.body.size, most, "action's body")
    body: _Invalidate = _decode(_invalidate, bytes(action.body), "action's body")
    if body.parameters is not None:
        _hint(body.parameters, "action's body")
    return body.functionName, body.parameters


def encode_invalidated(number: int) -> fl.Result:
    return fl.Result(pa.py_buffer(_to_json({"invalidated": number})))


def encode_ticket(call_id: str) -> fl.Ticket:
    return fl.Ticket(b'{"task_id":"%s"}' % call_id.encode())


def not_yet(call_id: str) -> fl.FlightError:
    """Tells a polling caller how to ask again, and how to cancel."""
    retry, cancel = (_descriptor(verb + call_id.encode()) for verb in (RETRY, CANCEL))
    retry_info = {"flight_info": None, "retry_descriptor": retry, "cancel_descriptor": cancel}
    return _error("POLL", f"call {call_id} is not ready yet", body=retry_info)


def cancelled(call_id: str) -> fl.FlightError:
    """The answer to a cancel descriptor, as often as it comes."""
    message = f"call {_cut(call_id, 64)} is cancelled"
    return _error(Cancelled.code, message, as_class=fl.FlightCancelledError)


def describe(function: Function) -> fl.FlightInfo:
    """A function as ListFlights shows it."""
    command = _to_json({"functionName": function.name, "metadata": function.metadata})
    return fl.FlightInfo(function.schema, fl.FlightDescriptor.for_command(command), [], -1, -1)


def flight_error(
    error: HostError, id_: str, *, detail: bool = True, in_stream: bool = False
) -> fl.FlightError:
    """The Flight error that tells a client of `error`.

    id_:       by which the log knows it.
    detail:    whether it may show what the function said of itself.
    in_stream: a FlightCancelledError there would surface in pyarrow as a KeyboardInterrupt.

    A Flight error that the function raised passes with its own class and extra_info.
    """
    name = error.code
    message, more = str(error), error.detail
    if isinstance(error, FunctionFailed) and error.said:
        if isinstance(error.cause, fl.FlightError):
            return _passed_on(error.cause, error, id_, detail, in_stream)
        if not detail:
            message, more = f"function {error.function!r} failed", None
    body = {"retry_after_ms": round(error.retry_after * 1000)} if isinstance(error, Busy) else None
    return _error(name, f"{_cut(message, MESSAGE_BYTES)} [id {id_}]", more, body=body)


def _error(
    name: str,
    message: str,
    detail: str | None = None,
    *,
    body: dict[str, Any] | None = None,
    as_class: type[fl.FlightError] | None = None,
) -> fl.FlightError:
    """A Flight error with its extra_info. The message is short enough already."""
    number, flight_class = CODES.get(name, CODES["UNKNOWN"])
    info = {
        "msg": message,
        "detail": detail and _cut(detail, DETAIL_BYTES),
        "code": number,
        "body": body and base64.b64encode(_to_json(body)).decode(),
    }
    return (as_class or flight_class)(message, _to_json(info))


def _descriptor(command: bytes) -> str:
    return base64.b64encode(fl.FlightDescriptor.for_command(command).serialize()).decode()


def _passed_on(
    cause: fl.FlightError, error: HostError, id_: str, detail: bool, in_stream: bool
) -> fl.FlightError:
    """What the function raised, with our own extra_info where it has none that can travel."""
    kind = next((kind for kind in _FLIGHT_ERRORS if kind is type(cause)), fl.FlightServerError)
    if in_stream and kind is fl.FlightCancelledError:
        kind = fl.FlightServerError
    message = str(error) if detail else f"function {error.function!r} failed"
    told = _error(error.code, f"{_cut(message, MESSAGE_BYTES)} [id {id_}]", as_class=kind)
    extra_info = bytes(cause.extra_info or b"")
    if detail and 0 < len(extra_info) <= EXTRA_INFO_BYTES:
        told.extra_info = extra_info
    return told


_FLIGHT_ERRORS = (
    fl.FlightCancelledError,
    fl.FlightInternalError,
    fl.FlightServerError,
    fl.FlightTimedOutError,
    fl.FlightUnauthenticatedError,
    fl.FlightUnauthorizedError,
    fl.FlightUnavailableError,
)


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes, what: str) -> Any:
    try:
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        raise BadCall(f"the {what} is not as expected: {_reason(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadCall(f"the {what} is not JSON: {error}") from None
    except RecursionError:
        raise BadCall(f"the {what} is nested too deep") from None


def _refuse_misspelled(command: bytes) -> None:
    """Unknown keys are fine, callers add some; one that is nearly `parameters` is a mistake that
    would answer with data nobody asked for."""
    for key in _decode(_keys, command, "command"):
        if key not in Invocation.__struct_fields__ and difflib.get_close_matches(
            key.lower(), ["parameters"], cutoff=0.8
        ):
            raise BadCall(f"the command has a key {key!r}: did you mean 'parameters'?")


def _reason(error: msgspec.ValidationError) -> str:
    """msgspec's words without its path syntax for the top: `$.functionName` → functionName."""
    return str(error).replace("`$.", "`").replace(" - at `$`", "")


def _cut(text: str, size: int) -> str:
    """At most `size` bytes of UTF-8, nothing in it that JSON would blow up or a terminal obey."""
    plain = "".join(c if c.isprintable() or c in "\n\t" else " " for c in text[: size + 1])
    data = plain.encode("utf-8", "replace")
    if len(data) <= size:
        return data.decode()
    return data[: size - len(_CUT)].decode("utf-8", "ignore") + _CUT
