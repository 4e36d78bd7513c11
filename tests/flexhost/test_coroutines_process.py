"""Async functions of a host in a process of its own: its start, its end, its log."""

from __future__ import annotations

import signal
import urllib.error
import urllib.request

import pytest
from support import LONG, NUMBERS, Client, free_port, process, until
from test_polling import poll

ASYNC = """
import asyncio, os, sys, threading
import pyarrow as pa
from flexhost import FlexFun, table_function

SCHEMA = pa.schema([("n", pa.int64())])

@table_function(pa.schema([("loop", pa.string())]))
async def which():
    print("within")
    return pa.table({"loop": [type(asyncio.get_running_loop()).__module__.partition(".")[0]]})

def block():
    while not os.path.exists("go"):
        threading.Event().wait(0.01)

@table_function(SCHEMA)
async def blocks():
    asyncio.get_running_loop().call_later(0.1, block)
    return [{"n": 1}]

@table_function(SCHEMA)
async def waits(end: float = 0.0):
    print("waits runs", file=sys.__stderr__, flush=True)
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(end)
        print("its finally ran", file=sys.__stderr__, flush=True)
"""
LOADED = (
    NUMBERS
    + '''
import sys, threading

class Loaded(Numbers):
    """Fails where something for async functions was loaded, or started."""
    Name = "loaded"

    def call(self, parameters, columns, headers):
        names = [thread.name for thread in threading.enumerate()]
        assert not {"event loop", "loop watcher"} & set(names), names
        loops = {"uvloop", "flexhost.calls.call_loop", "flexhost.calls.loop_thread"}
        assert not loops & set(sys.modules)
        return pa.table({"n": [1]})
'''
)


def test_without_async_functions_there_is_no_loop(tmp_path):
    with process(tmp_path, LOADED) as host:
        assert Client(host.port()).call("loaded").num_rows == 1


@pytest.mark.parametrize("there", [True, False])
def test_uvloop_is_used_where_it_is_installed(tmp_path, there):
    if not there:
        (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')")
    with process(tmp_path, ASYNC) as host:
        table = Client(host.port()).call("which")
        line = host.line("within")

    assert table["loop"].to_pylist() == ["uvloop" if there else "asyncio"]
    assert "stdout" in line.string
    assert "call_id" in line.string


def test_what_blocks_the_loop_is_logged_even_if_nobody_knows_whose_it_is(tmp_path):
    port = free_port()
    settings = f"health_check_host = '127.0.0.1'\nhealth_check_port = {port}"
    with process(tmp_path, ASYNC, settings) as host:
        client = Client(host.port())
        assert client.call("blocks").num_rows == 1
        # on a slow machine pandas, which pyarrow imports for the first rows, may be told of before
        assert host.line("an async function blocks the event loop.* in block")

        assert live(port) == 500
        (tmp_path / "go").touch()
        assert client.call("which").num_rows == 1
        until(lambda: live(port) == 204)


def live(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/live", timeout=LONG) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_at_the_end_a_task_is_cancelled_and_its_finally_has_its_time(tmp_path):
    with process(tmp_path, ASYNC, "drain_sec = 0.2") as host:
        poll(Client(host.port()), b'{"functionName": "waits", "parameters": {"end": 0.5}}')
        host.line("waits runs")
        host.process.send_signal(signal.SIGTERM)
        status, log = host.ended()

    assert status == 0
    assert "its finally ran" in log


def test_a_task_that_a_call_left_goes_on_until_the_host_ends(tmp_path):
    left = (
        "async def goes_on():\n"
        "    try:\n"
        "        await asyncio.sleep(0.01)\n"
        "        print('goes on')\n"
        "        await asyncio.sleep(1000)\n"
        "    finally:\n"
        "        print('its finally ran', file=sys.__stderr__, flush=True)\n"
        "@table_function(SCHEMA)\n"
        "async def leaves():\n"
        "    asyncio.get_running_loop().left = asyncio.create_task(goes_on())\n"
        "    return [{'n': 1}]\n"
    )
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')")
    with process(tmp_path, ASYNC + left, "drain_sec = 0.2") as host:
        Client(host.port()).call("leaves")
        assert '"call_id":' in host.line("goes on").string
        host.process.send_signal(signal.SIGTERM)
        status, log = host.ended()

    assert status == 0
    assert "its finally ran" in log


def test_a_finally_that_does_not_end_cannot_hold_the_process(tmp_path):
    with process(tmp_path, ASYNC, "drain_sec = 0.2") as host:
        poll(Client(host.port()), b'{"functionName": "waits", "parameters": {"end": 1000}}')
        host.line("waits runs")
        host.process.send_signal(signal.SIGTERM)
        status, log = host.ended()

    assert status == 0
    assert "its finally ran" not in log


def test_the_bounds_that_are_told_are_those_of_the_executors_in_use(tmp_path):
    port = free_port()
    settings = f"metrics_host = '127.0.0.1'\nmetrics_port = {port}\ntask_coroutines = 77"
    with process(tmp_path, ASYNC + NUMBERS, settings) as host:
        host.port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LONG) as answer:
            lines = answer.read().decode().splitlines()

    assert f"flexhost_calls_running_limit {77 + 32}.0" in lines
    assert f"flexhost_calls_waiting_limit {2 * 256}.0" in lines


def test_a_call_that_runs_ends_on_the_code_it_began_with(tmp_path):
    code = ASYNC + (
        "import os\n"
        "@table_function(SCHEMA)\n"
        "async def until(path: str):\n"
        "    print('until runs', file=sys.__stderr__, flush=True)\n"
        "    while not os.path.exists(path):\n"
        "        await asyncio.sleep(0.01)\n"
        "    return pa.table({'n': [VALUE]})\n"
        "VALUE = 1\n"
    )
    go = tmp_path / "go"
    with process(tmp_path, code, command="dev") as host:
        client = Client(host.port())
        _, retry, _ = poll(client, b'{"functionName": "until", "parameters": {"path": "go"}}')
        host.line("until runs")
        (tmp_path / "my_functions.py").write_text(code.replace("VALUE = 1", "VALUE = 2"))
        host.line("serving .*until.* anew")
        go.touch()
        new = client.call("until", path="go")
        info = None
        while info is None:
            info, retry, _ = poll(client, retry)

        assert client.read(info.endpoints[0].ticket)["n"].to_pylist() == [1]
        assert new["n"].to_pylist() == [2]
