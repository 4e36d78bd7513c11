"""Columns of Arrow ↔ Series of pandas, which is there where a function takes them."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from flexhost.errors import FunctionFailed, name_of, text_of


def of_array(column: pa.Array) -> Any:
    """What pandas makes of it; whole numbers and flags stay what they are beside a NULL."""
    return column.to_pandas(types_mapper=_with_nulls() if column.null_count else None)


@functools.cache
def _with_nulls() -> Callable[[pa.DataType], Any]:
    pandas: Any = sys.modules["pandas"]
    names = {pa.bool_(): "boolean", pa.int8(): "Int8", pa.int16(): "Int16", pa.int32(): "Int32"}
    names[pa.int64()] = "Int64"
    return {type_: pandas.api.types.pandas_dtype(name) for type_, name in names.items()}.get


def array(given: Any, result: pa.Field) -> pa.Array:
    """Raises FunctionFailed for what is no Series, and what does not fit."""
    pandas: Any = sys.modules["pandas"]
    if not isinstance(given, pandas.Series):
        raise FunctionFailed(f"the function gave {name_of(given)}, expected a pandas.Series")
    try:
        if result.nullable:  # NaN is what pandas has for NULL
            return pa.Array.from_pandas(given, type=result.type)
        return pa.array(given.array, result.type, from_pandas=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise FunctionFailed(
            f"the function gave a Series of {given.dtype}, expected {result.type}: {text_of(error)}"
        ) from None
