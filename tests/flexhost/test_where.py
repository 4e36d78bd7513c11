"""`--where`: what is said in words is the filter that a backend sends."""

from __future__ import annotations

import pyarrow as pa
import pytest
from contexts import between, but, match, only

from flexhost import ExecutionContext
from flexhost.command_line.where import context, filters
from flexhost.errors import SettingsError

SCHEMA = pa.schema(
    [
        ("region", pa.string()),
        ("my city", pa.string()),
        ("revenue", pa.float64()),
        ("year", pa.int32()),
        ("day", pa.date32()),
        ("at", pa.timestamp("ms", "UTC")),
    ]
)
FIRST, LAST = "0001-01-01", "9999-12-31"


def contains(literal, match_type="CONTAINS", *, negate=False):
    return match("region", match_type, literal, negate=negate, caseSensitive=False)


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("region = EU", only("region", "EU")),
        ("region=EU", only("region", "EU")),
        ("region == 'EU'", only("region", "EU")),
        ("region != EU", but("region", "EU")),
        ("region <> New York", but("region", "New York")),
        ("region = null", only("region", None)),
        ("region is NULL", only("region", None)),
        ("region is not null", but("region", None)),
        ("region = 'null'", only("region", "null")),
        ("region = 'd''Or'", only("region", "d'Or")),
        ("region in ('d''Or', d'Or)", only("region", "d'Or", "d'Or")),
        ("region = Research and Development", only("region", "Research and Development")),
        ("region = 'A and year = 2026'", only("region", "A and year = 2026")),
        ('region = ""', only("region", "")),
        ("region in (EU, US)", only("region", "EU", "US")),
        ("region IN('a, b', \"c\",null, d e )", only("region", "a, b", "c", None, "d e")),
        ("region not in (EU)", but("region", "EU")),
        ('"my city" = Brno', only("my city", "Brno")),
        ("year = 2026", only("year", "2026")),
        ("region contains 100%", contains("100%")),
        ("region not  contains = b", contains("= b", negate=True)),
        ("region contains null", contains("null")),
        ("region contains ''", contains("")),
        ("region starts with N", contains("N", "STARTS_WITH")),
        ("region not ends with 'x '", contains("x ", "ENDS_WITH", negate=True)),
        ("day = 2026-01-31", between("day", "2026-01-31", "2026-01-31")),
        ("day >= 2026-01-01", between("day", "2026-01-01", LAST)),
        ("day <= 2026-01-01", between("day", FIRST, "2026-01-01")),
        ("day > 2026-01-31", between("day", "2026-02-01", LAST)),
        ("day < 2026-03-01", between("day", FIRST, "2026-02-28")),
        ("at > '2026-01-31 23:59'", between("at", "2026-02-01 00:00", LAST)),
        ("at < 2026-01-01 00:00:00", between("at", FIRST, "2025-12-31 23:59:59")),
        (
            "day between 2026-01-01 AND 2026-03-31",
            between("day", "2026-01-01", "2026-03-31"),
        ),
    ],
)
def test_a_condition_is_the_filter_that_a_backend_sends(said, sent):
    assert filters([said], SCHEMA) == [sent]


def test_two_ends_of_a_period_are_one_filter():
    said = ["day >= 2026-01-01", "region = EU", "day < 2026-02-01", "at <= 2026-01-01"]

    assert filters(said, SCHEMA) == [
        between("day", "2026-01-01", "2026-01-31"),
        only("region", "EU"),
        between("at", FIRST, "2026-01-01"),
    ]


def test_conditions_on_one_end_stay_apart():
    said = ["day >= 2026-01-01", "day >= 2026-02-01", "day = 2026-03-01"]

    assert [one["from"] for one in filters(said, SCHEMA)] == [
        "2026-01-01",
        "2026-02-01",
        "2026-03-01",
    ]


def test_a_label_is_called_by_its_identifier_or_its_column():
    said = ["region = EU", "geo.region = EU", "day >= 2026-01-01"]
    sent = filters(said, SCHEMA, {"geo.region": "region", "date": "day"})

    assert sent == [only("geo.region", "EU")] * 2 + [between("date", "2026-01-01", LAST)]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "revenue > 5",
            "only dates can be compared with >. A BI backend filters numbers by itself",
        ),
        ("region between a and b", "only dates can be compared with between"),
        ("day contains 2026", "of a date there is =, >=, <=, >, < and between"),
        ("day in (2026-01-01)", "of a date there is"),
        ("day != 2026-01-01", "of a date there is"),
        ("day >= tomorrow", "expected a day such as \"2026-01-31\".*got 'tomorrow'"),
        ("day >= 2026-02-30", "got '2026-02-30'"),
        ("day between 2026-01-01", "there is no value"),
        ("day > 9999-12-31", "no date beyond that"),
        ("day < 0001-01-01", "no date beyond that"),
        ("day >= null", "expected a"),
        ("regon = EU", "there is no column 'regon', did you mean 'region'?"),
        ("x = EU", "there is no column 'x', there is region, my city, "),
        ("region", "is no condition, expected for example region = EU"),
        ("regionin (EU)", "is no condition"),
        ("region =", "there is no value"),
        ("region in EU", "expected values in parentheses"),
        ("region in ()", "there is no value"),
        ("region in (a,,b)", "cannot read the values from ',b' on"),
        ("region = EU and year = 2026", "one condition at a time, give --where again"),
        ("region = 'EU' OR region = 'US'", "one condition at a time"),
        ("region in (EU) and year in (2026)", "one condition at a time"),
        ("day >= 2026-01-01 and day < 2026-02-01", "one condition at a time"),
    ],
)
def test_what_no_backend_sends_is_refused_with_the_reason(said, told):
    with pytest.raises(SettingsError, match=told) as caught:
        filters([said], SCHEMA)

    assert "--where" in str(caught.value)


def test_the_context_is_one_that_a_function_can_read():
    sent = filters(["region = EU", "day >= 2026-01-01"], SCHEMA)
    read = ExecutionContext.from_parameters({"executionContext": context(sent, "Europe/Prague")})

    assert len(read.filters) == 2
    assert str(read.timezone) == "Europe/Prague"


def test_filters_are_added_to_a_context_that_is_given():
    given = {"executionType": "REPORT", "userId": "ann", "filters": [only("region", "EU")]}

    made = context([but("region", "US")], "UTC", given)

    assert made == {**given, "filters": [only("region", "EU"), but("region", "US")]}
