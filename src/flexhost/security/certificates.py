"""The certificate of the host, its key, and the authorities of its callers: read and checked.

Imported only where TLS is on: `cryptography` costs 50 ms of start-up.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from flexhost.errors import SettingsError

# Days before its end from which on a certificate is warned of.
WARN_DAYS = 30
# What gRPC serves with; it starts with other curves too, and then no handshake succeeds (measured).
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_RSA_BITS = 2048
# Bytes of a PEM file, at most: whole bundles of the public authorities have a quarter of it.
_LARGEST = 1 << 20


@dataclass(frozen=True)
class TlsSettings:
    """As written: PEM, or `@` and the path of a file that holds it.

    root: of the authorities that sign the certificates of callers; None when they need none.
    """

    certificate: str
    private_key: str = field(repr=False)
    root: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        written = (self.certificate, self.private_key, self.root or "")
        return tuple(Path(text[1:]) for text in written if text.startswith("@"))


@dataclass(frozen=True)
class Certificates:
    """What serves TLS, in PEM.

    root:       see TlsSettings.
    expires_at: when the first certificate of the chain does, in seconds since the epoch.
    """

    chain: bytes
    private_key: bytes = field(repr=False)
    root: bytes | None
    expires_at: float

    def warning(self, now: float) -> str | None:
        """What to tell of the end of the certificate; None while it is far away."""
        days = (self.expires_at - now) / 86400
        if days > WARN_DAYS:
            return None
        if days < 0:
            return f"the certificate expired on {_day(self.expires_at)}: clients refuse this host"
        return f"the certificate expires on {_day(self.expires_at)}, in {days:.0f} days: renew it"


class _Pem(NamedTuple):
    """where: for messages; they never have a byte of `data`, which may be a private key."""

    where: str
    data: bytes


def load(settings: TlsSettings, now: float) -> Certificates:
    """Read and check all of it. now: seconds since the epoch.

    Raises SettingsError that names the setting, the file and what is wrong.
    """
    pem = _read("tls_certificate", settings.certificate)
    key_pem = _read("tls_private_key", settings.private_key)
    chain, key = _parse(pem), _private_key(key_pem)
    _check_kind(pem, chain[0].public_key())
    _check_match(pem, key_pem, chain, key)
    _check_order(pem, chain)
    for number, certificate in enumerate(chain, 1):
        if wrong := _wrong_date(certificate, now):
            raise SettingsError(f"{pem.where}: {_name(number, certificate)} {wrong}")
    root = None if settings.root is None else _root(settings.root, now)
    expires_at = min(one.not_valid_after_utc.timestamp() for one in chain)
    return Certificates(pem.data, key_pem.data, root, expires_at)


def _read(setting: str, written: str) -> _Pem:
    if not written.startswith("@"):
        return _Pem(f"[server] {setting}", written.encode("utf-8", "replace"))
    path = written[1:]
    try:
        with open(path, "rb", opener=_not_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SettingsError(f"[server] {setting}: {path} is no regular file")
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or "that is no path"
        raise SettingsError(f"[server] {setting}: cannot read {path}: {cause}") from None
    if len(data) > _LARGEST:
        raise SettingsError(f"[server] {setting}: {path} is larger than {_LARGEST} bytes")
    return _Pem(f"[server] {setting}: {path}", data)


def _not_waiting(path: str, flags: int) -> int:
    """For somebody to write to it, if it is a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse(pem: _Pem) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem.data)
    except Exception:  # of many kinds, and with words about bytes
        wrong = "holds no certificate in PEM form, or a damaged one"
    if b"PRIVATE KEY-----" in pem.data and b"BEGIN CERTIFICATE-----" not in pem.data:
        wrong = "holds a private key, expected a certificate"
    raise SettingsError(f"{pem.where}: {wrong}")


def _private_key(pem: _Pem) -> PrivateKeyTypes:
    wrong = "holds no private key in PEM form, or a damaged one"
    try:
        return load_pem_private_key(pem.data, password=None)
    except TypeError:
        wrong = "is encrypted, expected a key without a passphrase (openssl pkey makes one)"
    except UnsupportedAlgorithm:
        wrong = "is a key of a kind that TLS does not know"
    except Exception:
        if b"BEGIN CERTIFICATE-----" in pem.data:
            wrong = "holds a certificate, expected its private key"
    # outside of the handlers: the error there may know of the key, and must not be kept
    raise SettingsError(f"{pem.where}: {wrong}")


def _check_kind(pem: _Pem, key: PublicKeyTypes) -> None:
    match key:
        case RSAPublicKey() if key.key_size >= _RSA_BITS:
            return
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            return
        case Ed25519PublicKey():
            return
    raise SettingsError(
        f"{pem.where}: a certificate of this kind cannot be served, expected RSA of at least "
        f"{_RSA_BITS} bits, EC on P-256, P-384 or P-521, or Ed25519"
    )


def _check_match(
    pem: _Pem, key_pem: _Pem, chain: list[x509.Certificate], key: PrivateKeyTypes
) -> None:
    public = _bytes_of(key.public_key())
    if _bytes_of(chain[0].public_key()) == public:
        return
    if any(_bytes_of(one.public_key()) == public for one in chain):
        raise SettingsError(f"{pem.where}: the certificate that belongs to the key must come first")
    raise SettingsError(f"{key_pem.where}: this is not the key of the certificate in {pem.where}")


def _bytes_of(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _check_order(pem: _Pem, chain: list[x509.Certificate]) -> None:
    for number, (one, signer) in enumerate(pairwise(chain), 1):
        try:
            one.verify_directly_issued_by(signer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            raise SettingsError(
                f"{pem.where}: {_name(number, one)} is not signed by "
                f"{_name(number + 1, signer)}; each must be followed by the one that signed it"
            ) from None


def _root(written: str, now: float) -> bytes:
    """Authorities come and go: of a bundle one must be good today."""
    pem = _read("tls_root_certificate", written)
    wrong = [_wrong_date(one, now) for one in _parse(pem)]
    if all(wrong):
        raise SettingsError(f"{pem.where}: no authority in it is valid today: the first {wrong[0]}")
    return pem.data


def _wrong_date(certificate: x509.Certificate, now: float) -> str | None:
    begins = certificate.not_valid_before_utc.timestamp()
    ends = certificate.not_valid_after_utc.timestamp()
    if now < begins:
        return f"is not valid before {_day(begins)}"
    if now > ends:
        return f"expired on {_day(ends)}"
    return None


def _name(number: int, certificate: x509.Certificate) -> str:
    return f"certificate {number} ({certificate.subject.rfc4514_string() or 'without a subject'})"


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
