"""The address of a front end: as a location of Flight, and whether it can be listened on."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.errors import PortTaken, SettingsError, StartError


def uri(scheme: str, host: str, port: int) -> str:
    """`grpc://host:port`, with an IPv6 address in brackets."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def advertised(scheme: str, host: str, port: int) -> fl.Location:
    """Raises SettingsError."""
    try:
        return fl.Location(uri(scheme, host, port))
    except (ValueError, pa.ArrowException):
        raise SettingsError(
            f"[server] advertise_host is {host!r}, expected a host name or an address; a port goes "
            "into advertise_port"
        ) from None


def try_to_bind(host: str, port: int) -> None:
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
    taken = getattr(error, "errno", None) == errno.EADDRINUSE
    return (PortTaken if taken else StartError)(f"cannot listen on {host}:{port}: {cause}")
