"""`python -m flexhost.spec NAME`: what a caller over gRPC has to send, and what it gets.

NAME is `module.name` of a function on the import path, the current folder included.

    gen-spec                the spec of a server that executes it, in base64
    encode-args VALUE...    its arguments as bytes, in base64: a number, a text, a time as ISO 8601,
                            milliseconds for a duration, hexadecimal digits for bytes; \\N for NULL
    decode-result BASE64    what the bytes of its result say; - reads them from the standard input
"""

from __future__ import annotations

import argparse
import base64
import binascii
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import pyarrow as pa

from flexhost import modules
from flexhost.describe import describe
from flexhost.errors import BadCall, HostError, SettingsError, StartError
from flexhost.function import SCALAR, Function
from flexhost.row_codec import RowCodec

NULL = r"\N"


def main(arguments: list[str] | None = None) -> NoReturn:
    made = argparse.ArgumentParser(
        prog="python -m flexhost.spec",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("name", metavar="NAME")
    made.add_argument("verb", choices=_VERBS)
    made.add_argument("values", nargs=argparse.REMAINDER, metavar="VALUE")
    options = made.parse_args(arguments)
    try:
        print(_VERBS[options.verb](_function(options.name), options.name, options.values))
    except (StartError, HostError) as error:
        print(f"flexhost.spec: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    sys.exit(0)


def _function(name: str) -> Function:
    """Raises StartError."""
    module, _, attribute = name.rpartition(".")
    if not module:
        raise SettingsError(f"{name!r} is no MODULE.NAME")
    loaded = modules.load(module, "function")
    if not hasattr(loaded, attribute):
        raise StartError(f"module {module!r} has no {attribute!r}")
    function = describe(getattr(loaded, attribute), variable=attribute)
    if function.kind != SCALAR or function.over_batches is None or function.arguments is None:
        raise StartError(f"{name} is no scalar function")
    return function


def _gen_spec(function: Function, name: str, values: Sequence[str]) -> str:
    from flexhost import udf_spec  # takes protobuf, which the others do not need

    if values:
        raise SettingsError(f"gen-spec takes nothing more, it was given {values[0]!r}")
    try:
        return udf_spec.encode(udf_spec.Spec(name, _arguments(function), _result(function)))
    except ValueError as error:
        raise StartError(f"{name}: {error}") from None


def _encode(function: Function, name: str, values: Sequence[str]) -> str:
    schema = _arguments(function)
    if len(values) != len(schema):
        names = ", ".join(schema.names) or "none"
        raise SettingsError(
            f"{name} takes {len(schema)} arguments ({names}), it was given {len(values)}"
        )
    arrays = [_of_text(text, field) for text, field in zip(values, schema, strict=True)]
    row = pa.RecordBatch.from_arrays(arrays, schema=schema) if arrays else None
    data = b"" if row is None else RowCodec(schema).encode(row)
    return base64.b64encode(data).decode()


def _decode(function: Function, name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise SettingsError(f"decode-result takes one text or -, it was given {len(values)}")
    text = sys.stdin.read() if values[0] == "-" else values[0]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCall(f"the result is no base64: {error}") from None
    row = RowCodec(_result(function), what="result").decode(data)
    return _text_of(row.column(0)[0])


_VERBS: dict[str, Callable[[Function, str, Sequence[str]], str]] = {
    "gen-spec": _gen_spec,
    "encode-args": _encode,
    "decode-result": _decode,
}


def _arguments(function: Function) -> pa.Schema:
    assert function.arguments is not None
    return function.arguments


def _result(function: Function) -> pa.Schema:
    assert function.over_batches is not None
    return function.over_batches.schema


def _of_text(text: str, field: pa.Field) -> pa.Array:
    """Raises SettingsError."""
    kind = field.type
    try:
        if text == NULL:
            return pa.array([None], kind)
        if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind):
            return pa.array([bytes.fromhex(text)], kind)
        if pa.types.is_duration(kind):
            return pa.array([int(text)], pa.duration("ms")).cast(kind)
        return pa.array([text]).cast(kind)
    except (ValueError, pa.ArrowException) as error:
        raise SettingsError(f"{field.name} is {text!r}, expected {kind}: {error}") from None


def _text_of(scalar: Any) -> str:
    if not scalar.is_valid:
        return NULL
    value = scalar.as_py()
    return value.hex() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main()
