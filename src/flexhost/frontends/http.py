"""Health and metrics over HTTP: a few paths, answered on a thread of their own."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

import h11

from flexhost.errors import StartError
from flexhost.system.closers import Closers

_logger = logging.getLogger("flexhost")

# Seconds that a connection may take until its request is there, and then until its answer is taken.
_ASKS_WITHIN = 5.0
_TAKES_WITHIN = 30.0
# Bytes of a request's head.
_LONGEST_HEAD = 8192
# Open connections: they take file descriptors, which Flight needs too. One more ends the oldest.
_MOST_CONNECTIONS = 256
# Connections accepted at one go. Less than a quarter of those, as it takes four turns from there to
# a request: so many others cannot end one that asks at once. The rest waits in the system's queue.
_ACCEPTED_AT_ONCE = 50
_QUEUE = 1024


class Answer(NamedTuple):
    status: int
    body: bytes = b""
    content_type: str | None = None


class Page(NamedTuple):
    """slow: made on another thread, so that it holds up no other page."""

    make: Callable[[], Answer]
    slow: bool = False


def health(well: Callable[[], bool]) -> Page:
    """204 when well, 500 when not."""
    return Page(lambda: Answer(204 if well() else 500))


class HttpFrontend:
    """Serves pages by address and path from the moment it is made.

    No web framework: those bound what a request may do, and not what a connection may. uvicorn
    waits without end for one that does not ask, and past its bound refuses everybody.

    addresses: where, in the order of `pages`, with the real port for port 0.
    """

    def __init__(self, pages: Mapping[tuple[str, int], Mapping[str, Page]]) -> None:
        """Raises StartError that names the address and the cause."""
        self._served = [(_bind(*address), by_path) for address, by_path in pages.items()]
        self.addresses: list[tuple[str, int]] = [
            bound.getsockname()[:2] for bound, _ in self._served
        ]
        self._connections = _Connections()
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)
        self._thread.start()

    def stop(self, seconds: float) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(seconds)

    def _serve(self) -> None:
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(self._serve_all())

    async def _serve_all(self) -> None:
        servers = [await self._listen(bound, by_path) for bound, by_path in self._served]
        await self._stopping.wait()
        await _accepted()
        for server in servers:
            server.close()
        self._connections.end()
        await asyncio.sleep(0)  # in which they are closed

    async def _listen(
        self, bound: socket.socket, by_path: Mapping[str, Page]
    ) -> asyncio.AbstractServer:
        make = functools.partial(_Connection, by_path, self._connections)
        server = await self._loop.create_server(make, sock=bound, backlog=_ACCEPTED_AT_ONCE)
        bound.listen(_QUEUE)  # what is accepted at one go is the bound of both until here
        return server


async def _accepted() -> None:
    """Wait for the connections that are being accepted: asyncio leaves one open whose server is
    closed meanwhile. For a while: others may come on and on."""
    for _ in range(10):
        accepting = asyncio.all_tasks() - {asyncio.current_task()}
        if not accepting:
            return
        await asyncio.wait(accepting)


class _Connections:
    """Those that are open, the oldest first."""

    def __init__(self) -> None:
        self._open: dict[_Connection, None] = {}
        self.aside = Closers(1)

    def add(self, connection: _Connection) -> None:
        if len(self._open) >= _MOST_CONNECTIONS:
            idle = (one for one in self._open if not one.asked)
            oldest = next(idle, None) or next(iter(self._open))
            self.discard(oldest)  # now: that it is lost is told later
            oldest.end()
        self._open[connection] = None

    def discard(self, connection: _Connection) -> None:
        self._open.pop(connection, None)

    def end(self) -> None:
        for connection in self._open:
            connection.end()


class _Connection(asyncio.Protocol):
    """One request and its answer, within bounds of bytes and of time; then it is closed. So nobody
    can keep one by asking again and again, and what was sent behind a request is not looked at."""

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, by_path: Mapping[str, Page], connections: _Connections) -> None:
        self.asked = False
        self._of_head = 0  # bytes that came
        self._head_only = False
        self._by_path = by_path
        self._connections = connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LONGEST_HEAD)
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._timer = self._loop.call_later(_ASKS_WITHIN, self.end)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self.asked:
            return
        try:
            # h11 bounds what is not complete yet, and one packet may be
            self._http.receive_data(data[: _LONGEST_HEAD + 1 - self._of_head])
            self._of_head += len(data)
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            self._begin_answer()
            self._send(Answer(error.error_status_hint))
            return
        if isinstance(event, h11.Request):
            self._begin_answer()
            self._answer(event)

    def end(self) -> None:
        """Now, whatever is still to be sent."""
        self._transport.abort()

    def _begin_answer(self) -> None:
        self.asked = True
        self._transport.pause_reading()  # so that whoever sends on and on costs nothing
        self._timer.cancel()
        self._timer = self._loop.call_later(_TAKES_WITHIN, self.end)

    def _answer(self, request: h11.Request) -> None:
        self._head_only = request.method == b"HEAD"
        path = request.target.partition(b"?")[0].decode("ascii")
        page = self._by_path.get(path)
        if page is None:
            self._send(Answer(404))
        elif request.method not in (b"GET", b"HEAD"):
            self._send(Answer(405))
        elif page.slow:
            self._connections.aside.submit(lambda: self._make_aside(path, page))
        else:
            self._send(_made(path, page))

    def _make_aside(self, path: str, page: Page) -> None:
        if not self._transport.is_closing():  # nobody waits any more, when the page is too slow
            answer = _made(path, page)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(self._send, answer)

    def _send(self, answer: Answer) -> None:
        if self._transport.is_closing():
            return
        with contextlib.suppress(h11.LocalProtocolError):  # what came was too odd for any answer
            sent = self._http.send(_head(answer)) or b""
            if answer.body and not self._head_only:
                sent += self._http.send(h11.Data(answer.body)) or b""
            self._transport.write(sent)
        self._transport.close()


def _head(answer: Answer) -> h11.Response:
    headers = [("Date", formatdate(usegmt=True)), ("Connection", "close")]
    if answer.status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers.append(("Allow", "GET, HEAD"))
    if answer.content_type is not None:
        headers.append(("Content-Type", answer.content_type))
    if answer.status != HTTPStatus.NO_CONTENT:
        headers.append(("Content-Length", str(len(answer.body))))
    reason = HTTPStatus(answer.status).phrase
    return h11.Response(status_code=answer.status, headers=headers, reason=reason)


def _made(path: str, page: Page) -> Answer:
    try:
        return page.make()
    except Exception:
        _logger.exception("%s cannot be made", path)
        return Answer(500)


def _bind(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        both = host == "::" and socket.has_dualstack_ipv6()  # every address, as Flight takes it
        return socket.create_server((host, port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise StartError(f"cannot serve HTTP on {host}:{port}: {cause}") from None
