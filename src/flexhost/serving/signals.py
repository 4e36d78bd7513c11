"""What ends the process: the first signal asks it to, the second one does."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

from flexhost.observability import Telemetry

# Seconds for what should take none once everything ended: closing listeners, leaving the process.
LAST = 1.0


class Signals:
    """The first SIGTERM or SIGINT ends `wait`; the second ends the process with status 1.

    Before the functions are loaded there is nothing to drain: the first ends the process then.

    A thread reads what the system's own handler writes into a socket. Python's handlers run only
    between two steps of the main thread, which may be inside pyarrow or a function's import for
    long, and one that comes just before it waits for a lock goes unnoticed.
    """

    def __init__(self, drain: float, telemetry: Telemetry) -> None:
        self.loaded = False
        self.at_once: Callable[[], object] | None = None  # what is done even so
        self._drain = drain
        self._telemetry = telemetry
        self._came = threading.Lock()
        self._came.acquire()
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno())
        for number in _STOPPING:
            signal.signal(number, lambda *_: None)
        threading.Thread(target=self._read, name="signals", daemon=True).start()

    def wait(self) -> None:
        self._came.acquire()

    def _read(self) -> None:
        self._next()
        if not self.loaded:
            self._clean_up()
            self._telemetry.close(LAST)
            leave(0, LAST)
        # for a function that never lets go of the interpreter: this needs no Python to end it. By
        # its number, as sys.stderr would be flushed first, for which there may be no end
        faulthandler.dump_traceback_later(self._drain + 3 * LAST + 10, exit=True, file=_STDERR)
        self._came.release()
        self._next()
        self._clean_up()
        self._telemetry.close(LAST)
        leave(1, LAST)

    def _clean_up(self) -> None:
        if self.at_once is not None:
            self.at_once()

    def _next(self) -> None:
        while self._woken.recv(1)[0] not in _STOPPING:
            pass


_STOPPING = (signal.SIGTERM, signal.SIGINT)
_STDERR = 2


def leave(status: int, patience: float | None = None) -> NoReturn:
    """End the process now, whatever its threads do: the interpreter cannot be taken down under
    functions that are at work in native code (measured: it aborts).

    patience: seconds for what is written last. None waits for whoever reads it.
    """
    # in a thread: it waits for whoever is at work in a handler, for ever if its log is stuck
    flushing = threading.Thread(target=_flush, name="flush", daemon=True)
    with contextlib.suppress(RuntimeError):  # there is no thread to spare
        flushing.start()
        flushing.join(patience)
    os._exit(status)


def _flush() -> None:
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
