"""The filters of a call, for whoever knows best how to apply them.

A function takes those that its source handles (`take`), as an expression of pyarrow, as SQL or as
plain Python, which all mean the same; `rest` is what is left for the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pyarrow as pa

from flexhost.arrow import frames
from flexhost.context import (
    ExecutionContext,
    Filter,
    NegativeAttributeFilter,
    UnknownFilter,
    WeekStart,
)
from flexhost.errors import BadCall, meant, name_of
from flexhost.filters.conditions import Condition, condition
from flexhost.filters.context_filters import MatchAttributeFilter, PositiveAttributeFilter
from flexhost.filters.periods import Clock
from flexhost.filters.pushdown_arrow import expression, kept
from flexhost.filters.pushdown_python import predicate
from flexhost.filters.pushdown_sql import Style, Where, where

Rows = TypeVar("Rows")  # a table or a frame, which stays what it is

NO_LABELS: Mapping[str, str] = {}

if TYPE_CHECKING:
    import pyarrow.compute as pc


@dataclass(frozen=True)
class NotTaken:
    """A filter that cannot be expressed, and why."""

    filter: Filter
    reason: str


class Filters:
    """Filters that must all hold. They belong to one call; `take` notes what was taken.

    schema:    of the columns that they may look at.
    not_taken: those that cannot be expressed.
    elsewhere: identifiers of filters that are about no column here, but about other data sets.
    """

    def __init__(
        self,
        schema: pa.Schema,
        conditions: Iterable[Condition] = (),
        not_taken: tuple[NotTaken, ...] = (),
        elsewhere: tuple[str, ...] = (),
    ) -> None:
        self.schema = schema
        self._conditions = tuple(conditions)
        self._taken: set[str] = set()
        self.not_taken = not_taken
        self.elsewhere = elsewhere

    @classmethod
    def of(
        cls,
        context: ExecutionContext | None,
        schema: pa.Schema,
        labels: Mapping[str, str] = NO_LABELS,
        fiscal_year_start_month: int = 1,
    ) -> Filters:
        """The filters of a context, against the columns of `schema`.

        labels: identifiers of labels and date data sets whose column has another name.
        """
        if context is None:
            return cls(schema)
        clock = clock_of(context, fiscal_year_start_month)
        return cls.made_of(context.filters, schema, labels, clock)

    @classmethod
    def made_of(
        cls, filters: Iterable[Filter], schema: pa.Schema, labels: Mapping[str, str], clock: Clock
    ) -> Filters:
        """Raises ValueError when `labels` leads to no column."""
        conditions: list[Condition] = []
        not_taken: list[NotTaken] = []
        elsewhere: list[str] = []
        for one in filters:
            if isinstance(one, UnknownFilter):
                not_taken.append(NotTaken(one, f"filterType {one.filter_type!r} is not known"))
            elif (field := column_of(identifier(one), schema, labels)) is None:
                elsewhere.append(identifier(one))
            elif isinstance(found := condition(one, field, clock), str):
                not_taken.append(NotTaken(one, found))
            else:
                conditions.append(found)
        return cls(schema, conditions, tuple(not_taken), tuple(dict.fromkeys(elsewhere)))

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that they look at, in the order of the schema."""
        needed = {one.column for one in self._conditions}
        return tuple(name for name in self.schema.names if name in needed)

    @property
    def taken(self) -> tuple[str, ...]:
        """The columns whose filters were taken so far, in the order of the schema."""
        return tuple(name for name in self.schema.names if name in self._taken)

    @property
    def rest(self) -> Filters:
        """What nobody has taken so far."""
        left = (one for one in self._conditions if one.column not in self._taken)
        return Filters(self.schema, left, self.not_taken, self.elsewhere)

    def take(self, *columns: str) -> Filters:
        """The filters on these columns: the receipt of a function that they are applied.

        Raises LookupError for a name that is no column: a mistake of the function, and not, as a
        ValueError would be, of its caller.
        """
        for column in columns:
            if column not in self.schema.names:
                near = meant(column, self.schema.names)
                raise LookupError(f"filters.take: {column!r} is no column, {near}")
        self._taken.update(columns)
        return Filters(self.schema, (one for one in self._conditions if one.column in columns))

    def expression(self, data: pa.Schema | None = None) -> pc.Expression | None:
        """For `Table.filter` and datasets; None when every row stays.

        data: the types that the columns have there, where they are not those of the schema.
        """
        types = self.schema if data is None else data
        return expression((one, types.field(one.column).type) for one in self._conditions)

    def sql(self, style: Style = "duckdb") -> Where:
        """The text after WHERE and its parameters."""
        return where(self._conditions, style)

    def predicate(self) -> Callable[[Mapping[str, Any]], bool]:
        """Whether a row, a mapping by column, stays."""
        return predicate(self._conditions)

    def apply(self, rows: Rows) -> Rows:
        """The rows that stay, of a table with the types of the schema, or of a frame of pandas or
        polars whose values fit them.

        Raises TypeError for anything else, FunctionFailed for a frame that does not fit.
        """
        expression = self.expression()
        if isinstance(rows, (pa.Table, pa.RecordBatch)):
            return cast(Rows, kept(rows, expression))
        if not frames.is_frame(rows):
            raise TypeError(
                f"filters.apply: expected a pyarrow.Table, or a frame of pandas or polars, got "
                f"{name_of(rows)}; for a row, a dict, there is filters.predicate()"
            )
        if expression is None:
            return rows
        return cast(Rows, frames.filtered(rows, expression, self.columns, self.schema))

    def check(self) -> None:
        """Raises BadCall, which lists what cannot be expressed, when there is such a filter."""
        if self.not_taken:
            reasons = "; ".join(one.reason for one in self.not_taken)
            raise BadCall(f"executionContext.filters: not all can be applied: {reasons}")


def clock_of(context: ExecutionContext, fiscal_year_start_month: int) -> Clock:
    if fiscal_year_start_month not in range(1, 13):
        raise ValueError(
            f"fiscal_year_start_month: expected 1 to 12, got {fiscal_year_start_month}"
        )
    now = context.timestamp
    return Clock(
        context.timezone,
        now.replace(tzinfo=None) if now else None,
        context.week_start is WeekStart.SUNDAY,
        fiscal_year_start_month,
    )


def column_of(name: str, schema: pa.Schema, labels: Mapping[str, str]) -> pa.Field | None:
    """The column of a label or a date data set; None when it belongs to another data set."""
    column = labels.get(name, name)
    if column in schema.names:
        return schema.field(column)
    if name in labels:
        raise ValueError(f"label {name!r} stands for {column!r}, which is no column")
    return None


def identifier(one: Filter) -> str:
    """The label or the date data set that a filter is about."""
    match one:
        case PositiveAttributeFilter() | NegativeAttributeFilter() | MatchAttributeFilter():
            return one.label_identifier
        case UnknownFilter():
            return ""
    return one.dataset_identifier
