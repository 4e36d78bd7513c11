"""The host's side of a worker process; `worker.py` is what runs in it."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import pickle
import queue
import signal
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from flexhost.errors import FunctionFailed, StartError, text_of
from flexhost.workers import memory_files
from flexhost.workers.channel import Channel

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

_logger = logging.getLogger("flexhost")

# Seconds that a call has to end by itself when it is cancelled; then its process is killed.
GRACE = 0.2
# Seconds that a process has to end when it is told to: what `on_load` named is closed meanwhile.
LEAVE = 6.0

# Starts a process that talks over this socket.
Start = Callable[[socket.socket], "BaseProcess"]
# Has a log line of a worker written, in the context of the call that logged it.
Relay = Callable[[dict[str, Any], contextvars.Context], object]


class Owner(Protocol):
    """Who is told what becomes of a worker, by a thread of its own."""

    def ready(self, worker: WorkerProcess) -> None: ...

    def idle(self, worker: WorkerProcess) -> None: ...

    def gone(self, worker: WorkerProcess) -> None: ...

    def report(self, worker: WorkerProcess, name: str, status: str) -> None: ...

    def counted(self, worker: WorkerProcess, metrics: list[Any]) -> None: ...


class Task:
    """A call, as far as its worker is concerned. over: nothing more comes of it."""

    def __init__(self, call_id: str, context: contextvars.Context) -> None:
        self.call_id = call_id
        self.context = context
        self.begun = False
        self.over = threading.Event()
        self.answers: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()


class WorkerProcess:
    """start:     what it was made by.
    started:   it is ready (`was_ready`), or it failed, see `failure`.
    calls:     that it was given; `last_call` is the id of the last.
    resident:  bytes of memory it had after that; 0 where nothing is made of them.
    """

    def __init__(self, start: Start, owner: Owner, relay: Relay) -> None:
        self.start = start
        self.started = threading.Event()
        self.was_ready = False
        self.failure: StartError | None = None
        self.calls = 0
        self.last_call = ""
        self.resident = 0
        self.status: int | None = None
        self._owner = owner
        self._relay = relay
        self._task: Task | None = None
        self._ended_by_us = False
        self._lock = threading.Lock()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        try:
            with theirs:
                self._process = start(theirs)
        except BaseException:
            self._channel.close()
            raise
        name = f"worker process {self._process.pid}"
        self._receiver = threading.Thread(target=self._receive, name=name, daemon=True)
        self._receiver.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def begin(self, task: Task, *call: Any) -> None:
        """Raises EOFError when the process has ended, FunctionFailed for what cannot go there."""
        with self._lock:
            self._task = task
        self.calls += 1
        self.last_call = task.call_id
        try:
            given = pickle.dumps(call, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # of an object that a verifier made
            self._over("end", None)
            self._owner.idle(self)
            what = f"what belongs to the call cannot go to another process: {text_of(error)}"
            raise FunctionFailed(what) from None
        self._channel.send("call", task.call_id, given)

    def next(self, task: Task, carrier: dict[str, str] | None = None) -> None:
        """One more table of its stream is wanted, traced below this from now on."""
        if not task.over.is_set():
            self._tell("next", task.call_id, carrier)

    def end(self, task: Task) -> None:
        """Cancel a call, and kill the process if that does not end it."""
        if task.over.is_set():
            return
        self._tell("cancel", task.call_id)
        if task.over.wait(GRACE):
            return
        with self._lock:
            if self._task is task:
                self._ended_by_us = True
                self._kill()
                _logger.warning(
                    "a worker process was killed: its call did not end when it was cancelled",
                    extra={"fields": {"call_id": task.call_id, "pid": self.pid}},
                )

    def leave(self) -> None:
        """It ends when it has no call; otherwise at once."""
        self._ended_by_us = True
        self._channel.end()
        with self._lock:
            if self._task is not None:
                self._kill()

    def wait(self, seconds: float) -> None:
        """Until it is gone; then it is killed."""
        self._receiver.join(seconds)
        if self._receiver.is_alive():
            self._kill()
            self._receiver.join()

    @property
    def obituary(self) -> str:
        """How it ended."""
        if self._ended_by_us:
            return "was ended"
        if self.status is None or self.status >= 0:
            return f"ended itself, with status {self.status}"
        name = signal.Signals(-self.status).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"was ended by {name}{hint}"

    @property
    def ended_by_itself(self) -> bool:
        return not self._ended_by_us

    def _kill(self) -> None:
        """With what its functions have started, which is of its group."""
        assert self._process.pid  # of 0 would be the host's own group
        with contextlib.suppress(OSError):  # nobody is left, or the group is not there yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._channel.end()

    def _receive(self) -> None:
        try:
            while True:
                (kind, *values), fd = self._channel.receive()
                self._hear(kind, values, fd)
        except EOFError:
            pass
        except Exception:
            _logger.exception("what a worker process says cannot be understood")
        self._channel.end()
        self._process.join(LEAVE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._kill()
        self.status = self._process.exitcode
        self._channel.close()
        self._over("gone", None)
        self._owner.gone(self)
        self.started.set()

    def _hear(self, kind: str, values: list[Any], fd: int | None) -> None:
        task = self._task
        match kind:
            case "log":
                context = contextvars.Context() if task is None else task.context.copy()
                self._relay(values[0], context)
            case "ready":
                self.was_ready = True
                self._owner.ready(self)
                self.started.set()
            case "failed":
                text, trace = values
                self.failure = StartError(text, trace=trace)
            case "health":
                self._owner.report(self, *values)
            case "metrics":
                self._owner.counted(self, *values)
            case "idle":
                self.resident = values[0]
                self._over("end", None)
                self._owner.idle(self)
            case "begun" if task is not None:
                task.begun = True
            case "table" if task is not None:
                task.answers.put((kind, _table(values[0], fd)))
            case _ if task is not None:
                task.answers.put((kind, values[0]))

    def _over(self, kind: str, value: Any) -> None:
        with self._lock:
            task, self._task = self._task, None
        if task is not None:
            task.answers.put((kind, value))
            task.over.set()

    def _tell(self, *message: Any) -> None:
        try:
            self._channel.send(*message)
        except EOFError:
            return  # whoever waits is told that it is gone


def _table(data: bytes | None, fd: int | None) -> pa.Table:
    if fd is not None:
        return memory_files.mapped(fd)
    return pa.ipc.open_stream(data).read_all()
