"""Health and metrics over HTTP: a few paths, answered on a thread of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from flexhost.errors import StartError

# Seconds that a connection may take until its first request is there.
_FIRST_REQUEST = 5.0
_MOST_CONNECTIONS = 200


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str | None = None


Page = Callable[[], Answer]


def health(well: Callable[[], bool]) -> Page:
    """204 when well, 500 when not."""
    return lambda: Answer(204 if well() else 500)


class HttpFrontend:
    """Serves pages by address and path from the moment it is made.

    addresses: where, in the order of `pages`, with the real port for port 0.
    """

    def __init__(self, pages: Mapping[tuple[str, int], Mapping[str, Page]]) -> None:
        """Raises StartError that names the address and the cause."""
        self.addresses: list[tuple[str, int]] = []
        self._servers: list[tuple[uvicorn.Server, socket.socket]] = []
        for address, by_path in pages.items():
            bound = _bind(*address)
            self.addresses.append(bound.getsockname()[:2])
            self._servers.append((uvicorn.Server(_config(by_path)), bound))
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        for server, _ in self._servers:
            server.should_exit = server.force_exit = True
        self._thread.join(seconds)

    def _serve(self) -> None:
        asyncio.run(self._serve_all())

    async def _serve_all(self) -> None:
        await asyncio.gather(*(server.serve([bound]) for server, bound in self._servers))


def _config(by_path: Mapping[str, Page]) -> uvicorn.Config:
    app = Starlette(routes=[Route(path, _endpoint(page)) for path, page in by_path.items()])
    app.router.redirect_slashes = False
    return uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=5,
        ws="none",
        loop="asyncio",
        http=_Patient,
    )


class _Patient(H11Protocol):
    """Closes a connection that asks for nothing, and does not take too many: open ones take file
    descriptors, which Flight needs too. uvicorn waits for a first request without end."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _MOST_CONNECTIONS:
            transport.close()
        self.loop.call_later(_FIRST_REQUEST, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()


def _endpoint(page: Page) -> Callable[[Request], Response]:
    # not a coroutine: starlette then answers from a thread, and a slow page holds up no other
    def answer(request: Request) -> Response:
        status, body, content_type = page()
        return Response(body, status, media_type=content_type)

    return answer


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        both = host == "::" and socket.has_dualstack_ipv6()  # every address, as Flight takes it
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot serve HTTP on {host}:{port}: {cause}") from None
