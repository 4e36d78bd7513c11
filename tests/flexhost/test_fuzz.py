"""Random and mutated requests: no internal error, no traceback and no path of the host reaches the
caller, and no thread and no memory is left over. `make fuzz` sends 100,000 of them."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ROOT, Client, process, until

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

# What nobody outside may see.
PRIVATE = re.compile(
    rf'Traceback|File "|site-packages|\.py\b|{re.escape(str(ROOT))}|0x[0-9a-f]{{8}}'
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
