"""`flexhost doctor` against hosts in processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pyarrow.flight as fl
import pytest
from authority import Authority, Files
from support import NUMBERS, ROOT, SCHEMA, free_port, process

from flexhost.command_line.reach import Address, is_own_machine

AUTHORITY = Authority()
FAILS = NUMBERS.replace("return pa", "raise ValueError('give me a city')\n        return pa")


def doctor(*arguments):
    """Its exit status and its lines."""
    done = subprocess.run(
        [sys.executable, "-m", "flexhost", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()


@contextmanager
def host(folder, settings="", module=NUMBERS, name="127.0.0.1", scheme="grpc"):
    """The URL of a host that advertises itself under `name`."""
    with process(folder, module, f"advertise_host = '{name}'\n{settings}") as started:
        yield f"{scheme}://127.0.0.1:{started.port()}"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "root.pem").write_bytes(AUTHORITY.root)
    return Files(tmp_path, AUTHORITY.pair())


def test_without_a_url_it_tries_where_the_settings_advertise_the_host(tmp_path):
    config, port = tmp_path / "host.toml", free_port()
    config.write_text(f"[server]\nadvertise_host = '127.0.0.1'\nlisten_port = {port}\n")

    status, lines = doctor("--config", str(config))

    assert status == 1
    assert f"nothing listens on 127.0.0.1:{port}" in lines[0]


def test_a_host_that_is_well_has_status_0(tmp_path):
    with host(tmp_path) as url:
        status, lines = doctor(url, "--parameters", '{"upto": 5}')

    where = url.removeprefix("grpc://")
    assert status == 0
    assert [re.sub(r" in \d+\.\d+ s$", "", line) for line in lines] == [
        f"ok    {where} can be reached from here",
        "ok    it lists numbers",
        "ok    the columns of 'numbers' are n",
        "ok    a call of 'numbers' was answered",
        f"ok    rows come from {url}, the first batch has 5",
    ]


def test_a_host_with_tls_is_tried_with_its_authority(tmp_path, files):
    with host(tmp_path, files.toml, scheme="grpc+tls") as url:
        status, lines = doctor(url, "--tls-root", str(tmp_path / "root.pem"))

    assert status == 0
    assert "ok    its certificate is valid for 127.0.0.1, until " in lines[1]
    assert f"rows come from {url}" in lines[-1]


TOKENS = "authentication_method = 'token'\n[enumerated_tokens]\ntokens = ['a-good-token']"


def test_a_token_opens_a_host_that_asks_for_one(tmp_path):
    (tmp_path / "token").write_text("a-good-token\n")
    with host(tmp_path, TOKENS) as url:
        assert doctor(url, "--token", f"@{tmp_path / 'token'}")[0] == 0

        status, lines = doctor(url)
        assert status == 1
        assert "give a token that the host knows with --token" in lines[-1]


class Elsewhere(fl.FlightServerBase):
    """Sends callers to another address, and remembers what tokens it saw itself."""

    def __init__(self, uri, location=None, **tls):
        self.seen = []
        middleware = {"seen": Seeing(self.seen)}
        super().__init__(uri, middleware=middleware, **tls)
        self.other = location

    def list_flights(self, context, criteria):
        command = b'{"functionName": "numbers", "metadata": null}'
        yield fl.FlightInfo(SCHEMA, fl.FlightDescriptor.for_command(command), [], -1, -1)

    def get_flight_info(self, context, descriptor):
        endpoint = fl.FlightEndpoint(b"ticket", [self.other])
        return fl.FlightInfo(SCHEMA, descriptor, [endpoint], -1, -1)


class Seeing(fl.ServerMiddlewareFactory):
    def __init__(self, seen):
        self.seen = seen

    def start_call(self, info, headers):
        self.seen.append(headers.get("authorization"))


def test_a_token_is_not_sent_in_the_clear_to_where_a_host_with_tls_sends_its_callers(
    tmp_path, files
):
    certificate, key = AUTHORITY.pair()
    tls = {"tls_certificates": [(certificate.encode(), key.encode())]}
    with Elsewhere("grpc://127.0.0.1:0") as plain:
        location = f"grpc://127.0.0.1:{plain.port}"
        with Elsewhere("grpc+tls://127.0.0.1:0", location, **tls) as first:
            url = f"grpc+tls://127.0.0.1:{first.port}"
            root = str(tmp_path / "root.pem")
            status, lines = doctor(url, "--tls-root", root, "--token", "a-good-token")

            assert status == 1
            assert "where the rows travel without TLS" in lines[-1]
            assert ["Bearer a-good-token"] in first.seen
        assert plain.seen == []


def test_an_advertised_name_that_cannot_be_resolved_is_told(tmp_path):
    with host(tmp_path, name="no-such-host.invalid") as url:
        status, lines = doctor(url)

    advertised = url.replace("127.0.0.1", "no-such-host.invalid")
    assert status == 1
    assert lines[-1] == (
        f"WRONG the host advertises {advertised}, but the name no-such-host.invalid cannot be "
        "resolved here: set advertise_host, and advertise_port, to what callers can reach"
    )


def test_an_advertised_port_where_nothing_listens_is_told(tmp_path):
    port = free_port()
    with host(tmp_path, f"advertise_port = {port}") as url:
        status, lines = doctor(url)

    assert status == 1
    assert f"127.0.0.1:{port}, but nothing listens on 127.0.0.1:{port}: set adv" in lines[-1]


def test_names_that_mean_each_callers_own_machine_are_known():
    own = ["localhost", "127.0.0.1", "::1", "0.0.0.0", "::"]

    assert [name for name in [*own, "flex.example.com", "10.0.0.1"] if is_own_machine(name)] == own


def test_nothing_that_listens_is_told():
    port = free_port()

    status, lines = doctor(f"grpc://127.0.0.1:{port}")

    assert status == 1
    assert lines == [
        f"WRONG nothing listens on 127.0.0.1:{port}: start the host, or take the port that it "
        "listens on"
    ]


def test_a_name_that_cannot_be_resolved_is_told():
    status, lines = doctor("grpc://no-such-host.invalid:1")

    assert status == 1
    assert lines[0].startswith("WRONG the name no-such-host.invalid cannot be resolved here: ")


def test_a_host_with_tls_tried_without_it_is_told(tmp_path, files):
    with host(tmp_path, files.toml) as url:
        status, lines = doctor(url)

    where = url.removeprefix("grpc://")
    assert status == 1
    assert lines[1:] == [f"WRONG {where} serves TLS: take grpc+tls://{where}"]


def test_a_host_without_tls_tried_with_it_is_told(tmp_path):
    with host(tmp_path, scheme="grpc+tls") as url:
        status, lines = doctor(url)

    assert status == 1
    assert lines[1].endswith(" serves no TLS: take grpc://, or set use_tls there")


def test_a_certificate_that_is_not_trusted_is_told(tmp_path, files):
    with host(tmp_path, files.toml, scheme="grpc+tls") as url:
        status, lines = doctor(url)

    assert status == 1
    assert " is not trusted here (" in lines[1]
    assert "give the authority that signed it with --tls-root" in lines[1]


def test_a_certificate_for_another_name_is_told(tmp_path, files):
    files.write(AUTHORITY.pair("elsewhere.example"))
    with host(tmp_path, files.toml, scheme="grpc+tls") as url:
        status, lines = doctor(url, "--tls-root", str(tmp_path / "root.pem"))

    assert status == 1
    assert lines[1].endswith(
        " is not valid for 127.0.0.1: take a name that it is for, or make one for this name"
    )


def test_a_host_that_asks_for_a_certificate_is_told_and_tried_with_one(tmp_path, files):
    root = str(tmp_path / "root.pem")
    mutual = f"{files.toml}use_mtls = true\ntls_root_certificate = '@{root}'"
    own = ["--tls-certificate", str(files.certificate), "--tls-key", str(files.key)]
    with host(tmp_path, mutual, scheme="grpc+tls") as url:
        without, lines = doctor(url, "--tls-root", root)
        with_one, _ = doctor(url, "--tls-root", root, *own)

    assert (without, with_one) == (1, 0)
    assert " does not let callers in without a certificate that it trusts: give one" in lines[1]


@pytest.mark.parametrize(
    ("module", "arguments", "text"),
    [
        ("", [], "WRONG no function is listed: name its module in [flexfun] functions"),
        (NUMBERS, ["--function", "no"], "WRONG no function 'no' is listed: give one that is"),
        (FAILS, [], "WRONG cannot call 'numbers': give me a city"),
    ],
)
def test_a_function_that_does_not_answer_is_told(tmp_path, module, arguments, text):
    with host(tmp_path, module=module) as url:
        status, lines = doctor(url, *arguments)

    assert status == 1
    assert lines[-1].startswith(text)


def test_another_port_of_the_host_is_told(tmp_path):
    health = "health_check_host = '127.0.0.1'\nhealth_check_port = 0"
    with process(tmp_path, NUMBERS, health) as started:
        port = started.line(r"HTTP on 127.0.0.1:(\d+)")[1]
        status, lines = doctor(f"grpc://127.0.0.1:{port}")

    assert status == 1
    assert lines[-1].startswith("WRONG cannot list functions: ")
    assert lines[-1].endswith(f": see whether it is a FlexFun host that listens on port {port}")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["http://h:1"], "'http://h:1' is no address of a host, expected grpc://HOST:PORT"),
        (["grpc://h"], "'grpc://h' is no address of a host"),
        (["grpc://h:1", "--parameters", "["], "--parameters is no JSON: "),
        (["grpc://h:1", "--parameters", "[]"], "--parameters is no JSON object"),
        (["grpc+tls://h:1", "--tls-root", "/nowhere"], "cannot read /nowhere: No such file"),
        (["grpc+tls://h:1", "--tls-key", "k"], "--tls-certificate and --tls-key go together"),
    ],
)
def test_a_wrong_option_has_status_2(arguments, text):
    status, lines = doctor(*arguments)

    assert status == 2
    assert lines[0].startswith(f"flexhost: {text}")


def test_an_address_may_be_of_ip_6():
    assert Address.of("grpc+tls://[::1]:5") == Address("::1", 5, True)
    assert Address("::1", 5, True).uri == "grpc+tls://[::1]:5"
