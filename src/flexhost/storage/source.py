"""Which tables functions keep for themselves: of a module, of a cache of their own."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import pyarrow as pa

from flexhost.arrow import batches
from flexhost.storage.footprint import Footprint, footprint, of_small


class Source(weakref.ref[pa.Table]):
    """A table as a function returned it: a reference to it, since there is one for each call.

    key: of its table in `Sources`.
    """

    __slots__ = ("_footprint", "_made", "_returned", "key")

    def __init__(self, table: pa.Table, forget: Callable[[Source], object]) -> None:
        super().__init__(table, forget)  # type: ignore[call-arg]  # object's, as far as it knows
        self.key = id(table)
        self._returned = 1
        self._footprint: Footprint | None = None
        self._made: _Made | None = None

    def returned_again(self, table: pa.Table) -> bool:
        again = self() is table
        self._returned += again
        return again

    @property
    def kept_by_function(self) -> pa.Table | None:
        """The table, when it came more than once and is still there: it would stay there if we let
        go of it."""
        return self() if self._returned > 1 else None

    def arranged(self, table: pa.Table) -> pa.Table:
        """As it leaves best. Of the function's own table that is made once as long as a result has
        it: they share the memory, too."""
        its_own = table is self()
        if (small := of_small(table)) is not None:  # of one chunk: it leaves as it is
            if its_own:
                self._footprint = small
            return table
        made = self._made if its_own else None
        if made is not None and (arranged := made()) is not None:
            return arranged
        arranged = batches.arranged(table)
        if arranged is not table and its_own:
            self._made = _Made(arranged, copied=batches.is_tiny_all_over(table))
        return arranged

    def lends(self, table: pa.Table) -> pa.Table | None:
        """The table that the function keeps, if `table` may be a part of it."""
        if (made := self._made) is not None and made.copied and table is made():
            return None
        return self.kept_by_function

    def footprint(self, table: pa.Table) -> Footprint:
        """Kept, of what may come again: that of a large table takes milliseconds."""
        if table is not self():
            made = self._made
            return (
                footprint(table) if made is None or table is not made() else made.footprint(table)
            )
        if self._footprint is None:
            self._footprint = footprint(table)
        return self._footprint


class _Made(weakref.ref[pa.Table]):
    """What was made of the table of a function: a reference to it, since results have it.

    copied: it has none of the memory of that one.
    """

    __slots__ = ("_footprint", "copied")

    def __init__(self, table: pa.Table, *, copied: bool) -> None:
        super().__init__(table)  # type: ignore[call-arg]  # as above
        self.copied = copied
        self._footprint: Footprint | None = None

    def __new__(cls, table: pa.Table, *, copied: bool) -> _Made:
        return super().__new__(cls, table)

    def footprint(self, table: pa.Table) -> Footprint:
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
