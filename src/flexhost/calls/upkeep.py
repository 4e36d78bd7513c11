"""What has to be done to results and memory every so often, whoever calls."""

from __future__ import annotations

from flexhost.calls.exchanges import Exchanges
from flexhost.executor import Executor
from flexhost.results import Results
from flexhost.system import memory
from flexhost.system.closers import Closers


class Upkeep:
    """stall:      seconds after which a reader that takes nothing is cut off; 0 for never.
    trim_every: seconds between two times that freed memory is given back; 0 for never.
    now:        on the clock of `look`.
    """

    def __init__(
        self,
        executor: Executor,
        results: Results,
        exchanges: Exchanges,
        closers: Closers,
        *,
        stall: float,
        trim_every: float,
        now: float,
    ) -> None:
        self._executor = executor
        self._results = results
        self._exchanges = exchanges
        self._closers = closers
        self._stall = stall
        self._giving_back = memory.GivingBack(trim_every, now)

    def look(self, now: float) -> None:
        """Forget what has expired, cut off who stalls, give back what was freed."""
        self._results.expire(now)
        if self._stall:
            for reading in self._results.open:
                if reading.stalled(now, self._stall):
                    self._closers.submit(reading.cut)
            for exchange in self._exchanges.stalled(now, self._stall):
                self._closers.submit(exchange.cut)
        if self._giving_back.due(now, self._results.retained.take_freed()):
            self._executor.give_back()
            self._closers.submit(memory.give_back)
