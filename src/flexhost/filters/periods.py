"""Stretches of time: from the current one by shifts, or from date to date; in years 1 to 9999.

Local time is counted in whole seconds since the year 1 began, by the clock on the wall: whole
numbers have no end at the year 9999.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone, tzinfo

DAY = 86_400
LAST_DAY = date.max.toordinal()
END = LAST_DAY * DAY  # the end of the year 9999
_YEAR_1 = datetime(1, 1, 1)
_SECONDS_TO_1970 = (date(1970, 1, 1).toordinal() - 1) * DAY
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_SECONDS = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": DAY}
_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_FISCAL = {f"FISCAL_{name}": months for name, months in _MONTHS.items()}
GRANULARITIES = frozenset({*_SECONDS, "WEEK", *_MONTHS, *_FISCAL})


@dataclass(frozen=True)
class Clock:
    """now: by the clock on the wall.

    sunday: whether weeks start on Sunday; on Monday otherwise, as ISO 8601 has it.
    fiscal_month: 1 to 12, in which the fiscal year starts.
    """

    zone: tzinfo
    now: datetime | None
    sunday: bool = False
    fiscal_month: int = 1


@dataclass(frozen=True)
class Period:
    """Half-open, in local seconds. From 0 means from ever, to END for ever."""

    start: int
    end: int


def absolute(start: datetime, end: datetime | None) -> Period:
    """end: None for the end of the year 9999."""
    return Period(_local(start), END if end is None else _local(end))


def relative(granularity: str, first: int, last: int, clock: Clock) -> Period:
    """The periods from the `first` to the `last`, counted from the current one.

    granularity: one of GRANULARITIES.
    """
    assert clock.now is not None
    nth = _counted(granularity, clock, clock.now)
    return Period(_within_the_years(nth(first)), _within_the_years(nth(last + 1)))


def _counted(granularity: str, clock: Clock, now: datetime) -> Callable[[int], int]:
    """A function from a shift to the local second in which that period starts."""
    if granularity in _SECONDS or granularity == "WEEK":
        length = _SECONDS.get(granularity, 7 * DAY)
        # the year 1 began on a Monday
        phase = -DAY if granularity == "WEEK" and clock.sunday else 0
        current = (_local(now) - phase) // length
        return lambda shift: (current + shift) * length + phase
    months = {**_MONTHS, **_FISCAL}[granularity]
    first = clock.fiscal_month - 1 if granularity in _FISCAL else 0
    current = (now.year * 12 + now.month - 1 - first) // months
    return lambda shift: _start_of_month((current + shift) * months + first)


def _start_of_month(month: int) -> int:
    """month: counted from that of January in the year 0."""
    year, before = divmod(month, 12)
    if year < 1:
        return 0
    return END if year > 9999 else _local(datetime(year, before + 1, 1))


def _within_the_years(second: int) -> int:
    return min(max(second, 0), END)


def _local(moment: datetime) -> int:
    since = moment - _YEAR_1
    return since.days * DAY + since.seconds


def days(period: Period) -> range:
    """The days that start in a period, counted from the first of the year 1."""
    return range(-(-period.start // DAY), -(-period.end // DAY))


def seconds(period: Period, zone: tzinfo | None) -> tuple[int | None, int | None]:
    """A period in seconds since 1970, local without a zone; None where it has no bound."""
    start, end = (
        instant(_YEAR_1 + timedelta(seconds=second), zone) if 0 < second < END else None
        for second in (period.start, period.end)
    )
    return start, end


def instant(local: datetime, zone: tzinfo | None) -> int:
    """A local time in seconds since 1970: the first of two when clocks go back. When they go
    forward past it, the moment they do; the same as java.time has it.
    """
    second = _local(local) - _SECONDS_TO_1970
    if zone is None:
        return second
    before, after = _offsets(local, zone)
    if before >= after:
        return second - before
    around = range(second - after, second - before + 1)
    return around[bisect_left(around, True, key=lambda at: _offset_at(at, zone) != before)]


def is_skipped(local: datetime, zone: tzinfo) -> bool:
    """Whether clocks go forward past a local time."""
    before, after = _offsets(local, zone)
    return before < after


def _offsets(local: datetime, zone: tzinfo) -> tuple[int, int]:
    """Seconds east, by the rule before and by that after a change of the clocks (PEP 495)."""
    first, second = (_offset(local.replace(tzinfo=zone, fold=fold)) for fold in (0, 1))
    return first, second


def _offset_at(second: int, zone: tzinfo) -> int:
    return _offset((_EPOCH + timedelta(seconds=second)).astimezone(zone))


def _offset(moment: datetime) -> int:
    offset = moment.utcoffset()
    return 0 if offset is None else offset.days * DAY + offset.seconds
