"""On which cores a thread runs, where the system lets it be said (Linux).

gRPC makes a thread for each request. Spread over cores, thousands of them hand the interpreter from
core to core: on one core, refusing 2,000 callers at once takes a third of the CPU (measured).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_ALL: set[int] = set(getattr(os, "sched_getaffinity", lambda _: ())(0))


@contextmanager
def on_one_core() -> Iterator[None]:
    """Threads that are started in here stay on one core, as do those that they start."""
    on_first_core()
    try:
        yield
    finally:
        on_every_core()


def on_first_core() -> None:
    """This thread runs where the threads of gRPC do."""
    _run_on({min(_ALL)} if _ALL else set())


def on_every_core() -> None:
    """This thread, whoever started it, runs on every core that the process had at its start."""
    _run_on(_ALL)


def _run_on(cores: set[int]) -> None:
    if cores:
        with suppress(OSError):  # not allowed here: nothing is lost but speed
            os.sched_setaffinity(0, cores)
