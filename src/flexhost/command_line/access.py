"""How a running host is reached from here: its address, a token, certificates."""

from __future__ import annotations

import json
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.flight as fl

from flexhost.command_line.reach import Address
from flexhost.errors import SettingsError

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between ours


@dataclass(frozen=True)
class Access:
    """url:       `grpc://host:port` or `grpc+tls://host:port`.
    root:      file with the authorities to trust; None for those of the system.
    presented: files of a certificate of the caller's own and its key.

    Methods raise SettingsError: an option is wrong.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    root: str | None = None
    presented: tuple[str, str] | None = None

    @property
    def address(self) -> Address:
        try:
            return Address.of(self.url)
        except ValueError:
            raise SettingsError(
                f"{self.url!r} is no address of a host, expected grpc://HOST:PORT or "
                "grpc+tls://HOST:PORT"
            ) from None

    def connection(self) -> dict[str, Any]:
        """For `fl.connect`, with TLS."""
        files = {"tls_root_certs": self.root}
        if self.presented:
            files |= dict(zip(("cert_chain", "private_key"), self.presented, strict=True))
        try:
            return {name: Path(file).read_bytes() for name, file in files.items() if file}
        except OSError as error:
            raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from None

    def context(self) -> ssl.SSLContext:
        option = "--tls-root"
        try:
            context = ssl.create_default_context(cafile=self.root)
            if self.presented:
                option = "--tls-certificate with --tls-key"
                context.load_cert_chain(*self.presented, password="")  # and never ask for one
        except (OSError, ValueError):
            raise SettingsError(f"{option} cannot be used: it is not what it should be") from None
        return context

    def options(self, seconds: float | None = None) -> fl.FlightCallOptions:
        """seconds: that a request may take; None for as long as the host lets it."""
        headers = [(b"authorization", f"Bearer {self.token}".encode())] if self.token else []
        return fl.FlightCallOptions(timeout=seconds, headers=headers)


def name_of(info: fl.FlightInfo) -> str:
    """The function that it is about."""
    return str(json.loads(info.descriptor.command)["functionName"])


def told(error: Exception) -> str:
    """What the host said; pyarrow adds its own view of the connection, at length."""
    try:
        text = json.loads(getattr(error, "extra_info", b""))["msg"]
    except (ValueError, TypeError, LookupError):
        text = re.split(r"\. gRPC client debug context|\. Client context", str(error))[0]
        text = text.partition("with message: ")[2] or text
    return plain(str(text)).rstrip(".")


def plain(text: str) -> str:
    """One line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text[:400])
