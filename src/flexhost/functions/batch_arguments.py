"""The arguments of a function of rows, as a batch: given as one, or by their names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from flexhost.arrow.casts import lossless
from flexhost.errors import BadCall
from flexhost.functions.signature import Argument, Signature
from flexhost.values import columns
from flexhost.values.parameters import Parameters, default, struct_of
from flexhost.values.problems import shown


class ByPosition:
    """Of a batch: as many columns as there are arguments; those that have a default may be missing
    from the end."""

    def __init__(self, name: str, signature: Signature) -> None:
        self._name = name
        self._arguments = signature.arguments
        self._needed = len(signature.needed)

    def read(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        """Its columns as the function takes them, cast where that loses nothing. Raises BadCall."""
        given = batch.num_columns
        if not self._needed <= given <= len(self._arguments):
            raise BadCall(f"function {self._name!r} takes {self._expected()}, it was given {given}")
        arguments = self._arguments[:given]
        pairs = list(zip(arguments, batch.columns, strict=True))
        if all(column.type.equals(argument.typed.type) for argument, column in pairs):
            return batch
        made = [self._column(argument, column) for argument, column in pairs]
        return pa.RecordBatch.from_arrays(made, [argument.name for argument in arguments])

    def _column(self, argument: Argument, column: pa.Array) -> pa.Array:
        wanted = argument.typed.type
        try:
            cast = lossless(pa.chunked_array([column]), wanted)
        except (ValueError, pa.ArrowException) as error:
            raise BadCall(
                f"function {self._name!r}: argument {argument.name!r} is {wanted}, the column has "
                f"{column.type}: {error}"
            ) from None
        return cast.combine_chunks() if cast.num_chunks != 1 else cast.chunk(0)

    def _expected(self) -> str:
        most = len(self._arguments)
        many = str(most) if self._needed == most else f"{self._needed} to {most}"
        names = ", ".join(one.name for one in self._arguments)
        return f"{many} columns ({names})" if names else "no columns"


class ByName:
    """Of parameters: a batch of one row, with the arguments up to the last that is given.

    schema: see `Parameters`.
    """

    def __init__(self, signature: Signature, where: str) -> None:
        """Raises StartError."""
        self._arguments = signature.arguments
        fields: list[Any] = [
            (one.name, one.typed.hint)
            if one.needed
            else (one.name, one.typed.hint, default(one.default))
            for one in signature.arguments
        ]
        self._parameters = Parameters(struct_of(fields, where), where)
        self.schema = self._parameters.schema

    def read(self, given: Mapping[str, Any], /) -> pa.RecordBatch:
        """Raises BadCall."""
        read = self._parameters.read(given)
        last = max((n for n, one in enumerate(self._arguments) if one.name in given), default=-1)
        arrays, names = [], []
        for argument in self._arguments[: last + 1]:
            arrays.append(_of_one(argument, getattr(read, argument.name), argument.name in given))
            names.append(argument.name)
        if not names:
            return _no_arguments()
        return pa.RecordBatch.from_arrays(arrays, names)


@functools.cache  # not at start, for pyarrow imports pandas here, where there is one
def _no_arguments() -> pa.RecordBatch:
    """One row of them."""
    return pa.RecordBatch.from_struct_array(pa.array([{}], pa.struct([])))


def _of_one(argument: Argument, value: Any, given: bool) -> pa.Array:
    typed = argument.typed
    try:
        return columns.array([value], typed.type, typed.nullable or not given)
    except columns.Unfit as error:
        if not given:
            why = f"{argument.name} has to be given as well: its default is {shown(value)}"
        else:
            why = f"{argument.name} is {shown(value)}, {error.why}"
        raise BadCall(why) from None
