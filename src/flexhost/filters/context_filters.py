"""The filters of an execution context, as they came: what they mean is in `pushdown`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from flexhost.filters.fields import Fields


@dataclass(frozen=True)
class PositiveAttributeFilter:
    """Only these values."""

    label_identifier: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class NegativeAttributeFilter:
    """All but these values."""

    label_identifier: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class MatchAttributeFilter:
    """match_type: STARTS_WITH, ENDS_WITH, CONTAINS, or one that a newer backend has."""

    label_identifier: str
    literal: str
    match_type: str
    negate: bool = False
    case_sensitive: bool = False


@dataclass(frozen=True)
class BoundedFilter:
    granularity: str
    from_shift: int | None = None
    to_shift: int | None = None


@dataclass(frozen=True)
class RelativeDateFilter:
    """Shifts from the current period, both ends included.

    granularity:          DAY, MONTH ..., or one that a newer backend has.
    empty_value_handling: INCLUDE, EXCLUDE or ONLY, of newer backends.
    """

    dataset_identifier: str
    granularity: str
    from_shift: int
    to_shift: int
    bounded_filter: BoundedFilter | None = None
    empty_value_handling: str | None = None


@dataclass(frozen=True)
class AbsoluteDateFilter:
    """Both ends included: a day to its last moment, `2026-01-31 12:30` to that of the minute.

    start, end: the same, half-open, by the clock on the wall; `end` is None after year 9999.
    """

    dataset_identifier: str
    from_date: str
    to_date: str
    start: datetime
    end: datetime | None
    empty_value_handling: str | None = None


@dataclass(frozen=True)
class UnknownFilter:
    """A filter of a newer backend, as it came."""

    filter_type: str
    fields: Mapping[str, Any]


Filter: TypeAlias = (
    PositiveAttributeFilter
    | NegativeAttributeFilter
    | MatchAttributeFilter
    | RelativeDateFilter
    | AbsoluteDateFilter
    | UnknownFilter
)


def read_filter(fields: Fields) -> Filter:
    """One of `executionContext.filters`. Raises BadCall."""
    match kind := fields.text("filterType"):
        case "positiveAttributeFilter":
            return PositiveAttributeFilter(*_members(fields))
        case "negativeAttributeFilter":
            return NegativeAttributeFilter(*_members(fields))
        case "matchAttributeFilter":
            return _read_match(fields)
        case "relativeDateFilter":
            return read_relative(fields, fields.text("datasetIdentifier"))
        case "absoluteDateFilter":
            return read_absolute(fields, fields.text("datasetIdentifier"))
    return UnknownFilter(kind, fields.raw)


def read_relative(fields: Fields, dataset: str) -> RelativeDateFilter:
    return RelativeDateFilter(
        dataset,
        fields.text("granularity"),
        fields.number("from"),
        fields.number("to"),
        fields.optional("boundedFilter", _read_bounded),
        fields.optional_text("emptyValueHandling"),
    )


def read_absolute(fields: Fields, dataset: str) -> AbsoluteDateFilter:
    start, _ = _read_moment(fields, "from")
    last, length = _read_moment(fields, "to")
    return AbsoluteDateFilter(
        dataset,
        fields.text("from"),
        fields.text("to"),
        start,
        last + length if last <= datetime.max - length else None,
        fields.optional_text("emptyValueHandling"),
    )


def _members(fields: Fields) -> tuple[str, tuple[str | None, ...]]:
    return fields.text("labelIdentifier"), fields.texts_and_nulls("values")


def _read_match(fields: Fields) -> MatchAttributeFilter:
    return MatchAttributeFilter(
        fields.text("labelIdentifier"),
        fields.text("literal"),
        fields.text("matchType"),
        fields.flag("negate"),
        fields.flag("caseSensitive"),
    )


def _read_bounded(fields: Fields) -> BoundedFilter:
    return BoundedFilter(
        fields.text("granularity"), fields.optional_number("from"), fields.optional_number("to")
    )


# As the backend's API describes them (`AbsoluteDateFilter` of its OpenAPI document); a T is ours.
_MOMENT = re.compile(
    r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[ T](\d{1,2}):(\d{1,2})(?::(\d{1,2}))?)?", re.ASCII
)


def _read_moment(fields: Fields, name: str) -> tuple[datetime, timedelta]:
    """A day, a minute or a second, and how long it is."""
    found = _MOMENT.fullmatch(fields.text(name))
    try:
        moment = datetime(*(int(part) for part in found.groups("0"))) if found else None  # type: ignore[arg-type]  # six numbers
    except ValueError:
        moment = None
    if not found or moment is None:
        raise fields.wrong(name, 'a day such as "2026-01-31", or a minute "2026-01-31 12:30"')
    units = {4: timedelta(days=1), 6: timedelta(minutes=1)}
    return moment, next((u for n, u in units.items() if found[n] is None), timedelta(seconds=1))
