"""`-p` and `--parameters`: what is typed is what was meant."""

from __future__ import annotations

import datetime
from typing import Literal

import msgspec
import pytest

from flexhost.command_line.given import parameters
from flexhost.errors import SettingsError
from flexhost.values.parameters import Parameters


class Period(msgspec.Struct):
    since: datetime.date


class Typed(msgspec.Struct):
    name: str = ""
    note: str | None = None
    limit: int = 1
    ratio: float = 1.0
    either: int | str = ""
    size: Literal["1", "2"] = "1"
    day: datetime.date | None = None
    regions: list[str] = []
    period: Period | None = None


SCHEMA = Parameters(Typed, "here").schema


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("x=5", 5),
        ("x=1.5", 1.5),
        ("x=true", True),
        ("x=null", None),
        ("x=[1, 2]", [1, 2]),
        ('x={"a": "b"}', {"a": "b"}),
        ("x=EU", "EU"),
        ('x="5"', "5"),
        ("x=007", "007"),
        ("x=2026-01-01", "2026-01-01"),
        ("x=a=b", "a=b"),
        ("x=", ""),
        ("x=NaN", "NaN"),
        ("x=1e400", "1e400"),
        ("x=1,2", "1,2"),
    ],
)
def test_a_value_is_json_where_it_is_some(typed, meant):
    assert parameters(None, [typed], None) == {"x": meant}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("name=5", "5"),
        ("name=true", "true"),
        ("name=null", "null"),
        ("name=[1]", "[1]"),
        ('name="quoted"', "quoted"),
        ("note=null", None),
        ("note=5", "5"),
        ("limit=5", 5),
        ("limit=5.0", 5),
        ("ratio=5", 5),
        ("either=5", 5),
        ("either=true", "true"),
        ("size=2", "2"),
        ("day=2026-01-01", "2026-01-01"),
        ('regions=["1"]', ["1"]),
        ('period={"since": "2026-01-01"}', {"since": "2026-01-01"}),
    ],
)
def test_a_value_is_of_the_type_that_the_function_declares(typed, meant):
    given = parameters(None, [typed], SCHEMA)

    assert given == {typed.partition("=")[0]: meant}
    Parameters(Typed, "here").read(given)


def test_what_fits_no_type_is_sent_as_it_is_for_the_function_to_refuse():
    assert parameters(None, ["limit=many", "other=1"], SCHEMA) == {"limit": "many", "other": 1}


def test_single_values_go_over_the_whole_object(tmp_path):
    file = tmp_path / "all.json"
    file.write_text('{"a": 1, "b": 2}')

    assert parameters(f"@{file}", ["b=3"], None) == {"a": 1, "b": 3}
    assert parameters('{"a": "x"}', [], None) == {"a": "x"}


@pytest.mark.parametrize(
    ("whole", "pairs", "told"),
    [
        (None, ["x"], "-p 'x': expected NAME=VALUE"),
        (None, ["=1"], "expected NAME=VALUE"),
        (None, ["x=1", "x=2"], "x is given twice"),
        ("[1]", [], "no JSON object"),
        ("{", [], "no JSON: "),
        ('{"a": NaN}', [], "NaN is no JSON"),
        ("@/nowhere.json", [], "cannot read /nowhere.json"),
    ],
)
def test_what_is_no_parameter_is_refused(whole, pairs, told):
    with pytest.raises(SettingsError, match=told):
        parameters(whole, pairs, None)
