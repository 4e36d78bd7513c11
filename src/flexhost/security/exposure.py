"""Whether settings leave a host open that is to be closed: by half of TLS, or by asking nobody."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from flexhost.configuration.setting_sources import Sources, Value
from flexhost.errors import SettingsError

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
    for section, key, value in _of_tokens(found):
        if "authentication_method" not in given:
            raise SettingsError(
                f"{value.source}: [{section}] {key} is given, but [server] "
                'authentication_method is not: "token", or "none" to serve everybody'
            )
        used = _VERIFIED_BY.get(section, server.token_verification)
        if server.authentication_method == "token" and server.token_verification != used:
            raise SettingsError(
                f"{value.source}: [{section}] {key} is given, which token_verification = "
                f"{server.token_verification!r} does not look at"
            )
    for section, keys in found.items():
        for key in {"authentication_method", "enumerated_tokens"} & set(keys):
            if section != "server":
                where = keys[key].source
                raise SettingsError(f"{where}: {key} stands in [{section}], where nothing reads it")
    if server.authenticates or server.allow_insecure:
        return
    for section in ("server", "invoke"):
        listens = found.get(section, {}).get("listen_host")
        if listens is None or not listens.value or is_loopback(str(listens.value)):
            continue
        raise SettingsError(
            f"{listens.source}: [{section}] listen_host is {listens.value!r}, which others may "
            "reach, and nobody is asked for a token or a certificate: set authentication_method = "
            '"token" or use_mtls, or allow_insecure = true in a closed network'
        )


def _of_tokens(found: Sources) -> Iterator[tuple[str, str, Value]]:
    """What means something only where tokens are asked for."""
    for section in _VERIFIED_BY:
        yield from ((section, key, value) for key, value in found.get(section, {}).items())
    for key in ("token_header_name", "token_verification"):
        if key in (given := found.get("server", {})):
            yield "server", key, given[key]


_VERIFIED_BY = {"enumerated_tokens": "EnumeratedTokenVerification", "jwt": "JwtTokenVerification"}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        found = socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return all(ipaddress.ip_address(str(address[0])).is_loopback for *_, address in found)
