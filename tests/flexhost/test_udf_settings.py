"""`[udf] functions`: which plain functions a host serves."""

from __future__ import annotations

import sys

import pytest

from flexhost import settings
from flexhost.errors import StartError
from flexhost.registry import load

ADD = "def add_one(i: int) -> int:\n    return i + 1\n"
HELPER = "def helper(x):\n    return x\n"
ODD = """
def mangled(__a: int) -> int:
    return __a

double = lambda i: 2 * i
double.__annotations__ = {"i": int, "return": int}
"""


@pytest.fixture
def loading(tmp_path, monkeypatch):
    """Write modules, load what is listed: `loading("m.f", m=source)`; `flexfun` for the others."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def run(*listed, flexfun=(), skipped=None, executors=None, **modules):
        for name, source in modules.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)
        skip = (lambda text: None) if skipped is None else skipped.append
        found = load(flexfun, None, udfs=listed, skipped=skip, executors=executors or {})
        return [one.name for one in found]

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_one_function_of_a_module_is_listed_by_its_name(loading):
    assert loading("m.add_one", m=ADD + HELPER) == ["add_one"]


def test_a_module_stands_for_its_public_functions_whose_hints_are_complete(loading):
    source = ADD + HELPER + "def _own(i: int) -> int: ...\nfrom json import dumps\n"
    skipped = []

    assert loading("m", skipped=skipped, m=source) == ["add_one"]
    assert skipped == ["function m.helper: argument 'x' has no type hint: it is not served"]


def test_a_function_imported_from_another_module_belongs_to_that_one(loading):
    assert loading("m", base=ADD, m="from base import add_one\n" + ADD.replace("add", "sub")) == [
        "sub_one"
    ]


def test_a_function_in_a_package(loading):
    modules = {"pack/__init__": "", "pack/inner": ADD}

    assert loading("pack.inner", **modules) == ["add_one"]
    assert loading("pack.inner.add_one", **modules) == ["add_one"]


def test_one_that_is_listed_twice_is_served_once(loading):
    assert loading("m", "m.add_one", m=ADD) == ["add_one"]


@pytest.mark.parametrize(
    ("listed", "told"),
    [
        ("m.helper", "function m.helper: argument 'x' has no type hint"),
        ("m.mangled", "function m.mangled: argument '__a' begins with two underscores, expected"),
        ("m.double", "function m.<lambda> has no name of its own: give it one, @udf"),
        ("m.add_oen", "function 'm.add_oen': module 'm' has no 'add_oen', did you mean 'add_one'?"),
        ("n.add_one", "function module 'n' cannot be found"),
        ("n", "function module 'n' cannot be found"),
        ("empty", "module 'empty' defines no function: expected one with type hints"),
    ],
)
def test_what_is_listed_and_cannot_be_served_ends_the_start(loading, listed, told):
    with pytest.raises(StartError, match=told):
        loading(listed, m=ADD + HELPER + ODD, empty="X = 1\n")


def test_a_function_without_a_name_may_be_given_one(loading):
    named = "from flexhost import udf\ntwice = udf(name='twice')(double)\n"

    assert loading("m.twice", m=ODD + named) == ["twice"]


def test_one_with_udf_that_cannot_be_served_ends_the_start(loading):
    with pytest.raises(StartError, match="argument 'x' has no type hint"):
        loading("m", m=f"from flexhost import udf\n@udf\n{HELPER}")


def test_what_is_no_type_of_a_column_is_skipped_in_a_module(loading):
    source = ADD + "import socket\ndef helper(link: socket.socket) -> None: ...\n"
    skipped = []

    assert loading("m", skipped=skipped, m=source) == ["add_one"]
    assert skipped[0].startswith("function m.helper: argument 'link': socket is no type of a col")


def test_settings_that_no_function_can_meet_end_the_start(loading):
    with pytest.raises(StartError, match="its executor is 'coroutines', and 'add_one' is not"):
        loading("m", executors={"*": "coroutines"}, m=ADD)


def test_objects_and_wrappers_of_a_module_are_found(loading):
    source = """
from types import SimpleNamespace

class Twice:
    def eval(self, n: int) -> int:
        return 2 * n

def _plus(i, j):
    return i + j

def wrapper(**more):
    return SimpleNamespace(
        _func=_plus, _input_types=["BIGINT"] * 2, _deterministic=True, _func_type="general",
        _name="_plus", _result_type="BIGINT", **more,
    )

plus = wrapper()
_hidden = wrapper()
total = wrapper(_accumulator_type="BIGINT")
"""
    skipped = []

    assert loading("m", skipped=skipped, m=source) == ["Twice", "plus"]
    assert [text.partition(" is ")[0] for text in skipped] == [
        "function m.wrapper: argument **more stands for any number of arguments: it",
        "PyFlink function m.total",
    ]
    assert loading("m.plus") == ["plus"]


def test_a_module_that_is_listed_in_the_other_section_says_so(loading):
    of_class = """
import pyarrow as pa
from flexhost import table_function
@table_function(pa.schema([("n", pa.int64())]))
def numbers(): ...
"""

    with pytest.raises(StartError, match=r"; table functions are listed in \[flexfun\]"):
        loading("f", f=of_class)
    with pytest.raises(StartError, match=r"; plain functions are listed in \[udf\]"):
        loading(flexfun=["m"], m=ADD)


def test_two_with_one_name_end_the_start_naming_both_modules(loading):
    with pytest.raises(StartError, match="two .* 'add_one': one in m, one in n"):
        loading("m", "n", m=ADD, n=ADD)


def test_a_name_of_a_table_function_is_taken_too(loading):
    source = """
import pyarrow as pa
from flexhost import table_function
@table_function(pa.schema([("n", pa.int64())]))
def add_one(): ...
"""

    with pytest.raises(StartError, match="two .* 'add_one': one in f, one in m"):
        loading("m", flexfun=["f"], f=source, m=ADD)


def test_udf_gives_another_name(loading):
    source = f"from flexhost import udf\n@udf(name='ADD')\n{ADD}"

    assert loading("m", m=source) == ["ADD"]


def test_a_later_list_replaces_an_earlier_one(tmp_path, monkeypatch):
    first, second = tmp_path / "a.toml", tmp_path / "b.toml"
    first.write_text("[udf]\nfunctions = ['a']")
    second.write_text("[udf]\nfunctions = ['b', 'c.d']")

    assert settings.load([str(first), str(second)]).settings.udf.functions == ("b", "c.d")
    monkeypatch.setenv("GOODDATA_FLIGHT_UDF__FUNCTIONS", '["e"]')
    assert settings.load([str(first)]).settings.udf.functions == ("e",)
