"""Typed parameters: what comes becomes an object, or all that is wrong with it is told."""

from __future__ import annotations

import datetime as dt
import enum
import logging
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given as each_of
from hypothesis import strategies as st
from msgspec import Meta, Struct

from flexhost.errors import BadArgument, BadCall, StartError
from flexhost.values.parameters import Parameters


class Unit(enum.Enum):
    DAY = "day"
    WEEK = "week"


class Size(enum.IntEnum):
    SMALL = 1


class Span(Struct, forbid_unknown_fields=True):
    since: dt.date
    days: int = 1


class Params(Struct, frozen=True):
    region: str = "EU"
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    spans: list[Span] = []
    unit: Unit = Unit.DAY
    size: Size = Size.SMALL
    ratio: float = 0.5
    mode: Literal["fast", "exact"] = "fast"
    level: Literal[1, 3] = 1
    either: int | float | None = None
    weights: dict[str, int] = {}
    years: dict[int, str] = {}
    span: Span | None = None
    anything: Any = None


CONTEXT = {"executionContext": {"executionType": "REPORT"}}


def read(cls=Params, /, **given):
    return Parameters(cls, "function class m.F").read(given)


def refused(cls=Params, /, **given):
    with pytest.raises(BadCall) as error:
        read(cls, **given)
    assert error.value.code == "BAD_ARGUMENT"
    return str(error.value), error.value.detail


def test_what_is_not_given_has_its_default():
    assert read(region="US") == Params(region="US")


def test_the_column_hint_and_the_execution_context_are_no_parameters():
    assert read(columns=["a"], **CONTEXT) == Params()


def test_values_become_what_the_class_says():
    span = {"since": "2026-01-02"}

    params = read(spans=[span], unit="week", years={"2026": "x"}, mode="exact")

    assert params.spans == [Span(dt.date(2026, 1, 2))]
    assert (params.unit, params.years, params.mode) == (Unit.WEEK, {2026: "x"}, "exact")


def test_an_integral_float_is_an_int_at_any_depth():
    span = {"since": "2026-01-02", "days": 7.0}

    params = read(limit=3.0, spans=[span], span=span, weights={"a": 2.0}, size=1.0, level=3.0)

    found = [
        params.limit,
        params.spans[0].days,
        params.span.days,
        params.weights["a"],
        params.level,
    ]
    assert found == [3, 7, 7, 2, 3]
    assert all(type(one) is int for one in found)
    assert params.size is Size.SMALL


def test_a_float_stays_one_where_a_float_or_anything_may_be():
    params = read(limit=3.0, ratio=2.0, either=4.0, anything=5.0)

    assert [type(one) for one in (params.ratio, params.either, params.anything)] == [float] * 3


@pytest.mark.parametrize("value", [3.5, True, "3", 1e300, None])
def test_nothing_else_is_an_int(value):
    message, _ = refused(limit=value)

    assert message == f"limit is {value!r}, expected int"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": 0}, "limit is 0, expected int >= 1"),
        ({"region": ["EU"]}, "region is ['EU'], expected str"),
        ({"unit": "month"}, "unit is 'month', expected one of 'day', 'week'"),
        ({"mode": "slow"}, "mode is 'slow', expected one of 'fast', 'exact'"),
        ({"either": "x"}, "either is 'x', expected int or float or null"),
        ({"weights": {"a b": "x"}}, "weights.'a b' is 'x', expected int"),
        ({"spans": [{"since": "soon"}]}, "spans[0].since is 'soon', expected a valid RFC3339"),
        ({"spans": [{"days": 1}]}, "spans[0].since is missing, expected date"),
        ({"spans": {}}, "spans is {}, expected array"),
        (
            {"span": {"since": "2026-01-01", "day": 1}},
            "span: there is no parameter 'day', did you mean 'days'?",
        ),
        ({"limti": 5}, "there is no parameter 'limti', did you mean 'limit'?"),
        ({"zzz": 5}, "there is no parameter 'zzz', there is region, limit, spans, unit"),
    ],
)
def test_a_message_has_the_path_the_value_and_what_is_expected(given, message):
    assert refused(**given)[0].startswith(message)


def test_all_that_is_wrong_is_told_at_once():
    message, detail = refused(limit=0, region=1, spans=[{}, {"since": 1, "days": "x"}])

    for problem in (
        "region is 1, expected str",
        "limit is 0, expected int >= 1",
        "spans[0].since is missing, expected date",
        "spans[1].since is 1, expected date",
        "spans[1].days is 'x', expected int",
    ):
        assert problem in detail.splitlines()
    assert message.startswith("region is 1, expected str; limit is 0, ")


def test_a_message_stays_short_and_says_how_much_is_left_out():
    message, detail = refused(**{f"limit{i}": i for i in range(500)}, region="x" * 10_000 + "y")

    assert len(message) < 256
    assert message.endswith("more")
    assert len(detail.splitlines()) <= 20


def test_a_value_that_is_huge_is_cut():
    assert len(refused(limit="x" * 1_000_000)[0]) < 120
    assert len(refused(limit={str(i): [[[i]]] for i in range(10_000)})[0]) < 200


def test_unknown_keys_beside_an_execution_context_are_logged_once_for_each(caplog):
    caplog.set_level(logging.INFO)
    parameters = Parameters(Params, "function class m.F")
    for _ in range(2):
        assert parameters.read({"added": 1, "region": "US", **CONTEXT}) == Params("US")

    told = [record.getMessage() for record in caplog.records]
    assert told == ["function class m.F: passed over 'added', which is no parameter"]


def test_no_more_than_a_hundred_unknown_keys_are_logged(caplog):
    caplog.set_level(logging.INFO)

    read(**{f"added{i}": i for i in range(150)}, **CONTEXT)

    assert len(caplog.records) == 100


@dataclass
class Plain:
    until: dt.date
    names: list[str] = field(default_factory=list)
    inner: Plain | None = None

    def __post_init__(self):
        if "?" in self.names:
            raise ValueError("'?' is no name")
        if "!" in self.names:
            raise BadArgument("names", "not so loud")


def test_a_dataclass_does_as_well():
    day = dt.date(2026, 1, 1)

    assert read(Plain, until="2026-01-01", inner={"until": "2026-01-01"}) == Plain(
        day, inner=Plain(day)
    )
    assert refused(Plain, inner={"names": [1]})[1].splitlines() == [
        "until is missing, expected date",
        "inner.until is missing, expected date",
        "inner.names[0] is 1, expected str",
    ]


def test_what_the_class_itself_refuses_is_told_in_its_own_words():
    assert refused(Plain, until="2026-01-01", names=["?"])[0] == "'?' is no name"
    assert refused(Plain, until="2026-01-01", names=["!"])[0] == "names: not so loud"


class Circle(Struct, tag=True):
    radius: int


class Square(Struct, tag=True):
    side: int


class Shapes(Struct):
    shapes: list[Circle | Square]


def test_a_member_of_a_union_is_found_by_its_tag():
    shapes = [{"type": "Circle", "radius": 1.0}, {"type": "Square", "side": 2.0}]

    assert read(Shapes, shapes=shapes).shapes == [Circle(1), Square(2)]
    assert refused(Shapes, shapes=[shapes[0], {"type": "Square", "side": "x"}, {"type": "T"}])[
        1
    ].splitlines() == [
        "shapes[1].side is 'x', expected int",
        "shapes[2].type: Invalid value 'T'",
    ]


class Renamed(Struct, rename="camel"):
    first_day: int


def test_fields_have_the_names_of_the_wire():
    assert read(Renamed, firstDay=1) == Renamed(1)
    assert "did you mean 'firstDay'?" in refused(Renamed, first_day=1)[0]


class Node(Struct):
    next: Node | None = None
    n: int = 0


def test_however_deep_a_value_is_the_answer_is_one_of_ours():
    deep: dict[str, Any] = {"n": "x"}
    for _ in range(300):
        deep = {"next": deep}

    message, _ = refused(Node, **deep)

    assert message.startswith("next.next.next")
    assert message.endswith(".next.n: Expected `int`, got `str`")
    assert len(message) < 256


def test_a_long_list_of_wrong_values_is_told_by_its_first():
    class Many(Struct):
        numbers: list[int]

    message, detail = refused(Many, numbers=["x"] * 100_000)

    assert message.startswith("numbers[0] is 'x', expected int; numbers[1]")
    assert len(detail.splitlines()) == 20


def test_far_down_a_long_list_msgspecs_own_word_is_taken():
    class Many(Struct):
        numbers: list[int]

    assert read(Many, numbers=[1.0] * 5000).numbers == [1] * 5000
    message, _ = refused(Many, numbers=[1] * 5000 + ["x"])
    assert message == "numbers[5000]: Expected `int`, got `str`"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["since", "days", "1", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@each_of(st.dictionaries(st.sampled_from([*Params.__struct_fields__, "limti", "columns"]), JSON))
def test_whatever_comes_is_read_or_refused_with_a_text_that_can_be_sent(given):
    try:
        told = [repr(read(**given))]
    except BadCall as error:
        told = [str(error), *(error.detail or "").splitlines()]

    assert told[0].startswith("Params(") or 0 < len(told[0]) < 1000
    assert len(told) <= 100


def test_the_schema_has_its_top_inlined_and_nested_types_beside_it():
    class Deep(Struct):
        """What there is to ask."""

        span: Span
        limit: Annotated[int, Meta(ge=1, description="rows")] = 3

    schema = Parameters(Deep, "").schema

    assert schema["properties"]["span"] == {"$ref": "#/$defs/Span"}
    assert schema["properties"]["limit"] == {
        "type": "integer",
        "description": "rows",
        "minimum": 1,
        "default": 3,
    }
    assert (schema["description"], schema["required"]) == ("What there is to ask.", ["span"])
    assert list(schema["$defs"]) == ["Span"]
    assert "$defs" not in Parameters(Span, "").schema


def test_a_schema_that_is_nested_in_itself_keeps_its_own_definition():
    assert list(Parameters(Node, "").schema["$defs"]) == ["Node"]


class OfColumns(Struct):
    columns: list[str]


class OfContext(Struct, rename={"context": "executionContext"}):
    context: dict[str, Any]


class Odd(Struct):
    n: complex


class Array(Struct, array_like=True):
    n: int


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (OfColumns, "'columns' is no parameter, every call may have one"),
        (OfContext, "'executionContext' is no parameter, every call may have one"),
        (Odd, "Parameters cannot be used: TypeError: "),
        (Array, "expected a msgspec.Struct or a dataclass"),
        (dict, "expected a msgspec.Struct or a dataclass"),
        (Params(), "expected a msgspec.Struct or a dataclass"),
    ],
)
def test_a_class_that_cannot_be_used_ends_the_start(cls, message):
    with pytest.raises(StartError) as error:
        Parameters(cls, "function class m.F")

    assert str(error.value).startswith("function class m.F: ")
    assert message in str(error.value)


def test_a_hint_that_names_nothing_ends_the_start():
    @dataclass
    class Lost:
        n: NoSuchThing  # noqa: F821

    with pytest.raises(StartError, match="Parameters cannot be used: name 'NoSuchThing'"):
        Parameters(Lost, "m.F")


def test_reading_takes_no_more_than_one_conversion_when_all_is_well(monkeypatch):
    conversions = []
    convert = msgspec.convert
    monkeypatch.setattr(
        msgspec, "convert", lambda *a, **k: conversions.append(1) or convert(*a, **k)
    )

    read(limit=3)

    assert conversions == [1]
