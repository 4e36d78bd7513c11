"""Arrow Flight: the handlers. Decode, call the host, encode; nothing else."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pyarrow.flight as fl

from flexhost.auth import Authentication
from flexhost.call import Call
from flexhost.caller import Caller
from flexhost.contract import Stream
from flexhost.errors import BadCall, HostError, Internal, PortTaken, StartError
from flexhost.frontends import connections, flight_batches, flight_exchange, tls
from flexhost.frontends import flight_wire as wire
from flexhost.frontends.address import advertised, try_to_bind, uri
from flexhost.frontends.endpoints import Endpoints
from flexhost.frontends.flight_admission import NAME, Admission, Admitted
from flexhost.frontends.flight_streams import Slots, stream
from flexhost.frontends.flight_telling import Telling
from flexhost.function import Headers
from flexhost.host import Host
from flexhost.system.affinity import at_home
from flexhost.telemetry.spans import Tracer

if TYPE_CHECKING:
    from flexhost.security.certificates import Certificates


class FlightFrontend(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves a host from the moment it is made; `port` is the port it listens on.

    advertise:      host and port under which clients reach it; port 0 means the one listened on.
    poll:           seconds that a polling caller waits for its answer.
    rpcs:           for the requests that may be under way at once; frontends may share them.
    certificates:   to serve TLS with; None for plain connections.
    command, batch: bytes that a command may have, and a batch of an exchange.
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
        batch: int = 64 << 20,
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
        self._batch = batch
        self._cut_off = cut_off
        self._error_detail = error_detail
        self._tokens = authentication is not None
        self._tracer = tracer
        self._mutual = certificates is not None and certificates.root is not None
        self._admission = Admission(host, rpcs, self.errors, authentication)
        scheme = "grpc" if certificates is None else "grpc+tls"
        advertised(scheme, advertise[0], advertise[1] or 1)  # is it one?
        _try_to_bind(listen)
        try:
            with at_home():
                super().__init__(
                    uri(scheme, *listen),
                    middleware={NAME: self._admission},
                    **({} if certificates is None else tls.server_options(certificates)),
                )
        except Exception as error:
            raise StartError(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from None
        self.location = advertised(scheme, advertise[0], advertise[1] or self.port)
        self._endpoints = Endpoints(self.location)

    def list_flights(
        self, context: fl.ServerCallContext, criteria: bytes
    ) -> Iterator[fl.FlightInfo]:
        caller, headers, _ = self._admitted(context, "ListFlights")
        with self._handling("ListFlights", caller, headers), self._rpcs:
            return iter([wire.describe(one) for one in self._host.functions.of(caller)])

    def get_schema(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.SchemaResult:
        caller, headers, _ = self._admitted(context, "GetSchema")
        try:
            with self._handling("GetSchema", caller, headers), self._rpcs:
                if (command := wire.command_of(descriptor, self._command)) is None:
                    name = flight_batches.name_in(descriptor)
                    of = flight_batches.signature(self._host, name, caller)
                    return fl.SchemaResult(of.schema())
                name, _, _ = wire.decode_command(command)
                return fl.SchemaResult(self._host.functions.get(name, caller).schema)
        except fl.FlightError as error:  # of which pyarrow would keep neither class nor code here
            raise ValueError(str(error)) from None

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        caller, headers, _ = self._admitted(context, "GetFlightInfo")
        with self._handling("GetFlightInfo", caller, headers), self._rpcs:
            if (command := wire.command_of(descriptor, self._command)) is None:
                name = flight_batches.name_in(descriptor)
                return flight_batches.signature(self._host, name, caller).info(descriptor)
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
        caller, headers, _ = self._admitted(context, "DoGet")
        with self.errors("DoGet", caller=caller.name):
            call_id = wire.decode_ticket(ticket)
            cut = functools.partial(connections.cut, context.peer()) if self._cut_off else None
            self._rpcs.enter()  # until the stream is dropped
            try:
                if self._tracer is None:
                    reading = self._host.read(call_id, cut, caller=caller)
                else:
                    call = self._host.find(call_id, caller)
                    with self._tracer.request("DoGet", headers, call):
                        reading = self._host.read(call_id, cut, caller=caller)
            except BaseException:
                self._rpcs.leave()
                raise
            watch = functools.partial(self._host.watch, gone=context.is_cancelled)
            whole = cut is None and not reading.to_the_end
            return stream(reading, self._rpcs, watch, self.errors, whole=whole)

    def list_actions(self, context: fl.ServerCallContext) -> list[tuple[str, str]]:
        caller, headers, _ = self._admitted(context, "ListActions")
        with self._handling("ListActions", caller, headers), self._rpcs:
            return list(wire.ACTIONS.items())

    def do_action(self, context: fl.ServerCallContext, action: fl.Action) -> Iterator[fl.Result]:
        caller, headers, _ = self._admitted(context, "DoAction")
        with self._handling("DoAction", caller, headers), self._rpcs:
            if action.type == wire.PROTOCOL_VERSION:
                return iter([flight_batches.protocol_version()])
            name, parameters = wire.decode_invalidate(action, self._command)
            invalidated = self._host.invalidate(name, parameters, caller=caller)
            return iter([wire.encode_invalidated(invalidated)])

    def do_exchange(
        self,
        context: fl.ServerCallContext,
        descriptor: fl.FlightDescriptor,
        reader: fl.MetadataRecordBatchReader,
        writer: fl.MetadataRecordBatchWriter,
    ) -> None:
        caller, headers, again = self._admitted(context, "DoExchange")
        # it has its slot since its admission
        with self._handling("DoExchange", caller, headers, in_stream=True):
            batches = flight_batches.Batches(reader, writer, self._batch, context.is_cancelled)
            cut = functools.partial(connections.cut, context.peer())
            asked = flight_exchange.Asked(descriptor, headers, caller, again, cut)
            flight_exchange.exchange(self._host, asked, batches)

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

    def errors(self, request: str, *, caller: str = "", in_stream: bool = False) -> Telling:
        """The one place where an error of the host becomes an error of the wire."""
        return Telling(self._told, request, caller, in_stream)

    def _told(self, error: HostError, request: str, caller: str, in_stream: bool) -> fl.FlightError:
        id_ = self._host.refused(error, request, caller)
        try:
            return wire.flight_error(error, id_, detail=self._error_detail, in_stream=in_stream)
        except Exception as broken:  # over words that the function chose
            untold = Internal("an error could not be told", trace=repr(type(broken)))
            return wire.flight_error(untold, self._host.refused(untold, request, caller))

    def _admitted(self, context: fl.ServerCallContext, request: str) -> Admitted:
        """Who calls: whose token it is, as `Admission` found out; else whom the certificate names.

        Raises a Flight error.
        """
        admitted = self._admission.admitted()
        if self._tokens or not self._mutual:
            return admitted
        with self.errors(request):
            return admitted._replace(caller=tls.caller_of(context))

    def _handling(
        self, request: str, caller: Caller, headers: Headers, *, in_stream: bool = False
    ) -> Telling:
        """`errors`, and the span of the request where it is traced."""
        span = None if self._tracer is None else self._tracer.request(request, headers)
        return Telling(self._told, request, caller.name, in_stream, span)

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
        endpoint = self._endpoints.of(call.id, self._host.expires_at(call))
        return fl.FlightInfo(data.schema, descriptor, [endpoint], rows, size)


def _try_to_bind(listen: tuple[str, int]) -> None:
    """Raises StartError."""
    try:
        try_to_bind(*listen)
    except PortTaken as error:
        raise PortTaken(
            f"{error}: stop what runs there, or set another listen_port "
            "(GOODDATA_FLIGHT_SERVER__LISTEN_PORT)"
        ) from None
