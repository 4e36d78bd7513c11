"""Runs calls on threads: the default executor."""

from __future__ import annotations

import threading

from flexhost.call import Call
from flexhost.call_queue import CallQueue
from flexhost.closers import Closers
from flexhost.errors import Busy


class Threads:
    """At most `threads` calls at once, `waiting` more in the queue; a thread starts when there is
    work for it. The threads are daemons: a function that never returns cannot hold the process."""

    def __init__(self, threads: int, waiting: int, closers: Closers) -> None:
        self._queue = CallQueue(waiting, threads)
        self._closers = closers

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    @property
    def running(self) -> int:
        return self._queue.running

    def submit(self, call: Call) -> None:
        """Raises Busy."""
        if self._queue.put(call):
            try:
                threading.Thread(target=self._work, name="worker", daemon=True).start()
            except RuntimeError as error:  # the system has no thread to spare
                self._queue.worker_lost()
                if self._queue.discard(call):
                    raise Busy(f"no thread can be started: {error}") from None

    def cancel(self, call: Call) -> None:
        """The call leaves the queue, or its function is asked to cancel: aside, for that may
        block."""
        if not self._queue.discard(call):
            self._closers.submit(call.ask_to_cancel)

    def close(self) -> None:
        self._queue.close()

    def _work(self) -> None:
        call: Call | None = None
        while (call := self._queue.take(call)) is not None:
            call.run()
