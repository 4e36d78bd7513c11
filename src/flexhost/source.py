"""Which tables functions keep for themselves: of a module, of a cache of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pyarrow as pa

from flexhost.footprint import Footprint, footprint


class Source:
    """A table as a function returned it."""

    def __init__(self, table: pa.Table, forget: Callable[[object], object]) -> None:
        self._table = weakref.ref(table, forget)
        self._returned = 1
        self._footprint: Footprint | None = None

    def returned_again(self, table: pa.Table) -> bool:
        again = self._table() is table
        self._returned += again
        return again

    @property
    def kept_by_function(self) -> pa.Table | None:
        """The table, when it came more than once and is still there: it would stay there if we let
        go of it."""
        return self._table() if self._returned > 1 else None

    def footprint(self, table: pa.Table) -> Footprint:
        """Of this table, kept if it is that of the function: a large one takes milliseconds."""
        if table is not self._table():
            return footprint(table)
        if self._footprint is None:
            self._footprint = footprint(table)
        return self._footprint


class Sources:
    def __init__(self) -> None:
        self._known: dict[int, Source] = {}

    def of(self, table: pa.Table) -> Source:
        """What is known of a table that a function has just returned."""
        key = id(table)
        source = self._known.get(key)
        if source is None or not source.returned_again(table):
            source = Source(table, lambda _: self._known.pop(key, None))
            self._known[key] = source
        return source
