"""What a call is given, on its way to another process."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa


class Packed(NamedTuple):
    """A batch as a stream of Arrow IPC: pickle would take all of what it is a slice of, and lose
    the rows of one without columns."""

    stream: bytes


def packed(given: Any) -> Any:
    if not isinstance(given, pa.RecordBatch):
        return given
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, given.schema) as stream:
        stream.write_batch(given)
    return Packed(sink.getvalue().to_pybytes())


def unpacked(given: Any) -> Any:
    if not isinstance(given, Packed):
        return given
    return pa.ipc.open_stream(pa.py_buffer(given.stream)).read_next_batch()
