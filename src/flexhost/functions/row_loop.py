"""Rows of values through a plain function, whoever may wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, repeat, starmap
from typing import Any

from flexhost.call import running
from flexhost.errors import Cancelled

# Rows of one batch that a table function gives, and seconds after which one goes with fewer.
MOST, LONGEST = 8192, 0.2
# Seconds between two looks at whether anybody still waits.
LOOK = 0.05
_PACE = 1 << 20


class Pace:
    """How many rows go between two looks: by time, since no row says how long the next one takes.

    Made in the thread of a call.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows = 1
        self._call = running.get()
        self._clock = clock
        self._looked = clock()

    def look(self) -> None:
        """Raises Cancelled when nobody waits any more."""
        if self._call is not None and self._call.stops.stopped:
            raise Cancelled("nobody waits for this call any more")
        now = self._clock()
        took, self._looked = now - self._looked, now
        wanted = self.rows * min(4.0, LOOK / took) if took > 0 else self.rows * 4
        self.rows = max(1, min(_PACE, int(wanted)))

    def wait_over(self) -> None:
        """What passed until now was another's time."""
        self._looked = self._clock()


class Turns:
    """Of an async function: what never waits lets others have the event loop, too."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._left = self._pace.rows

    async def next(self) -> None:
        """Raises Cancelled when nobody waits any more."""
        import asyncio

        self._left -= 1
        if self._left <= 0:
            self._pace.look()
            await asyncio.sleep(0)
            self._pace.wait_over()
            self._left = self._pace.rows


def results(
    function: Callable[..., Any], columns: Sequence[Sequence[Any]], rows: int, out: list[Any]
) -> None:
    """A result for each row, put into `out`, whose length then says how far it came.

    Raises Cancelled, and what the function raises.
    """
    each = map(function, *columns) if columns else starmap(function, repeat((), rows))
    pace = Pace()
    while (done := len(out)) < rows:
        wanted = min(pace.rows, rows - done)
        out.extend(islice(each, wanted))
        if len(out) - done < wanted:  # `extend` took the exception for the end
            raise RuntimeError("the function raised StopIteration")
        if done + wanted < rows:
            pace.look()


def arguments(columns: Sequence[Sequence[Any]], rows: int) -> Iterator[tuple[Any, ...]]:
    """Of each row."""
    return zip(*columns, strict=True) if columns else repeat((), rows)
