"""The calls that are under way."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from flexhost.call import Call
from flexhost.errors import Busy


class OpenCalls:
    """Calls that were accepted and are not yet out of the executor, also those that ended early and
    still run."""

    def __init__(self) -> None:
        self._calls: set[Call] = set()
        self._executions: set[Call] = set()
        self._lock = threading.Lock()  # of callers with a bound of their own

    def __len__(self) -> int:
        return len(self._calls) + len(self._executions)

    def __iter__(self) -> Iterator[Call]:
        """Those of this moment: others may come and go meanwhile."""
        return iter([*list(self._calls), *list(self._executions)])

    def add(self, call: Call) -> None:
        """Raises Busy when its caller has as many calls under way as it may have."""
        caller = call.caller
        if caller.max_running is None:
            self._calls.add(call)
            return
        with self._lock:
            its = (one for one in list(self._calls) if one.caller.name == caller.name)
            if sum(map(_at_work, its)) >= caller.max_running:
                text = f"caller {caller.name!r} has {caller.max_running} calls under way"
                raise Busy(text, bound="max_running")
            self._calls.add(call)

    def add_execution(self, call: Call) -> None:
        """One that callers share: it counts for none of them."""
        self._executions.add(call)

    def discard(self, call: Call) -> None:
        self._calls.discard(call)
        self._executions.discard(call)


def _at_work(call: Call) -> bool:
    """Whether it waits or runs, also one that ended early: whoever cancels has not its thread back
    before that."""
    return not call.ended.is_set() or (call.started_at is not None and not call.returned)
