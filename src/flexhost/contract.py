"""What leaves is what `Schema` declares: a result checked and fitted to its declaration.

Columns are put in the declared order, extra ones dropped, and cast where value and kind survive the
way there and back. A missing column, a lossy cast or a null where none may be fails the call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import pyarrow as pa

from flexhost.arrow import compute as pc
from flexhost.arrow.casts import lossless, same_kind
from flexhost.errors import FunctionFailed

_T = TypeVar("_T")


def by_schema(tell: Callable[[pa.Schema], _T]) -> Callable[[pa.Schema], _T]:
    """`tell`, asked once of each schema that comes again, as those do that are declared: each call
    of a function has the same object."""
    known: dict[int, tuple[pa.Schema, _T]] = {}

    def told(schema: pa.Schema) -> _T:
        found = known.get(id(schema))
        if found is None or found[0] is not schema:
            if len(known) >= _MOST_KNOWN:
                known.clear()  # of calls that asked for some columns
            known[id(schema)] = found = schema, tell(schema)
        return found[1]

    return told


_MOST_KNOWN = 256


@runtime_checkable
class Reader(Protocol):
    """What a Stream reads: a `pa.RecordBatchReader`, `Batches`, or a stream of another process."""

    schema: pa.Schema

    def read_next_batch(self) -> pa.RecordBatch: ...


class Narrow(Protocol):
    """Leaves less of each fitted table: fewer rows, fewer columns."""

    def schema(self, asked: pa.Schema) -> pa.Schema:
        """Of what it leaves of a table with the schema `asked`."""

    def __call__(self, table: pa.Table) -> pa.Table: ...


class Stream:
    """A reader fitted to its declaration, as tables. One thread iterates; any may close it.

    schema: of every table, known before the first.
    """

    def __init__(
        self, reader: Reader, schema: pa.Schema, function: str, narrow: Narrow | None = None
    ) -> None:
        """Raises FunctionFailed when the reader's own schema cannot be fitted."""
        _check_columns(reader.schema, schema, function)
        self._fitted = _with_metadata_of(reader.schema, schema)
        self.schema = self._fitted if narrow is None else narrow.schema(self._fitted)
        self._narrow = narrow
        self._function = function
        self._reader: Reader | None = reader
        self._reading = threading.Lock()
        # whether a batch with the fitted schema is as it should be
        self._as_it_is = narrow is None and not _required(self._fitted)

    def __iter__(self) -> Iterator[pa.Table]:
        return self

    def __next__(self) -> pa.Table:
        """The next table with rows. Raises what the function raises, and FunctionFailed."""
        found = self._next()
        return pa.Table.from_batches([found]) if isinstance(found, pa.RecordBatch) else found

    def batches(self) -> Iterator[pa.Table | pa.RecordBatch]:
        """The same, batches as they came where they are as they should be."""
        while True:
            try:
                yield self._next()
            except StopIteration:
                return

    def _next(self) -> pa.Table | pa.RecordBatch:
        with self._reading:
            while (reader := self._reader) is not None:
                batch = reader.read_next_batch()  # StopIteration at the end
                if not batch.num_rows:
                    continue
                if self._as_it_is and batch.schema.equals(self._fitted, check_metadata=True):
                    return batch
                table = pa.Table.from_batches([batch])
                table = _fit_table(table, self._fitted, self._function)
                if self._narrow is None:
                    return table
                if (table := self._narrow(table)).num_rows:
                    return table
        raise StopIteration

    def close(self) -> None:
        """Let go of the reader: with the last reference the author's generator is closed, at its
        next yield if it runs right now; what it awaits is cancelled."""
        reader, self._reader = self._reader, None
        interrupt = getattr(reader, "interrupt", None)
        del reader
        if interrupt is not None:
            interrupt()


Fitted: TypeAlias = pa.Table | Stream


def fit(
    data: pa.Table | Reader,
    schema: pa.Schema,
    function: str,
    narrow: Narrow | None = None,
) -> Fitted:
    """`data` with exactly the columns of `schema`, or what `narrow` leaves of that.

    A reader becomes a Stream, which fits its batches as they come. Schema metadata of the result is
    kept beside the declared one. Raises FunctionFailed.
    """
    if not isinstance(data, pa.Table):
        return Stream(data, schema, function, narrow)
    table = _fit_table(data, _with_metadata_of(data.schema, schema), function)
    return table if narrow is None else narrow(table)


def fit_column(column: pa.ChunkedArray, declared: pa.Field, function: str) -> pa.ChunkedArray:
    """One column as it is declared, nulls aside. Raises FunctionFailed."""
    if not same_kind(column.type, declared.type):
        raise _mismatch(function, declared, column.type)
    return _fit_column(column, declared, function)


def _fit_table(table: pa.Table, schema: pa.Schema, function: str) -> pa.Table:
    if not schema.names:
        rows = table.select([])  # as many, which a change of metadata would lose
        return rows.replace_schema_metadata(schema.metadata) if schema.metadata else rows
    if table.schema.equals(schema, check_metadata=True):
        fitted = table
    else:
        if table.schema.equals(schema):
            columns = table.columns
        else:
            _check_columns(table.schema, schema, function)
            columns = [_fit_column(table.column(f.name), f, function) for f in schema]
        fitted = pa.Table.from_arrays(columns, schema=schema)
    for number, declared in _required(schema):
        for chunk in fitted.column(number).chunks:
            _check_required(chunk, declared, declared.name, function)
    return fitted


@by_schema
def _required(schema: pa.Schema) -> list[tuple[int, pa.Field]]:
    """Columns in which a null is forbidden somewhere, with their numbers."""
    return [(at, column) for at, column in enumerate(schema) if _has_required(column)]


def _has_required(field: pa.Field) -> bool:
    """Whether a null is forbidden anywhere in a column. (The keys of a map always are.)"""
    if type(field.type) is pa.DataType:  # as most are: one without parameters
        return not field.nullable
    children = range(field.type.num_fields) if pa.types.is_nested(field.type) else ()
    return not field.nullable or any(_has_required(field.type.field(i)) for i in children)


def _check_required(array: pa.Array, field: pa.Field, path: str, function: str) -> None:
    """Raises FunctionFailed for a null where none may be; what is below a null does not count."""
    if not field.nullable and (nulls := _nulls_in(array)):
        raise FunctionFailed(
            f"function {function!r}: column {path!r} is declared not nullable ({field.type}), "
            f"the result has {nulls} nulls in it"
        )
    type_ = field.type
    if pa.types.is_struct(type_):
        there = array.drop_null() if array.null_count else array
        children = [(there.field(i), type_.field(i)) for i in range(type_.num_fields)]
    elif pa.types.is_list(type_) or pa.types.is_large_list(type_):
        children = [(array.flatten(), type_.value_field)]
    else:
        return
    for child, of in children:
        if _has_required(of):
            _check_required(child, of, f"{path}.{of.name}", function)


def _nulls_in(array: pa.Array) -> int:
    """As a reader sees them: also those that stand in a dictionary, in runs, or in a union."""
    if pa.types.is_dictionary(array.type) and array.dictionary.null_count:
        array = array.dictionary_decode()
    elif pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    elif pa.types.is_union(array.type):
        return int(pc.sum(pc.is_null(array)).as_py() or 0)
    return int(array.null_count)


def _check_columns(actual: pa.Schema, declared: pa.Schema, function: str) -> None:
    """Every declared column is there once, and of a kind that can be cast."""
    for column in declared:
        found = actual.get_all_field_indices(column.name)
        if not found:
            raise FunctionFailed(
                f"function {function!r}: the result has no column {column.name!r} "
                f"(declared {column.type}); it has {_listed(actual.names)}"
            )
        if len(found) > 1:
            raise FunctionFailed(
                f"function {function!r}: the result has {len(found)} columns named {column.name!r}"
            )
        if not same_kind(actual.field(found[0]).type, column.type):
            raise _mismatch(function, column, actual.field(found[0]).type)


def _fit_column(column: pa.ChunkedArray, declared: pa.Field, function: str) -> pa.ChunkedArray:
    if column.type.equals(declared.type):
        return column
    try:
        return lossless(column, declared.type)
    except (ValueError, pa.ArrowException) as error:
        raise _mismatch(function, declared, column.type, str(error)) from None


def _with_metadata_of(actual: pa.Schema, declared: pa.Schema) -> pa.Schema:
    """The declared schema, with its own metadata and what the result adds (messages to the
    caller travel there)."""
    if not actual.metadata:
        return declared
    return declared.with_metadata({**(declared.metadata or {}), **actual.metadata})


def _mismatch(
    function: str, declared: pa.Field, actual: pa.DataType, reason: str = "not the same kind"
) -> FunctionFailed:
    return FunctionFailed(
        f"function {function!r}: column {declared.name!r} is declared {declared.type}, "
        f"the result has {actual}: {reason}"
    )


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown or "no columns"
