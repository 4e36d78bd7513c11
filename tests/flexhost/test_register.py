"""`flexhost register` against a stand-in for the backend's REST API, which checks each request."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys

import pytest
from authority import Authority
from http_server import Quiet, answering
from support import LONG, ROOT

MEDIA_TYPE = "application/vnd.gooddata.api+json"
COLLECTION = "/api/v1/entities/dataSources"


class Backend:
    """What was asked of it, as (method, path, body); `sources` are those it has."""

    def __init__(self, url):
        self.url = url
        self.asked = []
        self.sources = {}
        self.answer = None  # instead of the right one: a status and a body

    def respond(self, method, path, headers, body):
        assert headers["authorization"] == "Bearer api-t0ken"
        assert headers["accept"] == MEDIA_TYPE
        self.asked.append((method, path, body))
        if self.answer is not None:
            return self.answer
        id_ = path.removeprefix(COLLECTION).removeprefix("/")
        if method == "GET":
            return (
                (200, self.sources[id_]) if id_ in self.sources else (404, {"title": "Not Found"})
            )
        assert headers["content-type"] == MEDIA_TYPE
        assert set(body) == {"data"}
        data = body["data"]
        assert set(data) == {"id", "type", "attributes"}
        assert data["type"] == "dataSource"
        assert {"name", "type", "url", "schema", "cacheStrategy"} <= set(data["attributes"])
        if method == "POST":
            assert id_ == ""
            assert data["id"] not in self.sources
        else:
            assert (method, id_) == ("PUT", data["id"])
            assert id_ in self.sources
        self.sources[data["id"]] = body
        return (201 if method == "POST" else 200), body


@pytest.fixture
def backend():
    class Handler(Quiet):
        def do_GET(self):  # noqa: N802  # the library says so
            length = int(self.headers.get("content-length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = made.respond(self.command, self.path, self.headers, body)
            self.send_response(status)
            if status == 302:
                self.send_header("location", f"{made.url}/elsewhere")
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        do_POST = do_PUT = do_GET  # noqa: N815

    with answering(Handler) as url:
        made = Backend(url)
        yield made


@pytest.fixture
def register(tmp_path, backend):
    """Run it in an empty folder: exit status and what it printed."""

    def run(*options, url="grpc://flexfun.test:17001"):
        given = ["--backend", backend.url, "--token", "api-t0ken", *(["--url", url] if url else [])]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GOODDATA_FLIGHT")}
        done = subprocess.run(
            [sys.executable, "-m", "flexhost", "register", *given, *options],
            env={**environ, "PYTHONPATH": str(ROOT / "src")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LONG,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_data_source_is_made(register, backend):
    status, told = register("--name", "My functions", "--host-token", "h0st")

    assert (status, told) == (0, "made data source 'flexfun': grpc://flexfun.test:17001\n")
    assert [asked[:2] for asked in backend.asked] == [
        ("GET", f"{COLLECTION}/flexfun"),
        ("POST", COLLECTION),
    ]
    assert backend.sources["flexfun"]["data"]["attributes"] == {
        "name": "My functions",
        "type": "FLIGHTRPC",
        "url": "grpc://flexfun.test:17001",
        "schema": "",
        "cacheStrategy": "NEVER",
        "token": "h0st",
    }


def test_one_that_is_there_is_replaced(register, backend):
    backend.sources["sales"] = {}

    status, told = register("--id", "sales", "--cache")

    assert (status, told.split()[0]) == (0, "replaced")
    assert backend.asked[-1][:2] == ("PUT", f"{COLLECTION}/sales")
    assert backend.sources["sales"]["data"]["attributes"]["cacheStrategy"] == "ALWAYS"


def test_the_authority_of_the_hosts_certificate_goes_along(register, backend, tmp_path):
    pem = Authority().root
    (tmp_path / "ca.pem").write_bytes(pem)

    status, _ = register("--ca", "ca.pem", url="grpc+tls://flexfun.test:17001")

    [parameter] = backend.sources["flexfun"]["data"]["attributes"]["parameters"]
    assert status == 0
    assert parameter == {"name": "tlsRootCertificate", "value": base64.b64encode(pem).decode()}


def test_without_a_url_it_is_the_one_that_the_settings_advertise(register, backend, tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "server.toml").write_text(
        "[server]\nadvertise_host = 'shop.test'\nlisten_port = 17005\n"
    )

    register(url=None)

    attributes = backend.sources["flexfun"]["data"]["attributes"]
    assert attributes["url"] == "grpc://shop.test:17005"


def test_tokens_may_come_from_files(register, backend, tmp_path):
    (tmp_path / "host-token").write_text("from-a-file\n")

    register("--host-token", f"@{tmp_path}/host-token")

    assert backend.sources["flexfun"]["data"]["attributes"]["token"] == "from-a-file"


def test_a_dry_run_prints_the_request_without_secrets_and_sends_nothing(register, backend):
    status, told = register("--host-token", "h0st", "--dry-run")

    line, body = told.split("\n", 1)
    assert (status, backend.asked) == (0, [])
    assert line.startswith(f"POST {backend.url}{COLLECTION} ")
    assert json.loads(body)["data"]["attributes"]["token"] == "***"
    assert "h0st" not in told
    assert "api-t0ken" not in told


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((401, {"title": "Unauthorized"}), r"401 Unauthorized: Unauthorized"),
        ((400, {"detail": "url is not\nallowed"}), r"400 Bad Request: url is not allowed"),
        ((302, {}), "302 Found"),
    ],
)
def test_what_the_backend_says_of_an_error_is_told(register, backend, answer, expected):
    backend.answer = answer

    status, told = register()

    assert status == 1
    assert f"flexhost: GET {backend.url}{COLLECTION}/flexfun: {expected}" in told
    assert len(backend.asked) == 1  # the token went nowhere else


def test_a_backend_that_is_away_is_told(register, backend):
    status, told = register("--backend", "http://127.0.0.1:9")

    assert status == 1
    assert "flexhost: GET http://127.0.0.1:9/api/v1/entities/dataSources/flexfun: " in told
    assert "refused" in told


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--url", "http://x"], "--url is 'http://x', expected grpc://HOST:PORT"),
        (["--backend", "ftp://x"], "--backend is 'ftp://x', expected https://HOST"),
        (["--id", "a/b"], "--id is 'a/b', expected letters"),
        (["--ca", "ca.pem"], "--ca goes with a URL of TLS"),
        (["--ca", "no.pem", "--url", "grpc+tls://x:1"], "cannot read the file no.pem"),
        (["--host-token", "@/no/such/file"], "cannot read the file /no/such/file of the token"),
    ],
)
def test_an_option_that_is_wrong_is_told_and_nothing_sent(register, backend, options, expected):
    status, told = register(*options)

    assert status == 2
    assert f"flexhost: {expected}" in told
    assert backend.asked == []
