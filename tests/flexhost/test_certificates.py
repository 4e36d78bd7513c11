"""What is checked of certificates before they serve. The day is a parameter."""

from __future__ import annotations

import subprocess
import sys

import pytest
import trustme
from authority import DAY, NOW, Authority, Files, day
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from support import ROOT

from flexhost.errors import SettingsError
from flexhost.security.certificates import TlsSettings, load

AUTHORITY = Authority()
CERTIFICATE, KEY = AUTHORITY.pair()
# When the authorities of trustme end, and a day after it.
ENDS, LATER = AUTHORITY.ca._certificate.not_valid_after_utc.timestamp(), day(400_000)
OTHER_CERTIFICATE, OTHER_KEY = AUTHORITY.pair()


def wrong(settings, now=NOW):
    with pytest.raises(SettingsError) as error:
        load(settings, now)
    text = str(error.value)
    assert "\n" not in text
    assert not any(line in text for line in KEY.splitlines()[1:-1])
    return text


def encrypted(kind):
    key = load_pem_private_key(KEY.encode(), None)
    return key.private_bytes(Encoding.PEM, kind, BestAvailableEncryption(b"secret")).decode()


def test_a_certificate_and_its_key_are_taken_inline_or_from_files(tmp_path):
    files = Files(tmp_path, (CERTIFICATE, KEY))

    assert load(files.settings, NOW) == load(TlsSettings(CERTIFICATE, KEY), NOW)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_rsa_and_elliptic_keys_are_taken(kind):
    settings = AUTHORITY.settings(key_type=trustme.KeyType[kind.upper()])

    assert load(settings, NOW).private_key == settings.private_key.encode()


def test_it_expires_when_the_first_of_the_chain_does():
    child = Authority(AUTHORITY.ca.create_child_ca())
    certificate, key = child.pair(not_after=LATER)

    loaded = load(TlsSettings(certificate, key), NOW)

    assert certificate.count("BEGIN") == 2
    assert loaded.expires_at == ENDS


@pytest.mark.parametrize(
    ("certificate", "key", "message"),
    [
        ("", KEY, "tls_certificate: holds no certificate in PEM form"),
        ("garbage", KEY, "tls_certificate: holds no certificate in PEM form, or a damaged one"),
        (CERTIFICATE[:300], KEY, "tls_certificate: holds no certificate in PEM form"),
        (KEY, KEY, "tls_certificate: holds a private key, expected a certificate"),
        (CERTIFICATE, "garbage", "tls_private_key: holds no private key in PEM form"),
        (CERTIFICATE, KEY[:200], "tls_private_key: holds no private key in PEM form"),
        (CERTIFICATE, CERTIFICATE, "tls_private_key: holds a certificate, expected its private"),
        (CERTIFICATE, OTHER_KEY, "tls_private_key: this is not the key of the certificate in [ser"),
    ],
)
def test_what_is_no_certificate_with_its_key_is_said(certificate, key, message):
    assert message in wrong(TlsSettings(certificate, key))


@pytest.mark.parametrize("kind", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_refused(kind):
    assert "[server] tls_private_key: is encrypted" in wrong(
        TlsSettings(CERTIFICATE, encrypted(kind))
    )


@pytest.mark.parametrize("index", [0, 1])
def test_the_file_is_named(tmp_path, index):
    files = Files(tmp_path, (CERTIFICATE, KEY))
    file = (files.certificate, files.key)[index]

    file.write_text("garbage")
    assert f"{file}: holds no " in wrong(files.settings)
    file.unlink()
    assert f"cannot read {file}: No such file or directory" in wrong(files.settings)
    file.write_bytes(b" " * (1 << 21))
    assert f"{file} is larger than 1048576 bytes" in wrong(files.settings)


def test_a_chain_must_be_in_order():
    child = Authority(AUTHORITY.ca.create_child_ca())
    certificate, key = child.pair()
    leaf, signer = certificate.split("\n-----BEGIN", 1)
    signer = "-----BEGIN" + signer
    unrelated = Authority().root.decode()

    assert "certificate that belongs to the key must come first" in wrong(
        TlsSettings(signer + leaf, key)
    )
    text = wrong(TlsSettings(leaf + "\n" + unrelated, key))
    assert "tls_certificate: certificate 1 (OU=Testing cert #" in text
    assert "is not signed by certificate 2 (OU=Testing CA #" in text
    assert load(TlsSettings(leaf + "\n" + signer + AUTHORITY.root.decode(), key), NOW)


def test_dates_are_checked():
    settings = AUTHORITY.settings(not_before=day(-1), not_after=day(9))

    assert "is not valid before 20" in wrong(settings, NOW - 2 * DAY)
    assert load(settings, NOW)
    assert "certificate 1 (OU=Testing cert #" in (text := wrong(settings, NOW + 10 * DAY))
    assert ") expired on 20" in text


def test_the_dates_of_the_whole_chain_are_checked():
    child = Authority(AUTHORITY.ca.create_child_ca())
    settings = child.settings(not_after=LATER)

    assert "certificate 2 (OU=Testing CA" in wrong(settings, ENDS + 1)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 1024),
        ec.generate_private_key(ec.SECP256K1()),
    ],
)
def test_a_key_that_no_client_would_take_is_refused(key):
    settings = self_signed(key)

    assert "a certificate of this kind cannot be served, expected RSA" in wrong(settings)


def self_signed(key):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), day(-1), day(9)
    ).sign(key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return TlsSettings(certificate.public_bytes(Encoding.PEM).decode(), pem.decode())


def test_an_authority_of_callers_is_checked():
    def root(text):
        return TlsSettings(CERTIFICATE, KEY, text)

    assert load(root(AUTHORITY.root.decode()), NOW).root == AUTHORITY.root
    assert "tls_root_certificate: holds no certificate" in wrong(root("garbage"))
    assert "tls_root_certificate: cannot read /nowhere: No such" in wrong(root("@/nowhere"))
    settings = AUTHORITY.settings(root=AUTHORITY, not_after=LATER)
    assert "tls_root_certificate: no authority in it is valid today" in wrong(settings, ENDS + 1)


def test_an_end_that_is_near_is_warned_of():
    loaded = load(AUTHORITY.settings(not_after=day(40)), NOW)

    assert loaded.warning(NOW) is None
    assert "in 29 days: renew it" in loaded.warning(NOW + 11 * DAY)
    assert "expired on 20" in loaded.warning(NOW + 41 * DAY)


def test_a_private_key_is_in_no_repr():
    settings = TlsSettings(CERTIFICATE, KEY)
    shown = repr(settings) + repr(load(settings, NOW))

    assert "BEGIN CERTIFICATE" in shown
    assert "PRIVATE" not in shown


def test_without_tls_nothing_of_it_is_loaded():
    code = "import flexhost.serving.server, sys; print('cryptography' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )

    assert found.stdout.strip() == "False"
