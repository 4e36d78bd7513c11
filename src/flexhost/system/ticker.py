"""Something that is done every so often."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_logger = logging.getLogger("flexhost")


class Ticker:
    """Calls `tick` every so many seconds, on a thread of its own, until it is closed."""

    def __init__(self, name: str, seconds: float, tick: Callable[[], object]) -> None:
        self._seconds = seconds
        self._tick = tick
        self._woken = threading.Event()
        self._closed = False
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def wake(self) -> None:
        """Let the next time be now."""
        self._woken.set()

    def close(self) -> None:
        self._closed = True
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait(self._seconds)
            self._woken.clear()
            if self._closed:
                return
            try:
                self._tick()
            except Exception:  # the next one must come all the same
                _logger.exception("%s failed", threading.current_thread().name)
