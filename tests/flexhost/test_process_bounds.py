"""Worker processes over time: crashes, bounds, a large result, and that nothing is left over."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
from pathlib import Path

import pyarrow.flight as fl
from in_processes import alive, children, failed, host_of
from support import LONG, NUMBERS, Client, flight_code, process, until


def status(pid, name):
    """Bytes of a line in the status of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)[1]) * 1024


def descriptors(pid):
    return list(Path(f"/proc/{pid}/fd").iterdir())


def in_parallel(clients, call, items):
    """`call(client, item)` of each item, by as many threads as clients."""
    left, outcomes = iter(items), []
    lock = threading.Lock()

    def work(client):
        while True:
            with lock:
                item = next(left, None)
            if item is None:
                return
            outcomes.append((item, call(client, item)))

    workers = [threading.Thread(target=work, args=[client]) for client in clients]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return outcomes


def test_of_a_thousand_calls_only_those_that_crash_fail(tmp_path):
    ways = ("exit", "segfault", "kill")
    chance = random.Random(1)
    items = [chance.choice(ways) if chance.random() < 0.03 else n for n in range(1_000)]

    def outcome(client, item):
        try:
            if isinstance(item, str):
                client.call("fails", how=item)
            return client.call("numbers", upto=item)["n"].to_pylist() == list(range(item))
        except fl.FlightServerError as error:
            return "its process" in flight_code(error)[1] and isinstance(item, str)

    with host_of(tmp_path) as hosted:
        clients = [Client(hosted.port) for _ in range(8)]
        outcomes = in_parallel(clients, outcome, items)

    assert len(outcomes) == 1_000
    assert sum(isinstance(item, str) for item, _ in outcomes) > 10
    assert all(well for _, well in outcomes)


def test_two_gigabytes_arrive_without_as_much_memory_of_the_hosts_own(tmp_path):
    rows = 2 * 1024**3 // 8
    with host_of(tmp_path, "result_memory_bytes = 4_000_000_000") as hosted:
        hosted.call()
        before, most = status(hosted.pid, "RssAnon"), 0
        ended = threading.Event()

        def watch():
            nonlocal most
            while not ended.wait(0.02):
                most = max(most, status(hosted.pid, "RssAnon"))

        watching = threading.Thread(target=watch)
        watching.start()
        total = 0
        for chunk in hosted.flight.do_get(hosted.ticket("zeros", rows=rows)):
            total += chunk.data.num_rows
        ended.set()
        watching.join()

    assert total == rows
    assert most - before < 200e6


def test_nothing_is_left_over(tmp_path):
    log = tmp_path / "log"
    with host_of(tmp_path, "task_result_ttl_sec = 1") as hosted:
        hosted.call("numbers", upto=500_000)
        settled = descriptors(hosted.pid)
        for n in range(30):
            hosted.call("numbers", upto=500_000)
            hosted.ticket("numbers", upto=500_000)  # never read
            hosted.ticket("stream", upto=4, rows=100_000, log=f"{log}{n}")
            hosted.call("stream", upto=4, rows=100_000, log=f"{log}-{n}")
            if n % 10 == 0:
                failed(hosted, "fails", how="kill")
        memory = "flexhost-table"
        until(lambda: not any(memory in name for name in maps(hosted.pid)))
        # two for calls, a spare, the one that they are forked from, and the one that watches it
        until(lambda: len(children(hosted.pid)) == 5)
        until(lambda: len(descriptors(hosted.pid)) <= len(settled) + 2)
        below = children(hosted.pid)
        hosted.host.process.terminate()
        code, _ = hosted.host.ended()

    assert code == 0
    until(lambda: not any(map(alive, below)))


def maps(pid):
    return Path(f"/proc/{pid}/maps").read_text().splitlines()


def test_workers_end_with_a_host_that_is_killed(tmp_path):
    with host_of(tmp_path) as hosted:
        log = tmp_path / "log"
        calling = threading.Thread(target=failed, args=[hosted, "sleeps"], kwargs={"log": str(log)})
        calling.start()
        until(log.exists)
        below = children(hosted.pid)
        hosted.host.process.kill()
        calling.join(LONG)

    assert len(below) == 5
    until(lambda: not any(map(alive, below)))


def test_a_signal_to_all_processes_lets_calls_finish(tmp_path):
    log, results = tmp_path / "log", []
    with host_of(tmp_path) as hosted:
        call = lambda: results.append(hosted.call("waits", log=str(log), until=f"{log}-go"))  # noqa: E731
        calling = threading.Thread(target=call)
        calling.start()
        until(log.exists)
        for pid in [hosted.pid, *children(hosted.pid)]:
            os.kill(pid, signal.SIGTERM)
        hosted.host.line("stopping within")
        Path(f"{log}-go").touch()
        code, _ = hosted.host.ended()
        calling.join(LONG)

    assert code == 0
    assert results[0]["n"].to_pylist() == [1]


def test_what_on_load_opened_is_closed_in_each_worker(tmp_path):
    with host_of(tmp_path) as hosted:
        loaded = {hosted.call("whereabouts")["n"].to_pylist()[0] for _ in range(20)}
        until(lambda: len(children(hosted.pid)) == 5)
        hosted.host.process.terminate()
        hosted.host.ended()
    closed = (tmp_path / "closed").read_text().split()

    assert len(closed) == 3
    assert loaded <= set(map(int, closed))


def test_a_worker_makes_way_after_so_many_calls(tmp_path):
    with host_of(tmp_path, "process_recycle_calls = 3") as hosted:
        ran = [hosted.call("whereabouts")["n"].to_pylist()[0] for _ in range(30)]

    assert max(ran.count(pid) for pid in ran) <= 3


def test_a_worker_that_has_much_memory_makes_way(tmp_path):
    with host_of(tmp_path, "process_recycle_bytes = 400_000_000") as hosted:
        hosted.call("grows", bytes=1)
        kept = {hosted.call("grows", bytes=1)["n"].to_pylist()[0] for _ in range(10)}
        grown = [hosted.call("grows", bytes=500_000_000)["n"].to_pylist()[0] for _ in range(4)]

    assert len(kept) <= 3
    assert len(set(grown)) == 4


def test_memory_past_its_bound_fails_that_call_alone(tmp_path):
    with host_of(tmp_path, "process_memory_bytes = 1_000_000_000") as hosted:
        error = failed(hosted, "fails", how="memory")
        rows = hosted.call("numbers", upto=10).num_rows

    assert "MemoryError" in json.loads(error.extra_info)["detail"]
    assert rows == 10


def test_streams_past_their_bound_are_refused(tmp_path):
    log = str(tmp_path / "log")
    with host_of(tmp_path, "process_streams = 2") as hosted:
        tickets = [hosted.ticket("stream", upto=3, log=log) for _ in range(2)]
        error = failed(hosted, "stream", log=log)
        read = [hosted.read(ticket).num_rows for ticket in tickets]
        until(lambda: hosted.call("stream", upto=3, log=log).num_rows == 3)

    assert isinstance(error, fl.FlightUnavailableError)
    assert "2 streams of processes are open" in flight_code(error)[1]
    assert read == [3, 3]


def test_calls_run_while_as_many_streams_as_workers_wait_for_their_readers(tmp_path):
    with host_of(tmp_path) as hosted:
        for n in range(6):
            hosted.ticket("stream", upto=3, log=str(tmp_path / f"log{n}"))

        assert hosted.call("numbers", upto=4).num_rows == 4


def test_a_start_fails_when_workers_cannot_load_their_functions(tmp_path):
    broken = NUMBERS.replace(
        "    def call",
        '    Executor = "processes"\n'
        "    @staticmethod\n"
        '    def on_load(ctx): raise OSError("no database")\n'
        "    def call",
    )
    with process(tmp_path, broken) as host:
        code, log = host.ended()

    assert code == 1
    assert "flexhost: on_load of function 'numbers' failed: OSError: no database" in log


def test_a_start_fails_when_a_worker_ends_as_it_loads(tmp_path):
    broken = NUMBERS.replace(
        "    def call",
        '    Executor = "processes"\n'
        "    @staticmethod\n"
        "    def on_load(ctx): import os; os._exit(9)\n"
        "    def call",
    )
    with process(tmp_path, broken) as host:
        code, log = host.ended()

    assert code == 1
    assert "a worker process ended itself, with status 9 at its start" in log


def test_results_of_processes_count_in_the_budget(tmp_path):
    with host_of(tmp_path, "result_memory_bytes = 10_000_000") as hosted:
        tickets = [hosted.ticket("numbers", upto=500_000 + n) for n in range(5)]
        rows = [hosted.read(ticket).num_rows for ticket in tickets]
        mapped = [line for line in maps(hosted.pid) if "flexhost-table" in line]

    assert rows == [500_000 + n for n in range(5)]
    assert len(mapped) <= 2  # of 4 MB each; the others are in the spool


def test_operators_choose_processes_by_the_names_of_functions(tmp_path):
    module = NUMBERS.replace(
        'list(range(parameters.get("upto", 3)))', "[__import__('os').getpid()]"
    )
    with process(tmp_path, module, '[flexfun.executors]\n"num*" = "processes"') as host:
        (pid,) = Client(host.port()).call()["n"].to_pylist()

    assert pid != host.process.pid


def test_what_cannot_go_to_another_process_fails_its_call_alone(tmp_path):
    (tmp_path / "my_auth.py").write_text(
        "import sys, threading, types\n"
        "from flexhost import Caller\n"
        "here = sys.modules['only_here'] = types.ModuleType('only_here')\n"
        "here.Of = type('Of', (), {'__module__': 'only_here'})\n"
        "identities = {'odd': threading.Lock(), 'here': here.Of()}\n"
        "class Any:\n"
        "    @classmethod\n"
        "    def create(cls, ctx): return cls()\n"
        "    def verify(self, call_info, token):\n"
        "        return Caller(token, identity=identities.get(token))\n"
    )
    settings = "authentication_method = 'token'\ntoken_verification = 'my_auth'"
    module = NUMBERS.replace("    def call", '    Executor = "processes"\n\n    def call')
    with process(tmp_path, module, settings) as host:
        port = host.port()
        errors = [failed(Client(port, token), "numbers") for token in ("odd", "here")]
        rows = [Client(port, "well").call().num_rows for _ in range(4)]

    texts = [flight_code(error)[1] for error in errors]
    assert "what belongs to the call cannot go to another process" in texts[0]
    assert "what belongs to the call cannot be had in another process" in texts[1]
    assert rows == [3, 3, 3, 3]
