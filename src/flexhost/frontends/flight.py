"""Arrow Flight: the handlers. Decode, call the host, encode; nothing else."""

from __future__ import annotations

import functools
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.affinity import on_one_core
from flexhost.auth import Authentication
from flexhost.call import Call
from flexhost.caller import ANYONE, Caller
from flexhost.contract import Stream
from flexhost.errors import BadCall, HostError, Internal, StartError
from flexhost.frontends import connections, tls
from flexhost.frontends import flight_wire as wire
from flexhost.frontends.address import advertised, try_to_bind, uri
from flexhost.frontends.flight_admission import NAME, Admission
from flexhost.frontends.flight_streams import Slots, stream
from flexhost.host import Host
from flexhost.spans import UNTRACED, Tracer

if TYPE_CHECKING:
    from flexhost.certificates import Certificates


class FlightFrontend(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves a host from the moment it is made; `port` is the port it listens on.

    advertise:      host and port under which clients reach it; port 0 means the one listened on.
    poll:           seconds that a polling caller waits for its answer.
    rpcs:           for the requests that may be under way at once; frontends may share them.
    certificates:   to serve TLS with; None for plain connections.
    command:        bytes that a command may have.
    cut_off:        whether readers that stall may be cut off: tables go out piece by piece then.
    error_detail:   whether the text of a function's exception reaches the client.
    authentication: without one anyone may call.
    tracer:         for spans of requests.
    """

    def __init__(
        self,
        host: Host,
        listen: tuple[str, int],
        advertise: tuple[str, int],
        *,
        rpcs: Slots,
        certificates: Certificates | None = None,
        poll: float = 2.0,
        command: int = 1 << 20,
        cut_off: bool = False,
        error_detail: bool = True,
        authentication: Authentication | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Raises StartError that names the address and the cause."""
        # GetSchema cannot carry a coded error: pyarrow sends the text with its traceback
        sys.tracebacklimit = 0
        self._host = host
        self._poll = poll
        self._rpcs = rpcs
        self._command = command
        self._cut_off = cut_off
        self._error_detail = error_detail
        self._tokens = authentication is not None
        self._tracer = tracer
        self._mutual = certificates is not None and certificates.root is not None
        self._admission = Admission(
            host, rpcs, self.errors, authentication, always=tracer is not None
        )
        scheme = "grpc" if certificates is None else "grpc+tls"
        advertised(scheme, advertise[0], advertise[1] or 1)  # is it one?
        try_to_bind(*listen)
        try:
            with on_one_core():
                super().__init__(
                    uri(scheme, *listen),
                    middleware={NAME: self._admission},
                    **({} if certificates is None else tls.server_options(certificates)),
                )
        except Exception as error:
            raise StartError(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from None
        self.location = advertised(scheme, advertise[0], advertise[1] or self.port)

    def list_flights(
        self, context: fl.ServerCallContext, criteria: bytes
    ) -> Iterator[fl.FlightInfo]:
        caller = self._caller(context, "ListFlights")
        with self._request("ListFlights", context, caller):
            return iter([wire.describe(one) for one in self._host.functions.of(caller)])

    def get_schema(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.SchemaResult:
        caller = self._caller(context, "GetSchema")
        try:
            with self._request("GetSchema", context, caller):
                command = wire.command_of(descriptor, self._command)
                name, _, _ = wire.decode_command(command)
                return fl.SchemaResult(self._host.functions.get(name, caller).schema)
        except fl.FlightError as error:  # of which pyarrow would keep neither class nor code here
            raise ValueError(str(error)) from None

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        caller = self._caller(context, "GetFlightInfo")
        headers = context.get_middleware(NAME).headers
        with self._request("GetFlightInfo", context, caller):
            command = wire.command_of(descriptor, self._command)
            poll = self._poll if wire.POLLABLE in headers else 0.0
            if verb := wire.decode_poll(command):
                call = self._known(*verb, caller)
            else:
                name, parameters, hint = wire.decode_command(command)
                kept = command if poll else b""
                call = self._host.submit(
                    name, parameters, hint, headers, poll=poll, command=kept, caller=caller
                )
            if not self._host.wait(call, context.is_cancelled, poll or None):
                raise wire.not_yet(call.id)
            return self._flight_info(call, descriptor)

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        caller = self._caller(context, "DoGet")
        with self.errors("DoGet", caller=caller.name):
            call_id = wire.decode_ticket(ticket)
            call = self._host.find(call_id, caller) if self._tracer else None
            cut = functools.partial(connections.cut, context.peer()) if self._cut_off else None
            self._rpcs.enter()  # until the stream is dropped
            try:
                with self._traced("DoGet", context, call):
                    reading = self._host.read(call_id, cut, caller=caller)
            except BaseException:
                self._rpcs.leave()
                raise
            watch = functools.partial(self._host.watch, gone=context.is_cancelled)
            whole = cut is None and not reading.to_the_end
            return stream(reading, self._rpcs, watch, self.errors, whole=whole)

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        caller = self._caller(context, "ListActions")
        with self._request("ListActions", context, caller):
            return list(wire.ACTIONS.items())

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> Iterator[fl.Result]:
        caller = self._caller(context, "DoAction")
        with self._request("DoAction", context, caller):
            name, parameters = wire.decode_invalidate(action, self._command)
            invalidated = self._host.invalidate(name, parameters, caller=caller)
            return iter([wire.encode_invalidated(invalidated)])

    @property
    def under_way(self) -> int:
        """Requests that are answered now, reads included."""
        return self._rpcs.taken

    def shutdown(self) -> None:
        """Close the listener and wait, for ever if need be, for what still runs."""
        super().shutdown()
        # pyarrow keeps the middleware, and that this server: neither would ever be freed
        self._admission.__dict__.clear()

    def stop(self, seconds: float) -> bool:
        """Close the listener and wait for what still runs. Whether all of it ended in time."""
        # pyarrow's own shutdown waits without a limit, for ever if one client stopped reading
        stopping = threading.Thread(target=self.shutdown, name="shutdown", daemon=True)
        stopping.start()
        stopping.join(seconds)
        return not stopping.is_alive()

    @contextmanager
    def errors(self, request: str, *, caller: str = "", in_stream: bool = False) -> Iterator[None]:
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
        raise self._told(told, request, caller, in_stream=in_stream) from None

    def _told(
        self, error: HostError, request: str, caller: str, *, in_stream: bool
    ) -> fl.FlightError:
        id_ = self._host.refused(error, request, caller)
        try:
            return wire.flight_error(error, id_, detail=self._error_detail, in_stream=in_stream)
        except Exception as broken:  # over words that the function chose
            untold = Internal("an error could not be told", trace=repr(type(broken)))
            return wire.flight_error(untold, self._host.refused(untold, request, caller))

    def _caller(self, context: fl.ServerCallContext, request: str) -> Caller:
        """Who calls: whose token it is, as `Admission` found out; else whom the certificate names.

        Raises a Flight error.
        """
        if self._tokens:
            caller: Caller = context.get_middleware(NAME).caller
            return caller
        if not self._mutual:
            return ANYONE
        with self.errors(request):
            return tls.caller_of(context)

    @contextmanager
    def _request(
        self, request: str, context: fl.ServerCallContext, caller: Caller
    ) -> Iterator[None]:
        """A request is answered inside: within the bound of requests, its errors told."""
        with self.errors(request, caller=caller.name), self._traced(request, context), self._rpcs:
            yield

    def _traced(
        self, request: str, context: fl.ServerCallContext, call: Call | None = None
    ) -> AbstractContextManager[None]:
        """call: see `Tracer.request`."""
        if self._tracer is None:
            return UNTRACED
        return self._tracer.request(request, context.get_middleware(NAME).headers, call)

    def _known(self, verb: bytes, call_id: str, caller: Caller) -> Call:
        """The call that a poll is about. A cancel is done, and answered, here."""
        if verb == wire.CANCEL:
            self._host.cancel(call_id, caller)
            raise wire.cancelled(call_id)
        call = self._host.find(call_id, caller)
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
