"""Of functions that may run so many times at once: how many of their calls run, and wait."""

from __future__ import annotations

from flexhost.call import Call


class _Count:
    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting = 0
        self.running: set[Call] = set()

    @property
    def held(self) -> int:
        return max(0, self.waiting - max(0, self.most - len(self.running)))


class RunBounds:
    """Used under the lock of its queue. A call waits, goes, enters, and leaves when its function
    has returned, however long after its outcome that is.

    held: calls that wait and could not enter now.
    """

    def __init__(self) -> None:
        self._counts: dict[object, _Count] = {}
        self.held = 0

    def admits(self, call: Call) -> bool:
        count = self._counts.get(call.function.counted_as)
        return count is None or len(count.running) < count.most

    def wait(self, call: Call) -> None:
        if call.function.max_running is not None:
            self._change(call, waiting=1)

    def go(self, call: Call) -> None:
        """It waits no more."""
        if call.function.max_running is not None:
            self._change(call, waiting=-1)

    def enter(self, call: Call) -> None:
        if call.function.max_running is not None:
            self._change(call, entered=True)

    def leave(self, call: Call) -> None:
        if call.function.max_running is not None:
            self._change(call, entered=False)

    def _change(self, call: Call, waiting: int = 0, entered: bool | None = None) -> None:
        function = call.function
        assert function.max_running is not None
        count = self._counts.setdefault(function.counted_as, _Count(function.max_running))
        before = count.held
        count.waiting += waiting
        if entered:
            count.running.add(call)
        elif entered is not None:
            count.running.discard(call)
        self.held += count.held - before
        if not count.waiting and not count.running:
            del self._counts[function.counted_as]
