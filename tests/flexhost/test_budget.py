"""A host that keeps its results within a budget, over real sockets and in a process of its own."""

from __future__ import annotations

import signal
import stat
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, Client, flight_code, function, process, serving, until

from flexhost.settings import Server
from flexhost.storage.retained import Retained
from flexhost.storage.spool import Spool
from flexhost.system import memory

ROWS = 10_000
SIZE = 8 * ROWS + 800

COUNTING = """
import pyarrow as pa
from flexhost import FlexFun

class Numbers(FlexFun):
    Name = "numbers"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        first = parameters["first"]
        return pa.table({"n": pa.array(range(first, first + 10_000), pa.int64())})
"""


def table(first):
    return pa.table({"n": pa.array(range(first, first + ROWS), pa.int64())})


def counting(parameters, columns, headers):
    return table(parameters["first"])


def settings(tmp_path, spool=1 << 30):
    return (
        f"result_memory_bytes = {2 * SIZE}\nresult_spool_bytes = {spool}\n"
        f"result_spool_dir = '{tmp_path / 'spool'}'\n"
    )


def spooled(tmp_path):
    return sorted((tmp_path / "spool").glob("*/*"))


def test_results_past_the_budget_are_read_from_the_spool_as_they_were(tmp_path):
    with process(tmp_path, COUNTING, settings(tmp_path)) as host:
        client = Client(host.port())
        tickets = [client.ticket(first=n) for n in range(10)]

        assert len(spooled(tmp_path)) == 8
        assert [client.read(ticket) for ticket in tickets] == [table(n) for n in range(10)]
        assert [client.read(ticket) for ticket in tickets] == [table(n) for n in range(10)]


def test_files_are_private_and_removed_when_the_host_stops(tmp_path):
    with process(tmp_path, COUNTING, settings(tmp_path)) as host:
        client = Client(host.port())
        for n in range(4):
            client.call(first=n)
        files = spooled(tmp_path)
        assert len(files) == 2
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}

        host.process.send_signal(signal.SIGTERM)
        assert host.ended()[0] == 0

    assert list((tmp_path / "spool").iterdir()) == []


def test_files_are_removed_also_when_a_second_signal_ends_the_host(tmp_path):
    slow = COUNTING.replace(
        'first = parameters["first"]\n',
        'first = parameters["first"]\n'
        "        if first == 99:\n"
        "            import sys, threading\n"
        "            print('waits', file=sys.stderr, flush=True)\n"
        "            threading.Event().wait()\n",
    )
    with process(tmp_path, slow, settings(tmp_path) + "drain_sec = 1000\n") as host:
        client = Client(host.port())
        for n in range(4):
            client.call(first=n)
        asking = threading.Thread(target=ask_in_vain, args=[client])
        asking.start()
        host.line("waits")
        host.process.send_signal(signal.SIGTERM)
        host.line("stopping within")
        host.process.send_signal(signal.SIGTERM)
        assert host.ended()[0] == 1
        asking.join(LONG)

    assert list((tmp_path / "spool").iterdir()) == []


def ask_in_vain(client):
    with pytest.raises(fl.FlightError):
        client.call(first=99)


def test_files_go_when_their_results_expire(tmp_path):
    more = settings(tmp_path) + "task_result_ttl_sec = 0.1\n"
    with process(tmp_path, COUNTING, more) as host:
        client = Client(host.port())
        for n in range(4):
            client.ticket(first=n)

        until(lambda: spooled(tmp_path) == [])


def test_what_a_killed_host_left_over_goes_at_the_next_start(tmp_path):
    with process(tmp_path, COUNTING, settings(tmp_path)) as host:
        client = Client(host.port())
        for n in range(4):
            client.ticket(first=n)
        host.process.kill()
        host.ended()
    assert len(spooled(tmp_path)) == 2

    with process(tmp_path, COUNTING, settings(tmp_path)) as host:
        host.port()
        assert spooled(tmp_path) == []


def test_a_host_that_cannot_start_leaves_no_folder(tmp_path):
    with process(tmp_path, "raise RuntimeError('broken')", settings(tmp_path)) as host:
        assert host.ended()[0] == 1

    assert list((tmp_path / "spool").iterdir()) == []


def test_the_spool_is_below_the_place_for_temporary_files_unless_it_is_told(tmp_path):
    (tmp_path / "tmp").mkdir()
    with process(tmp_path, COUNTING, TMPDIR=str(tmp_path / "tmp")) as host:
        host.port()
        [folder] = (tmp_path / "tmp").iterdir()

    assert folder.name.startswith("flexhost-spool-")


def test_a_place_for_the_spool_that_cannot_be_used_ends_the_start(tmp_path):
    (tmp_path / "spool").write_text("a file")
    with process(tmp_path, COUNTING, settings(tmp_path)) as host:
        status, told = host.ended()

    assert status == 2
    assert "result_spool_dir" in told
    assert "Traceback" not in told


def test_without_a_spool_no_folder_is_made(tmp_path):
    (tmp_path / "tmp").mkdir(mode=0o500)
    off = "result_spool_bytes = 0"
    with process(tmp_path, COUNTING, off, TMPDIR=str(tmp_path / "tmp")) as host:
        assert Client(host.port()).call(first=1) == table(1)
        assert list((tmp_path / "tmp").iterdir()) == []


def test_past_the_limit_of_the_spool_calls_are_refused_until_there_is_room(tmp_path):
    retained = Retained(SIZE, Spool(SIZE, tmp_path))
    runs = []

    def call(parameters, columns, headers):
        runs.append(1)
        return counting(parameters, columns, headers)

    with serving(function(call), ttl=2.0, retained=retained) as client:
        tickets = [client.ticket(first=n) for n in range(2)]
        with pytest.raises(fl.FlightUnavailableError, match="are taken") as refused:
            client.ticket(first=2)
        assert flight_code(refused.value)[0] == 102
        with pytest.raises(fl.FlightUnavailableError):
            client.ticket(first=2)
        assert len(runs) == 3  # the last was refused before it ran

        assert [client.read(ticket) for ticket in tickets] == [table(0), table(1)]
        until(lambda: len(client.results) == 0)
        assert client.call(first=2) == table(2)


def test_a_table_goes_soon_after_it_was_read_when_that_is_wanted():
    with serving(function(counting), after_read=0.0) as client:
        read, unread = client.ticket(first=0), client.ticket(first=1)
        client.read(read)

        until(lambda: len(client.results) == 1)
        with pytest.raises(fl.FlightServerError) as gone:
            client.read(read)
        assert flight_code(gone.value)[0] == 4
        assert client.read(unread) == table(1)


def test_a_table_that_was_read_halfway_stays():
    rows = 2_000_000  # more than what is sent ahead of a reader

    def large(*_):
        return pa.table({"n": pa.array(range(rows), pa.int64())})

    with serving(function(large), after_read=0.0) as client:
        ticket = client.ticket()
        reader = client.flight.do_get(ticket)
        reader.read_chunk()
        reader.cancel()
        del reader
        until(lambda: client.results.open == [])
        client.results.expire(time.monotonic() + 2)

        assert client.read(ticket).num_rows == rows


@pytest.mark.parametrize(("after_read", "seconds"), [(None, 60.0), (5.0, 5.0), (90.0, 60.0)])
def test_the_expiry_that_is_told_is_the_earliest_there_may_be(after_read, seconds):
    with serving(function(counting), ttl=60.0, after_read=after_read) as client:
        before = time.time()
        [endpoint] = client.info(
            b'{"functionName": "numbers", "parameters": {"first": 1}}'
        ).endpoints

    assert seconds - 1 <= endpoint.expiration_time.as_py().timestamp() - before <= seconds + 1


def test_a_quarter_of_the_memory_is_for_results_unless_it_is_told():
    assert Server().result_memory_bytes is None
    assert 1 << 20 < memory.available() < 1 << 50


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "1000"}, [1000]),
        ("0::/", {"memory.max": "2000"}, [2000]),
        ("0::/of/the/machine", {"memory.max": "3000"}, [3000]),
        ("4:cpu,memory:/a", {"memory/a/memory.limit_in_bytes": "4000"}, [4000]),
        ("4:cpu:/a\n0::/", {}, []),
    ],
)
def test_the_limit_of_a_container_counts(tmp_path, groups, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")

    assert list(memory.limits_of_groups(groups, tmp_path)) == limit


def test_memory_that_was_freed_is_given_back_by_the_threads_that_have_it(monkeypatch):
    gave = []
    monkeypatch.setattr("flexhost.system.memory.give_back", lambda: gave.append(1))
    monkeypatch.setattr("flexhost.system.memory.MUCH", SIZE)
    monkeypatch.setattr("flexhost.system.memory.SOON", 0.0)
    with serving(function(counting), threads=2, ttl=0.0, trim_every=1e6) as client:
        client.call(first=0)
        client.call(first=1)

        until(lambda: len(gave) >= 2)  # a closing thread, and the worker
