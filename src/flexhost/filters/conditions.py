"""Filters resolved against the columns of a function: what a value must be for its row to stay."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import pyarrow as pa

from flexhost.filters.context_filters import (
    AbsoluteDateFilter,
    Filter,
    MatchAttributeFilter,
    NegativeAttributeFilter,
    PositiveAttributeFilter,
    RelativeDateFilter,
    UnknownFilter,
)
from flexhost.filters.literals import INT64, PER_SECOND, Literal, encodable, is_text, plain, reader
from flexhost.filters.periods import (
    GRANULARITIES,
    LAST_DAY,
    Clock,
    Period,
    absolute,
    days,
    relative,
    seconds,
)

MATCH_TYPES = ("STARTS_WITH", "ENDS_WITH", "CONTAINS")
UPPER, LOWER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"
FOLDED = str.maketrans(UPPER, LOWER)


@dataclass(frozen=True)
class Members:
    """The value is one of `values`, or NULL where `null`; with `negative`, it is none of them.

    type: of the column, plain; `values` are as `literals` has them.
    """

    column: str
    type: pa.DataType
    values: tuple[Literal, ...]
    null: bool
    negative: bool


@dataclass(frozen=True)
class Match:
    """The text starts with, ends with or contains `literal`; with `negate`, it does not or is NULL.

    literal: in small letters where capitals do not count.
    """

    column: str
    type: pa.DataType
    literal: str
    match_type: str
    negate: bool
    case_sensitive: bool


@dataclass(frozen=True)
class Within:
    """The value is from `start` to before `end`; None where there is no bound. NULL is not.

    start, end: dates, or whole numbers of the unit of the column since 1970.
    """

    column: str
    type: pa.DataType
    start: date | int | None
    end: date | int | None


Condition: TypeAlias = Members | Match | Within


def condition(made_of: Filter, field: pa.Field, clock: Clock) -> Condition | str:
    """What a filter asks of a column, or the reason why that cannot be expressed."""
    match made_of:
        case PositiveAttributeFilter() | NegativeAttributeFilter():
            return _members(made_of, field, clock)
        case MatchAttributeFilter():
            return _match(made_of, field)
        case RelativeDateFilter():
            return _relative(made_of, field, clock)
        case AbsoluteDateFilter():
            return _absolute(made_of, field, clock)
        case UnknownFilter():
            return f"filters of type {made_of.filter_type!r} are not known"


def nothing(field: pa.Field) -> Condition:
    """No row stays."""
    return Members(field.name, plain(field.type), (), null=False, negative=False)


def _members(
    made_of: PositiveAttributeFilter | NegativeAttributeFilter, field: pa.Field, clock: Clock
) -> Condition | str:
    type_ = plain(field.type)
    if (read := reader(type_, clock.zone)) is None:
        return f"values of column {field.name!r} ({field.type}) have no text"
    read_values = (read(text) for text in made_of.values if text is not None)
    return Members(
        field.name,
        type_,
        tuple(dict.fromkeys(value for value in read_values if value is not None)),
        null=None in made_of.values,
        negative=isinstance(made_of, NegativeAttributeFilter),
    )


def _match(made_of: MatchAttributeFilter, field: pa.Field) -> Condition | str:
    type_, literal = plain(field.type), made_of.literal
    if made_of.match_type not in MATCH_TYPES:
        return f"matchType {made_of.match_type!r} is not known"
    if not is_text(type_):
        return f"column {field.name!r} is {field.type}: only text is matched"
    if not encodable(literal):  # in no column
        return Members(field.name, type_, (), null=False, negative=made_of.negate)
    if not made_of.case_sensitive:
        literal = literal.translate(FOLDED)
    return Match(
        field.name, type_, literal, made_of.match_type, made_of.negate, made_of.case_sensitive
    )


def _relative(made_of: RelativeDateFilter, field: pa.Field, clock: Clock) -> Condition | str:
    if made_of.bounded_filter:
        return "a boundedFilter cannot be expressed"
    if made_of.granularity not in GRANULARITIES:
        return f"granularity {made_of.granularity!r} cannot be expressed"
    if clock.now is None:
        return "the context has no timestamp, which relative dates count from"
    period = relative(made_of.granularity, made_of.from_shift, made_of.to_shift, clock)
    return _dates(made_of, period, field, clock)


def _absolute(made_of: AbsoluteDateFilter, field: pa.Field, clock: Clock) -> Condition | str:
    return _dates(made_of, absolute(made_of.start, made_of.end), field, clock)


def _dates(
    made_of: RelativeDateFilter | AbsoluteDateFilter, period: Period, field: pa.Field, clock: Clock
) -> Condition | str:
    if made_of.empty_value_handling:
        return f"emptyValueHandling {made_of.empty_value_handling!r} cannot be expressed"
    type_ = plain(field.type)
    if pa.types.is_date(type_):
        return _within_days(period, field)
    if pa.types.is_timestamp(type_):
        return _within_moments(period, field, clock)
    return f"column {field.name!r} is {field.type}, neither a date nor a timestamp"


def _within_days(period: Period, field: pa.Field) -> Condition:
    """A day counts as its first moment."""
    found = days(period)
    if not found:
        return nothing(field)
    start = date.fromordinal(found.start + 1) if found.start else None
    end = date.fromordinal(found.stop + 1) if found.stop < LAST_DAY else None
    return Within(field.name, plain(field.type), start, end)


def _within_moments(period: Period, field: pa.Field, clock: Clock) -> Condition:
    """Bounds that the column's unit cannot hold (nanoseconds end in 2262) are none."""
    type_ = plain(field.type)
    start, end = (
        second if second is None else second * PER_SECOND[type_.unit]
        for second in seconds(period, None if type_.tz is None else clock.zone)
    )
    late = start is not None and start >= INT64.stop
    early = end is not None and end <= INT64.start
    if late or early or period.start >= period.end:
        return nothing(field)
    return Within(field.name, type_, _held(start), _held(end))


def _held(limit: int | None) -> int | None:
    return limit if limit is not None and limit in INT64 else None
