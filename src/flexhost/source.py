"""Which tables functions keep for themselves: of a module, of a cache of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pyarrow as pa

from flexhost.footprint import Footprint, footprint


class Source(weakref.ref[pa.Table]):
    """A table as a function returned it: a reference to it, since there is one for each call.

    key: of its table in `Sources`.
    """

    __slots__ = ("_footprint", "_returned", "key")

    def __init__(self, table: pa.Table, forget: Callable[[Source], object]) -> None:
        super().__init__(table, forget)  # type: ignore[call-arg]  # object's, as far as it knows
        self.key = id(table)
        self._returned = 1
        self._footprint: Footprint | None = None

    def returned_again(self, table: pa.Table) -> bool:
        again = self() is table
        self._returned += again
        return again

    @property
    def kept_by_function(self) -> pa.Table | None:
        """The table, when it came more than once and is still there: it would stay there if we let
        go of it."""
        return self() if self._returned > 1 else None

    def footprint(self, table: pa.Table) -> Footprint:
        """Of this table, kept if it is that of the function: a large one takes milliseconds."""
        if table is not self():
            return footprint(table)
        if self._footprint is None:
            self._footprint = footprint(table)
        return self._footprint


class Sources:
    def __init__(self) -> None:
        self._known: dict[int, Source] = {}
        self._forgets = self._forget  # one for all

    def of(self, table: pa.Table) -> Source:
        """What is known of a table that a function has just returned."""
        source = self._known.get(id(table))
        if source is None or not source.returned_again(table):
            source = Source(table, self._forgets)
            self._known[source.key] = source
        return source

    def _forget(self, source: Source) -> None:
        """Its table is gone. Another one may be in its place already."""
        if self._known.get(source.key) is source:
            del self._known[source.key]
