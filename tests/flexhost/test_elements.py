"""The elements of a label: distinct rows that the request narrows, and never pages."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from contexts import context, elements

from flexhost.elements import Elements
from flexhost.errors import BadCall

DAY = dt.date(2026, 1, 1)
TABLE = pa.table(
    {
        "city": ["Brno", "Praha", "Brno", None, "Ostrava", "Brno"],
        "country": ["CZ", "CZ", "CZ", None, "CZ", "SK"],
        "day": [DAY, DAY, DAY, DAY, DAY + dt.timedelta(days=40), None],
        "zip": [60200, 11000, 60200, 1, 70030, 2],
    }
)


def found(label="city", columns=("city",), table=TABLE, labels=None, **request):
    made = Elements.of(elements(label, **request), table.schema, labels or {})
    made.check()
    return made.narrower(columns)(table).to_pydict()


def dates(start, end, **more):
    dataset = {"dataset": {"identifier": {"id": "day", "type": "dataset"}}}
    return {"dateFilter": {**dataset, "from": start, "to": end, **more}}


def test_a_call_that_asks_for_no_elements_narrows_nothing():
    assert Elements.of(context(), TABLE.schema) is None
    assert Elements.of(None, TABLE.schema) is None


def test_rows_are_distinct_in_the_hinted_columns_and_in_their_order():
    assert found() == {"city": ["Brno", "Praha", None, "Ostrava"]}
    assert found(columns=("country", "city"))["country"] == ["CZ", "CZ", None, "CZ", "SK"]


def test_offset_and_limit_are_left_to_the_backend():
    assert found(offset=1, limit=1) == found()


def test_a_pattern_is_a_part_of_the_text_whose_capitals_do_not_count():
    assert found(patternFilter="RA") == {"city": ["Praha", "Ostrava"]}


def test_a_pattern_of_a_number_looks_at_its_digits():
    assert found("zip", ("zip",), patternFilter="003") == {"zip": [70030]}


def test_an_exact_filter_keeps_what_it_lists_and_null_when_it_lists_null():
    assert found(exactFilter=["Praha", "brno"]) == {"city": ["Praha"]}
    assert found(exactFilter=["Praha", None]) == {"city": ["Praha", None]}
    assert found("zip", ("zip",), exactFilter=["1", "x"]) == {"zip": [1]}


def test_pattern_and_exact_filter_must_both_hold():
    assert found(exactFilter=["Praha", "Brno"], patternFilter="b") == {"city": ["Brno"]}


def test_the_complement_is_what_pattern_and_exact_filter_do_not_give():
    assert found(patternFilter="ra", complementFilter=True) == {"city": ["Brno", None]}
    assert found(exactFilter=["Brno", None], complementFilter=True)["city"] == ["Praha", "Ostrava"]
    both = found(exactFilter=["Praha", "Brno"], patternFilter="b", complementFilter=True)
    assert both == {"city": ["Praha", None, "Ostrava"]}


def test_without_pattern_and_exact_filter_there_is_nothing_to_turn_round():
    assert found(complementFilter=True) == found()


def test_elements_depend_on_other_labels():
    depends = {"label": "country", "values": ["SK", None]}

    assert found(dependsOn=[depends]) == {"city": [None, "Brno"]}
    turned = found(dependsOn=[{**depends, "complementFilter": True}])
    assert turned == {"city": ["Brno", "Praha", "Ostrava"]}


def test_elements_depend_on_dates_that_are_absolute_or_relative():
    absolute, relative = dates("2026-02-01", "2026-12-31"), dates(-10, -10, granularity="MONTH")

    assert found(dependsOn=[absolute]) == {"city": ["Ostrava"]}
    assert found(dependsOn=[relative]) == {"city": ["Brno", "Praha", None]}


def test_the_complement_does_not_turn_round_what_elements_depend_on():
    depends = {"label": "country", "values": ["SK"]}
    made = found(exactFilter=["Praha"], complementFilter=True, dependsOn=[depends])

    assert made == {"city": ["Brno"]}


def test_labels_stand_for_columns():
    labels = {"city.name": "city", "country.code": "country"}
    depends = {"label": "country.code", "values": ["SK"]}
    made = found("city.name", labels=labels, patternFilter="b", dependsOn=[depends])

    assert made == {"city": ["Brno"]}


def test_the_columns_that_are_needed_beside_the_hint_are_told():
    depends = [{"label": "country", "values": []}, dates("2026-01-01", "2026-01-31")]
    made = Elements.of(elements("city", patternFilter="x", dependsOn=depends), TABLE.schema)

    assert made.columns == ("city", "country", "day")


def test_labels_of_other_data_sets_are_listed_apart():
    depends = [{"label": "shop", "values": ["A"]}]
    made = Elements.of(elements("city", dependsOn=depends), TABLE.schema)

    assert (made.elsewhere, made.not_taken) == (("shop",), ())


@pytest.mark.parametrize(
    ("label", "request_", "reason"),
    [
        ("shop", {"patternFilter": "x"}, "label 'shop' is no column"),
        (
            "city",
            {"exactFilter": ["x"], "filterBy": {"labelType": "PRIMARY"}},
            "filterBy 'PRIMARY': which column that is, is not known",
        ),
        ("city", {"dependsOn": [{"matchFilter": {}}]}, "filterType 'matchFilter' is not known"),
        (
            "city",
            {"dependsOn": [dates(0, 0, granularity="DAY_OF_WEEK")]},
            "granularity 'DAY_OF_WEEK' cannot be expressed",
        ),
    ],
)
def test_what_cannot_be_expressed_is_listed_and_can_be_refused(label, request_, reason):
    made = Elements.of(elements(label, **request_), TABLE.schema)

    assert made.not_taken == (reason,)
    with pytest.raises(BadCall, match="labelElementsExecutionRequest: not all can be applied"):
        made.check()


def test_of_a_stream_each_row_comes_once_():
    made = Elements.of(elements("city"), TABLE.schema)
    narrow = made.narrower(("city",))
    tables = [one for i in range(6) if (one := narrow(TABLE.slice(i, 1)))]

    assert [table["city"].to_pylist() for table in tables] == [
        ["Brno"],
        ["Praha"],
        [None],
        ["Ostrava"],
    ]


def test_a_stream_is_narrowed_as_it_comes():
    made = Elements.of(elements("city"), TABLE.schema)

    def endless():
        while True:
            yield TABLE

    assert next(map(made.narrower(("city",)), endless())).num_rows == 4


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", None, "a"]).dictionary_encode(),
        pa.array(["a", None, "a"], pa.string_view()),
        pa.array([b"a", None, b"a"], pa.binary_view()),
        pa.array([float("nan"), None, float("nan")]),
        pa.array([0.5, None, 0.5], pa.float32()).cast(pa.float16()),
        pa.array([1, None, 1], pa.timestamp("ns", "Europe/Prague")),
        pa.array([1, None, 1], pa.time64("ns")),
        pa.array([1, None, 1], pa.time32("ms")),
        pa.array([DAY, None, DAY], pa.date64()),
        pa.array([[1], None, [1]]),
        pa.array([{"a": 1}, None, {"a": 1}]),
        pa.array([True, None, True]),
        pa.nulls(3).cast(pa.decimal128(5, 2)),
    ],
    ids=lambda column: str(column.type),
)
def test_rows_of_any_type_are_distinct_in_a_table_and_in_a_stream(column):
    table = pa.table({"c": column})
    made = Elements.of(elements("c"), table.schema)
    expected = 1 if column.null_count == 3 else 2

    assert made.narrower(None)(table).num_rows == expected
    assert made.narrower(None)(table).schema == table.schema
    slices = (table.slice(i, 1) for i in range(3))
    assert sum(one.num_rows for one in map(made.narrower(None), slices)) == expected
