"""Every Arrow type leaves as it came, as a table, as a stream, in chunks; or says why it cannot."""

from __future__ import annotations

import datetime as dt
import decimal

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import function, serving

from flexhost.contract import fit
from flexhost.errors import FunctionFailed

DENSE = pa.UnionArray.from_dense(
    pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), [pa.array([1]), pa.array(["x"])]
)
SPARSE = pa.UnionArray.from_sparse(
    pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["x", "y"])]
)


class Celsius(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.float64(), "flexhost.test.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type, serialized):
        return cls()


def extension(type_, values):
    return pa.ExtensionArray.from_storage(type_, pa.array(values, type_.storage_type))


ARRAYS = [
    pa.array(["a", "b", None]).dictionary_encode(),
    pa.array(["a", None], pa.string_view()),
    pa.array([b"a", None], pa.binary_view()),
    pa.array(["a"], pa.large_string()),
    pa.array([b"a"], pa.large_binary()),
    pa.array([[1]], pa.large_list(pa.int64())),
    pa.array([[1], None], pa.list_view(pa.int64())),
    pa.array([[1, 2]], pa.list_(pa.int64(), 2)),
    pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.array([{"a": {"b": [1]}}, None]),
    pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None])),
    extension(pa.uuid(), [b"x" * 16]),
    extension(pa.json_(), ["{}"]),
    extension(pa.bool8(), [1, 0]),
    extension(Celsius(), [1.5, None]),
    pa.array([1.5], pa.float32()).cast(pa.float16()),
    pa.array([decimal.Decimal("1.1")], pa.decimal256(50, 2)),
    pa.nulls(2),
    pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    pa.array([dt.datetime(2026, 1, 1)], pa.timestamp("ns", "Europe/Prague")),
    pa.array([dt.timedelta(1)]),
    DENSE,
    SPARSE,
]


@pytest.fixture(autouse=True)
def registered():
    pa.register_extension_type(Celsius())
    yield
    pa.unregister_extension_type("flexhost.test.celsius")


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.type)[:40])
def test_a_type_leaves_as_it_came(array):
    table = pa.table({"c": array})
    results = [table, pa.concat_tables([table] * 3), table.slice(0, 0)]
    streams = [lambda t=t: t.to_reader() for t in results]
    for result in [*(lambda t=t: t for t in results), *streams]:
        made = function(lambda *_, result=result: result(), schema=table.schema)
        with serving(made) as client:
            expected = result()
            if isinstance(expected, pa.RecordBatchReader):
                expected = expected.read_all()

            got = client.call()
            assert got.schema.equals(table.schema, check_metadata=True)
            assert got.combine_chunks().equals(expected.combine_chunks())


def test_a_run_end_encoded_column_that_came_plain_says_that_it_cannot_be_cast():
    declared = pa.schema([("c", pa.run_end_encoded(pa.int32(), pa.string()))])

    with pytest.raises(FunctionFailed, match=r"'c' is declared run_end_encoded.*result has string"):
        fit(pa.table({"c": ["a"]}), declared, "f")


def test_a_run_end_encoded_column_may_be_declared_plain():
    array = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None]))

    fitted = fit(pa.table({"c": array}), pa.schema([("c", pa.string())]), "f")

    assert fitted["c"].to_pylist() == ["a", "a", None]


@pytest.mark.parametrize(
    ("values", "type_", "nulls"),
    [
        ([None, 1], pa.int64(), 1),
        (
            [{"a": None}, {"a": 1}, None],
            pa.struct([pa.field("a", pa.int64(), nullable=False)]),
            1,
        ),
        ([[1, None], None], pa.list_(pa.field("item", pa.int64(), nullable=False)), 1),
        (
            [[{"a": None}], [None]],
            pa.list_(pa.struct([pa.field("a", pa.int64(), nullable=False)])),
            1,
        ),
    ],
    ids=["column", "struct", "list", "struct in a list"],
)
def test_nulls_where_none_may_be_fail_at_any_depth(values, type_, nulls):
    nullable = not isinstance(values[0], type(None))
    schema = pa.schema([pa.field("c", type_, nullable=nullable)])
    # pyarrow makes such arrays without a word
    table = pa.table({"c": pa.array(values, type_)}, schema=schema)
    for data in (table, table.to_reader()):
        with pytest.raises(FunctionFailed, match=f"'c.*not nullable.*has {nulls} null"):
            list(fit(data, schema, "f"))


@pytest.mark.parametrize(
    "array",
    [
        pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array(["a", None])),
        pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([None], pa.string())),
    ],
    ids=["dictionary", "runs"],
)
def test_nulls_that_stand_in_a_dictionary_or_in_runs_are_nulls(array):
    schema = pa.schema([pa.field("c", array.type, nullable=False)])

    with pytest.raises(FunctionFailed, match="declared not nullable"):
        fit(pa.Table.from_arrays([array], schema=schema), schema, "f")


def test_a_null_parent_of_a_required_child_is_fine():
    type_ = pa.struct([pa.field("a", pa.int64(), nullable=False)])
    table = pa.table({"c": pa.array([{"a": 1}, None], type_)})

    assert fit(table, table.schema, "f").equals(table)


def test_duplicate_names_in_a_declaration_or_in_a_result_are_refused():
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["c", "c"])
    with serving(function(lambda *_: twice)) as client:
        with pytest.raises(fl.FlightServerError, match="no column 'n'"):
            client.call()
    with pytest.raises(FunctionFailed, match="2 columns named 'c'"):
        fit(twice, pa.schema([("c", pa.int64())]), "f")


def test_two_thousand_columns_arrive():
    table = pa.table({f"c{n}": [n] for n in range(2_000)})
    with serving(function(lambda *_: table, schema=table.schema)) as client:
        assert client.call().equals(table)
        assert client.call(columns=["c1999", "c0"]).to_pydict() == {"c1999": [1999], "c0": [0]}
