"""Whether settings leave a host open that is to be closed: by half of TLS, or by asking nobody."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from flexhost.errors import SettingsError
from flexhost.sources import Sources, Value

if TYPE_CHECKING:
    from flexhost.settings import Server


def check_tls(server: Server, given: dict[str, Value]) -> None:
    """Half of what TLS needs would be a host that is open where it was told to be closed."""
    needs = {
        "tls_certificate": "use_tls",
        "tls_private_key": "use_tls",
        "use_mtls": "use_tls",
        "tls_root_certificate": "use_mtls",
    }
    for key, needed in needs.items():
        if getattr(server, key) and not getattr(server, needed):
            raise SettingsError(
                f"{given[key].source}: [server] {key} is set, but {needed} is not true"
            )
    for switch, keys in {
        "use_tls": ("tls_certificate", "tls_private_key"),
        "use_mtls": ("tls_root_certificate",),
    }.items():
        for key in keys:
            if getattr(server, switch) and not getattr(server, key):
                raise SettingsError(
                    f"{given[switch].source}: [server] {switch} is true, but {key} is not set"
                )


def check_closed(server: Server, found: Sources) -> None:
    """A host that others can reach asks who they are, or was told that it need not."""
    given = found.get("server", {})
    if "authentication_method" not in given:
        for section in ("enumerated_tokens", "jwt"):
            for key, value in found.get(section, {}).items():
                raise SettingsError(
                    f"{value.source}: [{section}] {key} is given, but [server] "
                    'authentication_method is not: "token", or "none" to serve everybody'
                )
    if not (server.authenticates or server.allow_insecure or _is_loopback(server.listen_host)):
        source = given["listen_host"].source
        raise SettingsError(
            f"{source}: [server] listen_host is {server.listen_host!r}, which others may reach, "
            'and nobody is asked for a token: set authentication_method = "token", or '
            "allow_insecure = true in a closed network"
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)
