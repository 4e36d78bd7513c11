"""Exchanges: batches of arguments that come one after another, each of them a call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property

import pyarrow as pa

from flexhost.caller import Caller
from flexhost.calls.ids import new_id
from flexhost.errors import Busy, HostError
from flexhost.function import SCALAR, Function, Headers
from flexhost.telemetry.events import Emit, ExchangeEnded

# What a function is asked with whether it takes any.
NO_BATCH = pa.RecordBatch.from_pylist([], pa.schema([]))


class Exchange:
    """One that is open.

    function: over batches.
    cut:      breaks the connection to its caller.

    batches, rows: that came.
    answered, answered_rows: batches that were answered, and with how many rows.
    given_at: when its caller got what it still takes.
    """

    def __init__(
        self, function: Function, headers: Headers, caller: Caller, cut: Callable[[], object]
    ) -> None:
        self.id = new_id()
        self.function = function
        self.headers = headers
        self.caller = caller
        self.cut = cut
        self.batches = self.rows = self.answered = self.answered_rows = 0
        self.given_at: float | None = None

    @cached_property
    def nothing(self) -> pa.RecordBatch:
        """An answer without rows. Few exchanges have one, and it takes long to make."""
        return pa.RecordBatch.from_pylist([], self.function.schema)

    @property
    def busy(self) -> bool:
        """Whether a batch has come whose answer is not given yet."""
        return self.batches > self.answered

    @property
    def scalar(self) -> bool:
        """Whether each batch has an answer of one batch with as many rows."""
        return self.function.kind == SCALAR

    def check(self, schema: pa.Schema) -> None:
        """Whether batches with this schema can be taken at all. Raises BadCall."""
        of = self.function
        if of.arguments is not None and schema.types == of.arguments.types:
            return  # as those of most
        if of.parameters is not None:
            of.parameters.read(pa.RecordBatch.from_pylist([], schema))


class Exchanges:
    """Those that are open: at most so many, since each has a thread for as long as its caller
    likes, whether batches come or not.

    taken: places, also of those of which not even the function is known yet.
    """

    def __init__(self, most: int, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._full = Busy(f"{most} exchanges are open", bound="max_exchanges")
        self._emit = emit
        self._clock = clock
        self._open: set[Exchange] = set()
        self._lock = threading.Lock()
        self.taken = 0

    def __iter__(self) -> Iterator[Exchange]:
        """Those of this moment: others may come and go meanwhile."""
        return iter(list(self._open))

    def enter(self) -> None:
        """Take a place. Raises Busy, the same each time."""
        with self._lock:
            if self.taken >= self._most:
                raise self._full
            self.taken += 1

    def leave(self) -> None:
        with self._lock:
            self.taken -= 1

    @contextmanager
    def open(self, exchange: Exchange) -> Iterator[Exchange]:
        """One that has a place."""
        self._open.add(exchange)
        begun, ended_by = self._clock(), None
        try:
            yield exchange
        except HostError as error:
            error.function, ended_by = exchange.function.name, error
            raise
        finally:
            self._open.discard(exchange)
            self._emit(ExchangeEnded(exchange, self._clock() - begun, ended_by))

    @property
    def busy(self) -> bool:
        """Whether an answer is still to be given."""
        return any(one.busy for one in self)

    def stalled(self, now: float, seconds: float) -> list[Exchange]:
        """Those whose caller has taken nothing of what it was given last for so long."""
        there = [(one, one.given_at) for one in self]
        return [one for one, at in there if at is not None and now - at >= seconds]

    def cut(self) -> None:
        """Break the connections of all: whoever waits for the next batch can be woken no other
        way."""
        for one in self:
            one.cut()
