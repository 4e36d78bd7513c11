"""Each call to the executor that its function names."""

from __future__ import annotations

from collections.abc import Mapping

from flexhost.call import Call
from flexhost.errors import Busy
from flexhost.executor import Executor


class Routed:
    """By the names of `function.EXECUTORS`. Each has a queue of its own.

    used: the names that functions have now.
    """

    def __init__(self, executors: Mapping[str, Executor]) -> None:
        self._executors = dict(executors)
        self.used = frozenset(executors)

    @property
    def waiting(self) -> int:
        return sum(one.waiting for one in self._executors.values())

    @property
    def oldest(self) -> float | None:
        ages = (one.oldest for one in self._executors.values())
        return min((age for age in ages if age is not None), default=None)

    @property
    def running(self) -> int:
        return sum(one.running for one in self._executors.values())

    @property
    def abandoned(self) -> int:
        return sum(one.abandoned for one in self._executors.values())

    def refusal(self) -> Busy | None:
        """Only when each that is used would refuse: it is not known yet which one is asked."""
        busy = None
        for name in self.used:
            if (busy := self._executors[name].refusal()) is None:
                return None
        return busy

    def submit(self, call: Call) -> None:
        """Raises Busy."""
        self._of(call).submit(call)

    def cancel(self, call: Call) -> None:
        self._of(call).cancel(call)

    def abandon(self, call: Call) -> None:
        self._of(call).abandon(call)

    def give_back(self) -> None:
        for one in self._executors.values():
            one.give_back()

    def look(self, now: float) -> None:
        for one in self._executors.values():
            one.look(now)

    def close(self) -> None:
        for one in self._executors.values():
            one.close()

    def _of(self, call: Call) -> Executor:
        return self._executors[call.function.executor]
