"""Which dates and moments a filter keeps: periods, weeks, fiscal years, clocks that change."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from contexts import between, context, shifted

from flexhost.filters.conditions import Within
from flexhost.filters.periods import GRANULARITIES
from flexhost.pushdown import Filters

NOW = "2026-11-20T09:30:15+01:00"  # a Friday


def bounds(sent, type_=None, fiscal=1, **fields):
    """The first value that stays, and the first after it that does not."""
    schema = pa.schema([("d", pa.timestamp("s") if type_ is None else type_)])
    filters = Filters.of(context(sent, **{"timestamp": NOW, **fields}), schema, {}, fiscal)
    assert not filters.not_taken
    [condition] = filters._conditions
    if not isinstance(condition, Within):
        return "nothing"
    return tuple(shown(limit, condition.type) for limit in (condition.start, condition.end))


def shown(limit, type_):
    if isinstance(limit, int):
        per = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[type_.unit]
        limit = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=limit // per)
        return f"{limit:%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00")
    return limit and str(limit)


@pytest.mark.parametrize(
    ("granularity", "first", "last", "start", "end"),
    [
        ("SECOND", -1, 0, "2026-11-20 09:30:14", "2026-11-20 09:30:16"),
        ("MINUTE", 0, 0, "2026-11-20 09:30:00", "2026-11-20 09:31:00"),
        ("HOUR", -10, -1, "2026-11-19 23:00:00", "2026-11-20 09:00:00"),
        ("DAY", 0, 0, "2026-11-20", "2026-11-21"),
        ("DAY", -1, 1, "2026-11-19", "2026-11-22"),
        ("WEEK", 0, 0, "2026-11-16", "2026-11-23"),
        ("MONTH", -2, 0, "2026-09-01", "2026-12-01"),
        ("MONTH", 1, 2, "2026-12-01", "2027-02-01"),
        ("QUARTER", -1, -1, "2026-07-01", "2026-10-01"),
        ("QUARTER", 0, 0, "2026-10-01", "2027-01-01"),
        ("YEAR", -1, 0, "2025-01-01", "2027-01-01"),
    ],
)
def test_a_relative_filter_goes_from_the_first_period_to_the_end_of_the_last(
    granularity, first, last, start, end
):
    assert bounds(shifted("d", granularity, first, last)) == (start, end)


@pytest.mark.parametrize(
    ("now", "monday", "sunday"),
    [
        ("2026-11-21", "2026-11-16", "2026-11-15"),  # Saturday
        ("2026-11-22", "2026-11-16", "2026-11-22"),  # Sunday
        ("2026-11-23", "2026-11-23", "2026-11-22"),  # Monday
        ("2027-01-01", "2026-12-28", "2026-12-27"),  # in ISO week 53 of 2026
    ],
)
def test_weeks_start_on_the_day_that_the_context_says(now, monday, sunday):
    sent, timestamp = shifted("d", "WEEK", 0, 0), f"{now}T12:00:00+01:00"

    assert bounds(sent, timestamp=timestamp, weekStart="monday")[0] == monday
    assert bounds(sent, timestamp=timestamp, weekStart="sunday")[0] == sunday


@pytest.mark.parametrize(
    ("granularity", "fiscal", "start", "end"),
    [
        ("FISCAL_YEAR", 1, "2026-01-01", "2027-01-01"),
        ("FISCAL_YEAR", 7, "2026-07-01", "2027-07-01"),
        ("FISCAL_YEAR", 12, "2025-12-01", "2026-12-01"),
        ("FISCAL_QUARTER", 2, "2026-11-01", "2027-02-01"),
        ("FISCAL_QUARTER", 12, "2026-09-01", "2026-12-01"),
        ("FISCAL_MONTH", 7, "2026-11-01", "2026-12-01"),
    ],
)
def test_fiscal_years_and_quarters_count_from_the_month_the_fiscal_year_starts_in(
    granularity, fiscal, start, end
):
    assert bounds(shifted("d", granularity, 0, 0), fiscal=fiscal) == (start, end)


def test_today_is_the_day_in_the_zone_of_the_context():
    late = {"timestamp": "2026-11-20T23:30:00Z"}

    assert bounds(shifted("d", "DAY", 0, 0), timezone="UTC", **late)[0] == "2026-11-20"
    assert bounds(shifted("d", "DAY", 0, 0), timezone="Europe/Prague", **late)[0] == "2026-11-21"


@pytest.mark.parametrize("type_", [pa.date32(), pa.date64()])
def test_a_date_counts_as_its_first_moment(type_):
    assert bounds(between("d", "2026-01-01", "2026-01-31"), type_) == ("2026-01-01", "2026-02-01")
    half = between("d", "2026-01-01 08:00", "2026-01-31 00:00")
    assert bounds(half, type_) == ("2026-01-02", "2026-02-01")
    assert bounds(between("d", "2026-01-01 08:00", "2026-01-01 17:00"), type_) == "nothing"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_local_days_of_instants_are_as_long_as_the_clocks_make_them(unit):
    type_ = pa.timestamp(unit, "America/New_York")  # the zone of the column does not matter
    spring, autumn = (between("d", day, day) for day in ("2026-03-29", "2026-10-25"))

    assert bounds(spring, type_) == ("2026-03-28 23:00:00", "2026-03-29 22:00:00")
    assert bounds(autumn, type_) == ("2026-10-24 22:00:00", "2026-10-25 23:00:00")
    assert bounds(spring, pa.timestamp(unit)) == ("2026-03-29", "2026-03-30")


@pytest.mark.parametrize(
    ("zone", "day", "start", "end"),
    [
        # no midnight: clocks go from 00:00 to 01:00
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00:00", "2018-11-05 02:00:00"),
        # two midnights, on the 18th: from 00:00 back to 23:00 of the 17th
        ("America/Sao_Paulo", "2018-02-17", "2018-02-17 02:00:00", "2018-02-18 03:00:00"),
        # clocks went from 23:30 to 00:30
        ("America/Toronto", "1919-03-31", "1919-03-31 04:30:00", "1919-04-01 04:00:00"),
        # and a day that never was
        ("Pacific/Apia", "2011-12-31", "2011-12-30 10:00:00", "2011-12-31 10:00:00"),
        ("Asia/Kathmandu", "2026-01-01", "2025-12-31 18:15:00", "2026-01-01 18:15:00"),
    ],
)
def test_a_local_day_starts_at_the_first_moment_there_is(zone, day, start, end):
    sent = between("d", day, day)

    assert bounds(sent, pa.timestamp("s", "UTC"), timezone=zone) == (start, end)


def test_a_day_that_never_was_keeps_nothing():
    schema = pa.schema([("d", pa.timestamp("s", "UTC"))])
    sent = context(between("d", "2011-12-30", "2011-12-30"), timezone="Pacific/Apia")
    table = pa.table({"d": [1325239200 + n for n in (-1, 0, 1)]}, schema=schema)

    assert Filters.of(sent, schema).apply(table).num_rows == 0


def test_an_hour_that_comes_twice_is_two_hours_long_and_one_that_never_comes_is_empty():
    type_ = pa.timestamp("s", "UTC")

    twice = bounds(between("d", "2026-10-25 02:00", "2026-10-25 02:59"), type_)
    assert twice == ("2026-10-25", "2026-10-25 02:00:00")
    start, end = bounds(between("d", "2026-03-29 02:00", "2026-03-29 02:59"), type_)
    assert start == end


@pytest.mark.parametrize("type_", [pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")])
def test_what_ends_before_it_starts_keeps_nothing(type_):
    assert bounds(between("d", "2026-01-02", "2026-01-01"), type_) == "nothing"
    assert bounds(shifted("d", "MONTH", 1, -1), type_) == "nothing"


@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
@pytest.mark.parametrize("type_", [pa.date32(), pa.timestamp("us"), pa.timestamp("ns", "UTC")])
def test_shifts_out_of_the_years_1_to_9999_have_no_bound_or_keep_nothing(granularity, type_):
    far = 10**30

    assert bounds(shifted("d", granularity, -far, far), type_) == (None, None)
    assert bounds(shifted("d", granularity, -far, 0), type_)[0] is None
    assert bounds(shifted("d", granularity, 0, far), type_)[1] is None
    assert bounds(shifted("d", granularity, far, 2 * far), type_) == "nothing"
    assert bounds(shifted("d", granularity, -2 * far, -far), type_) == "nothing"


@pytest.mark.parametrize("now", ["0001-01-02T00:00:00+00:00", "9999-12-30T23:59:59+00:00"])
@pytest.mark.parametrize("zone", ["Pacific/Apia", "America/Los_Angeles", "Asia/Kathmandu"])
@pytest.mark.parametrize("granularity", sorted(GRANULARITIES))
def test_the_first_and_the_last_days_there_are_can_be_now(now, zone, granularity):
    for type_ in (pa.date32(), pa.timestamp("s"), pa.timestamp("s", "UTC")):
        assert bounds(shifted("d", granularity, -1, 1), type_, timestamp=now, timezone=zone)


def test_days_that_a_unit_cannot_hold_are_no_bound_or_nothing():
    type_ = pa.timestamp("ns")

    assert bounds(between("d", "1500-01-01", "2500-01-01"), type_) == (None, None)
    assert bounds(between("d", "2500-01-01", "2600-01-01"), type_) == "nothing"
    assert bounds(between("d", "1500-01-01", "1600-01-01"), type_) == "nothing"


def test_null_is_in_no_period_not_even_in_one_without_bounds():
    schema = pa.schema([("d", pa.date32())])
    filters = Filters.of(context(between("d", "0001-01-01", "9999-12-31")), schema)
    table = pa.table({"d": [dt.date(1, 1, 1), None, dt.date(9999, 12, 31)]}, schema=schema)

    assert filters.apply(table)["d"].null_count == 0
    assert filters.apply(table).num_rows == 2
    assert filters.sql().text == '"d" IS NOT NULL'
    assert not filters.predicate()({"d": None})


@pytest.mark.parametrize(
    "name", ["Europe/Prague", "America/St_Johns", "Africa/Cairo", "Asia/Beirut"]
)
def test_days_follow_each_other_without_a_gap_or_an_overlap(name):
    end = None
    for day in (dt.date(2009, 12, 31) + dt.timedelta(days=n) for n in range(800)):
        text = day.isoformat()
        start, following = bounds(between("d", text, text), pa.timestamp("s", "UTC"), timezone=name)
        assert end in (None, start)
        assert (
            dt.datetime.fromisoformat(start)
            .replace(tzinfo=dt.timezone.utc)
            .astimezone(ZoneInfo(name))
            .date()
            == day
        )
        end = following
