"""Functions with a Cache, called over Flight."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, SCHEMA, Client, command, flight_code, function, process, serving, until

from flexhost import CachePolicy
from flexhost.caller import Caller
from flexhost.errors import StartError
from flexhost.functions.describe import describe
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.telemetry.events import CallEnded, WorkerAbandoned


class Counted:
    """A function with a cache that counts its runs, and runs until it is opened."""

    def __init__(self, policy=None):
        self.runs = 0
        self.cancelled = threading.Event()
        self.opened = threading.Event()
        self.started = threading.Event()
        counted = self

        def call(parameters, columns, headers):
            counted.runs += 1
            counted.started.set()
            counted.opened.wait(LONG)
            return pa.table({"n": [counted.runs]}, schema=SCHEMA)

        class Cached(function(call)):
            Cache = policy or CachePolicy(ttl_sec=60)

            def cancel(self):
                counted.cancelled.set()
                counted.opened.set()
                return True

        self.function = Cached


@pytest.fixture
def counted():
    made = Counted()
    yield made
    made.opened.set()


class Asking(threading.Thread):
    """A call in a thread of its own: its ticket and table, or its error."""

    def __init__(self, client, data=None, timeout=LONG):
        super().__init__()
        self.client = client
        self.data = data or command()
        self.timeout = timeout
        self.ticket = self.table = self.error = None
        self.start()

    def run(self):
        raw = [(name.encode(), value.encode()) for name, value in self.client.headers]
        options = fl.FlightCallOptions(timeout=self.timeout, headers=raw)
        descriptor = fl.FlightDescriptor.for_command(self.data)
        try:
            info = self.client.flight.get_flight_info(descriptor, options)
            self.ticket = info.endpoints[0].ticket.ticket
            self.table = self.client.read(info.endpoints[0].ticket)
        except fl.FlightError as error:
            self.error = error


def of(**limits):
    """A verifier of callers with a token each, each with what limits it."""
    known = [
        Known(Tokens((Digest.of(f"token of {name}"),)), Caller(name, **limit))
        for name, limit in limits.items()
    ]
    return EnumeratedTokenVerification(known)


def showing(served, name):
    return served.showing(f"token of {name}")


def action(client, **body):
    wanted = fl.Action("invalidate", json.dumps(body).encode())
    [result] = client.flight.do_action(wanted, client.options())
    return json.loads(result.body.to_pybytes())["invalidated"]


def test_fifty_equal_calls_run_the_function_once_and_each_has_a_ticket_of_its_own(counted):
    with serving(counted.function, threads=2, waiting=0) as client:
        callers = [Asking(client.showing("")) for _ in range(50)]
        until(lambda: client.frontend.under_way == 50)

        counted.opened.set()
        for caller in callers:
            caller.join(LONG)

        assert [caller.table for caller in callers] == [pa.table({"n": [1]})] * 50
        assert len({caller.ticket for caller in callers}) == 50
        assert counted.runs == 1
        told = [client.event(CallEnded).call.cache for _ in callers]
        assert sorted(told) == ["miss"] + ["shared"] * 49


def test_a_caller_who_leaves_does_not_end_it_for_the_others(counted):
    with serving(counted.function) as client:
        leaving = Asking(client.showing(""), timeout=0.2)
        assert counted.started.wait(LONG)
        staying = Asking(client.showing(""))
        leaving.join(LONG)
        assert client.event(CallEnded).call.error.code == "COMMAND_CANCELLED"

        counted.opened.set()
        staying.join(LONG)

        assert staying.table == pa.table({"n": [1]})
        assert not counted.cancelled.is_set()


def test_when_the_last_caller_has_left_the_function_is_cancelled(counted):
    with serving(counted.function) as client:
        callers = [Asking(client.showing(""), timeout=0.2) for _ in range(2)]
        assert counted.started.wait(LONG)
        for caller in callers:
            caller.join(LONG)

        assert counted.cancelled.wait(LONG)
        until(lambda: client.host.at_work == 0)


def test_a_deadline_is_that_of_each_caller(counted):
    with serving(counted.function, deadline=0.2) as client:
        with pytest.raises(fl.FlightTimedOutError):
            client.call()

        assert counted.cancelled.wait(LONG)
        until(lambda: client.host.at_work == 0)


def test_a_run_that_never_ends_is_told_as_stuck_and_its_thread_replaced(counted):
    del counted.function.cancel
    with serving(counted.function, threads=1, deadline=0.2) as client:
        with pytest.raises(fl.FlightTimedOutError):
            client.call()

        assert client.event(WorkerAbandoned).call.function.name == "numbers"
        until(lambda: client.executor.abandoned == 1)
        counted.opened.set()
        assert client.call(another="call").num_rows == 1


def test_a_host_that_stops_tells_all_who_share(counted):
    with serving(counted.function) as client:
        callers = [Asking(client.showing("")) for _ in range(3)]
        until(lambda: client.frontend.under_way == 3)

        client.host.drain(0)
        for caller in callers:
            caller.join(LONG)

        assert [flight_code(caller.error)[0] for caller in callers] == [502] * 3
        assert counted.cancelled.wait(LONG)


def test_a_hit_is_served_while_every_thread_is_busy(counted):
    gate = Counted()
    with serving(counted.function, name_of(gate, "gated"), threads=1, waiting=0) as client:
        counted.opened.set()
        client.call()
        busy = Asking(client.showing(""), command("gated"))
        assert gate.started.wait(LONG)

        assert client.call() == pa.table({"n": [1]})
        with pytest.raises(fl.FlightUnavailableError):
            client.call(another="call")

        gate.opened.set()
        busy.join(LONG)


def name_of(counted, name):
    counted.function.Name = name
    return counted.function


def test_two_who_poll_share_and_one_who_cancels_only_detaches(counted):
    polls = {"x-quiver-pollable": "yes"}
    with serving(counted.function, poll=0.05) as client:
        retries, cancels = [], []
        for _ in range(2):
            with pytest.raises(fl.FlightTimedOutError) as later:
                client.info(command(), polls)
            call_id = str(later.value).split("call ")[1].split()[0]
            retries.append(f"r:{call_id}".encode())
            cancels.append(f"c:{call_id}".encode())

        with pytest.raises(fl.FlightCancelledError):
            client.info(cancels[0], polls)
        counted.opened.set()
        until(lambda: client.host.at_work == 0)

        assert client.read(client.info(retries[1], polls).endpoints[0].ticket).num_rows == 1
        assert not counted.cancelled.is_set()
        assert counted.runs == 1


def test_a_full_queue_is_told_to_all_who_came_to_share(counted):
    gate = Counted()
    with serving(counted.function, name_of(gate, "gated"), threads=1, waiting=0) as client:
        busy = Asking(client.showing(""), command("gated"))
        assert gate.started.wait(LONG)

        callers = [Asking(client.showing("")) for _ in range(5)]
        for caller in callers:
            caller.join(LONG)

        assert [flight_code(caller.error)[0] for caller in callers] == [102] * 5
        gate.opened.set()
        busy.join(LONG)
        counted.opened.set()
        until(lambda: client.executor.running == 0)
        assert client.call() == pa.table({"n": [1]})


def test_invalidate_empties_the_cache_of_a_function(counted):
    counted.opened.set()
    with serving(counted.function) as client:
        client.call(region="EU")
        client.call(region="US")

        assert action(client, functionName="numbers", parameters={"region": "EU"}) == 1
        assert client.call(region="US") == pa.table({"n": [2]})
        assert client.call(region="EU") == pa.table({"n": [3]})

        assert action(client, functionName="numbers") == 2
        assert client.call(region="US") == pa.table({"n": [4]})


def test_the_actions_are_listed_with_what_they_take(counted):
    with serving(counted.function) as client:
        (listed,) = (one for one in client.flight.list_actions() if one.type == "invalidate")

    assert "functionName" in listed.description


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "the action's body is not JSON"),
        (b"[]", "the action's body is not as expected"),
        (b'{"parameters": {}}', "`functionName`"),
        (b'{"functionName": "numbers", "parameter": {}}', "unknown field `parameter`"),
        (b'{"functionName": "numbers", "parameters": {"columns": 5}}', "parameters.columns"),
        (b'{"functionName": "nobody"}', "no function is named 'nobody'"),
        (b'{"functionName": "plain"}', "function 'plain' has no Cache"),
        (b" " * 2_000, "the action's body has 2000 bytes, at most 1000 are taken"),
    ],
)
def test_an_action_that_is_wrong_is_told_what_is(counted, body, told):
    plain = function(lambda *_: None, "plain")
    with serving(counted.function, plain, command=1_000) as client:
        with pytest.raises(fl.FlightServerError, match=told) as wrong:
            list(client.flight.do_action(fl.Action("invalidate", body)))

        assert flight_code(wrong.value)[0] == 1


def test_a_cached_table_is_only_for_the_caller_who_made_the_call(counted):
    counted.opened.set()
    with serving(counted.function, verifier=of(ann={}, bob={})) as served:
        ann, bob = showing(served, "ann"), showing(served, "bob")

        assert [ann.call()["n"], bob.call()["n"], ann.call()["n"]] == [
            pa.chunked_array([[n]]) for n in (1, 2, 1)
        ]


def test_callers_share_when_the_function_says_so(counted):
    counted.opened.set()
    counted.function.Cache = CachePolicy(ttl_sec=60, shared=True)
    with serving(counted.function, verifier=of(ann={}, bob={})) as served:
        ticket = showing(served, "ann").ticket()
        assert showing(served, "bob").call() == pa.table({"n": [1]})

        with pytest.raises(fl.FlightServerError):  # a ticket is its caller's all the same
            showing(served, "bob").read(ticket)


def test_a_function_that_takes_its_caller_gets_the_one_who_shares():
    class Whose(function(lambda *_: None, schema=pa.schema([("who", pa.string())]))):
        Cache = CachePolicy(ttl_sec=60)

        def call(self, parameters, columns, headers, caller):
            return pa.table({"who": [caller.name]})

    with serving(Whose, verifier=of(ann={}, bob={})) as served:
        for name in ("ann", "bob", "ann"):
            assert showing(served, name).call() == pa.table({"who": [name]})


def test_callers_cannot_share_what_is_made_for_one_of_them():
    class Whose(function(lambda *_: None)):
        Cache = CachePolicy(ttl_sec=60, shared=True)

        def call(self, parameters, columns, headers, caller): ...

    with pytest.raises(StartError, match="call takes its caller, so callers cannot share"):
        describe(Whose)


def test_a_shared_run_counts_for_each_of_its_callers_once(counted):
    policy = {"max_running": 2}
    with serving(counted.function, verifier=of(ann=policy)) as served:
        callers = [Asking(showing(served, "ann")) for _ in range(2)]
        until(lambda: served.frontend.under_way == 2)
        with pytest.raises(fl.FlightUnavailableError, match="2 calls under way"):
            showing(served, "ann").call()

        counted.opened.set()
        for caller in callers:
            caller.join(LONG)

        assert [caller.table for caller in callers] == [pa.table({"n": [1]})] * 2


def test_only_who_may_call_a_function_invalidates_it_for_all(counted):
    counted.opened.set()
    limits = {"ann": {}, "bob": {"functions": ("other",)}, "loader": {"functions": ("num*",)}}
    with serving(counted.function, verifier=of(**limits)) as served:
        showing(served, "ann").call()
        with pytest.raises(fl.FlightUnauthorizedError):
            action(showing(served, "bob"), functionName="numbers")

        # how many there were of others is not told: it would tell what they asked for
        assert action(showing(served, "loader"), functionName="numbers") == 0
        assert showing(served, "ann").call() == pa.table({"n": [2]})
        assert action(showing(served, "ann"), functionName="numbers") == 1


def test_the_log_and_the_metrics_tell_of_hits_and_misses(tmp_path):
    module = (
        "import pyarrow as pa\nfrom flexhost import CachePolicy, FlexFun\n"
        "class Numbers(FlexFun):\n"
        "    Name = 'numbers'\n"
        "    Schema = pa.schema([('n', pa.int64())])\n"
        "    Cache = CachePolicy(ttl_sec=60)\n"
        "    def call(self, parameters, columns, headers):\n"
        "        return pa.table({'n': [1]})\n"
    )
    with process(tmp_path, module, "metrics_host = '127.0.0.1'\nmetrics_port = 0") as host:
        metrics = int(host.line(r"HTTP on [^ ]+:(\d+): /metrics")[1])
        client = Client(host.port())
        client.call()
        missed = json.loads(host.line('"cache"').string)
        client.call()
        hit = json.loads(host.line('"cache"').string)
        page = get(metrics)

    assert (missed["cache"], hit["cache"]) == ("miss", "hit")
    assert hit["running_sec"] is None
    for line in (
        'flexhost_cache_requests_total{function="numbers",result="hit"} 1.0',
        'flexhost_cache_requests_total{function="numbers",result="miss"} 1.0',
        'flexhost_call_running_seconds_count{function="numbers"} 1.0',
        "flexhost_retained_bytes 808.0",
        "flexhost_shared_bytes 808.0",
        "flexhost_spilled_bytes 0.0",
    ):
        assert line in page


def get(port):
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG) as answer:
        return answer.read().decode()


def returning(annotation):
    class Annotated(function(lambda *_: None)):
        Cache = CachePolicy(ttl_sec=1)

        def call(self, parameters, columns, headers): ...

    Annotated.call.__annotations__["return"] = annotation
    return Annotated


@pytest.mark.parametrize(
    "annotation",
    [
        pa.RecordBatchReader,
        "pa.RecordBatchReader",
        "'RecordBatchReader'",
        pa.RecordBatchReader | None,
        "pa.ipc.RecordBatchStreamReader",
        Iterator[pa.RecordBatch],
    ],
)
def test_a_cache_of_a_stream_ends_the_start(annotation):
    with pytest.raises(StartError, match="call returns a stream, which cannot be cached"):
        describe(returning(annotation))


@pytest.mark.parametrize("annotation", [pa.Table, "pa.Table", pa.Table | pa.RecordBatchReader])
def test_a_cache_of_what_may_be_a_table_is_fine(annotation):
    assert describe(returning(annotation)).cache == CachePolicy(ttl_sec=1)


def test_a_cache_that_is_no_policy_ends_the_start():
    made = function(lambda *_: None)
    made.Cache = 60

    with pytest.raises(StartError, match="Cache is 60, expected a CachePolicy or None"):
        describe(made)
