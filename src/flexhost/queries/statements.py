"""A statement that runs in a database for the call of this thread, until nobody wants it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flexhost.call import running
from flexhost.errors import Cancelled

# Seconds between two interrupts: one that comes before a statement begins is lost.
AGAIN = 0.05


class Statement:
    """interrupt: ends what runs right now; called in a thread of its own, as often as it takes."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        self.stopped = False
        self._interrupt = interrupt
        self._over = threading.Event()
        self._interrupting = threading.Lock()

    def stop(self) -> None:
        """May be called in any thread, and does not block."""
        self.stopped = True
        threading.Thread(target=self._stop, name="interrupt", daemon=True).start()

    def check(self) -> None:
        """Raises Cancelled when it was stopped."""
        if self.stopped:
            raise Cancelled("nobody waits for this call any more")

    def over(self) -> None:
        """No interrupt comes after this."""
        with self._interrupting:
            self._over.set()

    def _stop(self) -> None:
        while not self._over.is_set():
            with self._interrupting:
                if not self._over.is_set():
                    self._interrupt()
            self._over.wait(AGAIN)


@contextmanager
def statement(interrupt: Callable[[], object] = lambda: None) -> Iterator[Statement]:
    """Stopped when the call of this thread is cancelled, or the reader of its stream has left.

    Raises Cancelled in place of whatever an interrupt makes of it.
    """
    call = running.get()
    made = Statement(interrupt)
    stop = made.stop
    if call is not None:
        call.stops.add(stop)
    try:
        made.check()
        yield made
    except GeneratorExit:
        raise
    except BaseException:
        if made.stopped:
            raise Cancelled("nobody waits for this call any more") from None
        raise
    finally:
        if call is not None:
            call.stops.remove(stop)
        made.over()
