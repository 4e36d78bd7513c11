"""Breaks connections of this process from the inside, and stops new ones. Linux only."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_DESCRIPTORS = Path("/proc/self/fd")
AVAILABLE = _DESCRIPTORS.is_dir()


def cut(peer: str) -> bool:
    """Shut down the socket whose other end is `peer`, as gRPC writes it: `ipv4:10.0.0.1:5000`,
    `ipv6:%5B::1%5D:5000`. Every request on that connection ends. Whether there was one.

    A write that is blocked because nobody reads returns at once (measured); pyarrow has no other
    way to end it.
    """
    address = unquote(peer).partition(":")[2]
    host, _, port = address.rpartition(":")
    wanted = (host.strip("[]"), int(port or 0))
    for connection in _sockets():
        if _other_end(connection) == wanted:
            with contextlib.suppress(OSError):  # it may have gone meanwhile
                connection.shutdown(socket.SHUT_RDWR)
            return True
    return False


def stop_listening(port: int) -> None:
    """Let nobody connect any more; connections go on. Does nothing where it is not AVAILABLE."""
    if not AVAILABLE:
        return
    for one in _sockets():
        with contextlib.suppress(OSError):
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            address = one.getsockname()
            if listens and isinstance(address, tuple) and address[1] == port:
                one.shutdown(socket.SHUT_RDWR)


def _sockets() -> Iterator[socket.socket]:
    """Those of this process, each while it is looked at."""
    for entry in _DESCRIPTORS.iterdir():
        try:
            descriptor = os.dup(int(entry.name))  # of which the socket object is the owner
        except OSError:
            continue
        try:
            found = socket.socket(fileno=descriptor)
        except OSError:
            os.close(descriptor)
            continue
        with found:
            yield found


def _other_end(connection: socket.socket) -> tuple[str, int] | None:
    try:
        address = connection.getpeername()
    except OSError:
        return None
    if not isinstance(address, tuple):
        return None
    return str(address[0]).removeprefix("::ffff:"), int(address[1])
