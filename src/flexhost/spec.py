"""`python -m flexhost.spec NAME`: what a caller over gRPC has to send, and what it gets.

NAME is `module.name` of a function on the import path, the current folder included.

    gen-spec                the spec of a server that executes it, in base64
    encode-args VALUE...    its arguments as bytes, in base64: a number, a text, a time as ISO 8601,
                            milliseconds for a duration, hexadecimal digits for bytes; \\N for NULL
    decode-result BASE64    what the bytes of its result say; - reads them from the standard input
    describe                what a running server says of it, as protoc would show it
    call VALUE...           its result, from a running server
"""

from __future__ import annotations

import argparse
import base64
import binascii
import os
import sys
from collections.abc import Callable, Sequence
from datetime import time
from types import ModuleType
from typing import Any, NamedTuple, NoReturn

import pyarrow as pa

from flexhost.errors import BadCall, HostError, SettingsError, StartError
from flexhost.function import SCALAR, Function
from flexhost.functions import modules
from flexhost.functions.describe import describe
from flexhost.grpc_udf import grpc_packages
from flexhost.grpc_udf.row_codec import RowCodec

NULL = r"\N"


class Asked(NamedTuple):
    name: str
    values: Sequence[str]
    address: str


def main(arguments: list[str] | None = None) -> NoReturn:
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between ours
    made = argparse.ArgumentParser(
        prog="python -m flexhost.spec",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--at", default="localhost:50051", help="a running server: %(default)s")
    made.add_argument("name", metavar="NAME")
    made.add_argument("verb", choices=_VERBS)
    made.add_argument("values", nargs="*", metavar="VALUE")
    given = sys.argv[1:] if arguments is None else arguments
    # what comes after the verb are values, whatever they begin with
    verb = next((n for n, one in enumerate(given, 1) if one in _VERBS), len(given))
    options = made.parse_args(given[:verb])
    try:
        if options.verb not in _PLAIN:
            grpc_packages.check(options.verb)
        print(_VERBS[options.verb](Asked(options.name, given[verb:], options.at)))
    except (StartError, HostError) as error:
        print(f"flexhost.spec: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, SettingsError) else 1)
    sys.exit(0)


def _function(name: str) -> Function:
    """Raises StartError."""
    found = modules.named(name, "function") if "." in name else None
    if found is None or isinstance(found, ModuleType):
        raise SettingsError(f"{name!r} is no MODULE.NAME of a function")
    function = describe(found, variable=name.rpartition(".")[2])
    if function.kind != SCALAR or function.over_batches is None or function.arguments is None:
        raise StartError(f"{name} is no scalar function")
    return function


def _gen_spec(asked: Asked) -> str:
    from flexhost.grpc_udf import udf_spec  # takes protobuf, which not all verbs need

    _check_alone("gen-spec", asked)
    function = _function(asked.name)
    try:
        return udf_spec.encode(udf_spec.Spec(asked.name, _arguments(function), _result(function)))
    except ValueError as error:
        raise StartError(f"{asked.name}: {error}") from None


def _encode_args(asked: Asked) -> str:
    return base64.b64encode(_encoded(_function(asked.name), asked)).decode()


def _decode_result(asked: Asked) -> str:
    if len(asked.values) != 1:
        raise SettingsError(f"decode-result takes one text or -, it was given {len(asked.values)}")
    text = sys.stdin.read() if asked.values[0] == "-" else asked.values[0]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadCall(f"the result is no base64: {error}") from None
    return _decoded(_function(asked.name), data)


def _describe(asked: Asked) -> str:
    from google.protobuf import text_format

    from flexhost.grpc_udf import runtime_client
    from flexhost.grpc_udf.udf_messages import ExtractionRequest, ExtractionResponse

    _check_alone("describe", asked)
    request = ExtractionRequest(class_name=asked.name).SerializeToString()
    answer = runtime_client.invoke(asked.address, request, handler_name="extraction")
    described = ExtractionResponse.FromString(answer)
    if described.HasField("error"):
        raise BadCall(described.error.error_message)
    return str(text_format.MessageToString(described)).rstrip()


def _call(asked: Asked) -> str:
    from flexhost.grpc_udf import runtime_client

    function = _function(asked.name)
    data = _encoded(function, asked)
    return _decoded(function, runtime_client.invoke(asked.address, data, class_name=asked.name))


_VERBS: dict[str, Callable[[Asked], str]] = {
    "gen-spec": _gen_spec,
    "encode-args": _encode_args,
    "decode-result": _decode_result,
    "describe": _describe,
    "call": _call,
}


# What takes no package more.
_PLAIN = ("encode-args", "decode-result")


def _check_alone(verb: str, asked: Asked) -> None:
    if asked.values:
        raise SettingsError(f"{verb} takes nothing more, it was given {asked.values[0]!r}")


def _encoded(function: Function, asked: Asked) -> bytes:
    schema = _arguments(function)
    if len(asked.values) != len(schema):
        names = ", ".join(schema.names) or "none"
        raise SettingsError(
            f"{asked.name} takes {len(schema)} arguments ({names}), it was given "
            f"{len(asked.values)}"
        )
    arrays = [_of_text(text, field) for text, field in zip(asked.values, schema, strict=True)]
    if not arrays:
        return b""
    return RowCodec(schema).encode(pa.RecordBatch.from_arrays(arrays, schema.names))


def _decoded(function: Function, data: bytes) -> str:
    row = RowCodec(_result(function), what="result").decode(data)
    return _text_of(row.column(0)[0])


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
        if pa.types.is_time(kind):  # which pyarrow does not read
            return pa.array([time.fromisoformat(text)], kind)
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
