"""The elements of a label, narrowed from a function's own rows for a LABEL_ELEMENTS call.

Never offset and limit: the backend pages by itself, and applied twice they would lose rows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from datetime import timezone
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from flexhost.context import (
    ExecutionContext,
    Filter,
    LabelElementsExecutionRequest,
    MatchAttributeFilter,
    PositiveAttributeFilter,
)
from flexhost.errors import BadCall
from flexhost.filters.conditions import Condition, condition
from flexhost.filters.distinct import Distinct
from flexhost.filters.literals import is_text, plain, reader
from flexhost.filters.periods import Clock
from flexhost.filters.pushdown_arrow import as_before, expression, kept, viewless
from flexhost.pushdown import NO_LABELS, Filters, clock_of, column_of

if TYPE_CHECKING:
    import pyarrow.compute as pc


class Elements:
    """What a LABEL_ELEMENTS call asks for: the distinct rows for which its filters hold.

    columns:   that the filters look at, whatever the hint says.
    elsewhere: labels and dates of `dependsOn` that are no columns here, but of other data sets.
    not_taken: why parts of the request cannot be expressed.
    """

    def __init__(
        self, own: pc.Expression | None, columns: Iterable[str], filters: Filters, why: list[str]
    ) -> None:
        depends = filters.expression()
        parts = [part for part in (own, depends) if part is not None]
        self._rows = parts[0] & parts[1] if len(parts) == 2 else next(iter(parts), None)
        self.columns = tuple(dict.fromkeys([*columns, *filters.columns]))
        self.elsewhere = filters.elsewhere
        self.not_taken = (*why, *(one.reason for one in filters.not_taken))

    @classmethod
    def of(
        cls,
        context: ExecutionContext | None,
        schema: pa.Schema,
        labels: Mapping[str, str] = NO_LABELS,
        fiscal_year_start_month: int = 1,
    ) -> Elements | None:
        """None when the call does not ask for elements."""
        if context is None or (request := context.label_elements_execution_request) is None:
            return None
        clock = clock_of(context, fiscal_year_start_month)
        depends = Filters.made_of(request.depends_on, schema, labels, clock)
        field = column_of(request.label, schema, labels)
        if not (asked := _asked(request)):
            return cls(None, (), depends, [])
        if field is None:
            return cls(None, (), depends, [f"label {request.label!r} is no column"])
        if why := _reason(request, field):
            return cls(None, (), depends, [why])
        found = [_condition(one, field, clock) for one in asked]
        rows = expression((one, field.type) for one in found)
        if rows is not None and request.complement_filter:
            rows = ~rows
        return cls(rows, [one.column for one in found], depends, [])

    def narrower(self, columns: tuple[str, ...] | None) -> Callable[[pa.Table], pa.Table]:
        """Narrows the tables of one result, one after another.

        columns: the hint, None for all.
        """
        return functools.partial(self._narrowed, columns=columns, distinct=Distinct())

    def check(self) -> None:
        """Raises BadCall, which lists what cannot be expressed, when there is such a part."""
        if self.not_taken:
            path = "executionContext.labelElementsExecutionRequest"
            raise BadCall(f"{path}: not all can be applied: {'; '.join(self.not_taken)}")

    def _narrowed(
        self, table: pa.Table, *, columns: tuple[str, ...] | None, distinct: Distinct
    ) -> pa.Table:
        found = kept(table, self._rows)
        found = found if columns is None else found.select(list(columns))
        return as_before(distinct.of(viewless(found)), found.schema)


def _asked(request: LabelElementsExecutionRequest) -> list[Filter]:
    """What the elements themselves must be."""
    asked: list[Filter] = []
    if request.exact_filter is not None:
        asked.append(PositiveAttributeFilter(request.label, request.exact_filter))
    if request.pattern_filter is not None:
        asked.append(MatchAttributeFilter(request.label, request.pattern_filter, "CONTAINS"))
    return asked


def _reason(request: LabelElementsExecutionRequest, field: pa.Field) -> str | None:
    if request.filter_by and request.filter_by.label_type != "REQUESTED":
        return f"filterBy {request.filter_by.label_type!r}: which column that is, is not known"
    if reader(plain(field.type), timezone.utc) is None:
        return f"values of column {field.name!r} ({field.type}) have no text"
    return None


def _condition(asked: Filter, field: pa.Field, clock: Clock) -> Condition:
    """Of what is no text, a pattern looks at the text that Arrow writes for it."""
    if isinstance(asked, MatchAttributeFilter) and not is_text(plain(field.type)):
        field = field.with_type(pa.large_string())
    return cast(Condition, condition(asked, field, clock))  # _reason has looked at the type
