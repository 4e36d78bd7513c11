"""Stopping a host in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, NUMBERS, Client, command, function, process, serving, until

from flexhost.frontends import connections

SLOW = (
    NUMBERS
    + '''
import os, threading

class Waits(Numbers):
    """Runs until the file `go` is there."""
    Name = "waits"

    def call(self, parameters, columns, headers):
        print("waits runs", file=__import__("sys").stderr, flush=True)
        while not os.path.exists("go"):
            threading.Event().wait(0.01)
        return super().call(parameters, columns, headers)

class Endless(Numbers):
    Name = "endless"

    def call(self, parameters, columns, headers):
        def batches():
            while True:
                yield pa.record_batch({"n": pa.array(range(200_000))})
        return pa.RecordBatchReader.from_batches(self.Schema, batches())

class Native(Numbers):
    """At work in pyarrow, without end."""
    Name = "native"

    def call(self, parameters, columns, headers):
        print("native runs", file=__import__("sys").stderr, flush=True)
        while True:
            pa.array(range(1000)).to_pylist()

class Lingers(Numbers):
    """Leaves a thread that never ends, and is no daemon."""
    Name = "lingers"

    def call(self, parameters, columns, headers):
        threading.Thread(target=threading.Event().wait, daemon=False).start()
        return super().call(parameters, columns, headers)
'''
)


def call_and_fail(client, name="waits"):
    with pytest.raises(fl.FlightError):
        client.call(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_host_ends_at_once_with_status_0(tmp_path, number):
    with process(tmp_path, NUMBERS) as host:
        host.port()
        host.process.send_signal(number)
        status, text = host.ended()

    assert status == 0
    assert '"event":"stopped"' in text.splitlines()[-1]


def test_a_running_call_is_finished_and_its_result_still_given_out(tmp_path):
    with process(tmp_path, SLOW) as host:
        client = Client(host.port())
        rows = []
        caller = threading.Thread(target=lambda: rows.append(client.call("waits").num_rows))
        caller.start()
        host.line("waits runs")

        host.process.send_signal(signal.SIGTERM)
        host.line("stopping within")
        with pytest.raises(fl.FlightUnavailableError, match="is stopping"):
            client.info(command())
        (tmp_path / "go").touch()
        caller.join(LONG)
        status, _ = host.ended()

    assert (status, rows) == (0, [3])


def test_who_is_connected_is_still_answered_when_nobody_can_connect_any_more():
    with serving(function(lambda *_: pa.table({"n": [1]}))) as client:
        client.call()
        connections.stop_listening(client.port)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", client.port), LONG)
        assert client.call().num_rows == 1


def test_a_call_that_outlives_the_drain_is_told_so(tmp_path):
    with process(tmp_path, SLOW, "drain_sec = 0.2") as host:
        client = Client(host.port())
        errors = []

        def call():
            try:
                client.call("waits")
            except fl.FlightUnavailableError as error:
                errors.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        host.line("waits runs")
        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()
        caller.join(LONG)

    assert status == 0
    assert "stopped before the end" in str(errors[0])


def test_a_stream_whose_reader_stopped_reading_cannot_hold_the_process(tmp_path):
    with process(tmp_path, SLOW, "drain_sec = 0.2") as host:
        client = Client(host.port())
        reader = client.flight.do_get(client.ticket("endless"))
        reader.read_chunk()  # and no more: the host's next write blocks

        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()

    assert status == 0
    reader.cancel()


def test_a_thread_that_a_function_left_behind_cannot_hold_the_process(tmp_path):
    with process(tmp_path, SLOW) as host:
        client = Client(host.port())
        client.call("lingers")
        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()

    assert status == 0


def test_a_second_signal_ends_the_process_at_once(tmp_path):
    with process(tmp_path, SLOW, "drain_sec = 1000") as host:
        client = Client(host.port())
        caller = threading.Thread(target=call_and_fail, args=[client])
        caller.start()
        host.line("waits runs")
        host.process.send_signal(signal.SIGTERM)
        host.line("stopping within")
        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()
        caller.join(LONG)

    assert status == 1


def test_a_signal_while_the_functions_are_loaded_ends_the_process(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    blocks = "print('loading', file=__import__('sys').stderr, flush=True)\nopen('fifo').read()\n"
    with process(tmp_path, blocks + NUMBERS) as host:
        host.line("loading")
        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()

    assert status == 0


def test_a_function_at_work_in_native_code_does_not_spoil_the_end(tmp_path):
    with process(tmp_path, SLOW, "drain_sec = 0.1") as host:
        client = Client(host.port())
        callers = [threading.Thread(target=call_and_fail, args=[client, "native"]) for _ in "ab"]
        for caller in callers:
            caller.start()
        host.line("native runs")
        host.process.send_signal(signal.SIGTERM)
        status, _ = host.ended()
        for caller in callers:
            caller.join(LONG)

    assert status == 0


def test_the_lines_of_calls_before_a_second_signal_are_written(tmp_path):
    with process(tmp_path, SLOW) as host:
        client = Client(host.port())
        waiting = threading.Thread(target=call_and_fail, args=[client])
        waiting.start()
        host.line("waits runs")  # so that the first signal alone does not end it
        for _ in range(20):
            client.info(command())
        host.process.send_signal(signal.SIGTERM)
        until(lambda: refuses(client))
        host.process.send_signal(signal.SIGTERM)
        waiting.join(LONG)
        status, text = host.ended()

    assert status == 1
    assert text.count('"outcome":"ok"') >= 20


def refuses(client):
    try:
        client.info(command())
    except fl.FlightUnavailableError:
        return True
    return False


def test_freed_memory_goes_back_to_the_system(tmp_path):
    large = NUMBERS.replace("3)))}", "10_000_000)))}")
    settings = "task_threads = 2\ntask_result_ttl_sec = 0.1\nmalloc_trim_interval_sec = 0.2"
    with process(tmp_path, large, settings) as host:
        client = Client(host.port())

        def resident():
            status = (Path("/proc") / str(host.process.pid) / "status").read_text()
            return int(status.split("RssAnon:")[1].split()[0]) * 1024

        before = resident()
        for _ in range(4):
            client.info(command())  # 80 MB each

        until(lambda: resident() - before < 100e6)
