"""Random columns and filters of every type, for tests that hold renderings against each other."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
from contexts import between, but, context, match, only, shifted
from hypothesis import strategies as st

from flexhost.filters.conditions import MATCH_TYPES
from flexhost.filters.periods import GRANULARITIES

ZONES = ["Europe/Prague", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia", "UTC"]
# changes of clocks in those zones, and the edges of days, months, years and weeks
EDGES = [
    dt.datetime(*edge)
    for edge in [
        (2026, 3, 29, 1), (2026, 10, 25, 0, 30), (2026, 10, 25, 1), (2018, 11, 4, 3),
        (2018, 2, 18, 2), (2011, 12, 30, 10), (2026, 1, 1), (2025, 12, 31, 23, 59, 59),
        (2024, 2, 29), (2026, 11, 15, 23), (2026, 11, 20, 8, 30), (1970, 1, 1), (1677, 9, 22),
    ]
]  # fmt: skip
TEXT = st.text("aAbBžŽéıİſK%_!\\*?^.'\"\0\n😀", max_size=5)
NUMBERS = ["0", "-0", "1", "+1", "1.0", "1e0", "0.1", "-7", "127", "128", "1e400", "x", "", "1.05"]
moments = st.one_of(
    st.builds(
        lambda edge, off: edge + dt.timedelta(microseconds=off),
        st.sampled_from(EDGES),
        st.one_of(
            st.sampled_from([-1, 0, 1, 10**6, 3600 * 10**6, -3600 * 10**6]),
            st.integers(-5 * 86_400 * 10**6, 5 * 86_400 * 10**6),
        ),
    ),
    st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)),
)
finite = st.floats(width=32) | st.sampled_from([0.0, -0.0, 0.1, 1.0, -7.0])


def _integers(type_):
    signed = pa.types.is_signed_integer(type_)
    high = 1 << type_.bit_width - signed
    return st.integers(-high if signed else 0, high - 1) | st.sampled_from([0, 1, 127])


def _moments(type_):
    per = {"s": 10**6, "ms": 1000, "us": 1, "ns": 1}[type_.unit]
    zone = dt.timezone.utc if type_.tz else None

    def cut(moment):
        if type_.unit == "ns" and not 1678 <= moment.year <= 2261:
            moment = moment.replace(year=2024)
        micro = (moment.second * 10**6 + moment.microsecond) // per * per
        return moment.replace(second=micro // 10**6, microsecond=micro % 10**6, tzinfo=zone)

    return moments.map(cut)


def _times(type_):
    per = {"s": 10**6, "ms": 1000, "us": 1, "ns": 1}[type_.unit]
    return st.times().map(lambda t: t.replace(microsecond=t.microsecond // per * per))


INTEGERS = (pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64())
DECIMALS = st.decimals(-1000, 1000, places=2) | st.just(Decimal("1.00"))
COLUMNS = {
    "text": (pa.string(), TEXT),
    "large": (pa.large_string(), TEXT),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), TEXT),
    **{str(t): (t, _integers(t)) for t in INTEGERS},
    "float": (pa.float32(), finite),
    "double": (pa.float64(), finite),
    "decimal": (pa.decimal128(12, 2), DECIMALS),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), moments.map(dt.datetime.date)),
    "date64": (pa.date64(), moments.map(dt.datetime.date)),
    **{f"naive_{u}": (pa.timestamp(u), _moments(pa.timestamp(u))) for u in ("s", "ms", "us", "ns")},
    **{
        f"aware_{u}": (pa.timestamp(u, "Europe/Prague"), _moments(pa.timestamp(u, "UTC")))
        for u in ("s", "ms", "us", "ns")
    },
    "time_s": (pa.time32("s"), _times(pa.time32("s"))),
    "time_us": (pa.time64("us"), _times(pa.time64("us"))),
}  # fmt: skip
DATES = [n for n in COLUMNS if n.startswith(("date", "naive", "aware"))]
TEXTS = ["text", "large", "dictionary"]


def texts(name, pool):
    """Texts for a filter: mostly of values of the column, some that are none."""
    return st.one_of(
        st.sampled_from([written(value) for value in pool]),
        st.sampled_from([written(value) for value in pool]),
        COLUMNS[name][1].map(written),
        st.sampled_from([*NUMBERS, "true", "2026-01-01", "2026-03-29 02:30", "25:00", "\ud800"]),
        st.none(),
    )


def written(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


@st.composite
def filters_of(draw, name, pool):
    """A filter of one column, whose values are those of a pool."""
    match draw(st.sampled_from(["only", "but", *_kinds(name)])):
        case "only":
            return only(name, *draw(st.lists(texts(name, pool), max_size=4)))
        case "but":
            return but(name, *draw(st.lists(texts(name, pool), max_size=4)))
        case "match":
            return draw(matches(name, pool))
        case "between":
            start, end = sorted(draw(st.tuples(near(pool), near(pool))))
            return between(name, draw(ends(start)), draw(ends(end)))
    first = draw(st.integers(-3, 3) | st.integers(-40, 40) | st.integers(-10_000, 10_000))
    last = first + draw(st.integers(-1, 3) | st.integers(-10_000, 10_000))
    return shifted(name, draw(st.sampled_from(sorted(GRANULARITIES))), first, last)


def _kinds(name):
    return ["match"] if name in TEXTS else ["between", "shifted"] * 2 if name in DATES else []


def matches(name, pool):
    parts = [part for value in pool for part in (value, value[:2], value[-2:], value[1:2])]
    literals = st.builds(
        lambda part, change, to: change(part, to),
        st.sampled_from(parts) | TEXT,
        st.sampled_from(CHANGES),
        st.sampled_from("_%!\\"),
    )
    return st.builds(
        match,
        st.just(name),
        st.sampled_from(MATCH_TYPES),
        literals,
        negate=st.booleans(),
        caseSensitive=st.booleans(),
    )


CHANGES = [
    lambda part, to: part,
    lambda part, to: part[:-1] + to,
    lambda part, to: to + part[1:],
    lambda part, to: part.swapcase(),
]


def near(pool):
    """Moments at, or seconds to hours from, those of a column: there the bounds decide."""
    there = [dt.datetime(*value.timetuple()[:6]) for value in pool]
    steps = st.sampled_from([0, 0, 0, -1, 1, 3600, -3600, 86_400])
    at = st.sampled_from(there)
    return st.builds(lambda moment, step: moment + dt.timedelta(seconds=step), at, steps) | moments


def ends(moment):
    day = moment.date().isoformat()
    times = [moment.isoformat(" ", precision) for precision in ("minutes", "seconds")]
    return st.sampled_from([day, *times])


@st.composite
def filtered(draw, columns=tuple(COLUMNS)):
    """A table with a column `row` that counts, and a context with filters of its columns."""
    names = draw(st.lists(st.sampled_from(columns), min_size=1, max_size=2, unique=True))
    count = draw(st.integers(1, 12))
    data, filters = {}, []
    for name in names:
        pool = draw(st.lists(COLUMNS[name][1], min_size=1, max_size=5))
        values = st.none() | st.sampled_from(pool) | COLUMNS[name][1]
        data[name] = draw(st.lists(values, min_size=count, max_size=count))
        filters += draw(st.lists(filters_of(name, pool), min_size=1, max_size=2))
    arrays = [pa.array(data[name], COLUMNS[name][0]) for name in names]
    table = pa.table([*arrays, pa.array(range(count), pa.int64())], names=[*names, "row"])
    return table, context(
        *filters,
        timezone=draw(st.sampled_from(ZONES)),
        weekStart=draw(st.sampled_from(["monday", "sunday"])),
        timestamp=draw(st.one_of(st.sampled_from(EDGES), moments)).isoformat() + "Z",
    )
