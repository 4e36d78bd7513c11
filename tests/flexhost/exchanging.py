"""A client's side of DoExchange."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl
from support import Client

AB = pa.schema([("a", pa.int64()), ("b", pa.int64())])
NOTHING = pa.schema([])


def of(*columns: list[Any], schema: pa.Schema = AB) -> pa.RecordBatch:
    return pa.record_batch(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=False)], schema=schema
    )


def rows_of(number: int, schema: pa.Schema = NOTHING) -> pa.RecordBatch:
    """A batch of no columns."""
    return pa.record_batch({"x": [0] * number}).select([])


def of_field(number: int, data: bytes) -> bytes:
    """Bytes in a message of protobuf, such as FlightData."""
    return _varint(number << 3 | 2) + _varint(len(data)) + data


class Exchange:
    """A client's side of one, that waits for each answer before it sends the next batch."""

    def __init__(
        self,
        client: Client,
        name: str | fl.FlightDescriptor,
        schema: pa.Schema = AB,
        **headers: str,
    ) -> None:
        descriptor = fl.FlightDescriptor.for_path(name) if isinstance(name, str) else name
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.writer, self.reader = client.flight.do_exchange(descriptor, client.options(named))
        self.writer.begin(schema)

    def send(self, *columns: list[Any]) -> None:
        self.writer.write_batch(of(*columns))

    def ask(self, *columns: list[Any]) -> list[Any]:
        self.send(*columns)
        return self.answer()

    def answer(self) -> list[Any]:
        return self.reader.read_chunk().data.column(-1).to_pylist()

    def leave(self) -> None:
        self.reader.cancel()
        with contextlib.suppress(fl.FlightError, pa.ArrowException):
            self.writer.close()

    def rest(self) -> list[pa.RecordBatch]:
        """End it; what came that was not read."""
        self.writer.done_writing()
        return [chunk.data for chunk in self.reader]


@contextmanager
def exchange(
    client: Client,
    name: str | fl.FlightDescriptor = "add",
    schema: pa.Schema = AB,
    **headers: str,
) -> Iterator[Exchange]:
    """One that is left when it is over, whatever its end is."""
    made = Exchange(client, name, schema, **headers)
    try:
        yield made
    finally:
        made.leave()


def answers(
    client: Client, batches: list[pa.RecordBatch], name: str = "add", schema: pa.Schema = AB
) -> list[pa.RecordBatch]:
    """What batches are answered with that are all sent at once."""
    asked = Exchange(client, name, schema)
    for batch in batches:
        asked.writer.write_batch(batch)
    return asked.rest()


def _varint(number: int) -> bytes:
    begin = b""
    while number > 127:
        begin, number = begin + bytes([number & 127 | 128]), number >> 7
    return begin + bytes([number])
