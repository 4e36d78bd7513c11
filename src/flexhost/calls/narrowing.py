"""What the host does to the rows of a function that leaves filters, or elements, to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from flexhost.calls.arguments import Arguments
from flexhost.filters.pushdown_arrow import kept
from flexhost.function import Function

if TYPE_CHECKING:
    import pyarrow.compute as pc


class Narrowing:
    """For the tables of one call, in the types that are declared.

    The filters that the function has not taken are applied. It says so in `call`, or until its
    first batch, if it is a stream; so the first table decides.
    """

    def __init__(self, function: Function, arguments: Arguments) -> None:
        self._filters = arguments.filters if function.applies_filters else None
        self._hint = arguments.hint
        elements = arguments.elements
        self._elements = None if elements is None else elements.narrower(arguments.hint)
        self._rest: pc.Expression | None = None
        self._decided = False

    def schema(self, asked: pa.Schema) -> pa.Schema:
        """Of what leaves; asked: of the tables before."""
        if self._hint is None:
            return asked
        return pa.schema([asked.field(name) for name in self._hint], asked.metadata)

    def __call__(self, table: pa.Table) -> pa.Table:
        if not self._decided and self._filters is not None:
            self._rest = self._filters.rest.expression()
            self._decided = True
        table = kept(table, self._rest)
        if self._elements is not None:
            return self._elements(table)
        return table if self._hint is None else table.select(list(self._hint))


def narrowing(function: Function, arguments: Arguments) -> Narrowing | None:
    """None when rows leave as they are."""
    if function.elsewhere is not None:
        return None  # done there, where it is known what the function has taken
    elements = arguments.elements if function.narrows_elements else None
    if elements is not None or (function.applies_filters and arguments.filters.columns):
        return Narrowing(function, arguments)
    return None
