"""The requests of the kit are those that a backend sends."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ROOT

from flexhost.context import (
    AbsoluteDateFilter,
    ExecutionContext,
    MatchAttributeFilter,
    NegativeAttributeFilter,
    PositiveAttributeFilter,
    RelativeDateFilter,
    UnknownFilter,
    WeekStart,
)
from flexhost.filters.periods import GRANULARITIES
from flexhost.pushdown import Filters
from flexhost.testing import elements, report


def sample(name):
    return json.loads((ROOT / "tests" / "flexhost" / "samples" / f"{name}.json").read_text())


def context(asked):
    return ExecutionContext.from_parameters(asked.parameters)


def test_a_report_is_what_a_backend_sends():
    asked = (
        report()
        .attribute("attribute1", title="Attribute 1", sort="ASC")
        .measure("fact1")
        .where_not(attribute1=["id1", None])
        .last("date", 3, "MONTH")
        .at("2026-11-20T09:30:00+01:00", "Europe/Prague")
        .asked_by(workspace="sales", user="analyst")
        .initiated_by(
            "display", dashboardId="overview", visualizationId="by_attribute", widgetId="w1"
        )
    )

    assert asked.parameters == sample("report_request")["parameters"]


def test_a_request_for_elements_is_what_a_backend_sends():
    asked = (
        elements("attribute2")
        .containing("val")
        .depends_on_not(attribute1=["id1", "id2"])
        .between("date", "2026-01-01", "2026-06-30")
        .page(0, 500)
        .validated_by("fact1")
        .at("2026-11-20T09:30:00+01:00", "Europe/Prague", "sunday")
        .asked_by(workspace="sales", user="analyst")
    )

    assert asked.parameters == sample("label_elements_request")["parameters"]


def test_each_step_is_a_new_request():
    asked = report("region")
    asked.where(region="EU").at("2026-03-01T00:00Z").asked_by(user="ann")
    asked.parameters["executionContext"]["filters"].append("spoilt")

    assert asked == report("region")
    assert asked.parameters["executionContext"]["filters"] == []
    with pytest.raises(dataclasses.FrozenInstanceError):
        asked.columns = ()


def test_what_a_request_was_made_of_may_change_afterwards():
    values = ["EU"]
    raw = {"filterType": "newFilter", "values": values}
    asked = report().where(region=values).with_filter(raw).with_context(attributes=[])
    before = asked.parameters
    values.append("US")

    assert asked.parameters == before


def test_values_are_written_as_the_backend_writes_them():
    values = [None, "x", 5, 1.5, Decimal("2.50"), True, dt.date(2026, 1, 31), dt.time(9, 30)]
    [one] = context(report().where(c=[*values, dt.datetime(2026, 1, 31, 9, 30)])).filters

    assert one.values == (
        None, "x", "5", "1.5", "2.50", "true", "2026-01-31", "09:30:00", "2026-01-31 09:30:00",
    )  # fmt: skip


def test_a_value_written_by_the_kit_finds_the_row_that_has_it():
    values = {
        "float": 1.5,
        "bool": True,
        "date": dt.date(2026, 1, 31),
        "moment": dt.datetime(2026, 1, 31, 9, 30),
        "time": dt.time(9, 30),
        "decimal": Decimal("2.50"),
    }
    table = pa.table({name: [value] for name, value in values.items()})

    filters = Filters.of(context(report().where(values)), table.schema)

    assert len(filters.columns) == len(values)
    assert filters.apply(table) == table
    assert filters.predicate()(table.to_pylist()[0])


def test_now_is_a_time_of_the_zone():
    asked = report().at("2026-07-01 12:00", "Europe/Prague", "sunday")
    old = report().at(dt.datetime(1800, 1, 1), "Europe/Prague")

    assert context(asked).timestamp == dt.datetime(2026, 7, 1, 12, tzinfo=ZoneInfo("Europe/Prague"))
    assert asked.timestamp == "2026-07-01T12:00:00+02:00"
    assert context(asked).week_start is WeekStart.SUNDAY
    assert context(old).timestamp.replace(tzinfo=None) == dt.datetime(1800, 1, 1)


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: report(5), "5 is no name of a column"),
        (lambda: report(""), "the name of a column is empty"),
        (lambda: report().where(), "no label is given"),
        (lambda: report().where("EU"), "'EU' is no mapping of labels"),
        (lambda: report().where({"a": "x"}, a="y"), "label 'a' is given twice"),
        (lambda: report().where(a={"x"}), "{'x'} is no value of an attribute"),
        (lambda: report().where(a=float("nan")), "nan is no value of an attribute"),
        (lambda: report().where(a=[b"x"]), "b'x' is no value of an attribute"),
        (lambda: report().like("a"), "label 'a': give one of"),
        (lambda: report().like("a", contains="x", ends_with="y"), "label 'a': give one of"),
        (lambda: report().like("a", contains=5), "5 is no text to match"),
        (lambda: report().between("day", "31.1.2026", "2026-01-31"), r"from: expected a day"),
        (lambda: report().between("day", "2026-02-30", "2026-03-01"), "'2026-02-30'"),
        (lambda: report().between("day", 5, "2026-03-01"), "5 is no day"),
        (
            lambda: report().between("day", dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), "x"),
            "expected a time by the clock on the wall",
        ),
        (lambda: report().relative("day", "month", 0, 0), "granularity 'month'"),
        (lambda: report().relative("day", "MONTH", 0.5, 0), "0.5 is no whole number"),
        (lambda: report().last("day", 0, "MONTH"), "the last 0 periods"),
        (lambda: report().at("yesterday"), "yesterday"),
        (lambda: report().at("2026-01-01", "Mars"), "'Mars' is no time zone"),
        (lambda: report().at("2026-01-01", week_start="friday"), "friday"),
        (lambda: report().attribute("a", sort="UP"), "UP"),
        (lambda: report().asked_by(user=""), "the name of the user is empty"),
        (lambda: report().with_filter({"values": []}), "filterType: expected a text"),
        (lambda: report().with_context(executionType="OTHER"), "executionType"),
        (lambda: elements(""), "the name of a label is empty"),
        (lambda: elements("a").containing("x").excluding("y"), "turn containing"),
        (lambda: elements("a").excluding("x").containing("y"), "a complement already"),
        (lambda: elements("a").excluding("x").only("y"), "a complement already"),
        (lambda: elements("a").containing(5), "5 is no text"),
    ],
)
def test_what_no_backend_could_mean_is_refused_where_it_is_written(ask, told):
    with pytest.raises((TypeError, ValueError), match=told):
        ask()


NAMES = st.text(min_size=1, max_size=5)
TEXTS = st.text(max_size=4)
DAYS = st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31))
SHIFTS = st.integers(-100, 100)
STEPS = st.one_of(
    st.tuples(st.just("where"), NAMES, st.lists(st.none() | TEXTS, max_size=3)),
    st.tuples(st.just("where_not"), NAMES, st.none() | TEXTS),
    st.tuples(
        st.just("like"),
        NAMES,
        st.fixed_dictionaries(
            {"negate": st.booleans(), "case_sensitive": st.booleans()},
        ),
        st.sampled_from(["starts_with", "ends_with", "contains"]),
        TEXTS,
    ),
    st.tuples(st.just("between"), NAMES, DAYS, DAYS),
    st.tuples(st.just("relative"), NAMES, st.sampled_from(sorted(GRANULARITIES)), SHIFTS, SHIFTS),
    st.tuples(st.just("with_filter"), NAMES),
)


def step(asked, kind, name, *rest):
    """The request with one more filter, and what is to be read of it."""
    match kind:
        case "where":
            return asked.where({name: rest[0]}), PositiveAttributeFilter(name, tuple(rest[0]))
        case "where_not":
            return asked.where_not({name: rest[0]}), NegativeAttributeFilter(name, (rest[0],))
        case "like":
            more, how, text = rest
            read = MatchAttributeFilter(name, text, how.upper(), **more)
            return asked.like(name, **{how: text}, **more), read
        case "between":
            start, end = (dt.datetime.combine(day, dt.time()) for day in rest)
            after = end + dt.timedelta(days=1) if end.date() < dt.date.max else None
            read = AbsoluteDateFilter(name, *(day.isoformat() for day in rest), start, after)
            return asked.between(name, *rest), read
        case "relative":
            return asked.relative(name, *rest), RelativeDateFilter(name, *rest)
    raw = {"filterType": "newFilter", "name": name}
    return asked.with_filter(raw), UnknownFilter("newFilter", raw)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(STEPS, max_size=4),
    st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29)),
    st.sampled_from(["UTC", "Europe/Prague", "America/Sao_Paulo", "Asia/Kathmandu"]),
    st.sampled_from(list(WeekStart)),
)
def test_the_host_reads_what_was_built(steps, now, zone, week_start):
    asked, expected = report("c").at(now, zone, week_start), []
    for one in steps:
        asked, read = step(asked, *one)
        expected.append(read)

    sent = json.loads(json.dumps(asked.parameters))
    read = ExecutionContext.from_parameters(sent)

    assert sent == asked.parameters
    assert read.filters == tuple(expected)
    assert read.timezone.key == zone
    assert read.timestamp.replace(tzinfo=None, fold=0) == now or zone != "UTC"
    assert read.week_start is week_start
    assert len(read.report_execution_request.filters) == len(steps)
    schema = pa.schema([("c", pa.string())])
    names = {name for _, name, *_ in steps}
    assert set(Filters.of(read, schema).elsewhere) <= names


@settings(max_examples=100, deadline=None)
@given(
    NAMES,
    st.none() | TEXTS,
    st.none() | st.lists(st.none() | TEXTS, max_size=3),
    st.booleans(),
    st.lists(st.tuples(NAMES, st.lists(TEXTS, max_size=2), st.booleans()), max_size=3),
)
def test_the_host_reads_the_elements_that_were_asked_for(label, pattern, exact, turned, depends):
    asked = elements(label)
    asked = asked if pattern is None else asked.containing(pattern)
    asked = asked if exact is None else asked.only(*exact)
    asked = asked.complement() if turned else asked
    for name, values, negative in depends:
        step = asked.depends_on_not if negative else asked.depends_on
        asked = step({name: values})

    read = context(asked).label_elements_execution_request

    assert (read.label, read.pattern_filter, read.complement_filter) == (label, pattern, turned)
    assert read.exact_filter == (None if exact is None else tuple(exact))
    assert read.depends_on == tuple(
        (NegativeAttributeFilter if negative else PositiveAttributeFilter)(name, tuple(values))
        for name, values, negative in depends
    )
