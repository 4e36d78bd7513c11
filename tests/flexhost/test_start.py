"""`flexhost start` in a process of its own: what ends it before it serves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from support import NUMBERS, ROOT, Client, Process, process

FAILS = """
import pyarrow as pa
from flexhost import FlexFun

class Failing(FlexFun):
    Name = "failing"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers): ...

    @staticmethod
    def on_load(ctx):
        raise RuntimeError(f"no database at {ctx.settings.my.url}")
"""


NO_FILE = "authentication_method = 'token'\n[enumerated_tokens]\ntokens = '@/no/such'"
UNKNOWN = "listen_host = 'no.such.host.invalid'"


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        ("task_thread = 4", 2, "host.toml: [server] has no setting 'task_thread'; did you mean"),
        ("drain_sec = 'long'", 2, "[server] drain_sec is 'long', expected a number of seconds"),
        (f"{UNKNOWN}\nallow_insecure = true", 1, "cannot listen on no.such.host.invalid:0: "),
        ("authentication_method = 'token'", 2, "has neither tokens nor entries: nobody could call"),
        (NO_FILE, 2, "cannot read the file /no/such of tokens: No such file or directory"),
        (UNKNOWN, 2, "others may reach, and nobody is asked for a token or a certificate: set au"),
        (
            "use_tls = true",
            2,
            "host.toml: [server] use_tls is true, but tls_certificate is not set",
        ),
        ("tls_private_key = 'k'", 2, "host.toml: [server] tls_private_key is set, but use_tls is"),
        ("health_check_host = '192.0.2.1'", 1, "cannot serve HTTP on 192.0.2.1:8877: "),
    ],
)
def test_a_start_that_fails_says_why_in_one_sentence(tmp_path, settings, status, message):
    with process(tmp_path, NUMBERS, settings) as host:
        ended, text = host.ended()

    assert ended == status
    assert text.startswith("flexhost: ")
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("module", "settings", "message"),
    [
        ("import nothing_like_it", "", "'my_functions' cannot be imported: ModuleNotFoundError"),
        (FAILS, "[my]\nurl = 'db:1'", "on_load of function 'failing' failed: RuntimeError: no dat"),
    ],
)
def test_a_start_that_fails_in_the_authors_code_shows_their_traceback(
    tmp_path, module, settings, message
):
    with process(tmp_path, module, settings) as host:
        status, text = host.ended()

    assert status == 1
    assert message in text.splitlines()[-1]
    assert 'my_functions.py", line' in text
    assert "src/flexhost" not in text


def test_two_functions_with_one_name_end_the_start(tmp_path):
    twice = NUMBERS + NUMBERS.replace("class Numbers", "class Others")
    with process(tmp_path, twice) as host:
        status, text = host.ended()

    assert status == 1
    assert "two functions are named 'numbers': one in my_functions, one in my_functions" in text


def test_a_port_in_use_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process(tmp_path, NUMBERS, listen=f"listen_port = {port}") as host:
            status, text = host.ended()

    assert (status, text) == (
        1,
        f"flexhost: cannot listen on 127.0.0.1:{port}: Address already in use: stop what runs "
        "there, or set another listen_port (GOODDATA_FLIGHT_SERVER__LISTEN_PORT)",
    )


def test_a_file_that_is_not_there_ends_the_start(tmp_path):
    with process(tmp_path, NUMBERS, "", "--config", "missing.toml") as host:
        status, text = host.ended()

    assert status == 2
    assert text == "flexhost: cannot read the settings file missing.toml: No such file or directory"


def test_a_variable_overrides_the_files(tmp_path):
    variable = {"GOODDATA_FLIGHT_SERVER__TASK_THREADS": "none"}
    with process(tmp_path, NUMBERS, "task_threads = 4", **variable) as host:
        status, text = host.ended()

    assert status == 2
    assert "GOODDATA_FLIGHT_SERVER__TASK_THREADS: [server] task_threads is 'none'" in text


def test_on_load_gets_the_settings_and_the_location(tmp_path):
    module = NUMBERS + (
        "    @staticmethod\n"
        "    def on_load(ctx):\n"
        "        print(ctx.settings.my.url, ctx.location.uri, file=__import__('sys').stderr)\n"
    )
    settings = "advertise_host = 'flex.example'\nadvertise_port = 5\n[my]\nurl = 'db:1'"
    with process(tmp_path, module, settings) as host:
        host.line(r"db:1 b'grpc://flex.example:5'")
        assert Client(host.port()).call().num_rows == 3


def test_without_config_a_host_serves_with_defaults_and_variables(tmp_path):
    (tmp_path / "host.toml").write_text("")
    (tmp_path / "my_functions.py").write_text(NUMBERS)
    variables = {
        "GOODDATA_FLIGHT_SERVER__LISTEN_PORT": "0",
        "GOODDATA_FLIGHT_FLEXFUN__FUNCTIONS": '["my_functions"]',
    }
    host = Process([tmp_path / "host.toml"], [], variables, config=False)
    try:
        assert Client(host.port()).call(upto=2).num_rows == 2
    finally:
        host.process.kill()
        host.ended()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_host_is_imported_ends_it_without_a_word(tmp_path, number):
    with process(tmp_path, NUMBERS, PYTHONPROFILEIMPORTTIME="1") as host:
        host.line(r"\bpyarrow\.lib$")  # the first of many that take long
        host.process.send_signal(number)
        status, text = host.ended()

    assert status == 0
    assert all(line.startswith("import time:") for line in text.splitlines())


def test_names_of_authors_are_listed_before_they_are_loaded():
    code = "import flexhost; print(set(flexhost.__all__) - set(dir(flexhost)))"
    code += "; print(set(flexhost.__all__) & set(vars(flexhost)))"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )

    assert found.stdout == "set()\nset()\n"
