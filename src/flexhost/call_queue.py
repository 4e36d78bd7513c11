"""Where accepted calls wait for a worker, and which of them a worker has."""

from __future__ import annotations

import threading
from collections import OrderedDict

from flexhost.call import Call
from flexhost.errors import Busy


class CallQueue:
    """First in, first out. Refuses instead of growing: a caller told `Busy` can go elsewhere, a
    caller left waiting in a long queue cannot.

    size:    calls that may wait while every worker has one.
    workers: calls that may run at once. A worker is a thread that comes back with `take`.
    """

    def __init__(self, size: int, workers: int) -> None:
        self._size = size
        self._workers = workers
        self._started = 0  # workers that were told to start and have not left
        self._waiting: OrderedDict[Call, None] = OrderedDict()
        self._running: set[Call] = set()
        self._closed = False
        self._changed = threading.Condition(threading.Lock())

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def put(self, call: Call) -> bool:
        """Whether one more worker has to be started for it. Raises Busy."""
        with self._changed:
            if len(self._waiting) + len(self._running) >= self._size + self._workers:
                raise Busy(f"{self._workers} calls run and {len(self._waiting)} are waiting")
            self._waiting[call] = None
            idle = self._started - len(self._running)
            if len(self._waiting) > idle and self._started < self._workers:
                self._started += 1
                return True
            self._changed.notify()
            return False

    def take(self, done: Call | None = None) -> Call | None:
        """The next call, waiting for it; `done` is the one that this worker had before.

        None: the worker leaves, because the queue is closed.
        """
        with self._changed:
            if done is not None:
                self._running.discard(done)
            while not self._waiting:
                if self._closed:
                    self._started -= 1
                    return None
                self._changed.wait()
            call, _ = self._waiting.popitem(last=False)
            self._running.add(call)
            return call

    def discard(self, call: Call) -> bool:
        """Take a call out. Whether it was still waiting."""
        with self._changed:
            return self._waiting.pop(call, self) is None

    def worker_lost(self) -> None:
        """A worker that was told to start could not."""
        with self._changed:
            self._started -= 1

    def close(self) -> None:
        """Workers leave once no call waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
