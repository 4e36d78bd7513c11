"""JSON Web Tokens: real keys, and a real server for them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import socket
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager, suppress

import jwt
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from support import (
    LONG,
    NUMBERS,
    SCHEMA,
    Client,
    command,
    free_port,
    function,
    process,
    serving,
    until,
)

from flexhost.errors import SettingsError, StartError, Unauthenticated
from flexhost.security.jwks import WAITING, Keys
from flexhost.security.jwt_tokens import JwtTokenVerification
from flexhost.security.verification import verifier
from flexhost.settings import Jwt, Server, Settings, load
from flexhost.telemetry.events import Refused

ISSUER, AUDIENCE = "https://id.example", "flexhost"
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key, kid, **more):
    """The public part of a key, as an identity provider publishes it."""
    kinds = {
        rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
        ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
        ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
    }
    [kind] = [kind for of, kind in kinds.items() if isinstance(key, of)]
    public = json.loads(kind.to_jwk(key.public_key()))
    return {**public, **({"kid": kid} if kid else {}), "use": "sig", **more}


def signed(key=RSA, kid="r", algorithm="RS256", drop=(), **claims):
    right = {"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 3600}
    payload = {name: value for name, value in (right | claims).items() if name not in drop}
    return jwt.encode(payload, key, algorithm, {"kid": kid} if kid else {})


def set_of(*keys):
    return json.dumps({"keys": list(keys)})


PUBLISHED = set_of(jwk(RSA, "r"), jwk(EC, "e"), jwk(ED, "d"))


@pytest.fixture
def keys(tmp_path):
    """Keys of a file with this content."""
    made = []

    def make(content=PUBLISHED, **options):
        (tmp_path / "jwks").write_text(content)
        made.append(Keys(f"@{tmp_path}/jwks", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def checked(keys):
    """A verifier of these keys with these settings."""
    return lambda content=PUBLISHED, **section: JwtTokenVerification(
        Jwt(issuer=ISSUER, audience=AUDIENCE, **section), keys(content)
    )


def why(verifier, token):
    """Why a token is refused, as the log tells."""
    with pytest.raises(Unauthenticated) as error:
        verifier.verify(None, token)
    assert str(error.value) == ""
    return error.value.why


@pytest.mark.parametrize(
    ("key", "kid", "algorithm"),
    [(RSA, "r", "RS256"), (RSA, "r", "PS256"), (EC, "e", "ES256"), (ED, "d", "EdDSA")],
)
def test_a_token_signed_with_a_published_key_is_good(checked, key, kid, algorithm):
    caller = checked().verify(None, signed(key, kid, algorithm, team="sales"))

    assert (caller.name, caller.functions, caller.max_running) == ("ann", ("*",), None)
    assert caller.identity["team"] == "sales"


PUBLIC_PEM = RSA.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)


def part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


CLAIMS = {"sub": "ann", "iss": ISSUER, "aud": AUDIENCE, "exp": 4e9}


def symmetric(key, algorithm="HS256"):
    """Signed with what everybody knows: PyJWT itself would not."""
    body = f"{part({'alg': algorithm, 'kid': 'r'})}.{part(CLAIMS)}"
    signature = hmac.digest(key, body.encode(), hashlib.sha256)
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


ALGORITHM = "its algorithm is not one of [jwt] algorithms"


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (signed(exp=time.time() - 5), "ExpiredSignatureError"),
        (signed(nbf=time.time() + 3600), "ImmatureSignatureError"),
        (signed(drop=["exp"]), "MissingRequiredClaimError"),
        (signed(iss="https://other.example"), "InvalidIssuerError"),
        (signed(iss=ISSUER[:-1]), "InvalidIssuerError"),
        (signed(drop=["iss"]), "MissingRequiredClaimError"),
        (signed(aud="other"), "InvalidAudienceError"),
        (signed(drop=["aud"]), "MissingRequiredClaimError"),
        (signed(OTHER), "InvalidSignatureError"),
        (signed(kid="unknown"), "its key is not known"),
        (signed(kid=None), "its key is not known"),  # and there are several
        (signed(algorithm="RS384"), ALGORITHM),
        (signed(EC, "r", "ES256"), "its key is for another algorithm"),
        (signed(None, "r", None), ALGORITHM),
        (f"{part({'alg': 'none'})}.{part(CLAIMS)}.", ALGORITHM),
        (f"{part({'alg': 'NonE'})}.{part(CLAIMS)}.", ALGORITHM),
        (symmetric(PUBLIC_PEM), ALGORITHM),
        (symmetric(PUBLIC_PEM, "RS256"), "InvalidSignatureError"),
        (signed(drop=["sub"]), "its claim 'sub' is no name"),
        (signed(sub=" "), "its claim 'sub' is no name"),
        (
            signed().rpartition(".")[0] + "." + signed(OTHER).rpartition(".")[2],
            "InvalidSignatureErr",
        ),
        ("no-token", "DecodeError"),
        ("a.b.c", "DecodeError"),
        (f"{part([])}.{part(CLAIMS)}.x", "DecodeError"),
        (f"{part({'alg': ['RS256']})}.{part(CLAIMS)}.eHh4", ALGORITHM),
        (f"{part({'alg': 'RS256', 'kid': ['r']})}.{part(CLAIMS)}.eHh4", "InvalidTokenError"),
    ],
)
def test_a_token_that_is_not_right_is_refused(checked, token, reason):
    assert why(checked(), token).startswith(reason)


def test_clocks_may_differ_by_the_leeway(checked):
    late = signed(exp=time.time() - 30)

    assert checked(leeway=60.0).verify(None, late).name == "ann"
    assert why(checked(leeway=10.0), late) == "ExpiredSignatureError"


def test_a_key_that_says_what_it_is_for_is_for_nothing_else(checked):
    only = checked(set_of(jwk(RSA, "r", alg="PS256")))

    assert why(only, signed()) == "its key is for another algorithm"
    assert only.verify(None, signed(algorithm="PS256")).name == "ann"


def test_claims_tell_the_name_and_the_functions(checked):
    by_claims = checked(name_claim="email", functions_claim="scope")
    listed = signed(email="ann@example", scope=["sales*", "orders"])

    assert by_claims.verify(None, listed).name == "ann@example"
    assert by_claims.verify(None, listed).functions == ("sales*", "orders")
    spaced = signed(email="a", scope="sales* orders")
    assert by_claims.verify(None, spaced).functions == ("sales*", "orders")
    assert by_claims.verify(None, signed(email="a")).functions == ()
    assert why(by_claims, signed(email="a", scope=5)) == "its claim 'scope' is no list"
    assert why(by_claims, signed(email="a", scope=[5])) == "its claim 'scope' is no list"


def test_a_token_that_names_no_key_is_of_the_only_one_there_is(checked):
    assert checked(set_of(jwk(RSA, "r"))).verify(None, signed(kid=None)).name == "ann"


SHORT = rsa.generate_private_key(65537, 1024)
PRIVATE = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"keys": 5}',
        '{"keys": [5]}',
        set_of(),
        set_of({"kty": "oct", "k": "c2VjcmV0", "kid": "r"}),
        set_of({"kty": "RSA", "kid": "r"}),
        set_of(jwk(RSA, "r", use="enc")),
        set_of(jwk(RSA, "r", alg="none")),
        set_of(jwk(RSA, "r", key_ops=[])),
        set_of(jwk(RSA, "r", key_ops=["encrypt", "wrapKey"])),
        set_of(jwk(RSA, "r", key_ops="verify")),
        set_of({**PRIVATE, "kid": "r"}),
        set_of(jwk(SHORT, "r")),
    ],
)
def test_keys_that_cannot_verify_end_the_start(keys, content):
    with pytest.raises(SettingsError, match=r"jwks (is no JSON Web Key Set|has no key)"):
        keys(content)


def test_a_file_of_keys_that_changes_is_read_again(keys, tmp_path, caplog):
    kept = keys(set_of(jwk(RSA, "r")), every=0.02)

    (tmp_path / "jwks").write_text("{")
    until(lambda: "the keys of before stay" in caplog.text)
    assert kept.find("r")
    (tmp_path / "jwks").write_text(set_of(jwk(EC, "e")))

    until(lambda: kept.find("e"))
    assert kept.find("r") is None


def test_a_key_whose_operations_lack_verify_verifies_nothing(checked):
    some = set_of(jwk(RSA, "r", key_ops=["sign"]), jwk(EC, "e", key_ops=["verify"]))

    assert why(checked(some), signed()) == "its key is not known"
    assert checked(some).verify(None, signed(EC, "e", "ES256")).name == "ann"


@pytest.mark.parametrize(("kid", "named"), [("r", "with the kid 'r'"), (None, "without a kid")])
def test_two_keys_of_one_kid_end_the_start(keys, kid, named):
    with pytest.raises(
        SettingsError, match=f"jwks has two keys {named}: they cannot be told apart"
    ):
        keys(set_of(jwk(RSA, kid), jwk(EC, "e"), jwk(OTHER, kid)))


def test_two_keys_of_one_kid_leave_those_of_before(keys, tmp_path, caplog):
    kept = keys(set_of(jwk(RSA, "r")), every=0.02)

    (tmp_path / "jwks").write_text(set_of(jwk(EC, "e"), jwk(OTHER, "e")))

    until(lambda: "has two keys with the kid 'e'" in caplog.text)
    assert kept.find("r")
    assert kept.find("e") is None


def test_a_key_that_cannot_be_used_may_have_the_kid_of_another(keys):
    assert keys(set_of(jwk(OTHER, "r", use="enc"), jwk(RSA, "r"))).find("r")


class KeyServer:
    """What answers for the URL of the keys: `answer` is status and body."""

    def __init__(self):
        self.answer = (200, PUBLISHED)
        self.asked = 0
        self.drips = ""
        self.closed = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked += 1
                outer.go_on.wait(20)
                status, body = outer.answer
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", body)
                if outer.drips == "headers":
                    self.drip(lambda: self.wfile.write(b"X-More: y\r\n"))
                self.end_headers()
                if outer.drips == "body":
                    self.drip(lambda: self.wfile.write(b" "))
                self.wfile.write(body.encode())

            def drip(self, write):
                """Now and then a little, until nobody reads."""
                self.flush_headers()
                with suppress(OSError):
                    while not outer.closed.wait(0.05):
                        write()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.go_on.set()
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server():
    made = KeyServer()
    yield made
    made.close()


@contextmanager
def fetched(url, **options):
    made = Keys(url, **options)
    try:
        yield made
    finally:
        made.close()


def test_keys_of_a_url_are_fetched_once_for_many_tokens(server):
    with fetched(server.url) as kept:
        assert all(kept.find("r") for _ in range(50))

    assert server.asked == 1


def test_a_key_server_that_is_down_does_not_lock_out_known_keys(server, caplog):
    server.answer = (200, set_of(jwk(RSA, "r")))
    with fetched(server.url, every=0.02, at_least=0.0) as kept:
        server.answer = (500, "")
        until(lambda: "HTTP Error 500" in caplog.text)
        assert kept.find("r")
        server.close()
        until(lambda: "Connection refused" in caplog.text)

        assert kept.find("r")
    assert caplog.text.count("Connection refused") == 1


def test_a_key_that_is_known_does_not_wait_for_the_key_server(server):
    with fetched(server.url, every=0.02, at_least=0.0) as kept:
        server.go_on.clear()
        asked = server.asked
        until(lambda: server.asked > asked)

        assert kept.find("r")


def test_a_token_with_a_new_key_has_it_fetched_at_once(server):
    with fetched(server.url, every=1e6, at_least=0.0) as kept:
        server.answer = (200, set_of(jwk(OTHER, "new")))

        assert kept.find("new")
        assert kept.find("r") is None


def test_tokens_with_unknown_keys_do_not_flood_the_key_server(server):
    now = [0.0]
    with fetched(server.url, every=1e6, at_least=10.0, clock=lambda: now[0]) as kept:
        for _ in range(20):
            assert kept.find("unknown") is None
        assert server.asked == 1

        now[0] = 10.0
        for _ in range(20):
            assert kept.find("unknown") is None
        assert server.asked == 2


def test_only_a_few_wait_for_the_key_server(server):
    with fetched(server.url, every=1e6, at_least=0.0) as kept:
        server.go_on.clear()
        waiting = [threading.Thread(target=kept.find, args=("new",)) for _ in range(WAITING)]
        for thread in waiting:
            thread.start()
        until(lambda: kept._places._value == 0)

        assert kept.find("new") is None
        assert all(thread.is_alive() for thread in waiting)  # it did not take its turn after them
        server.go_on.set()
        for thread in waiting:
            thread.join(20)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((404, "gone"), "HTTP Error 404"),
        ((302, "http://127.0.0.1:1/other"), "HTTP Error 302"),
        ((200, "<html>"), "is no JSON Web Key Set"),
        ((200, " " * (1 << 20) + PUBLISHED), "have over 1048576 bytes"),
    ],
)
def test_a_key_server_that_answers_no_keys_ends_the_start(server, answer, message):
    server.answer = answer

    with pytest.raises(StartError, match=message) as error:
        Keys(f"{server.url}?key=s3cret")
    assert server.url in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_key_server_that_is_not_there_ends_the_start(server):
    server.close()

    with pytest.raises(StartError, match=f"cannot fetch the keys of {server.url}: .*refused"):
        Keys(server.url)


def test_keys_of_this_machine_do_not_come_through_a_proxy(server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)

    with fetched(server.url) as kept:
        assert kept.find("r")


@pytest.mark.parametrize("drips", ["body", "headers"])
def test_a_key_server_that_answers_in_drops_ends_the_start(server, drips):
    server.drips = drips

    with pytest.raises(StartError, match=f"cannot fetch the keys of {server.url}: "):
        within(lambda: Keys(server.url, answer=0.3))


@pytest.mark.parametrize("drips", ["body", "headers"])
def test_a_key_server_that_answers_in_drops_does_not_end_the_renewal(server, caplog, drips):
    with fetched(server.url, every=0.02, at_least=0.0, answer=0.3) as kept:
        server.drips = drips
        until(lambda: "cannot fetch the keys of" in caplog.text)
        assert kept.find("r")
        server.drips, server.answer = "", (200, set_of(jwk(OTHER, "new")))

        until(lambda: kept.find("new"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_key_server_that_says_nothing_ends_the_start(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/jwks"
        with pytest.raises(StartError, match="timed out"):
            within(lambda: Keys(url, answer=0.3))


def within(make):
    """What `make` returns or raises, if it does so within LONG seconds."""
    ended = Future()

    def run():
        try:
            ended.set_result(make())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return ended.result(LONG)


def test_tokens_get_in_over_flight_and_their_caller_is_known(checked):
    seen = []

    class Asking(function(None)):
        def call(self, parameters, columns, headers, caller):
            seen.append(caller)
            return pa.table({"n": [1]}, SCHEMA)

    with serving(Asking, verifier=checked(functions_claim="scope")) as client:
        good, small = signed(scope="numb*"), signed(scope="other")
        assert client.showing(good).call().num_rows == 1
        with pytest.raises(fl.FlightUnauthorizedError):
            client.showing(small).info(command())
        with pytest.raises(fl.FlightUnauthenticatedError, match="the token is not accepted"):
            client.showing(signed(exp=1.0)).info(command())
        assert client.event(Refused).error.reason == "unauthorized"
        assert client.event(Refused).error.why == "ExpiredSignatureError"

    assert [(caller.name, caller.functions) for caller in seen] == [("ann", ("numb*",))]


@pytest.mark.parametrize("missing", ["jwks", "issuer", "audience"])
def test_jwt_needs_keys_issuer_and_audience(missing):
    section = {"jwks": "@/no", "issuer": "i", "audience": "a"}
    del section[missing]
    server = Server(authentication_method="token", token_verification="JwtTokenVerification")

    with pytest.raises(SettingsError, match=rf"\[jwt\] has no {missing}"):
        verifier(Settings(server, jwt=Jwt(**section)), None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("algorithms = ['none']", "algorithms is ['none'], expected a list of RS256, RS384"),
        ("algorithms = ['RS256', 'HS256']", "expected a list of RS256"),
        ("algorithms = []", "expected a list of RS256"),
        ("jwks = 'ftp://a/b'", 'jwks is something else, expected "@/path", or "https://'),
        ("jwks = 'https://user:s3cret@id.example/'", "jwks is something else"),
        ("jwks = 'jwks.json'", "jwks is something else"),
        ("jwks = 'http://id.example/s3cret'", "jwks is something else, expected"),
        ("jwks = 'http://127.0.0.1.s3cret.example/'", "jwks is something else"),
        ("jwks = 'http://localhost.s3cret.example/'", "jwks is something else"),
        ("jwks = 'http://127.0.0.1:80@s3cret.example/'", "jwks is something else"),
        ("jwks = 'http://10.0.0.1/s3cret'", "jwks is something else"),
        ("leeway = -1", "leeway is -1, expected a number of seconds"),
        ("isuer = 'x'", "[jwt] has no setting 'isuer'; did you mean 'issuer'?"),
    ],
)
def test_a_wrong_setting_of_jwt_ends_the_start(tmp_path, text, message):
    (tmp_path / "host.toml").write_text(f"[server]\nauthentication_method='token'\n[jwt]\n{text}")

    with pytest.raises(SettingsError) as error:
        load([str(tmp_path / "host.toml")])

    assert message in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/jwks",
        "http://localhost:8080/jwks",
        "http://127.0.0.1:1",
        "http://[::1]:1/jwks",
        "https://id.example/jwks?key=s3cret",
    ],
)
def test_keys_come_over_https_or_from_this_machine_and_functions_do_not_see_where(tmp_path, url):
    (tmp_path / "host.toml").write_text(
        "[server]\nauthentication_method='token'\ntoken_verification='JwtTokenVerification'\n"
        f"[jwt]\njwks='{url}'\nissuer='i'"
    )
    loaded = load([str(tmp_path / "host.toml")])

    assert loaded.settings.jwt.jwks == url
    assert loaded.everything.get().jwt == {"jwks": "***", "issuer": "i"}


def by_jwt(server):
    return f"""
authentication_method = "token"
token_verification = "JwtTokenVerification"
[jwt]
jwks = "{server.url}"
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
"""


def test_a_host_of_its_own_verifies_tokens(tmp_path, server):
    with process(tmp_path, NUMBERS, by_jwt(server)) as host:
        port = host.port()
        assert Client(port, signed()).call().num_rows == 3
        with pytest.raises(fl.FlightUnauthenticatedError):
            Client(port, symmetric(PUBLIC_PEM)).info(command())
        host.line(r'"why":"its algorithm is not one of \[jwt\] algorithms"')


def test_without_pyjwt_the_start_says_what_to_install(tmp_path, server):
    (tmp_path / "jwt.py").write_text("raise ModuleNotFoundError(\"No module named 'jwt'\")")
    with process(tmp_path, NUMBERS, by_jwt(server)) as host:
        status, text = host.ended()

    assert status == 2
    assert text.startswith("flexhost: token_verification is 'JwtTokenVerification', which needs a ")
    assert text.endswith('pip install "PyJWT[crypto]>=2.12.0,<3"')
