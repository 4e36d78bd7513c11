"""`python -m flexhost.invoke`, asked by a client that has none of the .proto files."""

from __future__ import annotations

import base64
import re
import signal
import subprocess
import sys
import threading

import grpc
import pytest
from google.protobuf import text_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from runtime import SERVICE, connected, port_of, standing_alone
from support import LONG, environment, until

from flexhost.invoke import _parser

UDFS = '''
import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated

HERE = Path(__file__).parent

def add_one(i: int, j: int) -> int:
    return i + j

def boom(i: int) -> int:
    raise KeyError(f"no {i}")

def misfit(i: int) -> int:
    return "text"

def series(n: int) -> Iterator[int]:
    yield from range(n)

def untyped(i):
    return i

def listed(values: list[int]) -> int:
    return len(values)

def typed(a: Annotated[Decimal, "DECIMAL(10, 2)"], b: str | None, c: dt.datetime) -> bytes | None:
    return None if b is None else f"{a} {b} {c}".encode()

def nothing() -> int:
    return 7

class Counting:
    """open and close tell that they were called."""

    def open(self, context):
        self.count = 100
        (HERE / "opened").touch()

    def eval(self, i: int) -> int:
        self.count += i
        return self.count

    def close(self):
        (HERE / "closed").touch()

class Needing:
    def __init__(self, much):
        self.much = much

    def eval(self, i: int) -> int:
        return i

class Udf:
    """What `pyflink.table.udf.udf` makes, by its shape."""

    def __init__(self, func, input_types, result_type, **more):
        self._func, self._input_types, self._result_type = func, input_types, result_type
        self._deterministic, self._func_type = False, "general"
        vars(self).update(more)

def _subtract(i, j):
    return i - j

subtract = Udf(_subtract, ["BIGINT", "VARCHAR(10)"], "DECIMAL(10, 2)")
minus = Udf(_subtract, ["BIGINT", "BIGINT NOT NULL"], "BIGINT")
short = Udf(_subtract, ["BIGINT"], "BIGINT")
total = Udf(_subtract, ["BIGINT"], "BIGINT", _accumulator_type="BIGINT")

def starred(*numbers: int) -> int:
    return 0

VALUE = 5
'''
ADD_ONE = "my_udfs.add_one"
ONE_AND_TWO = base64.b64decode("AAAAAAAAAAABAAAAAAAAAAAC")


SLOW = """
import threading
from pathlib import Path

HERE = Path(__file__).parent
(HERE / "importing").touch()
while not (HERE / "imported").exists():
    threading.Event().wait(0.01)

def one() -> int:
    return 1
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runtime")


@pytest.fixture(scope="module")
def runtime(folder):
    (empty := folder / "scp_config").mkdir()
    (folder / "my_broken.py").write_text("1 / 0")
    (folder / "my_slow.py").write_text(SLOW)
    handler = "confluent.anything.extractor.ExtractionHandler"
    with standing_alone(
        folder, UDFS, "--handler_name", handler, "--config_override_dir", str(empty)
    ) as started:
        with connected(port_of(started)) as runtime:
            yield runtime


def test_it_listens_on_this_machine_alone_unless_told_otherwise():
    options = _parser().parse_args([])

    assert (options.listen_host, options.listen_port) == ("localhost", 50051)


@pytest.mark.parametrize("port", ["99999", "-1", "x"])
def test_what_is_no_port_is_refused(port, capsys):
    with pytest.raises(SystemExit):
        _parser().parse_args([f"--listen_port={port}"])

    assert f"'{port}' is no port, expected 0 to 65535" in capsys.readouterr().err


def test_reflection_lists_the_service_and_health_says_that_it_serves(runtime):
    assert runtime.services == [
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        SERVICE,
    ]
    assert runtime.health() == runtime.health(SERVICE) == "SERVING"
    assert runtime.message("grpc.health.v1.HealthCheckRequest").DESCRIPTOR.fields[0].name == (
        "service"
    )


def test_reflection_that_never_ends_takes_no_place_of_a_call(runtime):
    over = threading.Event()
    ask = reflection_pb2_grpc.ServerReflectionStub(runtime.channel).ServerReflectionInfo
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    def open_ended():
        yield request
        over.wait(LONG)

    open_ones = [ask(open_ended(), timeout=LONG) for _ in range(16)]
    for one in open_ones:
        next(one)
    with pytest.raises(grpc.RpcError) as error:
        next(ask(iter([request]), timeout=LONG))
    over.set()
    for one in open_ones:
        list(one)

    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "16 requests of reflection are under way" in error.value.details()
    assert next(ask(iter([request]), timeout=LONG)).list_services_response.service


def test_no_more_than_a_few_watch_the_health(runtime):
    watch = health_pb2_grpc.HealthStub(runtime.channel).Watch
    names = ["", SERVICE, *(f"nobody-{n}" for n in range(14))]
    watching = [watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
    told = [next(one).status for one in watching]
    with pytest.raises(grpc.RpcError) as error:
        next(watch(health_pb2.HealthCheckRequest(), timeout=LONG))

    assert told == [1, 1] + [3] * 14  # SERVING, SERVICE_UNKNOWN
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "16 watches of the health are under way" in error.value.details()
    assert runtime.health() == "SERVING"
    for one in watching:
        one.cancel()
    until(lambda: watched(watch))


def watched(watch):
    """Whether there is room for one more."""
    one = watch(health_pb2.HealthCheckRequest(), timeout=LONG)
    try:
        return next(one).status
    except grpc.RpcError:
        return False
    finally:
        one.cancel()


def test_a_function_is_described_word_for_word(runtime):
    assert text_format.MessageToString(runtime.extract(ADD_ONE)) == (
        "signatures {\n"
        '  argumentTypes: "BIGINT"\n'
        '  argumentTypes: "BIGINT"\n'
        '  returnType: "BIGINT"\n'
        '  argumentNames: "i"\n'
        '  argumentNames: "j"\n'
        "}\n"
        "is_deterministic: true\n"
        'function_kind: "SCALAR"\n'
    )


def test_types_are_told_in_full_where_their_bare_name_would_not_do_or_when_asked(runtime):
    [usual] = runtime.extract("my_udfs.typed").signatures
    [full] = runtime.extract("my_udfs.typed", detail="full").signatures

    assert usual.argumentTypes == ["DECIMAL(10, 2) NOT NULL", "VARCHAR", "TIMESTAMP(6) NOT NULL"]
    assert usual.returnType == "VARBINARY"
    assert full.argumentTypes == [
        "DECIMAL(10, 2) NOT NULL",
        "VARCHAR(2147483647)",
        "TIMESTAMP(6) NOT NULL",
    ]
    assert full.returnType == "VARBINARY(2147483647)"


@pytest.mark.parametrize(
    ("class_name", "code", "message"),
    [
        ("add_one", "USER_CODE_NOT_FOUND", "class_name is 'add_one', expected module.name"),
        ("my_udfs.add", "USER_CODE_NOT_FOUND", "module 'my_udfs' has no 'add'"),
        ("no.such.module", "USER_CODE_NOT_FOUND", "module 'no.such' cannot be found"),
        ("my_udfs.series", "NOT_SCALAR_FUNCTION", "'my_udfs.series' is a table function"),
        ("my_udfs.untyped", "TYPE_EXTRACTION_ERROR", "argument 'i' has no type hint"),
        ("my_udfs.starred", "TYPE_EXTRACTION_ERROR", "argument *numbers: int stands for any"),
        ("my_udfs.short", "TYPE_EXTRACTION_ERROR", "1 input_types for 2 arguments (i, j)"),
        ("my_udfs.total", "NOT_SCALAR_FUNCTION", "is an aggregate function"),
        ("my_udfs.Needing", "NO_PUBLIC_NO_ARG_CONSTRUCTOR", "cannot be made without arguments"),
        ("my_udfs.VALUE", "NOT_SUPPORTED_FUNCTION", "'my_udfs.VALUE' is int, expected a function"),
        ("my_udfs.Iterator", "NOT_SUPPORTED_FUNCTION", "expected a function"),
        ("my_broken.add", "GENERAL_FAILED_EXTRACTION", "ZeroDivisionError: division by zero"),
        ("my_udfs.listed", "TYPE_EXTRACTION_ERROR", "argument 1 'values' is of type list"),
    ],
)
def test_what_cannot_be_described_is_told_inside_the_answer(runtime, class_name, code, message):
    answer = runtime.extract(class_name)

    assert (
        answer.DESCRIPTOR.file.enum_types_by_name["ErrorCode"]
        .values_by_number[answer.error.code]
        .name
        == code
    )
    assert message in answer.error.error_message
    assert not answer.signatures


def test_what_pyflink_makes_is_described_with_its_own_types_and_called(runtime):
    answer = runtime.extract("my_udfs.subtract")
    [signature] = answer.signatures

    assert signature.argumentTypes == ["BIGINT", "VARCHAR(10)"]
    assert signature.returnType == "DECIMAL(10, 2)"
    assert signature.argumentNames == ["i", "j"]
    assert not answer.is_deterministic
    assert runtime.invoke(ONE_AND_TWO, class_name="my_udfs.minus").payload == b"\x00" + b"\xff" * 8


def test_bytes_that_are_no_request_are_told_too(runtime):
    answer = runtime.invoke(b"\xff\xff").payload

    assert b"the payload is no ExtractionRequest" in answer


def test_a_function_is_called_by_its_name_in_the_metadata(runtime):
    answer = runtime.invoke(ONE_AND_TWO, class_name=ADD_ONE)

    assert base64.b64encode(answer.payload) == b"AAAAAAAAAAAD"
    assert not answer.HasField("error")


def test_a_module_that_takes_long_holds_up_no_known_function(runtime, folder):
    assert runtime.invoke(ONE_AND_TWO, class_name=ADD_ONE).payload == bytes([*bytes(8), 3])
    slow = runtime.begin(b"", class_name="my_slow.one")
    until((folder / "importing").exists)

    answer = runtime.invoke(ONE_AND_TWO, class_name=ADD_ONE)

    (folder / "imported").touch()
    assert answer.payload == bytes([*bytes(8), 3])
    assert slow.result().payload == bytes([*bytes(8), 1])


def test_a_function_that_takes_nothing_takes_no_bytes(runtime):
    assert runtime.invoke(b"", class_name="my_udfs.nothing").payload == bytes([*bytes(8), 7])


def test_null_comes_and_goes(runtime):
    decimal, time = bytes(8) + b"\x7b", bytes(13)

    answer = runtime.invoke(b"\x00" + decimal[1:] + b"\x01" + time, class_name="my_udfs.typed")

    assert answer.payload == b"\x01"


@pytest.mark.parametrize(
    ("name", "payload", "code", "text"),
    [
        ("boom", ONE_AND_TWO[:9], "COMMAND_FAILED", "calling UDF: KeyError: 'no 1'"),
        ("misfit", ONE_AND_TWO[:9], "COMMAND_FAILED", "encoding result: "),
        (
            "boom",
            ONE_AND_TWO,
            "BAD_ARGUMENT",
            "decoding arguments: 9 bytes are left over at byte 9, after the last of 1 arguments",
        ),
        ("boom", b"", "BAD_ARGUMENT", "decoding arguments: argument 1 'i', at byte 0: ends too"),
        ("series", b"", "BAD_ARGUMENT", "is a table function, expected one that gives one value"),
    ],
)
def test_a_failure_is_a_readable_text_and_costs_nothing_else(runtime, name, payload, code, text):
    answer = runtime.invoke(payload, class_name=f"my_udfs.{name}")

    assert text in answer.payload.decode()
    assert "Traceback" not in answer.payload.decode()
    assert answer.error.code == code
    assert answer.error.message == answer.payload.decode()
    assert not answer.error.retryable
    assert runtime.invoke(ONE_AND_TWO, class_name=ADD_ONE).payload == bytes([*bytes(8), 3])


def test_a_handler_that_is_not_there_is_named(runtime):
    answer = runtime.invoke(b"", handler_name="compile")

    assert (
        "handler_name is 'compile', expected one of extraction, execution" in answer.error.message
    )


def test_a_message_that_is_too_large_is_refused(runtime):
    with pytest.raises(grpc.RpcError) as error:
        runtime.invoke(bytes((1 << 20) + 100), class_name=ADD_ONE)

    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert runtime.invoke(ONE_AND_TWO, class_name=ADD_ONE).payload == bytes([*bytes(8), 3])


def test_open_and_close_of_a_class_are_called(tmp_path):
    with standing_alone(tmp_path, UDFS) as started:
        with connected(port_of(started)) as runtime:
            answers = [
                runtime.invoke(bytes([*bytes(8), 1]), class_name="my_udfs.Counting").payload[-1]
                for _ in range(2)
            ]
        assert (tmp_path / "opened").exists()
        assert not (tmp_path / "closed").exists()
        started.process.send_signal(signal.SIGTERM)
        status, log = started.ended()

    assert answers == [101, 102]
    assert (status, (tmp_path / "closed").exists()) == (0, True), log


# --- the handler that executes, and the tool that writes its spec


def spec_tool(folder, *arguments, given=None):
    """What `python -m flexhost.spec` prints."""
    return subprocess.run(
        [sys.executable, "-m", "flexhost.spec", *arguments],
        input=given,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder),
        timeout=LONG,
        check=True,
    ).stdout


def test_a_spec_is_made_a_server_reads_it_and_a_call_is_made_in_the_shell(tmp_path):
    (tmp_path / "my_udfs.py").write_text(UDFS)
    (config := tmp_path / "scp_config").mkdir()
    (config / "spec_base64").write_text(spec_tool(tmp_path, ADD_ONE, "gen-spec"))
    arguments = spec_tool(tmp_path, ADD_ONE, "encode-args", "1", "2").strip()
    with standing_alone(
        tmp_path,
        UDFS,
        *("--handler_name", "confluent.anything.executor.ExecutionHandler"),
        *("--config_override_dir", str(config)),
    ) as started:
        with connected(port_of(started)) as runtime:
            payload = runtime.invoke(base64.b64decode(arguments)).payload
    answer = base64.b64encode(payload).decode()

    assert arguments == "AAAAAAAAAAABAAAAAAAAAAAC"
    assert answer == "AAAAAAAAAAAD"
    assert spec_tool(tmp_path, ADD_ONE, "decode-result", "-", given=f"{answer}\n") == "3\n"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (None, "needs a spec, and .* has no spec_base64: make one with python -m flexhost.spec"),
        ("!", "spec_base64 is no base64: "),
        ("CAAI", "spec_base64 is no PythonRemoteUdfSpec: "),
        ("", "spec_base64 is a PythonRemoteUdfSpec without class_name"),
    ],
)
def test_without_a_good_spec_the_server_does_not_start(tmp_path, spec, message):
    if spec is not None:
        (tmp_path / "spec_base64").write_text(spec)
    options = ["--handler_name", "execution", "--config_override_dir", str(tmp_path)]
    with standing_alone(tmp_path, UDFS, *options) as started:
        status, told = started.ended()

    assert status == 2
    assert re.search(message, told), told
