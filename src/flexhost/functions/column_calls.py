"""Calls of functions of whole columns: of Arrow, which are given as they are, or of pandas."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from flexhost.arrow import series
from flexhost.errors import FunctionFailed, name_of
from flexhost.functions.hinted import Hinted
from flexhost.functions.signature import RESULT


def of_arrays(hinted: Hinted, batch: pa.RecordBatch) -> pa.Table:
    """Raises HostError."""
    given = _called(hinted, batch.columns)
    if not isinstance(given, pa.Array | pa.ChunkedArray):
        raise FunctionFailed(f"the function gave {name_of(given)}, expected a pyarrow.Array")
    return pa.table([_as_long(given, batch.num_rows)], [RESULT])


def of_series(hinted: Hinted, batch: pa.RecordBatch) -> pa.Table:
    """Raises HostError."""
    given = _called(hinted, [series.of_array(column) for column in batch.columns])
    made = series.array(given, hinted.result)
    return pa.table([_as_long(made, batch.num_rows)], [RESULT])


def _called(hinted: Hinted, given: list[Any]) -> Any:
    with hinted.lent() as function:
        try:
            return function(*given)
        except BaseException as error:
            raise hinted.failed(error) from None


def _as_long(given: Any, rows: int) -> Any:
    if len(given) != rows:
        raise FunctionFailed(f"the function gave {len(given)} values for {rows} rows")
    return given
