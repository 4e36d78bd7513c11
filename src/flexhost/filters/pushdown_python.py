"""Conditions as a plain Python predicate of a row, as `Table.to_pylist` gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, timezone
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost.filters.conditions import FOLDED, Condition, Match, Members, Within
from flexhost.filters.literals import PER_SECOND, rounded

Row: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Any], bool]

_EPOCH = datetime(1970, 1, 1)
_EPOCH_UTC = _EPOCH.replace(tzinfo=timezone.utc)
_MATCHES: dict[str, Callable[[str, str], bool]] = {
    "STARTS_WITH": str.startswith,
    "ENDS_WITH": str.endswith,
    "CONTAINS": str.__contains__,
}


def predicate(conditions: tuple[Condition, ...]) -> Callable[[Row], bool]:
    """Whether a row stays. Raises KeyError for a row without a column that is asked for."""
    tests = [(condition.column, _test(condition)) for condition in conditions]
    return lambda row: all(test(row[column]) for column, test in tests)


def _test(condition: Condition) -> Test:
    test, nan_is_null = _bare_test(condition), not pa.types.is_floating(condition.type)
    return lambda value: test(None if _is_null(value, nan_is_null) else value)


def _is_null(value: Any, nan_is_null: bool) -> bool:
    """None, and what pandas has in its place: NaN and NaT are not equal to themselves, and whether
    NA is cannot be said."""
    try:
        return value is None or (bool(value != value) and nan_is_null)
    except TypeError:
        return True


def _bare_test(condition: Condition) -> Test:
    match condition:
        case Members():
            return _members(condition)
        case Match():
            return _match(condition)
        case Within():
            return _within(condition)


def _members(condition: Members) -> Test:
    wanted, form = set(condition.values), _form(condition.type)
    null, negative = condition.null, condition.negative

    def test(value: Any) -> bool:
        return (null if value is None else form(value) in wanted) is not negative

    return test


def _match(condition: Match) -> Test:
    matches, literal, negate = _MATCHES[condition.match_type], condition.literal, condition.negate

    def test(value: str | None) -> bool:
        if value is None:
            return negate
        text = value if condition.case_sensitive else value.translate(FOLDED)
        return matches(text, literal) is not negate

    return test


def _within(condition: Within) -> Test:
    start, end, form = condition.start, condition.end, _form(condition.type)

    def test(value: Any) -> bool:
        if value is None:
            return False
        value = form(value)
        return (start is None or value >= start) and (end is None or value < end)

    return test


def _form(type_: pa.DataType) -> Callable[[Any], Any]:
    """A value of a row in the form of literals: a value between two units is a fraction."""
    if pa.types.is_floating(type_):
        return lambda value: rounded(value, type_)
    if pa.types.is_timestamp(type_):
        epoch = _EPOCH if type_.tz is None else _EPOCH_UTC
        return lambda value: _units(value - epoch, value, type_.unit)
    if pa.types.is_time(type_):
        return lambda value: _units(_since_midnight(value), value, type_.unit)
    return _day if pa.types.is_date(type_) else lambda value: value


def _day(value: date) -> date:
    """Of a midnight, as pandas has days, the day."""
    if isinstance(value, datetime) and value.time() == time.min:
        return value.date()
    return value


def _units(since: timedelta, value: Any, unit: str) -> int | float:
    nanoseconds = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
    nanoseconds += getattr(value, "nanosecond", 0)  # of a pandas Timestamp
    whole, part = divmod(nanoseconds, 10**9 // PER_SECOND[unit])
    return whole + 0.5 if part else whole


def _since_midnight(value: time) -> timedelta:
    return timedelta(
        hours=value.hour,
        minutes=value.minute,
        seconds=value.second,
        microseconds=value.microsecond,
    )
