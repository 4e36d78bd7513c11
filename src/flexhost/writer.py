"""The one thread that writes the log, so that nobody else waits for it."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

_logger = logging.getLogger("flexhost")
_T = TypeVar("_T")

# Lines are written once none came for _BATCH seconds, or after _LONGEST. In a burst the writer
# would else compete for the interpreter with every request that comes: measured with 2,000 of them,
# that costs a request more than everything else.
_BATCH = 0.05
_LONGEST = 1.0
# What may wait to be written: lines, and characters of their texts. Past it lines are only counted:
# a log that cannot be written must not take the memory of the host.
MOST = 50_000
MOST_TEXT = 64 << 20
# So many are no burst any more: who waits on loses lines.
_MANY = 5_000


class Writer:
    """Never raises: a broken log must not cost a call."""

    def __init__(self) -> None:
        self.left_out = 0
        self._lines: queue.SimpleQueue[tuple[Callable[[], object], int] | None]
        self._lines = queue.SimpleQueue()
        self._text = 0  # characters that wait
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def later(self, write: Callable[[], object], size: int = 0) -> bool:
        """Whether `write` is called in its turn, or left out since too many wait. False for whoever
        has to do it: the writer itself, and everybody once this is closed.

        size: characters of what it writes.
        """
        if self._closing.is_set() or threading.current_thread() is self._thread:
            return False
        with self._lock:
            if self._lines.qsize() > MOST or self._text > MOST_TEXT:
                self.left_out += 1
            else:
                self._text += size
                self._lines.put((write, size))
        return True

    def close(self, seconds: float) -> None:
        """Write what came until now, for at most so long."""
        self._closing.set()
        self._lines.put(None)
        self._thread.join(seconds)
        while not (self._thread.is_alive() or self._lines.empty()):
            self._write(self._lines.get())  # what came together with the end

    def _write_all(self) -> None:
        while True:
            line = self._lines.get()
            wait_for_quiet(self._lines, self._closing)
            while line is not None:
                self._write(line)
                if self._lines.empty():
                    break
                line = self._lines.get()
            if line is None:
                return
            del line  # and with it what it was logged in
            if self.left_out:
                left_out, self.left_out = self.left_out, 0
                _logger.error("%d lines are left out: the log is too slow", left_out)

    def _write(self, line: tuple[Callable[[], object], int] | None) -> None:
        if line is None:
            return
        write, size = line
        try:
            write()
        except Exception:
            _logger.exception("a line of the log was lost")
        with self._lock:
            self._text -= size


def wait_for_quiet(came: queue.SimpleQueue[_T], closing: threading.Event) -> None:
    """Until nothing more comes, for a while."""
    until = time.monotonic() + _LONGEST
    before = -1
    while before != came.qsize() < _MANY and time.monotonic() < until:
        before = came.qsize()
        closing.wait(_BATCH)
