"""`flexhost check`, in a process of its own: what would be served, and all that is wrong."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from authority import Authority, Files
from support import NUMBERS, ROOT, free_port

LOADING = (
    NUMBERS
    + """
    @staticmethod
    def on_load(ctx):
        raise RuntimeError("no database at " + str(ctx.location))
"""
)
VERIFIER = """
class Mine:
    @classmethod
    def create(cls, ctx):
        raise RuntimeError("no directory of users")

    def verify(self, call_info, token):
        return token
"""


@pytest.fixture
def check(tmp_path):
    """Run it in a folder with this configuration: its exit status and what it printed."""

    def run(server="", *options, functions='["my_functions"]', more="", listen_port=0, **modules):
        for name, source in {"my_functions": NUMBERS, **modules}.items():
            (tmp_path / f"{name}.py").write_text(source)
        config = tmp_path / "host.toml"
        config.write_text(
            f"[flexfun]\nfunctions = {functions}\n[server]\nlisten_port = {listen_port}\n"
            f"{server}\n{more}\n"
        )
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GOODDATA_FLIGHT")}
        environ["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
        command = [sys.executable, "-m", "flexhost", "check", "--config", str(config), *options]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    return run


def test_what_would_be_served_is_a_table(check):
    status, told = check()

    assert status == 0
    assert "NAME     COLUMNS  CACHE  MODULE" in told
    assert "numbers  n               my_functions" in told
    assert "ok      listens on 127.0.0.1:0, no TLS, advertised as grpc://" in told


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("task_thread = 1", "has no setting 'task_thread'; did you mean"),
        ("listen_host = '0.0.0.0'", "nobody is asked for a token"),
        ("use_tls = true\ntls_certificate = 'x'\ntls_private_key = 'y'", "holds no certificate"),
        ("authentication_method = 'token'", "nobody could call"),
        ("result_spool_dir = '/dev/null'", "result_spool_dir"),
    ],
)
def test_a_wrong_setting_is_told_with_status_2(check, server, told):
    status, printed = check(server)

    assert status == 2
    assert "WRONG   " in printed
    assert told in printed
    assert "Traceback" not in printed


def test_all_that_is_wrong_is_told_at_once(check):
    status, told = check(
        "authentication_method = 'token'\nresult_spool_dir = '/dev/null'",
        functions='["my_functions", "no_such", "broken"]',
        broken="1 / 0",
    )

    assert status == 2
    assert told.count("WRONG") == 4
    assert "function module 'no_such' cannot be found" in told
    assert "function module 'broken' cannot be imported: ZeroDivisionError" in told
    assert 'broken.py", line 1' in told


def test_two_functions_of_one_name_are_told(check):
    status, told = check(functions='["my_functions", "others"]', others=NUMBERS)

    assert status == 2
    assert "two functions are named 'numbers'" in told


def test_on_load_is_called_only_when_that_is_wanted(check):
    assert check(functions='["loading"]', loading=LOADING)[0] == 0

    status, told = check("", "--load", functions='["loading"]', loading=LOADING)
    assert status == 2
    assert "on_load of function 'numbers' failed: RuntimeError: no database at" in told


def test_a_verifier_is_made_only_when_that_is_wanted(check):
    mine = "authentication_method = 'token'\ntoken_verification = 'mine'"
    assert check(mine, mine=VERIFIER)[0] == 0

    status, told = check(mine, "--load", mine=VERIFIER)
    assert status == 2
    assert "create of token_verification class Mine failed: RuntimeError: no directory" in told


def test_tokens_are_checked_and_not_shown(check):
    wrong = "[enumerated_tokens]\ntokens = ['s3cret', '']"
    status, told = check("authentication_method = 'token'", more=wrong)
    assert status == 2
    assert "item 2" in told
    assert "s3cret" not in told

    right = "[enumerated_tokens]\ntokens = ['s3cret']"
    status, told = check("authentication_method = 'token'", more=right)
    assert status == 0
    assert "asks callers for tokens, which EnumeratedTokenVerification verifies" in told
    assert "s3cret" not in told


def test_a_good_certificate_is_told_with_its_time(check, tmp_path):
    status, told = check(Files(tmp_path, Authority().pair()).toml)

    assert status == 0
    assert "the certificate belongs to its key and is valid for" in told
    assert "advertised as grpc+tls://" in told


def test_an_address_that_cannot_be_listened_on_is_wrong(check):
    status, told = check("health_check_host = '192.0.2.1'")

    assert status == 2
    assert "WRONG   cannot listen on 192.0.2.1:8877: Cannot assign requested address" in told


def test_where_functions_are_called_over_grpc_is_told(check):
    port = free_port()
    status, told = check(f"[invoke]\nlisten_host = '127.0.0.1'\nlisten_port = {port}")
    assert status == 0
    assert f"serves gRPC on 127.0.0.1:{port}" in told

    status, told = check("allow_insecure = true\n[invoke]\nlisten_host = '192.0.2.1'")
    assert status == 2
    assert "WRONG   cannot listen on 192.0.2.1:50051: Cannot assign requested address" in told


def test_a_port_cannot_be_for_flight_and_http(check):
    port = free_port()
    http = f"health_check_host = '127.0.0.1'\nhealth_check_port = {port}"
    status, told = check(http, listen_port=port)

    assert status == 2
    assert f"WRONG   127.0.0.1:{port} cannot be for HTTP too: take another port" in told


def test_an_advertised_address_that_is_none_is_told_as_start_does(check):
    status, told = check("advertise_host = 'flex.example.com:17001'")

    assert status == 2
    assert "Traceback" not in told


@pytest.mark.parametrize("name", ["localhost", "0.0.0.0"])
def test_an_address_that_others_cannot_reach_is_a_warning(check, name):
    status, told = check(
        f"listen_host = '0.0.0.0'\nallow_insecure = true\nadvertise_host = '{name}'"
    )

    assert status == 0
    assert f"warning listens for others and advertises {name}" in told


def test_a_spool_in_memory_is_a_warning(check):
    status, told = check("result_spool_dir = '/dev/shm'")

    assert status == 0
    assert "warning [server] result_spool_dir: /dev/shm is in memory (tmpfs)" in told


def test_a_port_in_use_is_a_warning_since_the_old_host_has_it(check):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, told = check(f"health_check_host = '127.0.0.1'\nhealth_check_port = {port}")

    assert status == 0
    assert f"warning cannot listen on 127.0.0.1:{port}: Address already in use: by the" in told


def test_a_host_without_functions_is_a_warning(check):
    status, told = check(f"health_check_port = {free_port()}", functions="[]")

    assert status == 0
    assert "warning neither [flexfun] nor [udf] lists functions: nothing can be called" in told


def test_a_wrong_variable_of_opentelemetry_is_wrong(check, monkeypatch):
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999")

    status, told = check("otel_exporter_type = 'console'\notel_service_name = 'tests'")

    assert status == 2
    assert "WRONG   OpenTelemetry cannot be used with these OTEL_* variables" in told
