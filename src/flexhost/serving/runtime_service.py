"""`FunctionRuntime` of a host: the frontend that its settings ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flexhost.auth import Authentication
from flexhost.frontends.flight import FlightFrontend
from flexhost.frontends.flight_streams import Slots
from flexhost.grpc_udf import grpc_packages
from flexhost.host import Host
from flexhost.settings import Settings
from flexhost.telemetry.spans import Tracer

if TYPE_CHECKING:
    from flexhost.frontends.invoke import InvokeFrontend
    from flexhost.frontends.listener import Listener


class RuntimeService:
    """Listens from the moment it is made, where the settings say so; otherwise it does nothing."""

    def __init__(
        self,
        settings: Settings,
        host: Host,
        flight: FlightFrontend | Listener,
        *,
        rpcs: Slots,
        authentication: Authentication | None,
        tracer: Tracer | None,
    ) -> None:
        """flight: whose certificates are served. Raises StartError."""
        self._host = host
        self._folder = settings.invoke.config_override_dir
        self._frontend: InvokeFrontend | None = None
        listen = settings.invoke.listen_host
        if listen is None:
            return
        grpc_packages.check("[invoke] listen_host")
        # with gRPC, which costs start-up where nobody asks for it
        from flexhost.frontends.invoke import InvokeFrontend
        from flexhost.frontends.invoke_handlers import InvokeHandlers
        from flexhost.grpc_udf.class_names import Listed

        server = settings.server
        self._functions = Listed(host)
        handlers = InvokeHandlers(
            host,
            self._functions,
            rpcs=rpcs,
            authentication=authentication,
            mutual=server.use_mtls and authentication is None,
            error_detail=server.error_detail,
            tracer=tracer,
        )
        certificates = None if isinstance(flight, FlightFrontend) else lambda: flight.certificates
        self._frontend = InvokeFrontend(
            handlers,
            (listen, settings.invoke.listen_port),
            threads=server.max_rpcs,
            message=server.max_command_bytes,
            certificates=certificates,
        )

    @property
    def port(self) -> int | None:
        return None if self._frontend is None else self._frontend.port

    def open(self) -> None:
        """The functions are loaded. Raises SettingsError about the spec."""
        if self._frontend is None:
            return
        from flexhost.grpc_udf import overrides

        spec = None
        if self._folder is not None:
            spec = overrides.execution(Path(self._folder), self._functions)
        self._frontend.open(spec)

    def drain(self) -> None:
        if self._frontend is not None:
            self._frontend.drain()

    def stop(self, seconds: float) -> bool:
        """Whether all requests ended in time."""
        return self._frontend is None or self._frontend.stop(seconds)
