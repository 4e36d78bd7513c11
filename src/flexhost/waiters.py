"""Who is still waiting for a call.

Handlers wait without a timeout, since timed waits in thousands of handlers starve the workers; one
thread looks for them whether their callers are still there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flexhost.call import Call

# Asking gRPC whether a caller left costs 20 to 75 µs: each is asked this often, in seconds.
EVERY = 0.4


class Waiters:
    def __init__(self) -> None:
        self._waiters: set[_Waiter] = set()

    @contextmanager
    def waiting(self, call: Call, gone: Callable[[], bool]) -> Iterator[None]:
        """gone: whether the caller has left. It is never asked after this ends, because a request's
        context must not be touched once its request is over."""
        waiter = _Waiter(call, gone)
        call.join()
        self._waiters.add(waiter)
        try:
            yield
        finally:
            self._waiters.discard(waiter)
            waiter.leave()

    def look(self, now: float) -> None:
        """Callers who have gone wait no more."""
        for waiter in list(self._waiters):
            waiter.look(now)


class _Waiter:
    def __init__(self, call: Call, gone: Callable[[], bool]) -> None:
        self._call = call
        self._gone: Callable[[], bool] | None = gone
        self._due = 0.0
        self._lock = threading.Lock()

    def look(self, now: float) -> None:
        if now < self._due:
            return
        self._due = now + EVERY
        with self._lock:
            if self._gone is not None and self._gone():
                self._leave()

    def leave(self) -> None:
        with self._lock:
            self._leave()

    def _leave(self) -> None:
        if self._gone is not None:
            self._gone = None
            self._call.leave()
