"""Which function a server executes, and the types that its bytes have: `PythonRemoteUdfSpec`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from flexhost.grpc_udf.udf_messages import TYPE_NAMES, PythonRemoteUdfSpec
from flexhost.values import types

# The key of a configuration under which a spec stands in base64, and so the name of its file.
KEY = "spec_base64"


@dataclass(frozen=True)
class Spec:
    """class_name: `module.name`.
    arguments:  their names and types, in order.
    result:     of one field.
    """

    class_name: str
    arguments: pa.Schema
    result: pa.Schema


def decode(text: bytes | str) -> Spec:
    """text: base64. Raises ValueError that says what is wrong."""
    try:
        data = base64.b64decode("".join(_ascii(text).split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"is no base64: {error}") from None
    try:
        found = PythonRemoteUdfSpec.FromString(data)
    except DecodeError as error:
        raise ValueError(f"is no PythonRemoteUdfSpec: {error}") from None
    if not found.class_name:
        raise ValueError("is a PythonRemoteUdfSpec without class_name")
    arguments = _fields(found.input_coder, "input_coder")
    result = _fields(found.output_coder, "output_coder")
    if not result:
        raise ValueError("has no field in its output_coder, of which the first is the result")
    return Spec(found.class_name, pa.schema(arguments), pa.schema(result[:1]))


def encode(spec: Spec) -> str:
    """In base64. Raises ValueError for a type that a spec cannot have."""
    made = PythonRemoteUdfSpec(class_name=spec.class_name)
    coders = (made.input_coder, spec.arguments), (made.output_coder, spec.result)
    for coder, schema in coders:
        coder.flatten_row_type.schema.SetInParent()  # of a function without arguments, too
        for field in schema:
            of = coder.flatten_row_type.schema.fields.add(name=field.name)
            of.type.nullable = field.nullable
            _write_type(field, of.type)
    return base64.b64encode(made.SerializeToString(deterministic=True)).decode()


def _ascii(text: bytes | str) -> str:
    return text.decode("ascii") if isinstance(text, bytes) else text


def _fields(coder: Any, of: str) -> list[pa.Field]:
    if coder.WhichOneof("data_type") != "flatten_row_type":
        raise ValueError(f"has no flatten_row_type in its {of}")
    return [_field(field) for field in coder.flatten_row_type.schema.fields]


def _field(field: Any) -> pa.Field:
    kind = field.type
    name = _NAMES.get(kind.type_name, str(kind.type_name))
    if (read := _READ.get(name)) is None:
        raise ValueError(f"has the field {field.name!r} of type {name}, which cannot travel here")
    try:
        return pa.field(field.name, read(kind), nullable=kind.nullable)
    except ValueError as error:  # those of pyarrow are ValueErrors too
        raise ValueError(f"has the field {field.name!r} of type {name}: {error}") from None


def _time(kind: Any) -> pa.DataType:
    unit = _unit(kind.time_info.precision)
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)


def _unit(precision: int) -> str:
    """The one with so many digits, or the next finer one."""
    if precision < 0 or precision > 9:
        raise ValueError(f"its precision is {precision}, expected 0 to 9")
    return next(unit for unit, digits in _DIGITS.items() if digits >= precision)


_READ: dict[str, Callable[[Any], pa.DataType]] = {
    "BOOLEAN": lambda kind: pa.bool_(),
    "TINYINT": lambda kind: pa.int8(),
    "SMALLINT": lambda kind: pa.int16(),
    "INT": lambda kind: pa.int32(),
    "BIGINT": lambda kind: pa.int64(),
    "FLOAT": lambda kind: pa.float32(),
    "DOUBLE": lambda kind: pa.float64(),
    "CHAR": lambda kind: pa.utf8(),
    "VARCHAR": lambda kind: pa.utf8(),
    "BINARY": lambda kind: pa.binary(kind.binary_info.length),
    "VARBINARY": lambda kind: pa.binary(),
    "DATE": lambda kind: pa.date32(),
    "TIME": _time,
    "TIMESTAMP": lambda kind: pa.timestamp(_unit(kind.timestamp_info.precision)),
    "LOCAL_ZONED_TIMESTAMP": lambda kind: pa.timestamp(
        _unit(kind.local_zoned_timestamp_info.precision), "UTC"
    ),
    "DECIMAL": lambda kind: pa.decimal128(kind.decimal_info.precision, kind.decimal_info.scale),
}
_NAMES = {number: name for name, number in TYPE_NAMES.items()}
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_LONGEST = 2**31 - 1  # of STRING and of BYTES
_PLAIN = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.utf8(): "VARCHAR",
    pa.large_utf8(): "VARCHAR",
    pa.binary(): "VARBINARY",
    pa.large_binary(): "VARBINARY",
    pa.date32(): "DATE",
}


# Of a type whose length Arrow does not hold.
_DECLARED = re.compile(r"(CHAR|VARCHAR|VARBINARY)\((\d+)\)")


def _write_type(field: pa.Field, to: Any) -> None:
    kind = field.type
    name = _PLAIN.get(kind)
    if name is not None and (declared := _DECLARED.match(types.of_field(field).text)):
        name = declared[1]
        info = {"CHAR": to.char_info, "VARCHAR": to.var_char_info, "VARBINARY": to.var_binary_info}
        info[name].length = int(declared[2])
    elif name == "VARCHAR":
        to.var_char_info.length = _LONGEST
    elif name == "VARBINARY":
        to.var_binary_info.length = _LONGEST
    elif name is None and pa.types.is_fixed_size_binary(kind):
        name, to.binary_info.length = "BINARY", kind.byte_width
    elif pa.types.is_time(kind):
        name, to.time_info.precision = "TIME", _DIGITS[kind.unit]
    elif pa.types.is_timestamp(kind) and kind.tz is None:
        name, to.timestamp_info.precision = "TIMESTAMP", _DIGITS[kind.unit]
    elif pa.types.is_timestamp(kind):
        name = "LOCAL_ZONED_TIMESTAMP"
        to.local_zoned_timestamp_info.precision = _DIGITS[kind.unit]
    elif pa.types.is_decimal128(kind):
        name = "DECIMAL"
        to.decimal_info.precision, to.decimal_info.scale = kind.precision, kind.scale
    if name is None:
        raise ValueError(f"{field.name!r} is of type {kind}, which a spec cannot have")
    to.type_name = TYPE_NAMES[name]
