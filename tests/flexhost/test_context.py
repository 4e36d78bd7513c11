"""The execution context: what is there is checked, what is new is let be."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta, timezone
from pathlib import Path

import pytest
from contexts import between, context, elements, match, only, parameters, shifted

from flexhost import ExecutionContext
from flexhost.context import (
    AbsoluteDateFilter,
    BoundedFilter,
    ExecutionType,
    NegativeAttributeFilter,
    PositiveAttributeFilter,
    RelativeDateFilter,
    UnknownFilter,
    WeekStart,
)
from flexhost.errors import BadCall

SAMPLES = Path(__file__).parent / "samples"


def sample(name):
    return ExecutionContext.from_parameters(
        json.loads((SAMPLES / f"{name}.json").read_text())["parameters"]
    )


def test_a_call_without_a_context_has_none():
    assert ExecutionContext.from_parameters({"region": "EU"}) is None
    assert ExecutionContext.from_parameters({"executionContext": None}) is None


def test_the_sample_of_a_report_is_read_to_the_last_field():
    read = sample("report_request")

    assert (read.execution_type, read.workspace_id) == (ExecutionType.REPORT, "sales")
    assert read.attributes[0].sorting.sort_direction == "ASC"
    assert read.filters == (
        NegativeAttributeFilter("attribute1", ("id1", None)),
        RelativeDateFilter("date", "MONTH", -2, 0),
    )
    assert read.execution_initiator.dashboard_id == "overview"
    assert [one.local_identifier for one in read.report_execution_request.measures] == ["m1"]


def test_the_sample_of_label_elements_is_read_to_the_last_field():
    read = sample("label_elements_request")
    request = read.label_elements_execution_request

    assert (read.execution_type, read.week_start) == (
        ExecutionType.LABEL_ELEMENTS,
        WeekStart.SUNDAY,
    )
    assert (request.label, request.offset, request.limit) == ("attribute2", 0, 500)
    assert (request.pattern_filter, request.exact_filter) == ("val", None)
    assert request.filter_by.label_type == "REQUESTED"
    label, dates = request.depends_on
    assert label == NegativeAttributeFilter("attribute1", ("id1", "id2"))
    assert (dates.dataset_identifier, dates.start) == ("date", datetime(2026, 1, 1))


def test_the_timestamp_is_told_in_the_zone_of_the_context():
    read = context(timestamp="2026-11-20T23:30:00Z", timezone="Europe/Prague")

    assert read.timestamp == datetime(2026, 11, 20, 23, 30, tzinfo=timezone.utc)
    assert (read.timestamp.date(), read.timestamp.time()) == (date(2026, 11, 21), time(0, 30))


@pytest.mark.parametrize("text", ["2026-11-20t09:30:00.5z", "2026-11-20T09:30+01:00"])
def test_a_timestamp_is_rfc_3339_and_may_leave_out_the_seconds(text):
    assert context(timestamp=text).timestamp.minute == 30


def test_without_a_zone_it_is_utc_and_weeks_start_on_monday():
    read = context(timezone=None, weekStart=None, timestamp=None)

    assert (read.timezone.key, read.week_start, read.timestamp) == ("UTC", WeekStart.MONDAY, None)


def test_fields_that_newer_backends_add_are_let_be():
    read = context({**only("region", "EU"), "shiny": 1}, alsoNew=[{}])

    assert read.filters == (PositiveAttributeFilter("region", ("EU",)),)


def test_a_filter_of_an_unknown_type_is_kept_as_it_came():
    read = context({"filterType": "newFilter", "x": 1})

    assert read.filters == (UnknownFilter("newFilter", {"filterType": "newFilter", "x": 1}),)


def test_the_parts_of_filters_that_newer_backends_have_are_read():
    bounded = {"granularity": "DAY", "from": None, "to": 0}
    [read] = context(
        shifted("d", "MONTH", -1, 0, boundedFilter=bounded, emptyValueHandling="INCLUDE")
    ).filters

    assert read.bounded_filter == BoundedFilter("DAY", None, 0)
    assert read.empty_value_handling == "INCLUDE"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("2026-01-31", timedelta(days=1)),
        ("2026-1-31 00:00", timedelta(minutes=1)),
        ("2026-01-31 00:00:00", timedelta(seconds=1)),
    ],
)
def test_an_absolute_filter_goes_to_the_end_of_the_day_minute_or_second_it_names(text, length):
    [read] = context(between("d", "2026-01-01", text)).filters

    assert (read.from_date, read.to_date) == ("2026-01-01", text)
    assert (read.start, read.end) == (datetime(2026, 1, 1), datetime(2026, 1, 31) + length)


def test_an_absolute_filter_to_the_last_day_there_is_has_no_end():
    [read] = context(between("d", "2026-01-01", "9999-12-31")).filters

    assert isinstance(read, AbsoluteDateFilter)
    assert read.end is None


def test_a_date_of_elements_may_stand_under_the_name_of_its_kind_and_be_relative():
    dataset = {"dataset": {"identifier": {"id": "day", "type": "dataset"}}}
    shift = {**dataset, "granularity": "DAY", "from": -1, "to": 0.0}
    request = elements(
        "x", dependsOn=[{"dateFilter": shift}, {"dateFilter": {"relativeDateFilter": shift}}]
    ).label_elements_execution_request

    assert request.depends_on == (RelativeDateFilter("day", "DAY", -1, 0),) * 2


def test_what_narrows_elements_in_an_unknown_way_is_kept_as_it_came():
    narrowing = [{"matchFilter": {}}, {"dateFilter": {"allTimeDateFilter": {}}}]
    request = elements("x", dependsOn=narrowing).label_elements_execution_request

    assert [one.filter_type for one in request.depends_on] == ["matchFilter", "dateFilter"]


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"executionContext": []}, "executionContext: expected an object, got []"),
        (
            parameters(executionType="REPROT"),
            'executionContext.executionType: expected "REPORT" or "LABEL_ELEMENTS", got \'REPROT\'',
        ),
        (parameters(userId=7), "executionContext.userId: expected a text, got 7"),
        (
            parameters(timezone="Europe/Atlantis"),
            "executionContext.timezone: expected the IANA name of a time zone that is known here, "
            "got 'Europe/Atlantis'",
        ),
        (
            parameters(timestamp="2026-11-20T09:30:00"),
            'executionContext.timestamp: expected a time such as "2026-11-20T09:30:00+01:00", '
            "got '2026-11-20T09:30:00'",
        ),
        (
            parameters(only("a"), only("a", "x", 3)),
            "executionContext.filters[1].values[1]: expected a text or null, got 3",
        ),
        (
            parameters(only("a"), match("a", "CONTAINS", "x"), shifted("d", "DAY", "-1", 0)),
            "executionContext.filters[2].from: expected a whole number, got '-1'",
        ),
        (
            parameters(shifted("d", "DAY", 0, True)),
            "executionContext.filters[0].to: expected a whole number, got True",
        ),
        (
            parameters(between("d", "2026-02-30", "2026-03-01")),
            'executionContext.filters[0].from: expected a day such as "2026-01-31", or a minute '
            "\"2026-01-31 12:30\", got '2026-02-30'",
        ),
        (
            parameters(match("a", "CONTAINS", "x", negate="no")),
            "executionContext.filters[0].negate: expected true or false, got 'no'",
        ),
        (parameters({}), "executionContext.filters[0].filterType: expected a text, it is missing"),
        (
            parameters(attributes={}),
            "executionContext.attributes: expected a list of objects, got {}",
        ),
        (
            parameters(labelElementsExecutionRequest={"label": "a", "dependsOn": [{"label": "b"}]}),
            "executionContext.labelElementsExecutionRequest.dependsOn[0].values: "
            "expected a list of texts and nulls, it is missing",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_path_and_value(sent, message):
    with pytest.raises(BadCall) as raised:
        ExecutionContext.from_parameters(sent)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    "zone", ["", "../etc/passwd", "/etc/passwd", "Europe", "a\0b", "\ud800", "x" * 999]
)
def test_what_is_no_time_zone_is_a_bad_call_and_reads_no_other_file(zone):
    with pytest.raises(BadCall, match=r"executionContext\.timezone"):
        context(timezone=zone)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_timestamp_outside_the_years_1_to_9999_is_a_bad_call(text):
    with pytest.raises(BadCall, match=r"executionContext\.timestamp"):
        context(timestamp=text)


def test_a_long_value_is_cut_in_the_message():
    with pytest.raises(BadCall) as raised:
        context(timezone="z" * 100_000)

    assert len(str(raised.value)) < 300
