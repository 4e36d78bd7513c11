"""A few daemon threads for what may block: an author's `finally` when a stream is closed aside."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

Job = Callable[[], object]


class Closers:
    """Started when first needed. Jobs beyond `threads` wait: one that never ends costs a thread.
    name: of the threads.

    An exception of a job goes to `threading.excepthook`, and no further.
    """

    def __init__(self, threads: int, name: str = "closer") -> None:
        self._threads = threads
        self._name = name
        self._started = 0
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)
        with self._lock:
            if self._started == self._threads:
                return
            self._started += 1
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError:  # no thread to spare now: the next job tries again
            with self._lock:
                self._started -= 1

    def close(self) -> None:
        """The threads leave when they have done what was submitted before."""
        with self._lock:
            for _ in range(self._started):
                self._jobs.put(None)
            self._started = 0

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except BaseException as error:
                args = (type(error), error, error.__traceback__, threading.current_thread())
                threading.excepthook(threading.ExceptHookArgs(args))
            del job
