"""Counts of the calls and reads of a function, of which many threads tell at once."""

from __future__ import annotations

import itertools
import math
import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple, TypeVar

from flexhost.call import Call
from flexhost.errors import Cancelled
from flexhost.telemetry.events import ReadEnded
from flexhost.telemetry.lines import outcome

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
_ROWS = (0, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8)
_BYTES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 23, 1 << 26, 1 << 29, 1 << 32)

# The code of what went well, and how such a call ended.
OK = "OK"
_WELL = ("ok", OK)
# Events of a function that wait to be counted.
_MOST = 100


class Spread(NamedTuple):
    """up_to: each bound, infinity at last, with how many values were not above it."""

    up_to: list[tuple[float, int]]
    sum: float


class Totals(NamedTuple):
    """calls: by outcome and code. reads: by code.

    spreads: of seconds that calls waited and ran, of seconds, rows and bytes of reads.
    """

    calls: dict[tuple[str, str], int]
    reads: dict[str, int]
    spreads: list[Spread]


class Tally:
    """Of one function.

    To tell of an event is an `append`, which needs no lock. What was told is counted a hundred at a
    time, by loops in C, and whenever somebody asks for totals: one by one, in the way of a call, it
    would take twice as many steps.
    """

    __slots__ = (
        "_bytes",
        "_calls",
        "_ended",
        "_lock",
        "_read",
        "_reading",
        "_reads",
        "_rows",
        "_running",
        "_waiting",
    )

    def __init__(self) -> None:
        self._ended: list[tuple[tuple[str, str], float, float | None]] = []
        self._read: list[tuple[str, float, int, int]] = []
        self._calls: Counter[tuple[str, str]] = Counter()
        self._reads: Counter[str] = Counter()
        self._waiting, self._running = _Buckets(_SECONDS), _Buckets(_SECONDS)
        self._reading = _Buckets((*_SECONDS, 600, 3600))
        self._rows, self._bytes = _Buckets(_ROWS), _Buckets(_BYTES)
        self._lock = threading.Lock()

    def expect(self) -> None:
        """Count from 0 what there will be, before there is any."""
        with self._lock:
            for how in (_WELL, ("failed", "COMMAND_FAILED")):
                self._calls.setdefault(how, 0)
            self._reads.setdefault(OK, 0)

    def ended(self, call: Call) -> None:
        told, error, at = self._ended, call.error, call.ended_at or 0.0
        how = _WELL if error is None else (outcome(call, error), error.code)
        if (began := call.began_at) is None:
            told.append((how, at - call.accepted_at, None))
        else:
            told.append((how, began - call.accepted_at, at - began))
        if len(told) >= _MOST:
            self._count_now()

    def read(self, event: ReadEnded) -> None:
        told = self._read
        code = OK if event.complete else _code_of_rest(event)
        told.append((code, event.seconds, event.rows, event.bytes))
        if len(told) >= _MOST:
            self._count_now()

    def totals(self) -> Totals:
        """All that was told of until now."""
        with self._lock:
            self._count()
            of_calls = (self._waiting, self._running)
            of_reads = (self._reading, self._rows, self._bytes)
            spreads = [buckets.spread() for buckets in (*of_calls, *of_reads)]
            return Totals(dict(self._calls), dict(self._reads), spreads)

    def _count_now(self) -> None:
        """Unless somebody does. It may be this very thread: what the garbage collector closes tells
        of its read wherever that happens."""
        if self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def _count(self) -> None:
        if read := _taken(self._read):  # first: a call is told of before its reads
            codes, seconds, rows, sizes = zip(*read, strict=True)
            self._reads.update(codes)
            self._reading.add(seconds)
            self._rows.add(rows)
            self._bytes.add(sizes)
        if ended := _taken(self._ended):
            hows, waited, ran = zip(*ended, strict=True)
            self._calls.update(hows)
            self._waiting.add(waited)
            self._running.add([seconds for seconds in ran if seconds is not None])


class Tallies(dict[str, Tally]):
    """By the names of functions."""

    def __missing__(self, name: str) -> Tally:
        return self.setdefault(name, Tally())  # one, whichever thread comes first


class _Buckets:
    """How many values were within each bound, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = tuple(float(bound) for bound in bounds)
        self._counts: Counter[int] = Counter()  # by the place of the bound
        self._sum = 0.0

    def add(self, values: Collection[float]) -> None:
        self._sum += sum(values)
        self._counts.update(map(bisect_left, itertools.repeat(self._bounds), values))

    def spread(self) -> Spread:
        bounds = (*self._bounds, math.inf)
        up_to = itertools.accumulate(self._counts[place] for place in range(len(bounds)))
        return Spread(list(zip(bounds, up_to, strict=True)), self._sum)


_Told = TypeVar("_Told")


def _taken(told: list[_Told]) -> list[_Told]:
    """What is there now. Others append meanwhile; both steps are one to them."""
    taken = told[:]
    del told[: len(taken)]
    return taken


def _code_of_rest(event: ReadEnded) -> str:
    """A reader who leaves before the end has cancelled."""
    return Cancelled.code if event.error is None else event.error.code
