"""What TLS is to pyarrow: how a server is told of certificates, and what it tells of a caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.flight as fl

from flexhost.caller import Caller
from flexhost.errors import Unauthenticated

if TYPE_CHECKING:  # it takes `cryptography`, which only hosts with TLS load
    from flexhost.security.certificates import Certificates


def server_options(certificates: Certificates) -> dict[str, Any]:
    """Arguments of a FlightServerBase whose location is `grpc+tls://`; with another one it would
    serve without TLS, and say nothing (measured)."""
    options: dict[str, Any] = {
        "tls_certificates": [(certificates.chain, certificates.private_key)],
    }
    if certificates.root is not None:  # verify_client without one: every public authority would do
        options |= {"verify_client": True, "root_certificates": certificates.root}
    return options


def caller_of(context: fl.ServerCallContext) -> Caller:
    """Whom the certificate of the connection names: its first subject alternative name, else its
    common name. To be asked only while the request is there. Raises Unauthenticated."""
    return named(context.peer_identity())


def named(identity: bytes) -> Caller:
    """identity: as gRPC tells it of a certificate. Raises Unauthenticated."""
    if identity in _NOBODY:
        raise Unauthenticated("the certificate has no name that a caller can be known by")
    return Caller(identity.decode("utf-8", "backslashreplace"))


# What gRPC says of names that it cannot tell, and so the same of different callers (measured).
_NOBODY = (b"", b"other types of SAN")
