"""Arrow Flight: the handlers. Decode, call the host, encode; nothing else."""

from __future__ import annotations

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

from flexhost.call import Call
from flexhost.errors import BadRequest, HostError, Internal, NotOffered, StartError
from flexhost.frontends import flight_wire as wire
from flexhost.function import Headers
from flexhost.host import Host
from flexhost.results import Reading

_SERVED = {
    fl.FlightMethod.LIST_FLIGHTS,
    fl.FlightMethod.GET_SCHEMA,
    fl.FlightMethod.GET_FLIGHT_INFO,
    fl.FlightMethod.DO_GET,
}
_MAY_COME = {
    fl.FlightMethod.DO_PUT: "DoPut",
    fl.FlightMethod.DO_EXCHANGE: "DoExchange",
    fl.FlightMethod.DO_ACTION: "DoAction",
    fl.FlightMethod.LIST_ACTIONS: "ListActions",
}
_IPC_OPTIONS = pa.ipc.IpcWriteOptions()


class FlightFrontend(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Serves a host from the moment it is made; `port` is the port it listens on.

    advertise:    host and port under which clients reach it; port 0 means the one listened on.
    error_detail: whether the text of a function's exception reaches the client.
    """

    def __init__(
        self,
        host: Host,
        listen: tuple[str, int],
        advertise: tuple[str, int],
        *,
        error_detail: bool = True,
    ) -> None:
        """Raises StartError that names the address and the cause."""
        # GetSchema cannot carry a coded error: pyarrow sends the text with its traceback
        sys.tracebacklimit = 0
        self._host = host
        self._error_detail = error_detail
        _try_to_bind(*listen)
        try:
            super().__init__(
                _uri(*listen),
                middleware={"call": _OnePerCall(self)},
            )
        except Exception as error:
            raise StartError(f"cannot listen on {listen[0]}:{listen[1]}: {error}") from None
        self.location = fl.Location(_uri(advertise[0], advertise[1] or self.port))

    def list_flights(
        self, context: fl.ServerCallContext, criteria: bytes
    ) -> Iterator[fl.FlightInfo]:
        with self.errors("ListFlights"):
            return iter([wire.describe(function) for function in self._host.functions])

    def get_schema(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.SchemaResult:
        try:
            with self.errors("GetSchema"):
                name = wire.decode_command(descriptor).functionName
                return fl.SchemaResult(self._host.functions[name].schema)
        except fl.FlightError as error:  # of which pyarrow would keep neither class nor code here
            raise ValueError(str(error)) from None

    def get_flight_info(
        self, context: fl.ServerCallContext, descriptor: fl.FlightDescriptor
    ) -> fl.FlightInfo:
        with self.errors("GetFlightInfo"):
            command = wire.decode_command(descriptor)
            parameters = command.parameters or {}
            call = self._host.submit(
                command.functionName,
                parameters,
                wire.column_hint(parameters),
                context.get_middleware("call").headers,
            )
            self._host.wait(call, context.is_cancelled)
            return self._flight_info(call, descriptor)

    def do_get(self, context: fl.ServerCallContext, ticket: fl.Ticket) -> fl.FlightDataStream:
        with self.errors("DoGet"):
            reading = self._host.read(wire.decode_ticket(ticket))
            if reading.table is not None:
                return _TableStream(reading)
            return fl.GeneratorStream(reading.schema, _Tables(reading, self), _IPC_OPTIONS)

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
        self._host.refused(told, request)
        raise wire.flight_error(told, detail=self._error_detail, in_stream=in_stream) from None

    def _flight_info(self, call: Call, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        try:
            data = call.result()
        except HostError:
            self._host.forget(call)
            raise
        rows, size = (data.num_rows, data.nbytes) if isinstance(data, pa.Table) else (-1, -1)
        expires = datetime.fromtimestamp(self._host.expires_at(call), timezone.utc)
        endpoint = fl.FlightEndpoint(
            wire.encode_ticket(call.id), [self.location], pa.scalar(expires, _NANOSECONDS)
        )
        return fl.FlightInfo(data.schema, descriptor, [endpoint], rows, size)


_NANOSECONDS = pa.timestamp("ns", "UTC")


class _OnePerCall(fl.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """The only middleware, since each entry from gRPC into Python has its price: it refuses what
    is not served (such requests hold a thread otherwise) and keeps the headers of a call."""

    def __init__(self, frontend: FlightFrontend) -> None:
        self._frontend = frontend

    def start_call(self, info: fl.CallInfo, headers: Headers) -> _Headers | None:
        if info.method is fl.FlightMethod.GET_FLIGHT_INFO:
            return _Headers(headers)
        if info.method not in _SERVED:
            self._refuse(info.method)
        return None

    def _refuse(self, method: fl.FlightMethod) -> None:
        name = _MAY_COME.get(method)
        with self._frontend.errors(name or method.name):
            if name is not None:
                raise NotOffered(f"{name} is not offered by this host")
            raise BadRequest("this host does not serve requests of this kind")


class _Headers(fl.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    def __init__(self, headers: Headers) -> None:
        self.headers = headers


class _TableStream(fl.RecordBatchStream):  # type: ignore[misc]  # pyarrow has no types
    """A table sent by pyarrow alone. pyarrow drops this object when the request is over, also when
    it never started to send; that closes the reading."""

    def __init__(self, reading: Reading) -> None:
        super().__init__(reading.table, options=_IPC_OPTIONS)
        self._reading = reading

    def __del__(self) -> None:
        self._reading.close()


class _Tables:
    """The tables of a stream; like `_TableStream` in how it ends.

    Tables and not record batches, which break every dictionary column in a GeneratorStream.
    """

    def __init__(self, reading: Reading, frontend: FlightFrontend) -> None:
        self._reading = reading
        self._frontend = frontend

    def __iter__(self) -> _Tables:
        return self

    def __next__(self) -> pa.Table:
        with self._frontend.errors("DoGet", in_stream=True):
            return next(self._reading)

    def __del__(self) -> None:
        self._reading.close()


def _uri(host: str, port: int) -> str:
    return f"grpc://[{host}]:{port}" if ":" in host else f"grpc://{host}:{port}"


def _try_to_bind(host: str, port: int) -> None:
    """pyarrow only says "Server did not start properly": find the reason before it does.

    Raises StartError.
    """
    try:
        found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        cause = error.strerror or str(error)
        raise StartError(f"cannot listen on {host}:{port}: {cause}") from None
