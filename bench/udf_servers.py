"""The functions of `measured.hinted` served by others, each as it offers them.

python udf_servers.py bare|arrow-udf|databend-udf PORT
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from measured import hinted

_BATCH = 8192  # rows of a table function
_ROW = pa.field("row", pa.int32())
_RESULT = pa.field("result", pa.int64())


class Bare(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """The yardstick: whole columns made into lists, the function called for each row, and nothing
    else."""

    def do_exchange(
        self, context: Any, descriptor: fl.FlightDescriptor, reader: Any, writer: Any
    ) -> None:
        name = descriptor.path[0].decode()
        answers, schema = _ANSWERS[name]
        function = getattr(hinted, name)
        writer.begin(schema)
        for chunk in reader:
            for columns in answers(function, chunk.data):
                writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))

    def get_flight_info(self, context: Any, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        return fl.FlightInfo(_ANSWERS[descriptor.path[0].decode()][1], descriptor, [])


def _rows(function: Callable[..., Any], batch: pa.RecordBatch) -> Iterator[list[pa.Array]]:
    columns = [column.to_pylist() for column in batch.columns]
    yield [pa.array(list(map(function, *columns)), pa.int64())]


def _tables(function: Callable[..., Any], batch: pa.RecordBatch) -> Iterator[list[pa.Array]]:
    rows: list[int] = []
    values: list[int] = []
    for row, given in enumerate(batch.column(0).to_pylist()):
        for value in function(given):
            rows.append(row)
            values.append(value)
            if len(values) == _BATCH:
                yield [pa.array(rows, pa.int32()), pa.array(values, pa.int64())]
                rows, values = [], []
    if values:
        yield [pa.array(rows, pa.int32()), pa.array(values, pa.int64())]


def _whole(function: Callable[..., Any], batch: pa.RecordBatch) -> Iterator[list[pa.Array]]:
    yield [function(*batch.columns)]


_SCALAR, _TABLE = pa.schema([_RESULT]), pa.schema([_ROW, _RESULT])
_ANSWERS: dict[str, tuple[Callable[..., Iterator[list[pa.Array]]], pa.Schema]] = {
    "gcd": (_rows, _SCALAR),
    "plus": (_rows, _SCALAR),
    "series": (_tables, _TABLE),
    "lists": (_whole, _SCALAR),
    "arrays": (_whole, _SCALAR),
}


def _bare(port: int) -> None:
    Bare(f"grpc://127.0.0.1:{port}").serve()


def _arrow_udf(port: int) -> None:
    from arrow_udf import UdfServer, udf, udtf

    server = UdfServer(f"127.0.0.1:{port}")
    two = ["BIGINT", "BIGINT"]
    server.add_function(udf(two, "BIGINT")(hinted.gcd))
    server.add_function(udf(two, "BIGINT")(hinted.plus))
    server.add_function(udf(two, "BIGINT", name="lists", batch=True)(hinted._of_lists))
    server.add_function(udtf("BIGINT", "BIGINT")(hinted.series))
    server.serve()


def _databend_udf(port: int) -> None:
    from databend_udf import UDFServer, udf

    def series(n: int) -> Iterator[tuple[int]]:  # it takes rows, not values
        return zip(range(n), strict=True)

    server = UDFServer(f"127.0.0.1:{port}")
    two = ["BIGINT", "BIGINT"]
    # Without the pool of threads that it would take by itself: that is half as fast.
    for function in (hinted.gcd, hinted.plus):
        server.add_function(udf(two, "BIGINT", io_threads=None)(function))
    lists = udf(two, "BIGINT", name="lists", io_threads=None, batch_mode=True)
    server.add_function(lists(hinted._of_lists))
    server.add_function(udf(["BIGINT"], [("n", "BIGINT")])(series))
    server.serve()


if __name__ == "__main__":
    {"bare": _bare, "arrow-udf": _arrow_udf, "databend-udf": _databend_udf}[sys.argv[1]](
        int(sys.argv[2])
    )
