"""`[invoke]` of a host: the same functions, rights, bounds and TLS as over Flight."""

from __future__ import annotations

import re
import signal
import struct
from contextlib import contextmanager

import grpc
import pyarrow as pa
import pytest
from authority import Authority, Files
from runtime import connected
from support import Client, process, until

from flexhost.grpc_udf.udf_spec import Spec, encode

UDFS = """
import os
import threading
from pathlib import Path

from flexhost import udf

HERE = Path(__file__).parent

def add_one(i: int, j: int) -> int:
    return i + j

def wait(number: int) -> int:
    (HERE / f"waiting-{number}").touch()
    while not (HERE / "go").exists():
        threading.Event().wait(0.01)
    return number

async def later(i: int, j: int) -> int:
    return i + j

def raises(i: int) -> int:
    raise ValueError("a secret of the function")

@udf(executor="processes")
def raises_there(i: int) -> int:
    raise ValueError("a secret of the function")

@udf(executor="processes")
def dies(i: int) -> int:
    os._exit(9)
"""
AUTHORITY, CALLERS = Authority(), Authority()
ADD_ONE = {"class_name": "my_udfs.add_one"}
WAIT = {"class_name": "my_udfs.wait"}


def row(*numbers):
    return b"".join(b"\x00" + struct.pack(">q", number) for number in numbers)


@contextmanager
def host(folder, settings="", invoke="", **options):
    given = f'{settings}\n[invoke]\nlisten_host = "127.0.0.1"\nlisten_port = 0\n{invoke}\n'
    with process(folder, settings=given, udfs=UDFS, **options) as started:
        flight = started.port()
        runtime = int(started.line(r"gRPC on 127.0.0.1:(\d+)")[1])
        yield started, flight, runtime


@pytest.fixture(scope="module")
def runtime(tmp_path_factory):
    with host(tmp_path_factory.mktemp("host")) as (_, _, port):
        with connected(port) as runtime:
            yield runtime


def test_listed_functions_are_described_and_called(runtime):
    [signature] = runtime.extract("my_udfs.add_one").signatures

    assert signature.argumentNames == ["i", "j"]
    assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)
    assert runtime.invoke(row(1, 2), class_name="add_one").payload == row(3)


def test_what_is_not_listed_is_not_there(runtime):
    answer = runtime.extract("os.getcwd")
    called = runtime.invoke(b"", class_name="os.getcwd")

    assert answer.error.code == 2  # USER_CODE_NOT_FOUND
    assert "no function is named 'os.getcwd'" in called.payload.decode()


def test_functions_run_in_worker_processes_and_event_loops_too(tmp_path):
    there = {"GOODDATA_FLIGHT_FLEXFUN__EXECUTORS": '{"add_one": "processes"}'}
    with host(tmp_path, **there) as (_, _, port), connected(port) as runtime:
        assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)
        assert runtime.invoke(row(1, 2), class_name="my_udfs.later").payload == row(3)


def test_what_failed_in_a_worker_process_is_told_as_a_call_too(runtime):
    died = runtime.invoke(row(1), class_name="dies").payload.decode()
    raised = runtime.invoke(row(1), class_name="raises_there").payload.decode()

    what = "calling UDF: function 'dies': its process ended itself, with status 9 [id "
    assert died.startswith(what)
    assert raised.startswith("calling UDF: ValueError: a secret of the function [id ")


def test_it_is_off_until_it_is_set(tmp_path):
    with process(tmp_path, udfs=UDFS) as started:
        started.port()
        started.process.send_signal(signal.SIGTERM)
        _, log = started.ended()

    assert "gRPC on" not in log


def test_a_spec_names_what_is_called_without_a_name(tmp_path):
    # narrower than the function's own types: the bytes are as the spec says
    arguments = pa.schema([("i", pa.int32()), ("j", pa.int8())])
    spec = encode(Spec("my_udfs.add_one", arguments, pa.schema([("r", pa.int16())])))
    (tmp_path / "spec_base64").write_text(spec)
    with host(tmp_path, invoke=f'config_override_dir = "{tmp_path}"') as (_, _, port):
        with connected(port) as runtime:
            answer = runtime.invoke(b"\x00" + struct.pack(">i", 300) + b"\x00\xff")
            too_much = runtime.invoke(b"\x00" + struct.pack(">i", 40_000) + b"\x00\x01")
            described = runtime.extract("my_udfs.add_one", handler_name="extraction")

    assert answer.payload == b"\x00" + struct.pack(">h", 299)
    assert "encoding result: " in too_much.payload.decode()
    assert described.is_deterministic


# --- bounds, deadlines, the end


def test_a_message_that_is_too_large_once_unpacked_is_refused(runtime):
    with pytest.raises(grpc.RpcError) as error:
        runtime.invoke(bytes(50_000_000), grpc.Compression.Gzip, **ADD_ONE)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)


def test_what_comes_too_late_or_is_too_much_may_be_tried_again(tmp_path):
    bounds = "task_threads = 1\ntask_queue_size = 0\n"
    with host(tmp_path, bounds, GOODDATA_FLIGHT_FLEXFUN__CALL_DEADLINE_MS="1000") as (_, _, port):
        with connected(port) as runtime:
            waiting = runtime.begin(row(1), **WAIT)
            until((tmp_path / "waiting-1").exists)
            busy = runtime.invoke(row(2), **WAIT).error
            late = waiting.result().error
            (tmp_path / "go").touch()

    assert (busy.code, busy.retryable) == ("BACKPRESSURE", True)
    assert (late.code, late.retryable) == ("TIMEOUT", True)
    assert late.message.startswith("TIMEOUT: no result within 1 s [id ")


def test_requests_are_counted_together_with_those_of_flight(tmp_path):
    with host(tmp_path, "max_rpcs = 1") as (_, flight, port):
        with connected(port) as runtime:
            waiting = runtime.begin(row(1), **WAIT)
            until((tmp_path / "waiting-1").exists)
            refused = runtime.invoke(row(2), **WAIT).error
            with pytest.raises(Exception, match="1 requests are under way"):
                Client(flight).call("add_one", i=1, j=2)
            (tmp_path / "go").touch()
            assert waiting.result().payload == row(1)

    assert refused.message.startswith("BACKPRESSURE: 1 requests are under way")


def test_a_caller_who_leaves_ends_the_call(tmp_path):
    with host(tmp_path) as (started, _, port):
        with connected(port) as runtime:
            waiting = runtime.begin(row(1), **WAIT)
            until((tmp_path / "waiting-1").exists)
            waiting.cancel()
            line = started.line('"outcome":"command_cancelled"')
            (tmp_path / "go").touch()

    assert '"function":"wait"' in line.string


def test_a_stopping_host_says_so_and_ends_what_it_began(tmp_path):
    with host(tmp_path) as (started, _, port):
        with connected(port) as runtime:
            assert runtime.health() == "SERVING"
            waiting = runtime.begin(row(1), **WAIT)
            until((tmp_path / "waiting-1").exists)
            started.process.send_signal(signal.SIGTERM)
            until(lambda: runtime.health() == "NOT_SERVING")
            refused = runtime.invoke(row(1, 2), **ADD_ONE).error
            (tmp_path / "go").touch()
            answer = waiting.result()
        status, _ = started.ended()

    assert (refused.code, refused.retryable) == ("SHUTTING_DOWN", True)
    assert answer.payload == row(1)
    assert status == 0


@pytest.mark.parametrize("name", ["raises", "raises_there"])
def test_the_text_of_an_exception_stays_here_where_it_has_to(tmp_path, name):
    with host(tmp_path, "error_detail = false") as (started, flight, port):
        with connected(port) as runtime:
            told = runtime.invoke(row(1), class_name=name).payload.decode()
            logged = started.line("a secret of the function").string
        with pytest.raises(pa.flight.FlightServerError, match=f"function '{name}' failed") as over:
            Client(flight).call(name, i=1)

    assert "a secret" not in f"{over.value} {over.value.extra_info!r}"
    assert told.startswith(f"calling UDF: function '{name}' failed [id ")
    assert told.partition("[id ")[2].rstrip("]") in logged


# --- who may call

TOKENS = """
authentication_method = "token"
[[enumerated_tokens.entries]]
name = "ann"
token = "token-of-ann"
[[enumerated_tokens.entries]]
name = "bob"
token = "token-of-bob"
functions = ["wait"]
"""


def test_tokens_and_rights_are_those_of_flight(tmp_path):
    with host(tmp_path, TOKENS) as (started, _, port):
        with connected(port) as nobody, connected(port, authorization="Bearer wrong") as wrong:
            for one in (nobody, wrong):
                with pytest.raises(grpc.RpcError) as error:
                    one.extract("add_one")
                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert nobody.health() == "SERVING"
        with connected(port, authorization="Bearer token-of-ann") as ann:
            assert ann.invoke(row(1, 2), **ADD_ONE).payload == row(3)
        with connected(port, authorization="Bearer token-of-bob") as bob:
            refused = bob.invoke(row(1, 2), **ADD_ONE).error
            hidden = bob.extract("my_udfs.add_one").error.error_message
            missing = bob.extract("my_udfs.missing").error.error_message
        line = started.line('"caller":"ann"').string

    assert (refused.code, refused.retryable) == ("UNAUTHORIZED", False)
    assert "may not call function 'my_udfs.add_one'" in hidden
    assert missing == hidden.replace("add_one", "missing")
    assert '"function":"add_one"' in line


def credentials(authority=AUTHORITY, presented=None):
    chain, key = presented or (None, None)
    return grpc.ssl_channel_credentials(
        authority.root, key and key.encode(), chain and chain.encode()
    )


def test_tls_is_that_of_flight_and_new_certificates_are_served_without_a_restart(tmp_path):
    files = Files(tmp_path, AUTHORITY.pair())
    other = Authority()
    with host(tmp_path, files.toml) as (started, _, port):
        with connected(port, credentials()) as runtime:
            assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)
        with connected(port) as plain, pytest.raises(grpc.RpcError):
            plain.health()
        files.write(other.pair())
        started.line("a new certificate is served")
        with connected(port, credentials(other)) as runtime:
            assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)
        with connected(port, credentials()) as runtime, pytest.raises(grpc.RpcError):
            runtime.health()


def test_with_mtls_the_certificate_names_the_caller(tmp_path):
    files = Files(tmp_path, AUTHORITY.pair())
    (root := tmp_path / "root.pem").write_bytes(CALLERS.root)
    mutual = f"{files.toml}use_mtls = true\ntls_root_certificate = '@{root}'\n"
    with host(tmp_path, mutual) as (started, _, port):
        shown = credentials(presented=CALLERS.pair("caller.example"))
        with connected(port, shown) as runtime:
            assert runtime.invoke(row(1, 2), **ADD_ONE).payload == row(3)
        with connected(port, credentials()) as nobody, pytest.raises(grpc.RpcError):
            nobody.health()

        assert '"function":"add_one"' in started.line('"caller":"caller.example"').string


def test_without_its_packages_the_host_does_not_start(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['grpc'] = None\n")
    with process(tmp_path, settings="[invoke]\nlisten_host = 'localhost'") as started:
        status, told = started.ended()

    assert status == 2
    assert "[invoke] listen_host needs grpc: pip install grpcio grpcio-reflection" in told


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('[invoke]\nlisten_host = "0.0.0.0"', r"\[invoke\] listen_host is '0.0.0.0', which others"),
        (
            "[invoke]\nlisten_host = 'localhost'\nconfig_override_dir = '/no/such'",
            "/no/such is not",
        ),
    ],
)
def test_settings_that_cannot_be_end_the_start(tmp_path, settings, message):
    with process(tmp_path, settings=settings) as started:
        status, told = started.ended()

    assert status == 2
    assert re.search(message, told), told
