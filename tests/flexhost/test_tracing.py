"""Spans, as a receiver of OpenTelemetry gets them from a host in a process of its own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from collector import attributes, over_grpc, over_http
from exchanging import answers, of
from runtime import SERVICE, connected
from support import LONG, NUMBERS, ROOT, Client, command, process

TRACED = """
import asyncio, pyarrow as pa, logging, threading
from flexhost import FlexFun, CachePolicy
from opentelemetry import trace

SCHEMA = pa.schema([("n", pa.int64())])
tracer = trace.get_tracer("mine")

class Numbers(FlexFun):
    Name = "numbers"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        with tracer.start_as_current_span("child"):
            logging.getLogger("mine").info("within")
        if parameters.get("fail"):
            raise RuntimeError("lost the database of postgresql://ann:s3cret@db")
        return pa.table({"n": [1, 2]}, schema=SCHEMA)

class Streamed(FlexFun):
    Name = "streamed"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        def batches():
            with tracer.start_as_current_span("batch"):
                pass
            yield pa.record_batch({"n": [1]}, schema=SCHEMA)
            if parameters.get("fail"):
                raise RuntimeError("half way")
        return pa.RecordBatchReader.from_batches(SCHEMA, batches())

class Spanning(FlexFun):
    Name = "spanning"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        def batches():
            with tracer.start_as_current_span("around"):
                for n in range(4):  # small ones: from the second on another thread takes them
                    with tracer.start_as_current_span(f"batch {n}"):
                        pass
                    yield pa.record_batch({"n": [n]}, schema=SCHEMA)
        return pa.RecordBatchReader.from_batches(SCHEMA, batches())

class Awaiting(FlexFun):
    Name = "awaiting"
    Schema = SCHEMA

    async def call(self, parameters, columns, headers):
        with tracer.start_as_current_span("child"):
            await asyncio.sleep(0)
        return pa.table({"n": [1, 2]}, schema=SCHEMA)

class Stepping(FlexFun):
    Name = "stepping"
    Schema = SCHEMA

    async def call(self, parameters, columns, headers):
        around = tracer.start_as_current_span("around") if parameters.get("around") else None
        if around:
            around.__enter__()
        for n in range(4):
            with tracer.start_as_current_span(f"batch {n}"):
                await asyncio.sleep(0)
            yield pa.record_batch({"n": [n]}, schema=SCHEMA)
        if around:
            around.__exit__(None, None, None)

class Cached(Numbers):
    Name = "cached"
    Cache = CachePolicy(ttl_sec=60)

class Slow(FlexFun):
    Name = "slow"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        threading.Event().wait(5)
"""

PLAIN = """
from collections.abc import Iterator

def series(n: int) -> Iterator[int]:
    yield from range(n)
"""

# The exporter sends at once, or each test would wait for its interval.
AT_ONCE = {"OTEL_BSP_SCHEDULE_DELAY": "20"}
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@contextmanager
def traced(folder, settings="", *, kind="otlp-http", receiver=over_http, udfs="", **more):
    """A traced host's client, what received its spans, and its process."""
    named = f"otel_exporter_type = '{kind}'\notel_service_name = 'tests'\n{settings}"
    with receiver() as collector:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_EXPORTER_ZIPKIN_ENDPOINT": f"{collector.url}/api/v2/spans",
            **AT_ONCE,
            **{f"GOODDATA_FLIGHT_FLEXFUN__{key}": value for key, value in more.items()},
        }
        with process(folder, TRACED, named, udfs=udfs, **variables) as host:
            yield Client(host.port()), collector, host


def inside(inner, outer):
    """Whether one span lies in the time of another."""
    return (
        outer.start_time_unix_nano <= inner.start_time_unix_nano
        and inner.end_time_unix_nano <= outer.end_time_unix_nano
    )


@pytest.mark.parametrize(("kind", "receiver"), [("otlp-http", over_http), ("otlp-grpc", over_grpc)])
def test_a_call_has_spans_for_its_requests_the_wait_the_function_and_the_stream(
    tmp_path, kind, receiver
):
    with traced(tmp_path, kind=kind, receiver=receiver) as (client, collector, _):
        client.call()
        request, read = collector.span("GetFlightInfo"), collector.span("DoGet")
        wait, function, stream, child = map(collector.span, ("wait", "function", "stream", "child"))

    assert request.parent_span_id == b""
    assert {one.parent_span_id for one in (wait, function, read)} == {request.span_id}
    assert (child.parent_span_id, stream.parent_span_id) == (function.span_id, read.span_id)
    assert len({one.trace_id for one in (request, read, wait, function, stream, child)}) == 1
    assert all((inside(wait, request), inside(child, function), inside(stream, read)))
    assert wait.end_time_unix_nano <= function.end_time_unix_nano


def test_spans_say_what_they_are_about(tmp_path):
    more = "otel_service_namespace = 'shop'\notel_service_instance_id = 'one'"
    with traced(tmp_path, more) as (client, collector, _):
        client.call()
        function, stream = collector.span("function"), collector.span("stream")
        request = collector.span("GetFlightInfo")

    assert attributes(function)["flexhost.function"] == "numbers"
    assert len(attributes(function)["flexhost.call_id"]) == 32
    assert attributes(stream) == {"flexhost.rows": 2, "flexhost.bytes": 16}
    assert attributes(request)["rpc.method"] == "GetFlightInfo"
    assert request.kind == request.SPAN_KIND_SERVER
    resource = collector.resources[0]
    assert resource["service.name"] == "tests"
    assert (resource["service.namespace"], resource["service.instance.id"]) == ("shop", "one")


def test_a_call_over_grpc_has_spans_of_its_own_service(tmp_path):
    invoke = "[invoke]\nlisten_host = '127.0.0.1'\nlisten_port = 0"
    udfs = "def one() -> int:\n    return 1\n"
    with traced(tmp_path, invoke, udfs=udfs) as (_, collector, host):
        with connected(int(host.line(r"gRPC on 127.0.0.1:(\d+)")[1])) as runtime:
            runtime.invoke(b"", class_name="my_udfs.one")
        function = collector.span("function")
        request = collector.span(f"{SERVICE}/Invoke")

    assert attributes(request)["rpc.service"] == SERVICE
    assert attributes(request)["rpc.method"] == "Invoke"
    assert function.trace_id == request.trace_id


def test_an_exchange_is_one_request_with_the_spans_of_its_calls_below_it(tmp_path):
    schema = pa.schema([("n", pa.int64())])
    with traced(tmp_path, udfs=PLAIN) as (client, collector, _):
        found = answers(client, [of([2], schema=schema), of([3], schema=schema)], "series", schema)
        request = collector.span("DoExchange")
        names = ("wait", "function", "stream") * 2
        below = [collector.span(name) for name in names]

    assert sum(batch.num_rows for batch in found) == 5
    assert {one.parent_span_id for one in below} == {request.span_id}
    assert all(inside(one, request) for one in below)


def test_a_failure_is_the_status_of_the_spans_it_went_through(tmp_path):
    with traced(tmp_path) as (client, collector, _):
        with pytest.raises(fl.FlightServerError):
            client.call(fail=True)
        request, function, child = map(collector.span, ("GetFlightInfo", "function", "child"))

    for span, kind in ((request, "COMMAND_FAILED"), (function, "RuntimeError")):
        assert span.status.code == span.status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == kind
        assert "lost the database" in span.status.message
        assert "s3cret" not in span.status.message
    assert child.status.code == child.status.STATUS_CODE_UNSET


def test_a_stream_that_fails_half_way_is_an_error_of_its_spans(tmp_path):
    with traced(tmp_path) as (client, collector, _):
        with pytest.raises(fl.FlightServerError, match="half way"):
            client.call("streamed", fail=True)
        batch, stream, read = map(collector.span, ("batch", "stream", "DoGet"))

    assert batch.parent_span_id == stream.span_id
    for span in (stream, read):
        assert span.status.code == span.status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "COMMAND_FAILED"


def test_a_span_of_a_generator_stays_current_from_batch_to_batch(tmp_path):
    with traced(tmp_path) as (client, collector, host):
        assert client.call("spanning").num_rows == 4
        batches = [collector.span(f"batch {n}") for n in range(4)]
        around = collector.span("around")
        stream = collector.span("stream")
        host.process.terminate()
        _, written = host.ended()

    assert {one.parent_span_id for one in batches} == {around.span_id}
    assert around.parent_span_id == stream.span_id
    assert "Failed to detach" not in written


def test_spans_of_a_worker_process_are_below_those_of_the_host(tmp_path):
    with traced(tmp_path, EXECUTORS='{"*": "processes"}') as (client, collector, host):
        client.call()
        client.call("spanning")
        request, function, child = map(collector.span, ("GetFlightInfo", "function", "child"))
        batches = [collector.span(f"batch {n}") for n in range(4)]
        around = collector.span("around")
        streams = [collector.span("stream") for _ in range(2)]
        host.process.terminate()
        _, written = host.ended()

    assert (function.parent_span_id, child.parent_span_id) == (request.span_id, function.span_id)
    assert {one.parent_span_id for one in batches} == {around.span_id}
    assert around.parent_span_id in {stream.span_id for stream in streams}
    assert f'"span_id":"{child.span_id.hex()}"' in written
    assert "Failed to detach" not in written


def test_a_span_of_an_async_function_is_below_that_of_its_call(tmp_path):
    with traced(tmp_path) as (client, collector, _):
        assert client.call("awaiting").num_rows == 2
        function, child = collector.span("function"), collector.span("child")

    assert child.parent_span_id == function.span_id
    assert inside(child, function)


@pytest.mark.parametrize("around", [False, True])
def test_a_span_of_an_async_stream_is_below_what_is_current(tmp_path, around):
    with traced(tmp_path) as (client, collector, host):
        assert client.call("stepping", around=around).num_rows == 4
        batches = [collector.span(f"batch {n}") for n in range(4)]
        function, stream = collector.span("function"), collector.span("stream")
        outer = collector.span("around") if around else stream
        host.process.terminate()
        _, written = host.ended()

    assert {one.parent_span_id for one in batches[1:]} == {outer.span_id}
    assert batches[0].parent_span_id == (outer if around else function).span_id
    assert "Failed to detach" not in written


def test_a_request_that_is_refused_has_a_span_with_its_code(tmp_path):
    with traced(tmp_path) as (client, collector, _):
        with pytest.raises(fl.FlightServerError):
            client.call("unknown")
        with pytest.raises(fl.FlightServerError):
            client.read(fl.Ticket(b'{"task_id": "x"}'))
        info, read = collector.span("GetFlightInfo"), collector.span("DoGet")

    assert attributes(info)["error.type"] == "BAD_ARGUMENT"
    assert attributes(read)["error.type"] == "INVALID_TICKET"


def test_a_call_past_its_deadline_is_an_error_of_its_request(tmp_path):
    with traced(tmp_path, CALL_DEADLINE_MS="300") as (client, collector, _):
        with pytest.raises(fl.FlightTimedOutError):
            client.call("slow")
        request = collector.span("GetFlightInfo")

    assert attributes(request)["error.type"] == "TIMEOUT"


def test_a_poll_that_is_not_ready_yet_is_no_error(tmp_path):
    with traced(tmp_path, POLLING_INTERVAL_MS="50") as (client, collector, _):
        with pytest.raises(fl.FlightTimedOutError):
            client.info(command("slow"), {"x-quiver-pollable": "1"})
        request = collector.span("GetFlightInfo")

    assert request.status.code == request.status.STATUS_CODE_UNSET


def test_calls_that_share_a_run_have_one_function_span(tmp_path):
    with traced(tmp_path) as (client, collector, host):
        client.call("cached")
        client.call("cached")
        first, second = collector.span("GetFlightInfo"), collector.span("GetFlightInfo")
        host.process.terminate()
        host.ended()
        rest = [collector.came.get().name for _ in range(collector.came.qsize())]
        names = [span.name for span in collector.spans] + rest

    assert first.trace_id != second.trace_id
    assert (names.count("function"), names.count("wait")) == (1, 1)


@pytest.mark.parametrize("extract", ["true", "false"])
def test_the_callers_trace_is_continued_where_that_is_wanted(tmp_path, extract):
    with traced(tmp_path, f"otel_extract_context = {extract}") as (client, collector, _):
        client.headers = [("traceparent", PARENT)]
        client.call()
        for name in ("GetFlightInfo", "DoGet"):
            span = collector.span(name)
            goes_on = span.trace_id.hex() == PARENT.split("-")[1]
            assert goes_on == (extract == "true")
            assert (span.parent_span_id.hex() == PARENT.split("-")[2]) == goes_on


@pytest.mark.parametrize(
    "parent", ["", "garbage", PARENT[:-3], PARENT * 20, f"00-{'0' * 32}-{'0' * 16}-01"]
)
def test_a_trace_that_is_named_wrongly_is_not_continued_and_costs_no_call(tmp_path, parent):
    with traced(tmp_path, "otel_extract_context = true") as (client, collector, _):
        client.headers = [("traceparent", parent), ("tracestate", "=,;"), ("baggage", ";;=,%")]

        assert client.call().num_rows == 2
        assert collector.span("GetFlightInfo").parent_span_id == b""


def test_log_lines_of_a_call_have_its_trace(tmp_path):
    with traced(tmp_path, "log_trace_keys = {trace_id = 'traceId'}") as (client, collector, host):
        client.call()
        request, child = collector.span("GetFlightInfo"), collector.span("child")
        within, call = (json.loads(host.line(r"^\{.*\}$")[0]) for _ in range(2))

    assert within["traceId"] == call["traceId"] == request.trace_id.hex()
    assert (within["event"], within["span_id"]) == ("within", child.span_id.hex())
    assert within["parent_span_id"] == child.parent_span_id.hex()
    assert (call["logger"], call["span_id"]) == ("flexhost.calls", request.span_id.hex())


def test_spans_that_wait_to_be_sent_are_sent_when_the_host_stops(tmp_path, monkeypatch):
    monkeypatch.setitem(AT_ONCE, "OTEL_BSP_SCHEDULE_DELAY", "600000")
    with traced(tmp_path) as (client, collector, host):
        client.call()
        host.process.terminate()
        assert host.ended()[0] == 0
        assert collector.span("function")


def test_a_receiver_that_is_away_costs_no_call_and_holds_up_no_stop(tmp_path):
    settings = "otel_exporter_type = 'otlp-http'\notel_service_name = 'tests'"
    away = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", **AT_ONCE}
    with process(tmp_path, NUMBERS, settings, **away) as host:
        assert Client(host.port()).call().num_rows == 3
        host.process.terminate()
        assert host.ended()[0] == 0


@pytest.mark.parametrize("kind", ["otlp-http", "otlp-grpc"])
def test_a_receiver_that_never_answers_costs_no_call_and_holds_up_no_stop(tmp_path, kind):
    settings = f"otel_exporter_type = '{kind}'\notel_service_name = 'tests'"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        endless = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
        with process(tmp_path, NUMBERS, settings, **endless, **AT_ONCE) as host:
            client = Client(host.port())
            client.call()
            with silent.accept()[0]:  # the exporter waits for its answer from now on
                assert client.call().num_rows == 3
                host.process.terminate()
                assert host.ended()[0] == 0


def test_zipkin_gets_spans(tmp_path):
    with traced(tmp_path, kind="zipkin") as (client, collector, _):
        client.call()
        came = [collector.came.get(timeout=LONG) for _ in range(6)]
        spans = {span["name"]: span for span in came}

    assert spans["function"]["localEndpoint"]["serviceName"] == "tests"
    assert spans["function"]["parentId"] == spans["GetFlightInfo"]["id"]


def test_the_console_gets_spans(tmp_path):
    (tmp_path / "my_functions.py").write_text(NUMBERS)
    config = tmp_path / "host.toml"
    config.write_text(
        "[flexfun]\nfunctions = ['my_functions']\n[server]\nlisten_port = 0\n"
        "otel_exporter_type = 'console'\notel_service_name = 'tests'\n"
    )
    code = (
        "import sys, threading; from support import Client, Process; from pathlib import Path\n"
        "host = Process([Path(sys.argv[1])], [], {})\n"
        "Client(host.port()).call(); host.process.terminate(); print(host.ended()[0])"
    )
    written = subprocess.run(
        [sys.executable, "-c", code, str(config)],
        env={"PYTHONPATH": f"{ROOT / 'tests' / 'flexhost'}:{ROOT / 'src'}"},
        capture_output=True,
        text=True,
        timeout=2 * LONG,
        check=True,
    )

    names = set(re.findall(r'"name": "(\w+)"', written.stdout))
    assert names == {"GetFlightInfo", "wait", "function", "DoGet", "stream"}
    assert written.stdout.splitlines()[-1] == "0"


@pytest.mark.parametrize(
    ("settings", "traces"),
    [("otel_exporter_type = 'console'", "otel_service_name is not set"), ("", None)],
)
def test_without_a_type_and_a_name_nothing_is_traced_nor_loaded(tmp_path, settings, traces):
    module = NUMBERS + "\nimport sys\nLOADED = [m for m in sys.modules if 'opentelemetry' in m]\n"
    module += "assert not LOADED, LOADED\n"
    with process(tmp_path, module, settings) as host:
        if traces:
            host.line(traces)
        Client(host.port()).call()
        line = json.loads(host.line(r"^\{.*flexhost\.calls.*\}$")[0])

    assert "trace_id" not in line


@pytest.mark.parametrize(
    ("kind", "missing", "told"),
    [
        ("otlp-http", "opentelemetry.exporter", "opentelemetry-exporter-otlp-proto-http"),
        ("zipkin", "opentelemetry.exporter", "opentelemetry-exporter-zipkin-json"),
        ("console", "opentelemetry", "tracing needs opentelemetry-sdk"),
    ],
)
def test_a_package_that_is_missing_ends_the_start(tmp_path, kind, missing, told):
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{missing!r}] = None\n")
    settings = f"otel_exporter_type = '{kind}'\notel_service_name = 'tests'"
    with process(tmp_path, NUMBERS, settings) as host:
        status, written = host.ended()

    assert status == 2
    assert told in written
    assert "extra [" in written


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_PROPAGATORS", "nope"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "nope"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99999"),
    ],
)
def test_a_wrong_variable_of_opentelemetry_ends_the_start_without_a_traceback(
    tmp_path, variable, value
):
    settings = "otel_exporter_type = 'console'\notel_service_name = 'tests'"
    with process(tmp_path, NUMBERS, settings, **{variable: value}) as host:
        status, written = host.ended()

    assert status == 2
    assert "flexhost: OpenTelemetry cannot be used with these OTEL_* variables" in written
    assert "Traceback" not in written
