"""Arrow Flight: the handlers. Decode, call the host, encode; nothing else."""

from __future__ import annotations

import errno
import functools
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.affinity import on_one_core
from flexhost.call import Call
from flexhost.contract import Stream
from flexhost.errors import (
    BadCall,
    BadRequest,
    Busy,
    HostError,
    Internal,
    NotOffered,
    SettingsError,
    StartError,
)
from flexhost.frontends import connections
from flexhost.frontends import flight_wire as wire
from flexhost.frontends.flight_streams import Slots, stream
from flexhost.function import Headers
from flexhost.host import Host

_SERVED = {
    fl.FlightMethod.LIST_FLIGHTS,
    fl.FlightMethod.GET_SCHEMA,
    fl.FlightMethod.GET_FLIGHT_INFO,
    fl.FlightMethod.DO_GET,
    fl.FlightMethod.DO_ACTION,
    fl.FlightMethod.LIST_ACTIONS,
}
_MAY_COME = {
    fl.FlightMethod.DO_PUT: "DoPut",
    fl.FlightMethod.DO_EXCHANGE: "DoExchange",
}


class FlightFrontend(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves a host from the moment it is made; `port` is the port it listens on.

    advertise:    host and port under which clients reach it; port 0 means the one listened on.
    poll:         seconds that a polling caller waits for its answer.
    rpcs:         requests that may be under way at once.
    command:      bytes that a command may have.
    cut_off:      whether readers that stall may be cut off: tables go out piece by piece then.
    error_detail: whether the text of a function's exception reaches the client.
    """

    def __init__(
        self,
        host: Host,
        listen: tuple[str, int],
        advertise: tuple[str, int],
        *,
        poll: float = 2.0,
        rpcs: int = 1024,
        command: int = 1 << 20,
        cut_off: bool = False,
        error_detail: bool = True,
    ) -> None:
        """Raises StartError that names the address and the cause."""
        # GetSchema cannot carry a coded error: pyarrow sends the text with its traceback
        sys.tracebacklimit = 0
        self._host = host
        self._poll = poll
        self._rpcs = Slots(rpcs)
        self._refusal = wire.Refusal(self._rpcs.busy)
        self._command = command
        self._cut_off = cut_off
        self._error_detail = error_detail
        try:
            fl.Location(_uri(advertise[0], advertise[1] or 1))
        except (ValueError, pa.ArrowException):
            raise SettingsError(
                f"advertise_host is {advertise[0]!r}, expected a host name or an address"
            ) from None
        _try_to_bind(*listen)
        try:
            with on_one_core():
                super().__init__(_uri(*listen), middleware={"call": _OnePerCall(self)})
        except Exception as error:
            raise StartError(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from None
        self.location = fl.Location(_uri(advertise[0], advertise[1] or self.port))

    def list_flights(
        self, context: fl.ServerCallContext, criteria: bytes
    ) -> Iterator[fl.FlightInfo]:
        with self.errors("ListFlights"), self._rpcs:
            return iter([wire.describe(function) for function in self._host.functions])

    def get_schema(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.SchemaResult:
        try:
            with self.errors("GetSchema"), self._rpcs:
                command = wire.command_of(descriptor, self._command)
                name, _, _ = wire.decode_command(command)
                return fl.SchemaResult(self._host.functions[name].schema)
        except fl.FlightError as error:  # of which pyarrow would keep neither class nor code here
            raise ValueError(str(error)) from None

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        with self.errors("GetFlightInfo"), self._rpcs:
            command = wire.command_of(descriptor, self._command)
            headers = context.get_middleware("call").headers
            poll = self._poll if wire.POLLABLE in headers else 0.0
            if verb := wire.decode_poll(command):
                call = self._known(*verb)
            else:
                name, parameters, hint = wire.decode_command(command)
                kept = command if poll else b""
                call = self._host.submit(name, parameters, hint, headers, poll=poll, command=kept)
            if not self._host.wait(call, context.is_cancelled, poll or None):
                raise wire.not_yet(call.id)
            return self._flight_info(call, descriptor)

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        with self.errors("DoGet"):
            call_id = wire.decode_ticket(ticket)
            cut = functools.partial(connections.cut, context.peer()) if self._cut_off else None
            self._rpcs.enter()  # until the stream is dropped
            try:
                reading = self._host.read(call_id, cut)
            except BaseException:
                self._rpcs.leave()
                raise
            watch = functools.partial(self._host.watch, gone=context.is_cancelled)
            whole = cut is None and not reading.to_the_end
            return stream(reading, self._rpcs, watch, self.errors, whole=whole)

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        with self.errors("ListActions"), self._rpcs:
            return list(wire.ACTIONS.items())

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> Iterator[fl.Result]:
        with self.errors("DoAction"), self._rpcs:
            name, parameters = wire.decode_invalidate(action, self._command)
            invalidated = self._host.invalidate(name, parameters)
            return iter([wire.encode_invalidated(invalidated)])

    @property
    def under_way(self) -> int:
        """Requests that are answered now, reads included."""
        return self._rpcs.taken

    def stop(self, seconds: float) -> bool:
        """Close the listener and wait for what still runs. Whether all of it ended in time."""
        # pyarrow's own shutdown waits without a limit, for ever if one client stopped reading
        stopping = threading.Thread(target=self.shutdown, name="shutdown", daemon=True)
        stopping.start()
        stopping.join(seconds)
        return not stopping.is_alive()

    @contextmanager
    def errors(self, request: str, *, in_stream: bool = False) -> Iterator[None]:
        """The one place where an error of the host becomes an error of the wire."""
        try:
            yield
        except HostError as error:
            told = error
        except fl.FlightError:
            raise
        except (StopIteration, GeneratorExit):
            raise
        except BaseException as error:
            trace = "".join(traceback.format_exception(error, limit=100))
            told = Internal("the host failed in a way it should not", trace=trace)
        else:
            return
        # an error may be kept with its call, and its frames would keep this request
        told.__traceback__ = told.__context__ = None
        # no name for what is raised: it would be in a frame that it keeps itself
        raise self._told(told, request, in_stream=in_stream) from None

    def _told(self, error: HostError, request: str, *, in_stream: bool) -> fl.FlightError:
        id_ = self._host.refused(error, request)
        try:
            return wire.flight_error(error, id_, detail=self._error_detail, in_stream=in_stream)
        except Exception as broken:  # over words that the function chose
            untold = Internal("an error could not be told", trace=repr(type(broken)))
            return wire.flight_error(untold, self._host.refused(untold, request))

    def refuse_early(self, method: fl.FlightMethod, headers: Headers) -> None:
        """Refuse what would be refused anyway while that is cheapest. Raises a Flight error."""
        if method is fl.FlightMethod.GET_FLIGHT_INFO:
            # one who polls may ask for a call that was accepted
            polls = wire.POLLABLE in headers
            if busy := self._rpcs.refusal() or (None if polls else self._host.overloaded()):
                raise self._too_many(busy)
        elif method not in _SERVED:
            # such requests hold a thread otherwise
            with self.errors(_MAY_COME.get(method, method.name)):
                if method in _MAY_COME:
                    raise NotOffered(f"{_MAY_COME[method]} is not offered by this host")
                raise BadRequest("this host does not serve requests of this kind")

    def _too_many(self, busy: Busy) -> fl.FlightError:
        """The error of a refusal that many are told. In a burst of thousands each microsecond of
        Python in a request costs many, so only its id is made anew."""
        if busy is not self._refusal.busy:
            self._refusal = wire.Refusal(busy)
        return self._refusal.error(self._host.refused(busy, "GetFlightInfo"))

    def _known(self, verb: bytes, call_id: str) -> Call:
        """The call that a poll is about. A cancel is done, and answered, here."""
        if verb == wire.CANCEL:
            self._host.cancel(call_id)
            raise wire.cancelled(call_id)
        call = self._host.find(call_id)
        if call is None:
            raise BadCall(f"there is no call {call_id!r} to wait for")
        return call

    def _flight_info(self, call: Call, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        try:
            data = call.result()
        except HostError:
            if not call.patience:  # one who polls may ask again
                self._host.forget(call)
            raise
        if call.command:
            descriptor = fl.FlightDescriptor.for_command(call.command)
        rows, size = (-1, -1) if isinstance(data, Stream) else (data.rows, data.size)
        expires = datetime.fromtimestamp(self._host.expires_at(call), timezone.utc)
        endpoint = fl.FlightEndpoint(
            wire.encode_ticket(call.id), [self.location], pa.scalar(expires, _NANOSECONDS)
        )
        return fl.FlightInfo(data.schema, descriptor, [endpoint], rows, size)


_NANOSECONDS = pa.timestamp("ns", "UTC")


class _OnePerCall(fl.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """The only middleware, since each entry from gRPC into Python has its price."""

    def __init__(self, frontend: FlightFrontend) -> None:
        self._frontend = frontend

    def start_call(self, info: fl.CallInfo, headers: Headers) -> _Headers | None:
        self._frontend.refuse_early(info.method, headers)
        return _Headers(headers) if info.method is fl.FlightMethod.GET_FLIGHT_INFO else None


class _Headers(fl.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, headers: Headers) -> None:
        self.headers = headers


def _uri(host: str, port: int) -> str:
    return f"grpc://[{host}]:{port}" if ":" in host else f"grpc://{host}:{port}"


def _try_to_bind(host: str, port: int) -> None:
    """pyarrow only says "Server did not start properly": find the reason before it does.

    Raises StartError.
    """
    failed: OSError | None = None
    bound = 0
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(host, port, error) from None
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                trial.bind(address)
                bound += 1
        except OSError as error:
            failed = error
            if error.errno == errno.EADDRINUSE:
                break
    # a name may have addresses that are not there, as ::1 of localhost; but none that is taken
    if failed is not None and (failed.errno == errno.EADDRINUSE or not bound):
        raise _cannot_listen(host, port, failed)


def _cannot_listen(host: str, port: int, error: OSError | UnicodeError) -> StartError:
    cause = getattr(error, "strerror", None) or str(error)
    return StartError(f"cannot listen on {host}:{port}: {cause}")
