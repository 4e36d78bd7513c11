"""How a result leaves through pyarrow, and how many requests are under way meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.calls.waiters import Waiter
from flexhost.contract import by_schema
from flexhost.errors import Busy
from flexhost.storage.reading import Reading
from flexhost.system.affinity import go_home, on_every_core

_IPC_OPTIONS = pa.ipc.IpcWriteOptions()
# Bytes of a table from which on its thread may use every core.
_LARGE = 16 << 20


class Slots:
    """As many requests may be inside at once; one more is refused."""

    def __init__(self, most: int, what: str = "requests", bound: str = "max_rpcs") -> None:
        self._most = most
        self.busy = Busy(f"{most} {what} are under way", bound=bound)
        self._lock = threading.Lock()
        self.taken = 0

    def refusal(self) -> Busy | None:
        """Why one more would be refused now, the same each time; None when it would not."""
        return None if self.taken < self._most else self.busy

    def __enter__(self) -> None:
        """Raises Busy."""
        with self._lock:
            if self.taken >= self._most:
                raise self.busy
            self.taken += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.taken -= 1

    enter = __enter__
    leave = __exit__


Watch = Callable[[Reading], Waiter]


class AsFlightErrors(Protocol):
    """Turns errors of the host inside it into errors of the wire."""

    def __call__(
        self, request: str, *, caller: str = "", in_stream: bool = False
    ) -> AbstractContextManager[None]: ...


def stream(
    reading: Reading, slots: Slots, watch: Watch, errors: AsFlightErrors, *, whole: bool
) -> fl.FlightDataStream:
    """What `do_get` returns for a reading, and a slot, that end with it.

    watch: begins to look whether the reader has gone, until `leave`.
    whole: a table may be left to pyarrow, which then sends it without coming back to Python.
    """
    if _large(reading):
        on_every_core()  # or one core would carry all large results; until the stream is dropped
    if whole and reading.table is not None and not _may_change(reading):
        return _TableStream(reading, slots)
    tables = _Tables(reading, slots, watch, errors)
    return fl.GeneratorStream(reading.schema, tables, _IPC_OPTIONS)


def _back(reading: Reading, thread: int) -> None:
    """The thread of a request goes back to where it came from; another that drops it stays."""
    if _large(reading) and thread == threading.get_ident():
        go_home()


def _large(reading: Reading) -> bool:
    return reading.streamed or reading.size >= _LARGE


def _may_change(reading: Reading) -> bool:
    """Whether dictionaries may change between the chunks of a table: pyarrow 19 then sends only the
    first, and the rows of the others arrive with wrong values."""
    table = reading.table
    if table is None or not _has_dictionaries(reading.call.function.schema):
        return False
    return len(table.to_batches()) > 1 and any(
        "dictionary<" in str(column.type) and column.num_chunks > 1 for column in table.columns
    )


@by_schema
def _has_dictionaries(schema: pa.Schema) -> bool:
    return any("dictionary<" in str(type_) for type_ in schema.types)


class _TableStream(fl.RecordBatchStream):  # type: ignore[misc]  # pyarrow has no types
    """A table sent by pyarrow alone. pyarrow drops this object when the request is over, also when
    it never started to send; that closes the reading."""

    def __init__(self, reading: Reading, rpcs: Slots) -> None:
        self._thread = threading.get_ident()
        self._reading = reading
        self._rpcs = rpcs
        super().__init__(reading.whole(), options=_IPC_OPTIONS)

    def __del__(self) -> None:
        _back(self._reading, self._thread)
        self._rpcs.leave()
        self._reading.close()


class _Tables:
    """The tables of a stream; like `_TableStream` in how it ends.

    Tables and not record batches, which break every dictionary column in a GeneratorStream.
    """

    def __init__(self, reading: Reading, rpcs: Slots, watch: Watch, errors: AsFlightErrors) -> None:
        self._thread = threading.get_ident()
        self._reading = reading
        self._rpcs = rpcs
        self._watch = watch
        self._errors = errors

    def __iter__(self) -> _Tables:
        return self

    def __next__(self) -> pa.Table:
        # only in here is it sure that the request, and so its context, is there; outside pyarrow
        # writes, and sees by itself that the reader has gone
        reader = self._watch(self._reading)
        try:
            with self._errors("DoGet", in_stream=True):
                return next(self._reading)
        finally:
            reader.leave()

    def __del__(self) -> None:
        _back(self._reading, self._thread)
        self._rpcs.leave()
        self._reading.close()
