"""Who is still there: callers that wait for a call, and readers of a stream.

Handlers wait without a timeout, since timed waits in thousands of handlers starve the workers; one
thread asks for them whether their callers have gone.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

# Each is asked this often, in seconds, and none that is here for a shorter time.
EVERY = 0.35
# Asking gRPC whether a caller left costs 20 to 75 µs, in which nobody else has the interpreter. So
# no look goes on when so many were still there: thousands are asked more seldom each. Those that
# left do not count, so that when thousands do at once, they are found at once.
AT_ONCE = 32


class Waiters:
    """clock: monotonic seconds, those that `look` is told."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # in the order in which they are due; those that left meanwhile too
        self._waiters: deque[Waiter] = deque()

    def enter(self, gone: Callable[[], bool], left: Callable[[bool], object]) -> Waiter:
        """gone: whether the caller has left; never asked after `leave` returned, because a
        request's context must not be touched once its request is over.
        left: called once, when the caller is found gone (True) or leaves by itself (False).
        """
        waiter = Waiter(gone, left, self._clock() + EVERY)
        self._waiters.append(waiter)
        return waiter

    def look(self, now: float) -> None:
        """By one thread at a time."""
        there = 0
        while self._waiters and self._waiters[0].due <= now and there < AT_ONCE:
            waiter = self._waiters.popleft()
            if waiter.is_there():
                there += 1
                waiter.due = now + EVERY
                self._waiters.append(waiter)


class Waiter:
    __slots__ = ("_gone", "_left", "_lock", "due")

    def __init__(
        self, gone: Callable[[], bool], left: Callable[[bool], object], due: float
    ) -> None:
        self.due = due
        self._gone: Callable[[], bool] | None = gone
        self._left: Callable[[bool], object] | None = left
        self._lock = threading.Lock()

    def is_there(self) -> bool:
        """Whether it has neither left nor is found gone now."""
        with self._lock:
            if self._gone is None:
                return False
            if not self._gone():
                return True
            self._gone = None
        self._leave(found_gone=True)
        return False

    def leave(self) -> None:
        """The caller waits no more. Any number of times."""
        with self._lock:
            there, self._gone = self._gone is not None, None
        if there:
            self._leave(found_gone=False)

    def _leave(self, *, found_gone: bool) -> None:
        left, self._left = self._left, None
        assert left is not None
        left(found_gone)
