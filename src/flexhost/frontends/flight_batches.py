"""Batches over DoExchange: what comes in one, what goes out, and functions of the host's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.caller import Caller
from flexhost.calls.exchanges import NO_BATCH
from flexhost.errors import BadCall, Cancelled
from flexhost.host import Host
from flexhost.values.problems import shown

# Headers, with any value, of a client that sends its batches without waiting for answers.
SENDS_ON = ("x-flexhost-ahead", "x-databend-query-id")
# In the metadata of a schema of arguments and results: how many of its fields are arguments.
INPUT_COUNT = "x-databend-udf-input-count"


def name_in(descriptor: fl.FlightDescriptor) -> str:
    """Of a function that is called with batches: a path of one part. Raises BadCall."""
    if descriptor.descriptor_type is not fl.DescriptorType.PATH:
        raise BadCall("the descriptor is a command, expected the name of a function")
    path: list[bytes] = descriptor.path
    if len(path) != 1:
        raise BadCall(f"the path has {len(path)} parts, expected one: the name of a function")
    return path[0].decode("utf-8", "replace")


class Signature(NamedTuple):
    """What a function takes, and what its answers look like."""

    arguments: pa.Schema
    result: pa.Schema

    def schema(self) -> pa.Schema:
        """The fields of both, which is how they are told."""
        metadata = {INPUT_COUNT: str(len(self.arguments))}
        return pa.schema([*self.arguments, *self.result], metadata)

    def info(self, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        """RisingWave reads the number of arguments in that of records, Databend INPUT_COUNT."""
        return fl.FlightInfo(self.schema(), descriptor, [], len(self.arguments), -1)


def _healthy(batch: pa.RecordBatch) -> list[pa.Array]:
    return [pa.array([1] * batch.num_rows, pa.int32())]


def _echo(batch: pa.RecordBatch) -> list[pa.Array]:
    return [*batch.columns]


_TEXT = pa.schema([("text", pa.string())])
# Functions by which Databend finds out whether a server is well. They are answered at once, however
# much there is to do.
BUILTINS: dict[str, tuple[Signature, Callable[[pa.RecordBatch], list[pa.Array]]]] = {
    "builtin_healthy": (
        Signature(pa.schema([]), pa.schema([("result", pa.int32())])),
        _healthy,
    ),
    "builtin_echo": (Signature(_TEXT, pa.schema([("result", pa.string())])), _echo),
}


def signature(host: Host, name: str, caller: Caller) -> Signature:
    """Raises UnknownFunction, Unauthorized, BadCall, NotReady."""
    if name in BUILTINS:
        return BUILTINS[name][0]
    function = host.functions.get(name, caller).called_with(NO_BATCH)
    assert function.arguments is not None  # as of each that takes batches
    return Signature(function.arguments, function.schema)


class Batches:
    """What a client sends and takes in one exchange.

    pyarrow has no way to end a read but a batch, the client's end, or a broken connection; and when
    a request is over that somebody still reads, the process dies (measured).

    most: bytes of a batch.
    gone: whether the client has left. Not to be asked after the request.
    """

    def __init__(self, reader: Any, writer: Any, most: int, gone: Callable[[], bool]) -> None:
        self._reader = reader
        self._writer = writer
        self._most = most
        self._larger: list[int] = []  # the columns of which some take less than they stand for
        self.gone = gone

    def begin(self, answers: pa.Schema) -> pa.Schema:
        """Tell the schema of the answers; that of the batches. Raises BadCall and Cancelled.

        Dictionaries are refused: pyarrow looks for theirs at the first batch and does not survive a
        message that has nothing in it. So are run ends, which may stand for more than can be cast
        (both measured, 26.0).
        """
        try:
            self._writer.begin(answers, options=_OPTIONS)
        except fl.FlightInternalError:
            raise Cancelled(_GONE) from None
        try:
            schema: pa.Schema = self._reader.schema
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from None
        for number, field in enumerate(schema):
            try:
                _read_names(field)
            except UnicodeDecodeError as error:  # which would come wherever one is looked at
                name = shown(error.object.decode("utf-8", "backslashreplace"))
                raise BadCall(
                    f"column {number} has a name in it that is no UTF-8: {name}"
                ) from None
            if _has(field.type, _is_encoded):
                raise BadCall(
                    f"column {field.name!r} is {field.type}: neither dictionaries nor run ends are "
                    "taken, send values"
                )
        self._larger = [n for n, field in enumerate(schema) if _has(field.type, _is_larger)]
        return schema

    def read(self) -> pa.RecordBatch | None:
        """The next one; None at the end. Raises BadCall."""
        batch = None
        try:
            while batch is None:  # there may be messages without one
                batch = self._reader.read_chunk().data
            if batch.num_rows < 0:
                raise pa.ArrowInvalid(f"a batch has {batch.num_rows} rows")
            bytes_, rows = batch.get_total_buffer_size(), batch.num_rows
            # a column of NULLs alone, and no column, take no bytes, whatever is made of their rows
            if max(bytes_, rows) <= self._most:
                batch.validate(full=True)  # what is wrong in it would take the process down
                bytes_ += sum(_stood_for(batch.column(n)) for n in self._larger)
        except StopIteration:
            return None
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(error) from None
        if max(bytes_, rows) > self._most:
            has = f"{rows} rows" if rows > bytes_ else f"{bytes_} bytes"
            too_large = BadCall(f"the batch has {has}, at most {self._most} are taken")
            too_large.reason = "max_batch_bytes"
            raise too_large
        return batch

    def write(self, batch: pa.RecordBatch) -> None:
        """Raises Cancelled."""
        try:
            self._writer.write_batch(batch)
        except fl.FlightInternalError:
            raise Cancelled(_GONE) from None


_GONE = "the caller has gone"
# Those that pyarrow would make of variables, anew for each exchange.
_OPTIONS = pa.ipc.IpcWriteOptions()


def _read_names(field: pa.Field) -> None:
    """Its name, and those of its parts. Raises UnicodeDecodeError."""
    _ = field.name
    for n in range(field.type.num_fields):
        _read_names(field.type.field(n))


def _has(type_: pa.DataType, wanted: Callable[[pa.DataType], bool]) -> bool:
    """Whether it is of that kind, or one of its parts."""
    if isinstance(type_, pa.BaseExtensionType):
        return _has(type_.storage_type, wanted)
    parts = (type_.field(n).type for n in range(type_.num_fields))
    return wanted(type_) or any(_has(part, wanted) for part in parts)


def _is_encoded(type_: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(type_) or pa.types.is_run_end_encoded(type_))


def _is_view(type_: pa.DataType) -> bool:
    return type_ in (pa.string_view(), pa.binary_view())


def _is_larger(type_: pa.DataType) -> bool:
    """Whether values of it may stand for more than the bytes that they take."""
    return _is_view(type_) or _is_nothing(type_)


def _is_nothing(type_: pa.DataType) -> bool:
    return bool(pa.types.is_null(type_) or (pa.types.is_struct(type_) and not type_.num_fields))


def _stood_for(column: pa.Array) -> int:
    """Bytes of what views stand for, since many may have the same ones and a cast writes them out;
    one for each value that takes none. Raises ArrowException."""
    type_ = column.type
    if not len(column):
        return 0
    if _is_view(type_):
        _, views, *seen = column.buffers()
        # a cast follows those of NULLs too, which are not validated and end the process (measured)
        followed = [None, views, *seen]
        pa.Array.from_buffers(type_, len(column), followed, 0, column.offset).validate(full=True)
        # the buffer may be longer, and of any length
        there = memoryview(views)[column.offset * 16 : (column.offset + len(column)) * 16]
        return sum(length for length in there.cast("i")[::4] if length > 0)
    if _is_nothing(type_):
        return len(column)
    if pa.types.is_map(type_):
        return _stood_for(column.keys) + _stood_for(column.items)
    if pa.types.is_struct(type_):
        return sum(map(_stood_for, column.flatten()))
    values = getattr(column, "values", None)
    return _stood_for(values) if isinstance(values, pa.Array) else 0


def _unreadable(error: Exception) -> BadCall:
    return BadCall(f"what was sent cannot be read: {error}")


def answer_builtin(name: str, batches: Batches) -> None:
    """Raises BadCall and Cancelled."""
    (arguments, result), make = BUILTINS[name]
    given = batches.begin(result)
    if given.types != arguments.types:
        raise BadCall(f"{name} takes {_types(arguments)}, {_types(given)} was sent")
    while (batch := batches.read()) is not None:
        batches.write(pa.RecordBatch.from_arrays(make(batch), schema=result))


def _types(schema: pa.Schema) -> str:
    return ", ".join(map(str, schema.types)) or "no argument"


def protocol_version() -> fl.Result:
    return fl.Result(pa.py_buffer(b"\x02"))
