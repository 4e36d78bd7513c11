"""The gRPC service `FunctionRuntime`, with server reflection and the health service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from flexhost.errors import HostError, StartError
from flexhost.frontends.address import try_to_bind, uri
from flexhost.frontends.flight_streams import Slots
from flexhost.frontends.invoke_handlers import InvokeHandlers
from flexhost.grpc_udf.execution import Execution
from flexhost.grpc_udf.udf_messages import METHOD, POOL, SERVICE, InvokeRequest, InvokeResponse
from flexhost.system.affinity import at_home

if TYPE_CHECKING:
    from flexhost.security.certificates import Certificates

# Requests that may be told that there are too many of them, at once; gRPC refuses further ones.
_REFUSED_AT_ONCE = 16
# Requests about the service at once: each has a thread for as long as its client likes.
_REFLECTED_AT_ONCE = 16
# Streams that tell how well the service is, at once: nobody has to show a token for one.
_WATCHED_AT_ONCE = 16
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# What clients may ask about by reflection.
for _described in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
    POOL.AddSerializedFile(_described.serialized_pb)


class InvokeFrontend:
    """Listens from the moment it is made; `port` is the port. Well, as the health service tells,
    from `open` to `drain`.

    threads:      requests that may be under way; each has a thread.
    message:      bytes that a message may have.
    certificates: those to serve TLS with, asked for at each handshake; None for plain connections.
    """

    def __init__(
        self,
        handlers: InvokeHandlers,
        listen: tuple[str, int],
        *,
        threads: int,
        message: int = 1 << 20,
        certificates: Callable[[], Certificates] | None = None,
    ) -> None:
        """Raises StartError that names the address and the cause."""
        self._handlers = handlers
        self._health = _Health(handlers)
        self._reflection = reflection.ReflectionServicer(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), POOL
        )
        self._reflected = Slots(_REFLECTED_AT_ONCE, "requests of reflection", bound="reflection")
        self._tell(_NOT_SERVING)
        most = threads + _REFUSED_AT_ONCE + _REFLECTED_AT_ONCE + _WATCHED_AT_ONCE
        try_to_bind(*listen)
        with at_home():
            self._server = grpc.server(
                ThreadPoolExecutor(most, thread_name_prefix="invoke"),
                self._services(),
                options=[
                    ("grpc.so_reuseport", 0),  # or two servers could listen on one port
                    ("grpc.max_receive_message_length", message),
                ],
                maximum_concurrent_rpcs=most,
            )
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
            address = uri("", *listen).removeprefix("://")
            try:
                if certificates is None:
                    self.port: int = self._server.add_insecure_port(address)
                else:
                    credentials = _credentials(certificates)
                    self.port = self._server.add_secure_port(address, credentials)
            except RuntimeError as error:
                raise StartError(f"cannot listen on {address}: {error}") from None
            self._server.start()

    def open(self, spec: Execution | None = None) -> None:
        """The health service says SERVING from now on.

        spec: what is executed by requests that name no function.
        """
        self._handlers.spec = spec
        self._tell(_SERVING)

    def drain(self) -> None:
        """It says NOT_SERVING from now on, for good. Requests are answered as before."""
        self._health.enter_graceful_shutdown()

    def stop(self, seconds: float) -> bool:
        """Close the listener and wait for what still runs, which is cancelled then. Whether all of
        it ended in time."""
        return bool(self._server.stop(seconds).wait(seconds + 1))

    def _tell(self, status: Any) -> None:
        for name in (health.OVERALL_HEALTH, SERVICE):
            self._health.set(name, status)

    def _services(self) -> list[grpc.GenericRpcHandler]:
        invoke = grpc.unary_unary_rpc_method_handler(
            self._handlers.invoke, InvokeRequest.FromString, InvokeResponse.SerializeToString
        )
        reflect = grpc.stream_stream_rpc_method_handler(
            self._reflect,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return [
            grpc.method_handlers_generic_handler(SERVICE, {METHOD: invoke}),
            grpc.method_handlers_generic_handler(
                reflection.SERVICE_NAME, {"ServerReflectionInfo": reflect}
            ),
        ]

    def _reflect(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        """For those who may call at all."""
        try:
            self._handlers.admitted(context, "ServerReflectionInfo")
            with self._reflected:
                yield from self._reflection.ServerReflectionInfo(requests, context)
            return
        except HostError as error:
            refused = error
        self._handlers.refuse(refused, context)


class _Health(health.HealthServicer):  # type: ignore[misc]  # gRPC has no types
    """One that is watched by no more than _WATCHED_AT_ONCE."""

    def __init__(self, handlers: InvokeHandlers) -> None:
        super().__init__()
        self._handlers = handlers
        self._watched = Slots(_WATCHED_AT_ONCE, "watches of the health", bound="health")

    def Watch(  # noqa: N802  # the name of the method of gRPC
        self, request: Any, context: grpc.ServicerContext, *callback: Any, **named: Any
    ) -> Any:
        try:
            self._watched.enter()
        except HostError as error:
            refused = error
        else:
            if not context.add_callback(self._watched.leave):  # it is over already
                self._watched.leave()
            if request.service not in (health.OVERALL_HEALTH, SERVICE):
                # each name would be kept for good; those that nobody has are all alike
                request = health_pb2.HealthCheckRequest(service="unknown")
            return super().Watch(request, context, *callback, **named)
        return self._handlers.refuse(refused, context)


def _credentials(certificates: Callable[[], Certificates]) -> grpc.ServerCredentials:
    """New connections get what `certificates` gives then."""
    served = certificates()

    def changed() -> Any:
        nonlocal served
        if (found := certificates()) is served:
            return None
        served = found
        return _configuration(found)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served), changed, require_client_authentication=served.root is not None
    )


def _configuration(certificates: Certificates) -> Any:
    return grpc.ssl_server_certificate_configuration(
        [(certificates.private_key, certificates.chain)], root_certificates=certificates.root
    )
