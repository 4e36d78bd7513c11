"""Certificates for the tests, real ones: made with `trustme`, some by hand where it makes none."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import trustme

from flexhost.security.certificates import TlsSettings

DAY = 86400.0
NOW = time.time()


def day(number: float) -> datetime:
    """So many days from now."""
    return datetime.fromtimestamp(NOW + number * DAY, timezone.utc)


class Authority:
    """Signs certificates, those of the host for 127.0.0.1."""

    def __init__(self, ca: trustme.CA | None = None) -> None:
        self.ca = ca or trustme.CA()
        self.root: bytes = self.ca.cert_pem.bytes()

    def leaf(self, *names: str, **options: Any) -> trustme.LeafCert:
        options.setdefault("not_before", day(-1))
        options.setdefault("not_after", day(90))
        return self.ca.issue_cert(*(names or ("127.0.0.1",)), **options)

    def pair(self, *names: str, **options: Any) -> tuple[str, str]:
        """A certificate with what signed it, and its key, in PEM."""
        leaf = self.leaf(*names, **options)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        return chain.decode(), leaf.private_key_pem.bytes().decode()

    def settings(self, *names: str, root: Authority | None = None, **options: Any) -> TlsSettings:
        """Of a host with such a certificate; root: whose certificates it asks of its callers."""
        return TlsSettings(*self.pair(*names, **options), root.root.decode() if root else None)

    def trusting(self, presented: tuple[str, str] | None = None) -> dict[str, Any]:
        """How a client connects that trusts this authority, and presents that certificate."""
        options: dict[str, Any] = {"tls_root_certs": self.root}
        if presented:
            options |= {"cert_chain": presented[0].encode(), "private_key": presented[1].encode()}
        return options


class Files:
    """A certificate and its key in files of a folder, as settings name them."""

    def __init__(self, folder: Path, pair: tuple[str, str] | None = None) -> None:
        self.certificate, self.key = folder / "cert.pem", folder / "key.pem"
        if pair:
            self.write(pair)
        self.settings = TlsSettings(f"@{self.certificate}", f"@{self.key}")

    @property
    def toml(self) -> str:
        written = f"tls_certificate = '@{self.certificate}'\ntls_private_key = '@{self.key}'\n"
        return "use_tls = true\n" + written

    def write(self, pair: tuple[str, str]) -> None:
        for file, text in zip((self.certificate, self.key), pair, strict=True):
            new = file.with_suffix(".new")
            new.write_text(text)
            new.replace(file)
