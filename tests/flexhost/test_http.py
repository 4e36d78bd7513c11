"""Health and metrics of a host in a process of its own, as an operator asks for them."""

from __future__ import annotations

import os
import re
import socket
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
        until(lambda: 'refusals_total{reason="bad' in get(metrics, "/metrics")[1])
        status, page = get(metrics, "/metrics")

    assert status == 200
    for line in (
        'flexhost_calls_total{function="numbers",outcome="ok"} 1.0',
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
