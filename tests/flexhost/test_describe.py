"""What an author wrote → a Function."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest
from batches_given import answer
from support import function

from flexhost import FlexFun, table_function, udf
from flexhost.errors import FunctionFailed, StartError
from flexhost.frontends import flight_batches
from flexhost.functions.describe import describe, is_plain
from flexhost.functions.signature import NotPlain

batch = pa.record_batch


@dataclasses.dataclass
class Point:
    x: float
    y: float | None


@dataclasses.dataclass
class Odd:
    value: object


class Pair(NamedTuple):
    a: int
    b: str


def field(name, type_, nullable=False):
    return pa.field(name, type_, nullable)


def returning(hint):
    def made(n: int): ...

    made.__annotations__["return"] = hint
    return made


def taking(hint):
    def made(n) -> int: ...

    made.__annotations__["n"] = hint
    return made


def test_a_plain_function_is_a_scalar_of_its_hints():
    def add(i: int, j: Annotated[int, "INT"] | None) -> Decimal: ...

    made = describe(add)

    assert (made.name, made.kind, made.style, made.deterministic) == ("add", "scalar", "row", True)
    assert made.arguments == pa.schema([field("i", pa.int64()), field("j", pa.int32(), True)])
    assert made.schema == pa.schema([field("result", pa.decimal128(38, 18))])
    assert made.over_batches.schema == made.schema
    assert made.module == __name__
    assert made.source is add


@pytest.mark.parametrize(
    "hint", [Iterator[int], Iterable[int], Generator[int, None, None], AsyncIterator[int]]
)
def test_an_iterator_makes_a_table_function(hint):
    made = describe(returning(hint))

    assert made.kind == "table"
    assert made.schema == pa.schema([field("result", pa.int64())])
    rows = field("row", pa.int32()), field("result", pa.int64())
    assert made.over_batches.schema == pa.schema(rows)


@pytest.mark.parametrize("hint", [Iterator[Point], list[Point]])
def test_rows_with_fields_have_a_column_for_each(hint):
    made = describe(returning(hint))

    assert made.kind == "table"
    assert made.schema == pa.schema([field("x", pa.float64()), field("y", pa.float64(), True)])
    assert pa.types.is_struct(made.over_batches.schema.field("result").type)


def test_rows_that_may_be_none_have_columns_that_may_be_null():
    assert all(one.nullable for one in describe(returning(Iterator[Pair | None])).schema)


def test_a_list_of_values_is_an_array():
    made = describe(returning(list[int]))

    assert made.kind == "scalar"
    assert made.schema.field("result").type == pa.list_(pa.field("item", pa.int64(), False))


def test_hints_of_columns_make_a_batch_function_and_series_one_of_pandas():
    def arrays(x: Annotated[pa.Array, "INT"]) -> pa.DoubleArray: ...
    def series(x: Annotated[pd.Series, int]) -> Annotated[pd.Series, float]: ...

    for made, style in ((describe(arrays), "batch"), (describe(series), "pandas")):
        assert (made.kind, made.style) == ("scalar", style)
        assert made.schema.field("result").type == pa.float64()
    assert describe(arrays).arguments.types == [pa.int32()]


@pytest.mark.parametrize("hint", [object, complex, list, int | str, "Nowhere"])
def test_a_hint_that_is_no_type_of_a_column_is_refused_with_its_argument(hint):
    with pytest.raises(StartError, match=r"made: (argument 'n'|its type hints).*"):
        describe(taking(hint))
    with pytest.raises(StartError, match=r"made: its (result|type hints).*"):
        describe(returning(hint))


@pytest.mark.parametrize("hint", [typing.List, list[Odd]], ids=str)  # noqa: UP006 - it is what some write
def test_a_list_whose_rows_are_none_is_refused_like_any_result(hint):
    with pytest.raises(NotPlain, match="made: its result: "):
        describe(returning(hint))


def test_a_function_whose_results_are_kept_is_a_function():
    @functools.cache
    def twice(n: int) -> int: ...

    assert describe(udf(name="double")(twice)).name == "double"
    assert is_plain(twice)


@pytest.mark.parametrize("source", [functools.partial(len), [].append, 1], ids=repr)
def test_what_is_no_function_is_refused_by_its_name(source):
    with pytest.raises(StartError, match="it is a .*, expected a function with type hints"):
        describe(source, variable="it")


def test_what_cannot_be_given_by_position_is_refused_with_its_name():
    def many(*numbers: int) -> int: ...
    def named(**numbers: int) -> int: ...
    def by_name(n: int, *, at: int = 1) -> int: ...

    with pytest.raises(StartError, match=r"argument \*numbers.* stands for any number"):
        describe(many)
    with pytest.raises(StartError, match=r"argument \*\*numbers.* stands for any number"):
        describe(named)
    with pytest.raises(StartError, match="argument 'at' can only be given by its name"):
        describe(by_name)


def test_missing_hints_are_refused():
    def no_argument(x) -> int: ...
    def no_result(x: int): ...

    with pytest.raises(StartError, match="argument 'x' has no type hint"):
        describe(no_argument)
    with pytest.raises(StartError, match="its result has no type hint"):
        describe(no_result)


def test_a_generator_says_that_it_gives_many():
    def some(n: int) -> int:
        yield n

    with pytest.raises(StartError, match="but it yields: expected Iterator"):
        describe(some)


def test_columns_and_values_do_not_go_together():
    def mixed(x: pa.Int64Array, y: int) -> pa.Int64Array: ...
    def back(x: pa.Int64Array) -> int: ...
    def alone() -> pa.Int64Array: ...
    def default(x: pa.Int64Array, y: pa.Int64Array = None) -> pa.Int64Array: ...
    def many(x: pa.Int64Array) -> Iterator[pa.Int64Array]: ...
    async def waits(x: pa.Int64Array) -> pa.Int64Array: ...

    @udf(null_in_null_out=True)
    def skips(x: pa.Int64Array) -> pa.Int64Array: ...

    for source, told in [
        (mixed, "argument 'y' is a value and its result a pyarrow.Array"),
        (back, "argument 'x' is a pyarrow.Array and its result a value"),
        (alone, "takes no argument that says how long"),
        (default, "argument 'y' has a default"),
        (many, "an iterator of a pyarrow.Array"),
        (waits, "is async, which a function of whole columns cannot be"),
        (skips, "null_in_null_out is for functions of single values"),
    ]:
        with pytest.raises(StartError, match=told):
            describe(source)


def test_a_name_that_means_something_else_to_every_call_is_refused():
    def made(columns: int) -> int: ...

    with pytest.raises(StartError, match="'columns' is no parameter"):
        describe(made)


@pytest.mark.parametrize("name", flight_batches.BUILTINS)
def test_a_name_that_the_host_itself_answers_is_refused(name):
    @udf(name=name)
    def mine(n: int) -> int: ...

    with pytest.raises(StartError, match=f"mine: the host itself answers '{name}'"):
        describe(mine)


def test_udf_says_what_hints_do_not():
    @udf(name="ADD", deterministic=False, deadline_sec=2, max_running=3, executor="processes")
    def add(i: int) -> int:
        return i

    made = describe(add)

    assert add(1) == 1
    assert (made.name, made.deterministic) == ("ADD", False)
    for form in (made, made.over_batches):
        assert (form.deadline, form.max_running, form.executor) == (2.0, 3, "processes")
    assert made.counted_as is made.over_batches.counted_as


def test_udf_needs_no_arguments():
    @udf
    def add(i: int) -> int: ...

    assert describe(add).name == "add"
    with pytest.raises(TypeError, match="@udf stands on 5"):
        udf(5)


def test_patterns_of_executors_hold_for_plain_functions():
    def add(i: int) -> int: ...

    made = describe(add, executors={"ad*": "processes"})

    assert made.executor == made.over_batches.executor == "processes"


def test_what_is_no_plain_function_is_described_as_ever():
    @table_function(pa.schema([("n", pa.int64())]))
    def numbers(upto: int): ...

    for source in (numbers, function(lambda *_: None)):
        assert describe(source).name == "numbers"
        assert describe(source).over_batches is None
    assert issubclass(function(lambda *_: None), FlexFun)


class Multiplier:
    def __init__(self):
        self.seen = ["made"]

    def open(self, context):
        self.by = int(context.get_job_parameter("my.factor", 10))
        self.seen.append("open")

    def eval(self, n: int) -> int:
        return n * self.by

    def is_deterministic(self):
        return False


def test_a_class_with_eval_is_opened_before_its_first_call():
    made = describe(Multiplier)

    assert (made.name, made.kind, made.deterministic) == ("Multiplier", "scalar", False)
    assert made.arguments.names == ["n"]
    assert answer(made, batch({"n": [1, 2]}))["result"].to_pylist() == [10, 20]
    assert answer(made, {"n": 3})["result"].to_pylist() == [30]


def test_udf_on_a_class_wins_over_what_it_says():
    assert describe(udf(deterministic=True)(type("M", (Multiplier,), {}))).deterministic


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_eval_may_belong_to_the_class(kind):
    def code(n: int) -> int:
        return n + 1

    def of_class(cls, n: int) -> int:
        return n + 1

    made = type("Made", (), {"eval": kind(code if kind is staticmethod else of_class)})

    assert answer(made, batch({"n": [1]}))["result"].to_pylist() == [2]


def test_a_class_that_cannot_be_made_or_opened():
    class Needs:
        def __init__(self, what): ...
        def eval(self, n: int) -> int: ...

    class Breaks:
        def open(self):
            raise ValueError("no model")

        def eval(self, n: int) -> int: ...

    class Waits:
        async def open(self): ...
        def eval(self, n: int) -> int: ...

    with pytest.raises(StartError, match="Needs: its class cannot be made without arguments"):
        describe(Needs)
    with pytest.raises(StartError, match="Waits: its open is async"):
        describe(Waits)
    with pytest.raises(
        FunctionFailed, match="Breaks cannot be opened: ValueError: no model"
    ) as told:
        answer(Breaks, batch({"n": [1]}))
    assert told.value.code == "COMMAND_FAILED"


def wrapper(func, input_types, deterministic=True, name=None, func_type="general", **more):
    """What PyFlink's `udf` and `udtf` make, as of 2.3."""
    own = name or getattr(func, "__name__", type(func).__name__)
    return SimpleNamespace(
        _func=func,
        _input_types=input_types,
        _name=own,
        _deterministic=deterministic,
        _func_type=func_type,
        _judf_placeholder=None,
        _takes_row_as_input=False,
        **more,
    )


def test_a_wrapper_of_pyflink_is_known_by_its_shape():
    def _add(i, j):
        return i + j

    made = describe(wrapper(_add, ["BIGINT", "BIGINT"], _result_type="BIGINT"), variable="add")

    assert (made.name, made.kind, made.style, made.deterministic) == ("add", "scalar", "row", True)
    assert made.arguments == pa.schema([("i", pa.int64()), ("j", pa.int64())])
    assert made.module == __name__
    assert answer(made, batch({"i": [1], "j": [2]}))["result"].to_pylist() == [3]
    assert answer(made, {"i": 1, "j": 2})["result"].to_pylist() == [3]


def test_a_name_that_a_wrapper_was_given_wins():
    def _add(i): ...

    made = wrapper(_add, ["BIGINT"], name="ADD", deterministic=False, _result_type="BIGINT")

    assert describe(made, variable="add").name == "ADD"
    assert not describe(made).deterministic


def test_arguments_with_defaults_are_none_of_a_wrapper():
    def add(i, j=10):
        return i + j

    made = describe(wrapper(add, "BIGINT", _result_type="BIGINT"))

    assert made.arguments.names == ["i"]
    assert answer(made, batch({"i": [1]}))["result"].to_pylist() == [11]


def test_hints_stand_for_input_types_that_are_not_there():
    def add(i: int, j: Annotated[int, "INT"]): ...

    made = describe(wrapper(add, None, _result_type="BIGINT"))

    assert made.arguments.types == [pa.int64(), pa.int32()]


class Adds:
    def __call__(self, i: int) -> int:
        return i + 2


def plus(i: int, j: int) -> int:
    return i + j


@pytest.mark.parametrize(
    "func", [Adds(), functools.partial(plus, j=2), functools.partial(plus, 2)], ids=repr
)
@pytest.mark.parametrize("types", [["BIGINT"], None], ids=["types", "hints"])
def test_a_wrapper_may_have_what_can_be_called(func, types):
    made = describe(wrapper(func, types, _result_type="BIGINT"), variable="add")

    assert (made.name, made.module) == ("add", __name__)
    assert answer(made, batch({"i": [1]}))["result"].to_pylist() == [3]


class Scale:
    by = None

    def open(self, context):
        self.by = 3

    def eval(self, n):
        return n * self.by

    def is_deterministic(self):
        return False


def test_an_object_with_eval_in_a_wrapper_is_opened():
    scale = Scale()
    made = describe(wrapper(scale, ["INT"], deterministic=None, _result_type="INT"))

    assert (made.name, made.deterministic) == ("Scale", False)
    assert answer(made, batch({"n": [2]}))["result"].to_pylist() == [6]
    assert scale.by is None


class Row:
    """As PyFlink has it."""

    def __init__(self, *values):
        self._values = values

    def __iter__(self):
        return iter(self._values)

    def get_row_kind(self): ...


def test_a_udtf_is_a_table_function():
    def split(line):
        for word in line.split():
            yield Row(word, len(word)) if word == "b" else (word, len(word))

    def words(line):
        return line.split() or None

    def rows(line):
        return [Row(line), (line,), line]

    pairs = describe(wrapper(split, ["STRING"], _result_types=["STRING", "INT"]))
    assert pairs.kind == "table"
    assert answer(pairs, {"line": "a b"}).to_pydict() == {"f0": ["a", "b"], "f1": [1, 1]}
    named = wrapper(split, ["STRING"], _result_types=["ROW<word STRING, n INT>"])
    assert answer(named, {"line": "a b"}).to_pydict() == {"word": ["a", "b"], "n": [1, 1]}
    one = wrapper(words, "STRING", _result_types=["STRING"])
    over = answer(one, batch({"line": ["a b", "", "c"]}))
    assert over.to_pydict() == {"row": [0, 0, 2], "result": ["a", "b", "c"]}
    same = wrapper(rows, ["STRING"], _result_types="STRING")
    assert answer(same, {"line": "x"})["result"].to_pylist() == ["x", "x", "x"]


def test_a_wrapper_of_pandas_gets_series():
    def add(i, j):
        assert isinstance(i, pd.Series)
        return i + j

    made = describe(wrapper(add, ["BIGINT"] * 2, func_type="pandas", _result_type="BIGINT"))

    assert made.style == "pandas"
    assert answer(made, batch({"i": [1, 2], "j": [3, 4]}))["result"].to_pylist() == [4, 6]


def test_wrappers_that_are_not_served():
    def add(i, j): ...
    def many(*numbers): ...

    scalar = {"_result_type": "BIGINT"}
    for made, told in [
        (wrapper(add, ["BIGINT"], **scalar), r"1 input_types for 2 .*argument 'j' has none"),
        (wrapper(add, None, **scalar), "no input_types: argument 'i' has no type"),
        (wrapper(add, ["BIGINT", "NOSUCH"], **scalar), "argument 'j': "),
        (wrapper(many, ["BIGINT"], **scalar), r"argument \*numbers stands for any number"),
        (wrapper(add, ["BIGINT"] * 2, func_type="x", **scalar), "func_type is 'x'"),
        (wrapper(add, ["BIGINT"] * 2, _accumulator_type="BIGINT", **scalar), "aggregate function"),
        (
            wrapper(add, ["BIGINT"] * 2, func_type="pandas", _result_types=["BIGINT"]),
            "a table function of pandas is not served",
        ),
    ]:
        with pytest.raises(StartError, match=told):
            describe(made, variable="f")
