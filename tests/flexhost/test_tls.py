"""TLS over real connections: who gets in, and who they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.request

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from authority import Authority, Files, day
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from support import (
    LONG,
    NUMBERS,
    ROOT,
    SCHEMA,
    Client,
    command,
    flight_code,
    function,
    process,
    serving,
    until,
)

from flexhost.caller import Caller
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.telemetry.events import CallEnded, ReadEnded

TABLE = pa.table({"n": [0, 1, 2]}, schema=SCHEMA)
NUMBERS_FUNCTION = function(lambda *_: TABLE)
AUTHORITY, CALLERS = Authority(), Authority()
POLLS = {"x-quiver-pollable": "yes"}


@pytest.fixture(scope="module")
def tls():
    with serving(NUMBERS_FUNCTION, tls=AUTHORITY.settings(), connect=AUTHORITY.trusting()) as host:
        yield host


@pytest.fixture(scope="module")
def mutual():
    settings = AUTHORITY.settings(root=CALLERS)
    trusting = AUTHORITY.trusting(CALLERS.pair("caller.example"))
    with serving(NUMBERS_FUNCTION, tls=settings, connect=trusting) as host:
        yield host


def refused(port, token="", **tls):
    """How a call ends that must not reach the host."""
    with pytest.raises(fl.FlightUnavailableError) as error:
        Client(port, token, **tls).info(command())
    return str(error.value)


def test_a_call_is_answered_and_its_rows_are_at_a_location_with_tls(tls):
    info = tls.info(command())
    [location] = info.endpoints[0].locations

    assert location.uri == b"grpc+tls://127.0.0.1:%d" % tls.frontend.port
    with fl.connect(location, **AUTHORITY.trusting()) as client:
        assert client.do_get(info.endpoints[0].ticket).read_all().equals(TABLE)


def test_a_plaintext_client_is_refused(tls):
    assert "Socket closed" in refused(tls.frontend.port)


def test_a_client_that_trusts_others_does_not_call(tls):
    assert "certificate verify failed" in refused(tls.frontend.port, **Authority().trusting())


def test_a_certificate_for_another_name_is_not_trusted():
    with serving(tls=AUTHORITY.settings("elsewhere.example")) as host:
        assert "is not in peer certificate" in refused(host.frontend.port, **AUTHORITY.trusting())


def test_callers_need_a_certificate_with_mtls(mutual):
    assert mutual.call().equals(TABLE)
    assert "closed" in refused(mutual.frontend.port, **AUTHORITY.trusting())


@pytest.mark.parametrize(
    "presented",
    [
        AUTHORITY.pair("caller.example"),
        Authority().pair("caller.example"),
        CALLERS.pair("caller.example", not_after=day(-0.5)),
        CALLERS.pair("caller.example", not_before=day(1)),
    ],
    ids=["the host's own authority", "another authority", "expired", "not yet valid"],
)
def test_callers_with_a_wrong_certificate_are_refused(mutual, presented):
    refused(mutual.frontend.port, **AUTHORITY.trusting(presented))


def test_without_mtls_nobody_is_named(tls):
    tls.info(command())

    assert tls.event(CallEnded).call.caller.name == ""


@pytest.mark.parametrize(
    ("names", "common_name", "expected"),
    [
        (["a.example", "b.example"], "c", "a.example"),
        (["who@example.com"], None, "who@example.com"),
        (["10.0.0.1"], "c", "10.0.0.1"),
        ([], "Žofie", "Žofie"),
    ],
)
def test_the_certificate_names_the_caller(mutual, names, common_name, expected):
    leaf = CALLERS.ca.issue_cert(*names, common_name=common_name)
    pair = leaf.cert_chain_pems[0].bytes().decode(), leaf.private_key_pem.bytes().decode()
    while not mutual.events.empty():
        mutual.events.get()

    Client(mutual.frontend.port, **AUTHORITY.trusting(pair)).info(command())

    assert mutual.event(CallEnded).call.caller.name == expected


def test_a_call_belongs_to_the_caller_whose_certificate_it_came_with(mutual):
    other = Client(mutual.frontend.port, **AUTHORITY.trusting(CALLERS.pair("other.example")))
    ticket = mutual.ticket()

    with pytest.raises(fl.FlightServerError, match="has no result here") as error:
        other.read(ticket)
    assert flight_code(error.value)[0] == 4
    with pytest.raises(fl.FlightServerError, match="there is no call"):
        other.info(b"r:" + json.loads(ticket.ticket)["task_id"].encode(), POLLS)
    with pytest.raises(fl.FlightCancelledError):
        other.info(b"c:" + json.loads(ticket.ticket)["task_id"].encode(), POLLS)
    assert mutual.read(ticket).equals(TABLE)


def test_with_mtls_and_tokens_both_are_needed_and_the_token_names_the_caller():
    settings = AUTHORITY.settings(root=CALLERS)
    verifier = EnumeratedTokenVerification(
        [Known(Tokens((Digest.of("a-good-token"),)), Caller("ann"))]
    )
    trusting = AUTHORITY.trusting(CALLERS.pair("caller.example"))
    with serving(NUMBERS_FUNCTION, tls=settings, connect=trusting, verifier=verifier) as host:
        with pytest.raises(fl.FlightUnauthenticatedError):
            host.info(command())
        refused(host.frontend.port, token="a-good-token", **AUTHORITY.trusting())

        assert Client(host.frontend.port, "a-good-token", **trusting).call().equals(TABLE)
        assert host.event(CallEnded).call.caller.name == "ann"


@pytest.mark.parametrize("names", [[], [x509.RegisteredID(x509.ObjectIdentifier("1.2.3"))]])
def test_a_certificate_without_a_name_of_its_own_does_not_call(mutual, names):
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        CALLERS.ca._certificate.subject,
        x509.Name([]),
        key.public_key(),
        x509.random_serial_number(),
        day(-1),
        day(1),
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    signed = builder.sign(CALLERS.ca._private_key, hashes.SHA256())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    presented = signed.public_bytes(Encoding.PEM).decode(), pem.decode()

    nobody = Client(mutual.frontend.port, **AUTHORITY.trusting(presented))
    for ask in (
        lambda: nobody.info(command()),
        lambda: nobody.info(b"r:1", POLLS),
        lambda: nobody.read(mutual.ticket()),
        lambda: list(nobody.flight.list_flights()),
        lambda: nobody.flight.list_actions(),
    ):
        with pytest.raises(fl.FlightUnauthenticatedError) as error:
            ask()
        assert flight_code(error.value)[0] == 110


def test_a_reader_that_stalls_is_cut_off_with_tls_too():
    def endless():
        while True:
            yield pa.record_batch({"n": pa.array(range(200_000))})

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, endless()))
    settings, trusting = AUTHORITY.settings(), AUTHORITY.trusting()
    with serving(made, tls=settings, connect=trusting, stall=0.3) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()  # and no more

        assert "took nothing more" in str(client.event(ReadEnded).error)
        with pytest.raises(pa.ArrowException):
            reader.read_all()
        until(lambda: client.frontend.under_way == 0)


# --- in a process of its own


def test_a_host_serves_what_its_settings_say(tmp_path):
    files = Files(tmp_path, AUTHORITY.pair())
    (tmp_path / "root.pem").write_bytes(CALLERS.root)
    mutual = f"use_mtls = true\ntls_root_certificate = '@{tmp_path / 'root.pem'}'\n"
    with process(tmp_path, NUMBERS, files.toml + mutual) as host:
        port = int(host.line(r"advertised as grpc\+tls://[^:]+:(\d+)")[1])
        trusting = AUTHORITY.trusting(CALLERS.pair("caller"))

        assert Client(port, **trusting).call().num_rows == 3
        refused(port, **AUTHORITY.trusting())


def test_whoever_reaches_the_port_cannot_fill_the_log(tmp_path):
    with process(tmp_path, NUMBERS, Files(tmp_path, AUTHORITY.pair()).toml) as host:
        port = host.port()
        refused(port)
        refused(port, **Authority().trusting())
        host.process.terminate()
        status, text = host.ended()

    assert status == 0
    assert [json.loads(line)["event"].split()[0] for line in text.splitlines()] == [
        "serving",
        "stopping",
        "stopped",
    ]


def test_the_certificate_of_the_deployment_page_serves_word_for_word(tmp_path):
    page = (ROOT / "docs" / "deployment.md").read_text()
    [make] = re.findall(r"^(mkdir ~/tls && cd ~/tls\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    environ = {**os.environ, "HOME": str(tmp_path)}
    subprocess.run(["sh", "-ec", make], env=environ, capture_output=True, check=True)
    settings = (
        f"use_tls = true\ntls_certificate = '@{tmp_path}/tls/cert.pem'\n"
        f"tls_private_key = '@{tmp_path}/tls/key.pem'\n"
    )

    with process(tmp_path, NUMBERS, settings) as host:
        url = f"grpc+tls://localhost:{host.port()}"
        with fl.connect(url, tls_root_certs=(tmp_path / "tls/ca.pem").read_bytes()) as client:
            assert len(list(client.list_flights())) == 1


def test_an_end_that_is_near_is_logged_and_measured(tmp_path):
    ends = day(20)
    files = Files(tmp_path, AUTHORITY.pair(not_after=ends))
    metrics = "metrics_host = '127.0.0.1'\nmetrics_port = 0"
    with process(tmp_path, NUMBERS, files.toml + metrics) as host:
        port = int(host.line(r"HTTP on 127.0.0.1:(\d+)")[1])
        line = json.loads(host.line(r'"level":"warning"').string)

        assert "the certificate expires on" in line["event"]
        assert "in 20 days" in line["event"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG) as page:
            text = page.read().decode()
        value = text.split("\ntls_certificate_expiry_timestamp_seconds ")[1].split("\n")[0]
        assert float(value) == int(ends.timestamp())


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (AUTHORITY.pair(not_after=day(-0.5)), "cert.pem: certificate 1 ("),
        (AUTHORITY.pair(not_before=day(1)), ") is not valid before 20"),
        ((AUTHORITY.pair()[0], AUTHORITY.pair()[1]), "key.pem: this is not the key of the cert"),
        (("garbage", "garbage"), "cert.pem: holds no certificate in PEM form, or a damaged one"),
    ],
)
def test_a_wrong_certificate_ends_the_start_with_a_sentence(tmp_path, pair, message):
    with process(tmp_path, NUMBERS, Files(tmp_path, pair).toml) as host:
        status, text = host.ended()

    assert status == 2
    assert text.startswith("flexhost: [server] tls_")
    assert message in text
    assert "\n" not in text
