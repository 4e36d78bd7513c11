"""What functions share for as long as the host runs, and how it ends: pools, clients, files."""

from __future__ import annotations

import inspect
import logging
import threading
import time
from collections.abc import Callable

_logger = logging.getLogger("flexhost")

# Seconds that closing one of them may take, and all of them.
_ONE, _ALL = 2.0, 5.0


class Resources:
    """Closed once, the newest first."""

    def __init__(self) -> None:
        self._closes: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    def add(self, close: Callable[[], object]) -> None:
        if not callable(close):
            raise TypeError(f"{close!r} cannot be called to close anything")
        if inspect.iscoroutinefunction(close):
            raise TypeError(f"{close!r} is async: the host has no event loop to close it in")
        with self._lock:
            self._closes.append(close)

    def close(self, one: float = _ONE, every: float = _ALL) -> None:
        """Never raises, and takes no longer than `every` seconds: what hangs is left behind."""
        end = time.monotonic() + every
        while (close := self._next()) is not None:
            left = end - time.monotonic()
            # a thread of its own for each, to have a limit; it cannot hold the process
            closing = threading.Thread(target=_close, args=[close], name="closing", daemon=True)
            closing.start()
            closing.join(max(0.0, min(one, left)))
            if closing.is_alive():
                _logger.error("%s has not ended in time, it is left behind", _named(close))

    def _next(self) -> Callable[[], object] | None:
        with self._lock:
            return self._closes.pop() if self._closes else None


def _close(close: Callable[[], object]) -> None:
    try:
        close()
    except BaseException:
        _logger.exception("%s failed, called at the end", _named(close))


def _named(close: object) -> str:
    inner = getattr(close, "func", close)  # of a partial
    owner = getattr(inner, "__self__", None)
    name = getattr(inner, "__qualname__", None) or type(close).__name__
    return name if owner is None else f"{type(owner).__name__}.{name.rsplit('.', 1)[-1]}"
