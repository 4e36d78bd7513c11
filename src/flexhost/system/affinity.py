"""On which cores a thread runs, where the system lets it be said (Linux).

gRPC makes a thread for each request. Spread over cores, they hand the interpreter from one to the
other, which costs more than all that they do: with them on one core, and what they wait for too, 32
callers get twice as much, and refusing 2,000 at once takes a third of the CPU (measured).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ALL: set[int] = set(getattr(os, "sched_getaffinity", lambda _: ())(0))
_home: set[int] = set()


def keep_requests_on(cores: int) -> None:
    """How many cores handle requests from now on; 0 for all. To be called before any is handled."""
    _home.clear()
    _home.update(_near(cores) if cores else _ALL)


def home() -> set[int]:
    """Where requests are handled. Empty where nothing can be said."""
    if not _home:
        _home.update(_near(1))
    return set(_home)


@contextmanager
def at_home() -> Iterator[None]:
    """Threads that are started in here stay where requests are handled, as do those they start, and
    are patient: see `_run_as`."""
    go_home()
    before = _run_as(_BATCH)
    try:
        yield
    finally:
        _run_as(before)
        on_every_core()


@contextmanager
def everywhere() -> Iterator[None]:
    """For what makes a pool of threads that is to last: it would be as narrow as this thread."""
    before = os.sched_getaffinity(0) if _ALL else set()
    on_every_core()
    try:
        yield
    finally:
        _run_on(before)


def go_home() -> None:
    """This thread runs where requests are handled."""
    _run_on(home())


def on_every_core() -> None:
    """This thread, whoever started it, runs on every core that the process had at its start."""
    _run_on(_ALL)


class Cores:
    """Those of the thread that makes this, which may be told by others, too, to use all of them."""

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self._everywhere: bool | None = None
        self._lock = threading.Lock()

    def confine(self) -> None:
        """To where requests are handled."""
        if self._everywhere is not False:
            self._move(everywhere=False)

    def widen(self) -> None:
        if self._everywhere is not True:
            self._move(everywhere=True)

    def cpu(self) -> float:
        """Seconds of CPU time that the thread has taken; nothing where that cannot be told."""
        try:
            # as pthread_getcpuclockid does, which must not be asked of a thread that ended
            return time.clock_gettime(~self._thread << 3 | 6)
        except (AttributeError, OSError):
            return 0.0

    def leave(self) -> None:
        """The thread ends: another one may have its number."""
        with self._lock:
            self._thread = 0

    def _move(self, *, everywhere: bool) -> None:
        with self._lock:
            self._everywhere = everywhere
            if self._thread:
                _run_on(_ALL if everywhere else home(), self._thread)


def _run_on(cores: set[int], thread: int = 0) -> None:
    if cores:
        with suppress(OSError):  # not allowed here: nothing is lost but speed
            os.sched_setaffinity(thread, cores)


def _run_as(policy: int | None) -> int | None:
    """Have the system schedule this thread by this policy, and by which it did before; None where
    that cannot be told, or was somebody's choice.

    SCHED_BATCH: a thread that is woken waits until the one that runs has to wait itself. Else the
    one that lets go of the interpreter for a moment, which wakes who waits for it, is put aside at
    once, and finds it taken when it goes on.
    """
    try:
        before = os.sched_getscheduler(0)
        if policy is None or before not in (os.SCHED_OTHER, os.SCHED_BATCH):
            return None
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except (AttributeError, OSError):  # no Linux, or not allowed here: nothing is lost but speed
        return None
    return before


_BATCH = getattr(os, "SCHED_BATCH", None)


def _near(number: int) -> set[int]:
    """So many cores, from the one on which the system has put this thread: hosts that share a
    machine do not all take its first."""
    cores = sorted(_ALL)
    begin = cores.index(here) if (here := _here()) in _ALL else 0
    return set((cores[begin:] + cores[:begin])[:number])


def _here() -> int:
    try:
        fields = Path("/proc/thread-self/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[36])
    except (OSError, LookupError, ValueError):
        return -1
