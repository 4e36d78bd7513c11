"""The table of types: Python hint, Arrow, SQL. Others read both ways from it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pyarrow as pa


class Row(NamedTuple):
    """One of the table.

    hint: as an author writes it.
    sql:  the shortest that means `type`.
    """

    hint: Any
    type: pa.DataType
    sql: str


SCALARS = (
    Row(bool, pa.bool_(), "BOOLEAN"),
    Row(int, pa.int64(), "BIGINT"),
    Row(float, pa.float64(), "DOUBLE"),
    Row(str, pa.utf8(), "STRING"),
    Row(bytes, pa.binary(), "BYTES"),
    Row(Annotated[int, "TINYINT"], pa.int8(), "TINYINT"),
    Row(Annotated[int, "SMALLINT"], pa.int16(), "SMALLINT"),
    Row(Annotated[int, "INT"], pa.int32(), "INT"),
    Row(Annotated[float, "FLOAT"], pa.float32(), "FLOAT"),
    Row(Annotated[bytes, "BINARY(16)"], pa.binary(16), "BINARY(16)"),
    Row(Decimal, pa.decimal128(38, 18), "DECIMAL(38, 18)"),
    Row(Annotated[Decimal, "DECIMAL(10, 2)"], pa.decimal128(10, 2), "DECIMAL(10, 2)"),
    Row(dt.date, pa.date32(), "DATE"),
    Row(dt.time, pa.time64("us"), "TIME(6)"),
    Row(Annotated[dt.time, "TIME(0)"], pa.time32("s"), "TIME(0)"),
    Row(dt.datetime, pa.timestamp("us"), "TIMESTAMP(6)"),
    Row(Annotated[dt.datetime, "TIMESTAMP(3)"], pa.timestamp("ms"), "TIMESTAMP(3)"),
    Row(Annotated[dt.datetime, "TIMESTAMP_LTZ(6)"], pa.timestamp("us", "UTC"), "TIMESTAMP_LTZ(6)"),
    Row(dt.timedelta, pa.duration("ms"), "INTERVAL DAY TO SECOND"),
)


@dataclass
class Point:
    """A row of the table that has fields."""

    x: float
    y: float | None


# NULL is allowed in what is `T | None`, also in elements and fields.
TABLE = (
    *SCALARS,
    Row(list[int], pa.list_(pa.field("item", pa.int64(), False)), "ARRAY<BIGINT NOT NULL>"),
    Row(list[int | None], pa.list_(pa.int64()), "ARRAY<BIGINT>"),
    Row(
        dict[str, float],
        pa.map_(pa.utf8(), pa.field("value", pa.float64(), False)),
        "MAP<STRING, DOUBLE NOT NULL>",
    ),
    Row(
        Point,
        pa.struct([pa.field("x", pa.float64(), False), pa.field("y", pa.float64())]),
        "ROW<x DOUBLE NOT NULL, y DOUBLE>",
    ),
)
