"""Data source messages: what a function tells the backend beside its rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import pyarrow as pa

from flexhost.call import running

# In the schema metadata of a result: a JSON list.
KEY = b"x-gdc-data-source-messages"

_Data = TypeVar("_Data", pa.Table, pa.RecordBatchReader, pa.Schema)


@dataclass(frozen=True)
class DataSourceMessage:
    """type:           what kind of message it is, free for the function to say.
    data:           anything that can be written as JSON; small, since it travels as metadata.
    source:         who says it; the function's name unless given.
    correlation_id: what to look for in the log; the call's id unless given.
    """

    type: str
    data: Any = None
    source: str = ""
    correlation_id: str = ""


def with_messages(data: _Data, *messages: DataSourceMessage) -> _Data:
    """The same table, reader or schema, with these messages behind those it has.

    A stream is told of with its schema, before its first row: so are its messages. Raises TypeError
    and ValueError for what cannot be written as JSON.
    """
    schema = data if isinstance(data, pa.Schema) else data.schema
    metadata = dict(schema.metadata or {})
    told = json.loads(metadata.get(KEY, b"[]")) + [_complete(message) for message in messages]
    metadata[KEY] = json.dumps(told, allow_nan=False).encode()
    if isinstance(data, pa.Table):
        return data.replace_schema_metadata(metadata)
    schema = schema.with_metadata(metadata)
    if isinstance(data, pa.Schema):
        return schema
    return pa.RecordBatchReader.from_batches(schema, _batches(data, metadata))


def _complete(message: DataSourceMessage) -> dict[str, Any]:
    told, call = asdict(message), running.get()
    if call is not None:
        told["source"] = told["source"] or call.function.name
        told["correlation_id"] = told["correlation_id"] or call.id
    return told


def _batches(
    reader: pa.RecordBatchReader, metadata: dict[bytes, bytes]
) -> Iterator[pa.RecordBatch]:
    for batch in reader:
        yield batch.replace_schema_metadata(metadata)
