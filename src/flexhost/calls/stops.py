"""How to end, from another thread, what works for a call in code that Python cannot end."""

from __future__ import annotations

import threading
from collections.abc import Callable

# Short, and never held while something is called: one lock for all calls.
_lock = threading.Lock()


class Stops:
    """What is to be called once nobody wants the call, or its stream, any more."""

    __slots__ = ("_stopped", "_stops")

    def __init__(self) -> None:
        self._stops: list[Callable[[], object]] | None = None  # calls are many, and few need it
        self._stopped = False

    @property
    def stopped(self) -> bool:
        return self._stopped

    def add(self, stop: Callable[[], object]) -> None:
        """stop: must not block. Called at once if the call is stopped already."""
        with _lock:
            if not self._stopped:
                self._stops = [*(self._stops or ()), stop]
                return
        stop()

    def remove(self, stop: Callable[[], object]) -> None:
        with _lock:
            self._stops = [one for one in self._stops or () if one is not stop] or None

    def all(self) -> None:
        """Call all of them, once."""
        with _lock:
            stops, self._stops, self._stopped = self._stops or (), None, True
        for stop in stops:
            stop()
