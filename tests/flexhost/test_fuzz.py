"""Random and mutated requests: no internal error, no traceback and no path of the host reaches the
caller, and no thread and no memory is left over. `make fuzz` sends 100,000 of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from exchanging import exchange, of_field
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import LONG, ROOT, Client, process, until

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1000"))

FUNCTION = """
import pyarrow as pa
from flexhost import CachePolicy, FlexFun

class Numbers(FlexFun):
    Name = "numbers"
    Schema = pa.schema([("n", pa.int64())])
    Cache = CachePolicy(ttl_sec=0.1)

    def call(self, parameters, columns, headers):
        return pa.table({"n": range(3)}, schema=self.Schema)
"""

# What nobody outside may see. An address has more than eight digits: Arrow shows four bytes of what
# was sent like one.
PRIVATE = re.compile(
    rf'Traceback|File "|site-packages|\.py\b|{re.escape(str(ROOT))}|0x[0-9a-f]{{9}}'
)

SEEDS = [
    b'{"functionName": "numbers", "parameters": {"columns": ["n"]}}',
    b'{"functionName": "numbers"}',
    b'{"task_id": "0123456789abcdef0123456789abcdef"}',
    b"r:0123456789abcdef0123456789abcdef",
    b"c:0123456789abcdef0123456789abcdef",
    *(sample.read_bytes() for sample in (ROOT / "tests/flexhost/samples").iterdir()),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["functionName", "parameters", "columns", "task_id", "n"])
            | st.text(max_size=10),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@st.composite
def mutated(draw):
    """A request that was right, with pieces cut out, doubled, and put in."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 8)))
        piece = draw(st.sampled_from([b"", data[start:end] * 2, b'"', b"{", b"\xff", b"\x00"]))
        data = data[:start] + (piece or draw(st.binary(max_size=6))) + data[end:]
    return data


BYTES = (
    st.binary(max_size=200)
    | mutated()
    | JSON.map(lambda value: json.dumps(value).encode())
    | st.integers(1, 2_000).map(lambda n: b"[" * n)
    | st.just(b'{"functionName": "numbers", "parameters": {"a": "' + b"x" * 70_000 + b'"}}')
)
HEADER = st.tuples(
    st.sampled_from(["x-quiver-pollable", "authorization", "x-tenant", "user-agent", "x-bin"])
    | st.from_regex(r"[a-z0-9_.\-]{1,20}", fullmatch=True).filter(lambda n: n[:5] != "grpc-"),
    st.from_regex(r"[ -~]{0,60}", fullmatch=True),
)
RPC = st.sampled_from(
    ["get_flight_info", "get_schema", "do_get", "do_action", "list_flights", "path", "do_exchange"]
)


def send(client, rpc, data, headers):
    raw = [(name.encode(), value.encode()) for name, value in headers]
    options = fl.FlightCallOptions(timeout=20, headers=raw)
    descriptor = fl.FlightDescriptor.for_command(data)
    match rpc:
        case "get_flight_info":
            client.get_flight_info(descriptor, options)
        case "get_schema":
            client.get_schema(descriptor, options)
        case "do_get":
            client.do_get(fl.Ticket(data), options).read_all()
        case "do_action":
            name = data[:20].decode("ascii", "replace") if data[:1] == b"x" else "invalidate"
            list(client.do_action(fl.Action(name, data), options))
        case "list_flights":
            list(client.list_flights(data, options))
        case "path":
            path = [data[i : i + 5].decode("ascii", "replace") for i in range(0, len(data), 5)]
            client.get_flight_info(fl.FlightDescriptor.for_path(*path), options)
        case "do_exchange":
            writer, reader = client.do_exchange(descriptor, options)
            with writer:
                reader.read_all()


TOKEN = "the-good-token"
TOKENS = f"authentication_method = 'token'\n[enumerated_tokens]\ntokens = ['{TOKEN}']"


@pytest.fixture(params=["open", "closed"])
def host(request, tmp_path):
    settings = "task_result_ttl_sec = 0.5\n" + (TOKENS if request.param == "closed" else "")
    with process(tmp_path, FUNCTION, settings) as host:
        host.closed = request.param == "closed"
        host.client = Client(host.port(), TOKEN if host.closed else "")
        yield host


def left(pid):
    """Threads, and MB of memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    anonymous = int(re.search(r"RssAnon:\s+(\d+)", status)[1]) / 1000
    return len(list(Path(f"/proc/{pid}/task").iterdir())), anonymous


def code_of(rpc, error):
    """The number of an error, or what stands for it where there is none."""
    if isinstance(error, OSError | pa.ArrowInvalid) and not isinstance(error, fl.FlightError):
        assert rpc in ("get_schema", "path"), error  # which have no other
        return "plain"
    if not error.extra_info:  # of gRPC itself, which read no header or no message
        assert isinstance(error, fl.FlightInternalError | fl.FlightUnavailableError), error
        return type(error).__name__
    return json.loads(error.extra_info)["code"] & 0xFFFF


def test_no_request_gets_more_than_an_error_with_a_code(host):
    seen = set()

    @settings(
        max_examples=REQUESTS // 4,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(RPC, BYTES, st.lists(HEADER, max_size=3), st.booleans())
    def ask(rpc, data, headers, known):
        if known:
            headers = [one for one in headers if one[0] != "authorization"] + host.client.headers
        code = "answered"
        try:
            send(host.client.flight, rpc, data, headers)
        except (fl.FlightError, OSError, pa.ArrowInvalid) as error:
            code = code_of(rpc, error)
            told = f"{error} {getattr(error, 'extra_info', b'')!r}"
            assert not PRIVATE.search(told), told
            assert code != 500, told
            assert "in a way it should not" not in told  # of GetSchema, which has no code
        if host.closed:
            assert known or code in (110, "plain", "FlightInternalError"), (rpc, code)
            assert not known or code != 110
        seen.add((rpc, code))

    ask()
    before = left(host.process.pid)
    ask()
    until(lambda: left(host.process.pid)[0] <= before[0] + 8)  # gRPC's own come and go
    after = left(host.process.pid)

    assert after[1] < before[1] + 50
    right = {"list_flights"} if REQUESTS < 10_000 else {"get_flight_info", "list_flights"}
    assert {rpc for rpc, code in seen if code == "answered"} >= right  # it is no wall of refusals
    assert len(seen) > 6  # kinds of answers
    assert host.client.call().num_rows == 3
    host.process.terminate()
    status, log = host.ended()
    assert status == 0
    assert [line for line in log.splitlines() if '"level":"error"' in line] == []


UDFS = """
from decimal import Decimal
import pyarrow as pa

def add(a: int, b: int | None) -> int:
    return a + (b or 0)

def text(a: str | None) -> str | None:
    return a

def length(a: list[list[int | None] | None]) -> int:
    return len(a)

def entries(a: list[int], b: dict[str, int]) -> int:
    return len(a) + len(b)

def amount(a: Decimal) -> Decimal:
    return a

def doubled(a: pa.Int64Array) -> pa.Int64Array:
    return a

def nothing() -> int:
    return 7
"""
NESTED = pa.list_(pa.list_(pa.int64()))
MAP = pa.map_(pa.string(), pa.int64())
# What each of them takes, and what is cast for it.
GIVEN = [
    ("add", pa.record_batch({"a": [1, 2, 3], "b": [4, None, 6]})),
    ("add", pa.record_batch({"a": pa.array([1, 2], pa.int8()), "b": pa.nulls(2)})),
    ("text", pa.record_batch({"a": ["a", "bc", None, "x" * 40]})),
    ("text", pa.record_batch({"a": pa.array(["a" * 20, None, "x" * 40], pa.string_view())})),
    ("length", pa.record_batch({"a": pa.array([[[1], [2, None], None], []], NESTED)})),
    ("length", pa.record_batch({"a": pa.array([[[1]], []], pa.large_list(NESTED.value_type))})),
    ("entries", pa.record_batch({"a": [[1], [2]], "b": pa.array([[("a", 1)], []], MAP)})),
    ("amount", pa.record_batch({"a": pa.array(["1.5"]).cast(pa.decimal128(30, 1))})),
    ("doubled", pa.record_batch({"a": [1, 2, None]})),
    ("nothing", pa.record_batch({"a": [0, 0, 0]}).select([])),
    ("builtin_echo", pa.record_batch({"text": ["a", None]})),
]
# Numbers at which something ends.
EDGES = [0, 1, 127, 128, 255, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**33, 2**63 - 1, 2**64 - 1]


def written(batch):
    """Its schema and itself, each as the header and the body of a message."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    source = pa.BufferReader(sink.getvalue())
    read = [pa.ipc.read_message(source) for _ in range(2)]
    return [(one.metadata.to_pybytes(), one.body.to_pybytes() if one.body else b"") for one in read]


@st.composite
def overwritten(draw, data):
    """With other bytes in some places, some of them numbers as they stand in messages."""
    for _ in range(draw(st.sampled_from([1, 1, 2, 5])) if data else 0):
        width = draw(st.sampled_from([1, 2, 4, 8]))
        value = draw(st.sampled_from(EDGES) | st.integers(0, 255)) & (256**width - 1)
        start = draw(st.integers(0, len(data) - 1)) // width * width
        data = data[:start] + value.to_bytes(width, "little") + data[start + width :]
    return data


@st.composite
def exchanged(draw):
    """The messages of an exchange that was right, one thing changed."""
    name, batch = draw(st.sampled_from(GIVEN))
    schema, (header, body) = written(batch)
    match draw(st.sampled_from(["schema", "header", "body", "rows", "cut", "short", "turned", ""])):
        case "schema":
            schema = draw(overwritten(schema[0])), schema[1]
        case "header":
            header = draw(overwritten(header))
        case "body":
            body = draw(overwritten(body))
        case "rows":
            rows = draw(st.sampled_from(EDGES)).to_bytes(8, "little")
            header = header.replace(batch.num_rows.to_bytes(8, "little"), rows, 1)
        case "cut":
            header = header[: draw(st.integers(0, len(header)))]
        case "short":
            body = body[: draw(st.integers(0, len(body)))]
        case "turned":
            schema, (header, body) = (header, body), schema
    path = of_field(3, name.encode())
    first = of_field(1, b"\x08\x01" + path) + of_field(2, schema[0]) + of_field(1000, schema[1])
    return [first, of_field(2, header) + of_field(1000, body)]


def test_no_batch_ends_the_host_or_gets_more_than_an_error(tmp_path):
    seen = set()
    with process(tmp_path, udfs=UDFS) as host:
        client = Client(host.port())
        with grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
            begin = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")

            @settings(
                max_examples=REQUESTS // 8,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            @given(exchanged(), st.booleans())
            def ask(messages, ahead):
                headers = [("x-flexhost-ahead", "1")] if ahead else []
                code = "answered"
                try:
                    list(begin(iter(messages), timeout=LONG, metadata=headers))
                except grpc.RpcError as error:
                    code, told = error.code().name, error.details()
                    assert not PRIVATE.search(told), told
                    assert "in a way it should not" not in told
                assert host.process.poll() is None
                assert code not in ("UNAVAILABLE", "DEADLINE_EXCEEDED"), messages
                seen.add(code)

            ask()
        assert {"answered", "UNKNOWN"} <= seen  # which are most errors, for gRPC
        with exchange(client, "add") as good:
            assert good.ask([1, 2], [10, None]) == [11, 2]
        host.process.terminate()
        status, log = host.ended()
    assert status == 0
    assert [line for line in log.splitlines() if '"level":"error"' in line] == []
