"""The limits that a function sets itself, and what functions share until the host ends."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, SCHEMA, Client, function, process, serving, until

from flexhost import LoadContext, table_function
from flexhost.command_line.check import Kind, check
from flexhost.errors import StartError
from flexhost.functions.describe import describe
from flexhost.functions.resources import Resources
from flexhost.telemetry.health import Health

TABLE = pa.table({"n": [1]})


def limited(call, **attributes):
    return type("Limited", (function(call),), attributes)


@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("inf"), float("nan")])
def test_a_deadline_that_is_none_ends_the_start(seconds):
    with pytest.raises(StartError, match="DeadlineSec is .*, expected seconds, more than 0"):
        describe(limited(lambda *_: TABLE, DeadlineSec=seconds))


@pytest.mark.parametrize("most", [0, -1, "5", True, 1.5])
def test_a_bound_that_is_none_ends_the_start(most):
    with pytest.raises(StartError, match="MaxRunning is .*, expected a whole number from 1"):
        describe(limited(lambda *_: TABLE, MaxRunning=most))


@pytest.mark.parametrize(("own", "hosts"), [(0.1, LONG), (LONG, 0.1)])
def test_a_functions_own_deadline_is_in_place_of_the_hosts(own, hosts):
    wait = threading.Event()
    late = limited(lambda *_: (wait.wait(1) and TABLE) or TABLE, DeadlineSec=own)

    with serving(late, deadline=hosts) as client:
        try:
            if own < hosts:
                with pytest.raises(fl.FlightTimedOutError, match="no result within 0.1 s"):
                    client.call()
            else:
                assert client.call().num_rows == 1
        finally:
            wait.set()


def test_a_function_at_its_bound_lets_others_run():
    go, at_once, most = threading.Event(), [], []

    @table_function(SCHEMA, max_running=2)
    def slow():
        at_once.append(1)
        most.append(len(at_once))
        go.wait(LONG)
        at_once.pop()
        return TABLE

    @table_function(SCHEMA)
    def quick():
        return TABLE

    with serving(slow, quick, threads=4) as client:
        calls = [client.host.submit("slow", {}, None, {}) for _ in range(6)]
        until(lambda: len(at_once) == 2)
        assert client.call("quick") == TABLE
        go.set()
        assert all(call.ended.wait(LONG) for call in calls)

    assert max(most) == 2


def test_what_was_named_last_is_closed_first():
    closed, ctx = [], LoadContext({}, "", Health())
    ctx.on_close(lambda: closed.append("first"))

    with_manager = ctx.enter(contextlib.closing(Closes(closed)))
    ctx.on_close(lambda: closed.append("last"))
    ctx.resources.close()
    ctx.resources.close()

    assert isinstance(with_manager, Closes)
    assert closed == ["last", "entered", "first"]


class Closes:
    def __init__(self, closed):
        self._closed = closed

    def close(self):
        self._closed.append("entered")


def test_one_that_fails_is_logged_and_does_not_keep_the_others_open(caplog):
    closed, resources = [], Resources()
    resources.add(lambda: closed.append(1))
    resources.add(lambda: 1 / 0)

    resources.close()

    assert closed == [1]
    [record] = caplog.records
    assert (record.levelno, "ZeroDivisionError" in caplog.text) == (logging.ERROR, True)


def test_one_that_hangs_is_left_behind_and_named(caplog):
    never, closed, resources = threading.Event(), [], Resources()
    resources.add(lambda: closed.append(1))
    resources.add(never.wait)

    resources.close(one=0.05)
    never.set()

    assert closed == [1]
    assert "Event.wait has not ended in time, it is left behind" in caplog.text


def test_many_that_hang_have_a_bound_together():
    never, resources = threading.Event(), Resources()
    for _ in range(100):
        resources.add(never.wait)

    before = time.monotonic()
    resources.close(one=0.05, every=0.1)
    never.set()

    assert time.monotonic() - before < LONG / 4


@pytest.mark.parametrize("close", [5, Resources().close, test_many_that_hang_have_a_bound_together])
def test_only_what_can_be_called_is_taken(close):
    if callable(close):
        Resources().add(close)
        return
    with pytest.raises(TypeError, match="5 cannot be called"):
        Resources().add(close)


def test_what_is_async_has_no_loop_to_be_closed_in():
    async def close(): ...

    with pytest.raises(TypeError, match="is async: the host has no event loop"):
        Resources().add(close)


POOLED = """
import logging, threading
import pyarrow as pa
from flexhost import FlexFun

class Pool:
    def __init__(self, name):
        self.name = name
    def close(self):
        logging.getLogger("pool").info("closed %s after %s", self.name, Pooled.calls)

class Pooled(FlexFun):
    Name = "pooled"
    Schema = pa.schema([("n", pa.int64())])
    calls = []

    @staticmethod
    def on_load(ctx):
        for name in ("a", "b"):
            ctx.on_close(Pool(name).close)
        ctx.on_close(threading.Event().wait)
        if ctx.settings.get("my"):
            raise RuntimeError("no more")

    def call(self, parameters, columns, headers):
        self.calls.append(1)
        return [{"n": 1}]
"""


def test_resources_are_closed_after_the_drain_and_cannot_hold_the_process(tmp_path):
    with process(tmp_path, POOLED) as host:
        Client(host.port()).call("pooled")
        host.process.terminate()
        status, text = host.ended()

    assert status == 0
    order = [text.index(f"closed {name} after [1]") for name in ("b", "a")]
    assert order == sorted(order)
    assert text.index("stopping within") < text.index("Event.wait has not ended") < order[0]


def test_resources_of_a_start_that_fails_are_closed(tmp_path):
    with process(tmp_path, POOLED, "[my]\nurl = 1") as host:
        status, text = host.ended()

    assert status == 1
    assert "closed b after []" in text
    assert "closed a after []" in text
    assert "on_load of function 'pooled' failed: RuntimeError: no more" in text


def test_a_check_that_loads_closes_what_it_loaded(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "pooled7.py").write_text(
        POOLED.replace("ctx.on_close(threading", "(lambda wait: None)(threading")
    )
    (tmp_path / "host.toml").write_text("[flexfun]\nfunctions = ['pooled7']")
    monkeypatch.syspath_prepend(tmp_path)

    found = list(check([str(tmp_path / "host.toml")], load=True))

    assert not [one.text for one in found if one.kind is Kind.WRONG]
    assert [r.getMessage() for r in caplog.records if r.name == "pool"] == [
        "closed b after []",
        "closed a after []",
    ]
