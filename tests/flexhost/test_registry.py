"""Modules of the configuration → functions."""

from __future__ import annotations

import sys

import pyarrow as pa
import pytest

from flexhost import LoadContext
from flexhost.errors import StartError, UnknownFunction
from flexhost.registry import load
from flexhost.telemetry.health import Health

HEAD = """
import abc
import pyarrow as pa
from flexhost import FlexFun
SCHEMA = pa.schema([("n", pa.int64())])

"""


def one(name="A", base="FlexFun", more=""):
    return f"""
class {name}({base}):
    Name = "{name.lower()}"
    Schema = SCHEMA
    def call(self, parameters, columns, headers): ...
{more}
"""


@pytest.fixture
def loading(tmp_path, monkeypatch):
    """Write modules, load those listed: `loading("m1", m1=source, m2=source)`."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def run(*listed, **modules):
        for name, source in modules.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(HEAD + source)
        return load(listed, LoadContext({"my": 1}, "location", Health()))

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_every_function_class_of_a_module_is_found(loading):
    registry = loading("m", m=one("A") + one("B"))

    assert [f.name for f in registry] == ["a", "b"]
    assert registry["a"].schema == pa.schema([("n", pa.int64())])
    with pytest.raises(UnknownFunction, match="no function is named 'c'"):
        registry["c"]


def test_a_class_imported_from_another_module_belongs_to_that_one(loading):
    modules = {"base": one("A"), "m": "from base import A\n" + one("B", base="A")}

    assert [f.name for f in loading("m", **modules)] == ["b"]


def test_a_class_in_two_listed_modules_is_registered_once(loading):
    modules = {"first": one("A"), "second": "from first import A\n__all__ = ['A']\n"}

    assert [f.name for f in loading("first", "second", **modules)] == ["a"]


def test_a_package_stands_for_what_it_imports_from_its_submodules(loading):
    modules = {"pack/__init__": "from pack.inner import A\n", "pack/inner": one("A")}

    assert [f.name for f in loading("pack", **modules)] == ["a"]


@pytest.mark.parametrize(
    "base",
    [
        "class Base(FlexFun):\n    Schema = SCHEMA\n",
        "class Base(FlexFun, abc.ABC):\n    @abc.abstractmethod\n    def more(self): ...\n",
        "class Base:\n    Name = None\n    Schema = SCHEMA\n    def call(self): ...\n",
    ],
    ids=["no name", "abstract", "by shape"],
)
def test_a_base_class_is_no_function(loading, base):
    more = "    def more(self): ...\n"

    assert [f.name for f in loading("m", m=base + one("A", "Base", more))] == ["a"]


def test_a_class_that_has_the_shape_of_a_function_is_accepted(loading):
    source = """
class Other:
    Name = "other"
    Schema = SCHEMA
    Metadata = {"k": [1]}
    def call(self, parameters, columns, headers): ...
class NoFunction:
    Schema = SCHEMA
"""
    registry = loading("m", m=source)

    assert [(f.name, f.metadata) for f in registry] == [("other", {"k": [1]})]
    assert type(registry["other"].create()).__name__ == "Other"


def test_on_load_is_called_once_for_each_function_with_the_context(loading):
    source = "LOADED = []\n" + one(
        "A", more="    @staticmethod\n    def on_load(ctx): LOADED.append(('a', ctx.settings))\n"
    )

    loading("m", "m", m=source)

    assert sys.modules["m"].LOADED == [("a", {"my": 1})]


def test_a_part_that_a_function_reports_as_not_ok_makes_the_host_not_live(loading):
    source = one(
        "A",
        more="""
    @staticmethod
    def on_load(ctx):
        from flexhost import ModuleHealthStatus
        ctx.health.set_module_status("database", ModuleHealthStatus.NOT_OK)
        HEALTH.append(ctx.health)
HEALTH = []
""",
    )
    loading("m", m=source)
    (health,) = sys.modules["m"].HEALTH

    assert not health.live
    health.set_module_status("database", type(health.module_statuses["database"]).OK)
    assert health.live


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("class A(FlexFun):\n    Schema = SCHEMA\n    def call(self, p, c, h): ...", "no Name"),
        (one().replace('"a"', '" "'), "no Name: expected a non-empty str, found ' '"),
        (one().replace("Schema = SCHEMA", "Schema = ['n']"), r"no Schema: .*found \['n'\]"),
        (one().replace("Schema = SCHEMA", "pass"), "no Schema: .*found None"),
        ("class A(FlexFun):\n    Name = 'a'\n    Schema = SCHEMA", "m.A has no call"),
        (one().replace(", headers", ""), r"call\(self, parameters, columns\) cannot be called"),
        (one(more="    Metadata = {1: {2}}"), "Metadata cannot be written as JSON"),
        (one(more="    Metadata = 'x'"), "Metadata is 'x', expected a dict"),
        (one(more="    Schema = pa.schema([('n', pa.int8())] * 2)"), "2 columns named 'n'"),
        (one("A") + one("B").replace('"b"', '"a"'), "two functions are named 'a'"),
        ("", "module 'm' defines no function: expected a class with Name, .* or a @table_function"),
        ("from nowhere import it", "'m' cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "'m' cannot be imported: ZeroDivisionError"),
        ("raise SystemExit(3)", "'m' cannot be imported: SystemExit: 3"),
        (
            one(more="    @staticmethod\n    def on_load(ctx): ctx.missing"),
            "on_load of function 'a' failed: AttributeError",
        ),
    ],
)
def test_what_cannot_be_served_ends_the_start_with_one_sentence(loading, source, message):
    with pytest.raises(StartError, match=message) as error:
        loading("m", m=source)

    assert "\n" not in str(error.value)


def test_a_module_that_is_not_there_is_named(loading):
    with pytest.raises(StartError, match="function module 'nowhere.to_be' cannot be found"):
        loading("nowhere.to_be")


def test_a_module_of_flexfun_that_is_listed_without_its_package_is_named(loading):
    with pytest.raises(StartError, match="'sales' cannot be found, did you mean 'flexfun.sales'"):
        loading("sales")


def test_the_traceback_of_the_authors_code_begins_in_the_authors_code(loading):
    with pytest.raises(StartError) as error:
        loading("m", m="def broken():\n    1 / 0\nbroken()\n")

    trace = error.value.trace.splitlines()
    assert "m.py" in trace[1]
    assert trace[-1] == "ZeroDivisionError: division by zero"
    assert "registry.py" not in error.value.trace
