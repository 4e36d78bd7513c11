"""The spec of a server that executes."""

from __future__ import annotations

import base64

import pyarrow as pa
import pytest

from flexhost.grpc_udf.udf_messages import TYPE_NAMES, PythonRemoteUdfSpec
from flexhost.grpc_udf.udf_spec import Spec, decode, encode
from flexhost.values.types import typed_of_sql

RESULT = pa.schema([pa.field("result", pa.int64(), False)])
TYPES = [
    pa.bool_(),
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.utf8(),
    pa.binary(),
    pa.binary(3),
    pa.date32(),
    pa.time32("s"),
    pa.time32("ms"),
    pa.time64("us"),
    pa.time64("ns"),
    pa.timestamp("s"),
    pa.timestamp("ms"),
    pa.timestamp("us"),
    pa.timestamp("ns"),
    pa.timestamp("us", "UTC"),
    pa.decimal128(10, 2),
    pa.decimal128(38, 18),
]


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("kind", TYPES, ids=str)
def test_a_spec_is_read_as_it_was_written(kind, nullable):
    spec = Spec("my_udfs.f", pa.schema([pa.field("a", kind, nullable)]), RESULT)

    assert decode(encode(spec)) == spec


def test_a_function_without_arguments_has_a_spec():
    spec = Spec("my_udfs.f", pa.schema([]), RESULT)

    assert decode(f"{encode(spec)}\n") == spec


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int64()), pa.struct([("a", pa.int64())]), pa.duration("ms")], ids=str
)
def test_a_type_that_a_spec_cannot_have_is_named(kind):
    with pytest.raises(ValueError, match="'a' is of type .*, which a spec cannot have"):
        encode(Spec("my_udfs.f", pa.schema([("a", kind)]), RESULT))


def test_the_precision_of_a_time_is_rounded_up_to_what_arrow_has():
    made = PythonRemoteUdfSpec(class_name="f.g")
    field = made.output_coder.flatten_row_type.schema.fields.add(name="a")
    field.type.type_name, field.type.timestamp_info.precision = TYPE_NAMES["TIMESTAMP"], 4
    made.input_coder.flatten_row_type.SetInParent()

    spec = decode(base64.b64encode(made.SerializeToString()))

    assert spec.result.field(0).type == pa.timestamp("us")


@pytest.mark.parametrize(
    ("sql", "info"),
    [
        ("CHAR(3)", "char_info"),
        ("VARCHAR(10)", "var_char_info"),
        ("VARBINARY(7)", "var_binary_info"),
    ],
)
def test_a_declared_length_is_told(sql, info):
    field = typed_of_sql(sql).field("a")
    made = PythonRemoteUdfSpec.FromString(
        base64.b64decode(encode(Spec("f.g", pa.schema([field]), RESULT)))
    )
    kind = made.input_coder.flatten_row_type.schema.fields[0].type

    name, _, length = sql.rstrip(")").partition("(")
    assert kind.type_name == TYPE_NAMES[name]
    assert kind.WhichOneof("type_info") == info
    assert getattr(kind, info).length == int(length)


def spec_of(type_name, **info):
    made = PythonRemoteUdfSpec(class_name="f.g")
    made.input_coder.flatten_row_type.SetInParent()
    field = made.output_coder.flatten_row_type.schema.fields.add(name="a")
    field.type.type_name = type_name
    for name, values in info.items():
        for key, value in values.items():
            setattr(getattr(field.type, name), key, value)
    return base64.b64encode(made.SerializeToString())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "is no base64: "),
        ("é", "is no base64: "),
        ("CAAI", "is no PythonRemoteUdfSpec: "),
        ("", "without class_name"),
        (base64.b64encode(b"\x12\x01f"), "has no flatten_row_type in its input_coder"),
        (spec_of(0), "has the field 'a' of type ROW, which cannot travel here"),
        (spec_of(99), "has the field 'a' of type 99, which cannot travel here"),
        (spec_of(5, decimal_info={"precision": 99}), "has the field 'a' of type DECIMAL: "),
        (spec_of(10, timestamp_info={"precision": 12}), "its precision is 12, expected 0 to 9"),
    ],
)
def test_what_is_no_spec_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        decode(text)
