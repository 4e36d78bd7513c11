"""Worker processes at moments that a caller cannot choose."""

from __future__ import annotations

import functools
import math
import signal
import socket
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from in_processes import FUNCTIONS
from support import KEEP, LONG, function

from flexhost.call import Call, running
from flexhost.caller import ANYONE
from flexhost.calls.arguments import accept
from flexhost.contract import Stream
from flexhost.errors import Cancelled, FunctionFailed
from flexhost.executors.processes import Remote
from flexhost.functions.describe import describe
from flexhost.settings import Server
from flexhost.telemetry.health import Health
from flexhost.workers import memory_files, worker_start
from flexhost.workers.channel import Channel
from flexhost.workers.worker import Worker
from flexhost.workers.worker_pool import WorkerPool


class InterruptedByAlarm(Exception):
    pass


def call_of(made, **parameters):
    return Call(
        describe(made), parameters, None, {}, deadline=math.inf, emit=lambda _: None, keep=KEEP
    )


def setup_of(module=""):
    return worker_start.Setup(
        modules=(module,),
        udfs=(),
        functions=frozenset(["hangs"]),
        fiscal_year_start_month=1,
        from_source=False,
        everything=None,
        location="grpc://127.0.0.1:1",
        levels={},
        memory_bytes=None,
        server=Server(),
    )


@pytest.fixture
def pool(tmp_path, monkeypatch):
    (tmp_path / "of_pool.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    pool = WorkerPool(1, streams=1, health=Health(), relay=lambda *_: None)
    pool.open(functools.partial(worker_start.start, setup_of("of_pool")))
    yield pool
    pool.close()


def test_a_call_is_ended_that_was_cancelled_as_it_got_its_worker(pool, tmp_path, monkeypatch):
    made = function(lambda *_: None, "hangs")
    call = call_of(made)
    parameters = {"how": "native", "log": str(tmp_path / "log")}
    remote = Remote(pool, "hangs", accept(call.function, parameters, None, {}, ANYONE))
    take = pool.take

    def cancelled_meanwhile(cancelled):
        worker = take(cancelled)
        remote.cancel()
        return worker

    monkeypatch.setattr(pool, "take", cancelled_meanwhile)
    ended = threading.Event()

    def run():
        running.set(call)
        with pytest.raises((Cancelled, FunctionFailed)):
            remote.call()
        ended.set()

    threading.Thread(target=run, daemon=True).start()

    assert ended.wait(LONG / 4)


def test_a_stream_is_not_cut_by_the_cancel_of_the_call_before():
    ours, theirs = socket.socketpair()
    ours.settimeout(LONG / 4)
    worker, host = Worker(Channel(theirs), setup_of()), Channel(ours)
    batches = [pa.record_batch({"n": [n]}) for n in range(3)]
    reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    made = function(lambda *_: reader)
    before, call = call_of(made), call_of(made)
    worker._inbox.put(("cancel", before, None))
    for _ in range(4):
        worker._inbox.put(("next", call, None))

    worker._give_out(call, Stream(reader, reader.schema, "numbers"))
    kinds = [host.receive()[0][0] for _ in range(4)]
    ours.close()
    theirs.close()

    assert kinds == ["table", "table", "table", "end"]


def test_a_table_in_a_memory_file_keeps_no_descriptor():
    table = pa.table({"n": range(10)})
    before = len(list(Path("/proc/self/fd").iterdir()))
    mapped = [memory_files.mapped(memory_files.written(table)) for _ in range(20)]
    after = len(list(Path("/proc/self/fd").iterdir()))

    assert after == before
    assert all(one.equals(table) for one in mapped)


def test_a_message_that_an_alarm_broke_off_is_the_last_one():
    ours, theirs = socket.socketpair()
    theirs.settimeout(LONG / 4)
    sender, receiver = Channel(ours), Channel(theirs)

    def alarm(*_):
        raise InterruptedByAlarm

    before = signal.signal(signal.SIGALRM, alarm)
    main = threading.get_ident()

    def alarm_in_midst():
        theirs.recv(1, socket.MSG_PEEK)
        signal.pthread_kill(main, signal.SIGALRM)

    threading.Thread(target=alarm_in_midst).start()
    with pytest.raises(InterruptedByAlarm):
        sender.send("log", "x" * 10_000_000)  # more than waits in a socket
    signal.signal(signal.SIGALRM, before)

    with pytest.raises(EOFError):
        sender.send("idle")
    with pytest.raises(EOFError):
        receiver.receive()
    ours.close()
    theirs.close()
