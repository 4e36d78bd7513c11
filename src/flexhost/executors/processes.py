"""Runs calls in worker processes: every core for functions that compute in Python.

A thread of `Threads` waits for each call that runs in a process, so queue, bounds and deadlines are
as for threads. What a function gives is made and fitted in its worker (`workers/worker.py`).
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from typing import Any

import pyarrow as pa

from flexhost.call import running
from flexhost.calls.arguments import Arguments
from flexhost.errors import Busy, FunctionFailed
from flexhost.function import Elsewhere
from flexhost.workers.packed import packed
from flexhost.workers.worker_pool import WorkerPool
from flexhost.workers.worker_process import Task, WorkerProcess

# Workers that a call is given, one after another, when they end before they have begun with it.
_TRIES = 3


def elsewhere(pool: WorkerPool, name: str) -> Elsewhere:
    """See `Function.elsewhere`. name: of the function."""
    return lambda arguments: Remote(pool, name, arguments)


class Remote:
    """Stands for the object of a call that runs in a worker process."""

    def __init__(self, pool: WorkerPool, name: str, arguments: Arguments) -> None:
        self._pool = pool
        self._name = name
        self._arguments = arguments
        self._cancelled = False
        self._at: tuple[WorkerProcess, Task] | None = None
        self._lock = threading.Lock()

    def call(self, *_: Any, **__: Any) -> pa.Table | RemoteStream:
        """Raises the error of the call, and FunctionFailed when its process has ended."""
        call = running.get()
        assert call is not None
        arguments = self._arguments
        given = (
            self._name,
            packed(arguments.parameters),
            arguments.hint,
            arguments.headers,
            arguments.caller,
            _carrier(),
        )
        kind: str = "gone"
        value: Any = None
        for _try in range(_TRIES):
            worker = self._pool.take(lambda: self._cancelled)
            task = Task(call.id, contextvars.copy_context())
            try:
                worker.begin(task, *given)
            except EOFError:
                continue
            with self._lock:
                self._at = worker, task
                cancelled = self._cancelled
            if cancelled:  # when there was nothing to end yet
                worker.end(task)
            kind, value = task.answers.get()
            if kind != "gone" or task.begun or self._cancelled:
                break
        return self._answer(worker, task, kind, value)

    def cancel(self) -> bool:
        with self._lock:
            self._cancelled, at = True, self._at
        self._pool.wake()
        if at is not None:
            worker, task = at
            worker.end(task)
        return True

    def _answer(
        self, worker: WorkerProcess, task: Task, kind: str, value: Any
    ) -> pa.Table | RemoteStream:
        if kind == "table":
            return value
        if kind != "stream":
            raise _failed(self._name, worker, kind, value)
        try:
            self._pool.lend(worker, task)
        except Busy:
            worker.end(task)
            raise
        return RemoteStream(self._name, worker, task, value)


class RemoteStream:
    """A `contract.Reader` of what a function gives in its worker process, which it keeps until the
    end. One table is asked for ahead of the reader. One thread reads, any may interrupt."""

    def __init__(self, name: str, worker: WorkerProcess, task: Task, schema: bytes) -> None:
        self._name = name
        self._worker = worker
        self._task = task
        self.schema: pa.Schema = pa.ipc.read_schema(pa.py_buffer(schema))
        self._asked = False
        self._batches: deque[pa.RecordBatch] = deque()

    def read_next_batch(self) -> pa.RecordBatch:
        """Raises StopIteration, the error of the function, and FunctionFailed when its process has
        ended."""
        while not self._batches:
            if not self._asked:
                self._asked = True
                self._worker.next(self._task, _carrier())
            self._worker.next(self._task)
            kind, value = self._task.answers.get()
            if kind != "table":
                self._task.answers.put((kind, value))  # for whoever asks again
                if kind == "end":
                    raise StopIteration
                raise _failed(self._name, self._worker, kind, value)
            self._batches.extend(value.to_batches())
        return self._batches.popleft()

    def interrupt(self) -> None:
        """Nobody reads any more: the worker closes it, and is killed if it does not."""
        if not self._task.over.is_set():  # aside, for that takes its time
            threading.Thread(
                target=self._worker.end, args=[self._task], name="cancel", daemon=True
            ).start()

    def __del__(self) -> None:
        self.interrupt()


def _carrier() -> dict[str, str]:
    """Headers that name the span which is current."""
    call = running.get()
    return {} if call is None or call.spans is None else call.spans.carrier()


def _failed(name: str, worker: WorkerProcess, kind: str, value: Any) -> BaseException:
    if kind == "error":
        assert isinstance(value, BaseException)
        return value
    return FunctionFailed(f"function {name!r}: its process {worker.obituary}", no_result=True)
