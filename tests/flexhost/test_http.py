"""Health and metrics of a host in a process of its own, as an operator asks for them."""

from __future__ import annotations

import os
import re
import socket
import threading
import urllib.error
import urllib.request

import pyarrow.flight as fl
import pytest
from support import LONG, NUMBERS, Client, command, free_port, process, until

BOTH = "health_check_host = '127.0.0.1'\nhealth_check_port = 0\n"
BOTH += "metrics_host = '127.0.0.1'\nmetrics_port = 0"


def get(port, path):
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=LONG) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def http_port(host, path):
    return int(host.line(rf"HTTP on [^ ]+:(\d+): .*{path}")[1])


def test_a_host_that_serves_is_live_and_ready(tmp_path):
    with process(tmp_path, NUMBERS, BOTH) as host:
        health = http_port(host, "/live")
        host.port()

        assert get(health, "/live") == (204, "")
        assert get(health, "/ready") == (204, "")


def test_until_its_functions_are_loaded_a_host_is_not_ready(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    port = free_port()
    blocks = "print('loading', file=__import__('sys').stderr, flush=True)\nopen('fifo').read()\n"
    with process(tmp_path, blocks + NUMBERS, BOTH, listen=f"listen_port = {port}") as host:
        health = http_port(host, "/live")
        host.line("loading")
        assert get(health, "/ready")[0] == 500
        with pytest.raises(fl.FlightUnavailableError, match="still being loaded"):
            Client(port).info(command())

        (tmp_path / "fifo").write_text("go on")
        host.port()
        assert get(health, "/ready")[0] == 204


def test_a_part_that_is_not_well_makes_the_host_not_live(tmp_path):
    module = NUMBERS + (
        "    @staticmethod\n"
        "    def on_load(ctx):\n"
        "        from flexhost import ModuleHealthStatus\n"
        "        ctx.health.set_module_status('db', ModuleHealthStatus.NOT_OK)\n"
    )
    with process(tmp_path, module, BOTH) as host:
        health = http_port(host, "/live")
        host.port()

        assert get(health, "/live")[0] == 500


def test_metrics_count_calls_by_function_and_outcome(tmp_path):
    with process(tmp_path, NUMBERS, BOTH) as host:
        metrics = http_port(host, "/metrics")
        client = Client(host.port())
        client.call(upto=5)
        with pytest.raises(fl.FlightServerError):
            client.info(command("nobody"))
        until(lambda: 'refusals_total{reason="bad_argument"} 1' in get(metrics, "/metrics")[1])
        status, page = get(metrics, "/metrics")

    assert status == 200
    for line in (
        'flexhost_calls_total{code="OK",function="numbers",outcome="ok"} 1.0',
        'flexhost_refusals_total{reason="bad_argument"} 1.0',
        'flexhost_call_running_seconds_count{function="numbers"} 1.0',
        'flexhost_read_rows_sum{function="numbers"} 5.0',
        'flexhost_read_bytes_sum{function="numbers"} 40.0',
        "flexhost_calls_waiting 0.0",
        "flexhost_results 1.0",
    ):
        assert line in page
    assert "nobody" not in page


def test_there_is_nothing_elsewhere_and_no_version(tmp_path):
    health, metrics = free_port(), free_port()
    settings = (
        f"health_check_host = '127.0.0.1'\nhealth_check_port = {health}\n"
        f"metrics_host = '127.0.0.1'\nmetrics_port = {metrics}\n"
    )
    with process(tmp_path, NUMBERS, settings) as host:
        host.port()
        assert get(health, "/metrics")[0] == 404
        assert get(metrics, "/live")[0] == 404
        assert get(health, "/live/")[0] == 404
        with socket.create_connection(("127.0.0.1", health), timeout=LONG) as connection:
            connection.sendall(b"GET /live HTTP/1.0\r\n\r\n")
            answer = connection.makefile("rb").read()

    assert b"server:" not in answer.lower()
    assert b"uvicorn" not in answer.lower()


def test_health_is_answered_while_idle_connections_are_held_open_and_all_workers_are_busy(tmp_path):
    module = NUMBERS.replace("return ", "__import__('threading').Event().wait(); return ")
    settings = f"task_threads = 1\ndrain_sec = 0\n{BOTH}"
    with process(tmp_path, module, settings) as host:
        health = http_port(host, "/live")
        client = Client(host.port())
        held = [socket.create_connection(("127.0.0.1", health)) for _ in range(50)]
        busy = client.flight.as_async().get_flight_info(fl.FlightDescriptor.for_command(command()))

        assert get(health, "/live")[0] == 204
        for connection in held:
            connection.close()
        busy.close()


def test_one_address_may_serve_both(tmp_path):
    port = free_port()
    same = re.sub(r"port = 0", f"port = {port}", BOTH)
    with process(tmp_path, NUMBERS, same) as host:
        host.port()
        assert get(port, "/live")[0] == 204
        assert get(port, "/metrics")[0] == 200


def test_a_host_with_too_many_stuck_threads_is_not_live_until_they_come_back(tmp_path):
    stuck = NUMBERS.replace(
        "        return ",
        "        import os, threading\n"
        "        while not os.path.exists('go'):\n"
        "            threading.Event().wait(0.01)\n"
        "        return ",
    )
    settings = (
        f"max_abandoned = 1\ntask_threads = 1\n{BOTH}\n[flexconnect]\ncall_deadline_ms = 200\n"
    )
    with process(tmp_path, stuck, settings) as host:
        health = http_port(host, "/live")
        client = Client(host.port())
        assert get(health, "/live")[0] == 204
        with pytest.raises(fl.FlightTimedOutError):
            client.info(command())

        until(lambda: get(health, "/live")[0] == 500)
        host.line("stuck in a call past its deadline.*my_functions.py")
        assert "flexhost_threads_abandoned 1.0" in get(health, "/metrics")[1]
        (tmp_path / "go").touch()
        until(lambda: get(health, "/live")[0] == 204)
        assert client.call().num_rows == 3


def test_each_bound_that_is_reached_is_counted_by_its_name(tmp_path):
    endless = (
        NUMBERS
        + """
class Endless(Numbers):
    Name = "endless"

    def call(self, parameters, columns, headers):
        def batches():
            while True:
                yield pa.record_batch({"n": pa.array(range(100_000))})
        return pa.RecordBatchReader.from_batches(self.Schema, batches())

class Waits(Numbers):
    Name = "waits"

    def call(self, parameters, columns, headers):
        import os, threading
        while not os.path.exists("go"):
            threading.Event().wait(0.01)
        return super().call(parameters, columns, headers)
"""
    )
    bounds = "task_threads = 1\ntask_queue_size = 0\nmax_rpcs = 2\nmax_streams = 1\n"
    with process(tmp_path, endless, f"{bounds}max_command_bytes = 100\n{BOTH}") as host:
        metrics = http_port(host, "/metrics")
        client = Client(host.port())

        def refused(reason, ask):
            with pytest.raises(fl.FlightError):
                ask()
            line = f'flexhost_refusals_total{{reason="{reason}"}} 1.0'
            until(lambda: line in get(metrics, "/metrics")[1])

        first, second = client.ticket("endless"), client.ticket("endless")
        reader = client.flight.do_get(first)
        reader.read_chunk()
        refused("max_streams", lambda: client.read(second))
        refused("max_command_bytes", lambda: client.info(command(filler="x" * 100)))

        waiting = threading.Thread(target=client.info, args=[command("waits")])
        waiting.start()
        until(lambda: "flexhost_requests_open 2.0" in get(metrics, "/metrics")[1])
        refused("max_rpcs", lambda: client.info(command()))
        reader.cancel()
        until(lambda: "flexhost_requests_open 1.0" in get(metrics, "/metrics")[1])
        refused("task_queue_size", lambda: client.info(command()))
        (tmp_path / "go").touch()
        waiting.join(LONG)
