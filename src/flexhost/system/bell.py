"""What wakes a thread, cheaply."""

from __future__ import annotations

import contextlib
import os
import threading


class Bell:
    """Wakes the one thread that waits for it; each ring once.

    Whoever releases a lock holds the interpreter meanwhile, so that who is woken by it waits again
    at once, for that. Whoever writes to a file does not.
    """

    def __init__(self, *, timed: bool = False) -> None:
        """timed: there may be a timeout."""
        self._file = -1
        self._lock = threading.Lock()
        self._lock.acquire()
        if timed:
            return
        with contextlib.suppress(AttributeError, OSError):  # no Linux, or no descriptor left
            self._file = os.eventfd(0, os.EFD_CLOEXEC)

    @property
    def cheap(self) -> bool:
        return self._file >= 0

    def ring(self) -> None:
        if self._file < 0:
            self._lock.release()
        else:
            os.write(self._file, _ONE)

    def wait(self, timeout: float | None = None) -> None:
        if self._file < 0:
            self._lock.acquire(timeout=-1 if timeout is None else timeout)
        else:
            os.read(self._file, 8)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


_ONE = (1).to_bytes(8, "little")


class Latch:
    """A `threading.Event` that nothing clears."""

    __slots__ = ("_lock", "_open", "_waiting")

    def __init__(self) -> None:
        self._open = False
        self._waiting: tuple[Bell, ...] = ()
        self._lock = threading.Lock()

    def is_set(self) -> bool:
        return self._open

    def set(self) -> None:
        with self._lock:
            self._open = True
            waiting, self._waiting = self._waiting, ()
        for bell in waiting:
            bell.ring()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it is set, after at most so many seconds."""
        if self._open:
            return True
        bell = _borrowed() if timeout is None else Bell(timed=True)
        with self._lock:
            if self._open:
                return True
            self._waiting = (*self._waiting, bell)
        bell.wait(timeout)
        if bell.cheap:
            _spare.append(bell)  # it was rung, once
        return self._open


def _borrowed() -> Bell:
    """A descriptor each, so there are few; whoever comes when all are in use gets a lock."""
    global _made
    try:
        return _spare.pop()
    except IndexError:
        if _made >= _MOST:
            return Bell(timed=True)
        _made += 1
        return Bell()


# Bells that nobody waits for. None is made when this is imported: processes that are forked later
# would share it.
_spare: list[Bell] = []
_made = 0
_MOST = 64
