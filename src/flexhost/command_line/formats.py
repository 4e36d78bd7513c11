"""Tables written as they come, in memory of a bounded size: CSV, JSON Lines, Parquet, Arrow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

import msgspec
import pyarrow as pa

from flexhost.command_line.plain_values import plain

# Bytes of a group of rows in a Parquet file: of each, readers take a part of it at the least.
_GROUP = 16 << 20


class Writer(Protocol):
    def write(self, table: pa.Table) -> None: ...

    def close(self) -> None:
        """What belongs at the end. The sink stays open."""


class Sink:
    """What pyarrow writes to: a pipe cannot tell where it is, and has to stay open."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0

    def write(self, data: Any) -> int:
        self._file.write(data)
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.flush()


class Csv:
    """Nested values as JSON, bytes in base64, NULL as nothing, an empty text as ""."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        from pyarrow import csv  # takes 10 ms

        self._writer = csv.CSVWriter(sink, _for_csv(schema.empty_table()).schema)
        self.close: Callable[[], None] = self._writer.close

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(_for_csv(table))


class JsonLines:
    """An object a line; see `plain`."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        self._sink = sink
        self._names = schema.names
        self._encode = msgspec.json.Encoder(enc_hook=str).encode

    def write(self, table: pa.Table) -> None:
        rows = zip(*map(plain, table.columns), strict=True)
        if not self._names:
            rows = iter([()] * table.num_rows)  # type: ignore[assignment]
        lines = [self._encode(dict(zip(self._names, row, strict=True))) for row in rows]
        self._sink.write(b"".join(line + b"\n" for line in lines))

    def close(self) -> None:
        self._sink.flush()


class Parquet:
    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        from pyarrow import parquet  # takes 50 ms

        self._schema = schema
        self._writer = parquet.ParquetWriter(sink, schema)
        self._waiting: list[pa.Table] = []
        self._size = 0

    def write(self, table: pa.Table) -> None:
        self._waiting.append(table)
        self._size += table.nbytes
        if self._size >= _GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._size = [], 0


class Arrow:
    """The streaming format of Arrow IPC."""

    def __init__(self, sink: Sink, schema: pa.Schema) -> None:
        self._writer = pa.ipc.new_stream(sink, schema)
        self.write: Callable[[pa.Table], None] = self._writer.write_table
        self.close: Callable[[], None] = self._writer.close


FORMATS: dict[str, Callable[[Sink, pa.Schema], Writer]] = {
    "csv": Csv,
    "json": JsonLines,
    "parquet": Parquet,
    "arrow": Arrow,
}
BINARY = ("parquet", "arrow")


def _for_csv(table: pa.Table) -> pa.Table:
    columns = [_text(column) for column in table.columns]
    return pa.table(columns, names=table.schema.names)


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as the CSV of pyarrow can have it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _text(column.cast(kind.value_type))
    if pa.types.is_timestamp(kind) or pa.types.is_duration(kind) or pa.types.is_float16(kind):
        values = plain(column)
        return pa.chunked_array([pa.array(values, _WRITTEN.get(kind.id, pa.string()))])
    if any(is_kind(kind) for is_kind in _AS_THEY_ARE):
        return column
    return pa.chunked_array([pa.array(map(_json, plain(column)), pa.string())])


_WRITTEN = {pa.duration("s").id: pa.int64(), pa.float16().id: pa.float32()}
_AS_THEY_ARE = (
    pa.types.is_null,
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_decimal,
)


def _json(value: Any) -> str | None:
    if value is None:
        return None
    text = msgspec.json.encode(value, enc_hook=str).decode()
    return str(msgspec.json.decode(text)) if text.startswith('"') else text
