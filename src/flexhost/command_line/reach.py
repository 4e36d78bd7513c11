"""Whether an address can be reached from this machine, and with TLS; the reason when it cannot."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

# Seconds that a connection may take.
_CONNECT = 5.0


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    tls: bool

    @classmethod
    def of(cls, uri: str) -> Address:
        """Of `grpc://host:port`, `grpc+tcp://` or `grpc+tls://`. Raises ValueError."""
        parts = urlsplit(uri)
        if parts.scheme not in ("grpc", "grpc+tcp", "grpc+tls") or parts.path.strip("/"):
            raise ValueError(uri)
        if not parts.hostname or not parts.port:
            raise ValueError(uri)
        return cls(parts.hostname, parts.port, parts.scheme == "grpc+tls")

    @property
    def uri(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"grpc{'+tls' if self.tls else ''}://{host}:{self.port}"


class Unreachable(Exception):
    """What is in the way, and what to do about it."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


def is_own_machine(host: str) -> bool:
    """Whether the name means, wherever it is used, the machine it is used on."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower() == "localhost"
    return address.is_loopback or address.is_unspecified


def touch(address: Address) -> None:
    """Open a connection, and close it. Raises Unreachable."""
    host, where = address.host, f"{address.host}:{address.port}"
    try:
        socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(
            f"the name {host} cannot be resolved here", "take one that this machine knows"
        ) from None
    try:
        socket.create_connection((host, address.port), timeout=_CONNECT).close()
    except ConnectionRefusedError:
        remedy = "start the host, or take the port that it listens on"
        if not is_own_machine(host):
            remedy = "start it there with a listen_host that is not 127.0.0.1, or take its port"
        raise Unreachable(f"nothing listens on {where}", remedy) from None
    except TimeoutError:
        raise Unreachable(
            f"no answer from {where} within {_CONNECT:g} s", "open the firewall between"
        ) from None
    except OSError as error:
        raise Unreachable(
            f"{where} cannot be reached: {error.strerror}", "see to the network between"
        ) from None


def tls_of(address: Address, context: ssl.SSLContext) -> str | None:
    """What there is to say of the certificate at an address; None where TLS is not asked for.

    Raises Unreachable, also when TLS is there and was not asked for.
    """
    where = f"{address.host}:{address.port}"
    if not address.tls:
        if _speaks_tls(address):
            raise Unreachable(f"{where} serves TLS", f"take grpc+tls://{where}")
        return None
    try:
        with _connected(address, context) as connection:
            _await_first_byte(connection, where)
            certificate = connection.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise _not_trusted(address, error) from None
    except OSError:
        raise Unreachable(f"{where} serves no TLS", "take grpc://, or set use_tls there") from None
    return f"its certificate is valid for {address.host}, until {certificate.get('notAfter')}"


@contextmanager
def _connected(address: Address, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    context.set_alpn_protocols(["h2"])
    where = address.host, address.port
    with (
        socket.create_connection(where, timeout=_CONNECT) as connection,
        context.wrap_socket(connection, server_hostname=address.host) as wrapped,
    ):
        yield wrapped


def _await_first_byte(connection: ssl.SSLSocket, where: str) -> None:
    """gRPC speaks first. A server of TLS 1.3 looks at the caller's certificate after what the
    caller takes for the whole handshake, and then speaks no more. Raises Unreachable."""
    try:
        if connection.recv(1):
            return
    except TimeoutError:
        raise Unreachable(f"{where} serves TLS, but no gRPC", "take the port of the host") from None
    except OSError:
        pass
    raise Unreachable(
        f"{where} does not let callers in without a certificate that it trusts",
        "give one with --tls-certificate and --tls-key that its tls_root_certificate has signed",
    )


def _speaks_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(address, context):
            return True
    except OSError:
        return False


def _not_trusted(address: Address, error: ssl.SSLCertVerificationError) -> Unreachable:
    what = f"the certificate of {address.host}:{address.port}"
    match error.verify_code:
        case 62 | 64:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
            return Unreachable(
                f"{what} is not valid for {address.host}",
                "take a name that it is for, or make one for this name",
            )
        case 9 | 10:  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
            return Unreachable(f"{what} is out of its dates ({error.verify_message})", "renew it")
        case _:
            return Unreachable(
                f"{what} is not trusted here ({error.verify_message})",
                "give the authority that signed it with --tls-root, and to the data source as "
                "tlsRootCertificate",
            )
