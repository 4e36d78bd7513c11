"""Who is still there: callers that wait for a call, and readers of a stream.

Handlers wait without a timeout, since timed waits in thousands of handlers starve the workers; one
thread asks for them whether their callers have gone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

# Asking gRPC whether a caller left costs 20 to 75 µs, in which nobody else has the interpreter:
# each is asked this often, in seconds, and none that is here for a shorter time.
EVERY = 0.35


class Waiters:
    def __init__(self) -> None:
        self._waiters: set[Waiter] = set()

    def enter(self, gone: Callable[[], bool], left: Callable[[bool], object]) -> Waiter:
        """gone: whether the caller has left; never asked after `leave` returned, because a
        request's context must not be touched once its request is over.
        left: called once, when the caller is found gone (True) or leaves by itself (False).
        """
        waiter = Waiter(self, gone, left)
        self._waiters.add(waiter)
        return waiter

    def look(self, now: float) -> None:
        for waiter in list(self._waiters):
            waiter.look(now)

    def discard(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)


class Waiter:
    def __init__(
        self, waiters: Waiters, gone: Callable[[], bool], left: Callable[[bool], object]
    ) -> None:
        self._waiters = waiters
        self._gone: Callable[[], bool] | None = gone
        self._left = left
        self._due: float | None = None
        self._lock = threading.Lock()

    def look(self, now: float) -> None:
        if self._due is None or now >= self._due:
            first, self._due = self._due is None, now + EVERY
            if not first:
                self._ask()

    def _ask(self) -> None:
        with self._lock:
            if self._gone is None or not self._gone():
                return
            self._gone = None
        self._leave(found_gone=True)

    def leave(self) -> None:
        """The caller waits no more. Any number of times."""
        with self._lock:
            there, self._gone = self._gone is not None, None
        if there:
            self._leave(found_gone=False)

    def _leave(self, *, found_gone: bool) -> None:
        self._waiters.discard(self)
        self._left(found_gone)
