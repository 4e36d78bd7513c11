"""A table that is kept after its call ended, wherever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from flexhost.arrow.batches import size_of
from flexhost.errors import NoResult
from flexhost.storage.footprint import Footprint
from flexhost.storage.source import Source
from flexhost.storage.spool import File

if TYPE_CHECKING:
    from flexhost.storage.retained import Retained


class Opened(NamedTuple):
    """A table for the time of a read, with its size in bytes. `close` is called once."""

    table: pa.Table
    size: int
    close: Callable[[], None]


class Kept:
    """A table that somebody holds: a ticket, a cache. The last one to `release` it frees it.

    rows, size: of the table; size in bytes of Arrow data.
    cached:     one of those that hold it can do without: it goes when there is no other way.
    """

    __slots__ = ("_retained", "cached", "function", "rows", "schema", "size", "writable")

    def __init__(self, table: pa.Table, function: str, retained: Retained, size: int) -> None:
        self.schema: pa.Schema = table.schema
        self.rows: int = table.num_rows
        self.size = size
        self.cached = False
        self.writable = True  # as far as is known
        self.function = function
        self._retained = retained

    @property
    def gone(self) -> bool:
        return not self._retained.has(self)

    def hold(self) -> bool:
        """Hold it once more. False when it is gone."""
        return self._retained.hold(self)

    def release(self) -> None:
        self._retained.release(self)

    def open(self) -> Opened:
        """Raises NoResult when it is gone."""
        return self._retained.open(self)


class Passing(Kept):
    """One that is given on at once to the only one who wants it: nobody charges or spools it."""

    __slots__ = ("_table",)

    def __init__(self, table: pa.Table) -> None:
        self.schema = table.schema
        self.rows = table.num_rows
        self.size = size_of(table)
        self._table: pa.Table | None = table

    @property
    def gone(self) -> bool:
        return self._table is None

    def hold(self) -> bool:
        return False

    def release(self) -> None:
        self._table = None

    def open(self) -> Opened:
        if (table := self._table) is None:
            raise NoResult("the answer was given already")
        return Opened(table, self.size, self.release)


class Copy:
    """Where a table is, and how many use it there: its Kept, and each that reads it."""

    __slots__ = ("data", "footprint", "users")

    def __init__(self, data: pa.Table | File, footprint: Footprint | None = None) -> None:
        self.data = data
        self.footprint = footprint
        self.users = 1

    @property
    def table(self) -> pa.Table:
        """Raises OSError and ArrowException."""
        return self.data.read() if isinstance(self.data, File) else self.data


class Lent(NamedTuple):
    """A table, or a part of one, that its function keeps for itself: it is not charged as long as
    that is so, since the memory is taken anyhow."""

    source: Source
    whole: Footprint
