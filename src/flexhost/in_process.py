"""Functions called in this process, through the same host as over a wire."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flexhost.caller import ANYONE, Caller
from flexhost.executors.threads import Threads
from flexhost.function import Headers
from flexhost.host import TICK, Host
from flexhost.results import Results
from flexhost.storage.reading import Reading
from flexhost.system.closers import Closers
from flexhost.telemetry.events import Emit

# Seconds that a call may take, and that its result may be left unread.
DEADLINE = 180.0
# Seconds for functions that were asked to cancel.
_LAST = 1.0


@contextmanager
def hosting(*, deadline: float = DEADLINE, emit: Emit = lambda event: None) -> Iterator[Host]:
    """A host without a front end, that serves nothing before `open`. Calls and reads that are left
    at the end are stopped."""
    closers = Closers(2)
    results = Results(deadline, closers, emit)
    threads = Threads(4, 256, emit)
    host = Host(threads, results, closers, deadline=deadline, emit=emit)
    try:
        yield host
    finally:
        host.drain(0)
        _let_end(host)
        host.close()
        threads.join(_LAST)


def call(
    host: Host,
    name: str,
    parameters: dict[str, Any],
    columns: tuple[str, ...] | None = None,
    headers: Headers | None = None,
    caller: Caller = ANYONE,
) -> Reading:
    """The result of a call, to be closed. Raises HostError."""
    made = host.submit(name, parameters, columns, headers or {}, caller=caller)
    host.wait(made, lambda: False)
    return host.read(made.id, caller=caller)


def _let_end(host: Host) -> None:
    end = time.monotonic() + _LAST
    while (now := time.monotonic()) < end:
        host.look(now)
        if not host.at_work:
            return
        threading.Event().wait(TICK / 5)
