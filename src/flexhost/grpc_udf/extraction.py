"""What a function is, as `ExtractionResponse` tells it: its signature in names of SQL."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
from google.protobuf.message import DecodeError

from flexhost.errors import BadCall, Unauthorized, UnknownFunction
from flexhost.function import SCALAR, Function
from flexhost.grpc_udf.row_codec import RowCodec
from flexhost.grpc_udf.udf_messages import ERROR_CODES, ExtractionRequest, ExtractionResponse
from flexhost.values import types


class NotExtracted(Exception):
    """code: a name of `ErrorCode`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def answer(payload: bytes, find: Callable[[str], Function], *, full: bool = False) -> bytes:
    """An `ExtractionResponse` for an `ExtractionRequest`; what is wrong is told inside it.

    find: a function by `module.name`. Raises NotExtracted, BadCall, Unauthorized.
    full: types with length, precision and NOT NULL, whatever they are.
    """
    try:
        name = ExtractionRequest.FromString(payload).class_name
        found = _scalar(find(name), name)
        response = ExtractionResponse(
            is_deterministic=found.deterministic, function_kind=found.kind.upper()
        )
        arguments, result = signature(found)
        response.signatures.add(
            argumentTypes=[type_name(one, full=full) for one in arguments],
            returnType=type_name(result, full=full),
            argumentNames=arguments.names,
        )
    except DecodeError as error:
        return _error("GENERAL_FAILED_EXTRACTION", f"the payload is no ExtractionRequest: {error}")
    except NotExtracted as error:
        return _error(error.code, str(error))
    except (UnknownFunction, Unauthorized) as error:
        return _error("USER_CODE_NOT_FOUND", str(error))
    except BadCall as error:
        return _error("GENERAL_FAILED_EXTRACTION", str(error))
    written: bytes = response.SerializeToString()
    return written


def signature(function: Function) -> tuple[pa.Schema, pa.Field]:
    """The arguments and the result of a scalar function. Raises NotExtracted."""
    assert function.arguments is not None
    assert function.over_batches is not None
    arguments, result = function.arguments, function.over_batches.schema
    try:
        RowCodec(arguments)
        RowCodec(result, what="result")
    except BadCall as error:
        raise NotExtracted("TYPE_EXTRACTION_ERROR", str(error)) from None
    return arguments, result.field(0)


def type_name(field: pa.Field, *, full: bool = False) -> str:
    """Bare where the name alone says it."""
    typed = types.of_field(field)
    return typed.sql if full else typed.answer


def _scalar(function: Function, name: str) -> Function:
    """Raises NotExtracted."""
    if function.kind != SCALAR or function.over_batches is None:
        raise NotExtracted(
            "NOT_SCALAR_FUNCTION",
            f"{name!r} is a {function.kind} function, expected one that gives one value for a row",
        )
    return function


def _error(code: str, message: str) -> bytes:
    error = {"code": ERROR_CODES[code], "error_message": message}
    written: bytes = ExtractionResponse(error=error).SerializeToString()
    return written
