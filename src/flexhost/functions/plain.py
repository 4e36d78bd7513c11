"""What is known of a plain function, however it was written → a Function."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost.errors import StartError
from flexhost.function import BATCH, PANDAS, ROW, SCALAR, Function, Headers
from flexhost.functions import async_calls, column_calls, row_calls
from flexhost.functions.batch_arguments import ByName, ByPosition
from flexhost.functions.declarations import is_async
from flexhost.functions.flex_fun import FlexFun
from flexhost.functions.function_class import file_of, of_class
from flexhost.functions.hinted import Hinted
from flexhost.functions.signature import Signature
from flexhost.functions.udf_options import UdfOptions

# Names that a front end answers itself when it is called with batches.
RESERVED = ("builtin_healthy", "builtin_echo")
# Gives what is called, for the time of one call.
Lent: TypeAlias = Callable[[], AbstractContextManager[Callable[..., Any]]]


def always(function: Callable[..., Any]) -> Lent:
    """The same for all calls."""
    return lambda: contextlib.nullcontext(function)


@dataclasses.dataclass(frozen=True)
class Plain:
    """name:  that callers use.
    where: it was found, for errors.
    code:  as the author wrote it.
    loads: see `Function`.
    """

    name: str
    where: str
    code: Callable[..., Any]
    signature: Signature
    lent: Lent
    options: UdfOptions
    deterministic: bool
    loads: Callable[[Any], object] | None = None

    def function(self, executors: Mapping[str, str]) -> Function:
        """executors: see `describe`. Raises StartError."""
        found, options = self.signature, self.options
        if self.name in RESERVED:
            raise StartError(
                f"{self.where}: the host itself answers {self.name!r}, expected another name"
            )
        if options.null_in_null_out and found.style != ROW:
            raise StartError(f"{self.where}: null_in_null_out is for functions of single values")
        if is_async(self.code) and found.style != ROW:
            raise StartError(f"{self.where} is async, which a function of whole columns cannot be")
        once = Hinted(
            found,
            self.lent,
            batched=False,
            null_in_null_out=options.null_in_null_out,
            file=file_of(self.code.__module__),
        )
        over = dataclasses.replace(once, batched=True)
        read = ByName(found, self.where)
        made = dataclasses.replace(
            of_class(self._class(once), self.where, self.code, executors),
            parameters=read,
            metadata={"parameters": read.schema},
            told=("params",),
            loads=self.loads,
            kind=found.kind,
            style=found.style,
            arguments=_given(found, options),
            deterministic=self.deterministic,
        )
        batched = dataclasses.replace(
            made,
            schema=over.schema,
            create=self._class(over).create,
            parameters=ByPosition(self.name, found),
        )
        return dataclasses.replace(made, over_batches=batched)

    def _class(self, hinted: Hinted) -> type[FlexFun]:
        """The class that stands for it."""

        answer = _answer(self.code, self.signature)

        def call(
            self: FlexFun, parameters: Any, columns: tuple[str, ...] | None, headers: Headers
        ) -> Any:
            return answer(hinted, self.params)

        attributes = {
            "Name": self.name,
            "Schema": hinted.schema,
            "DeadlineSec": self.options.deadline_sec,
            "MaxRunning": self.options.max_running,
            "Executor": self.options.executor,
            "call": call,
            "__module__": self.code.__module__,
            "__qualname__": self.code.__qualname__,
        }
        return type(self.code.__name__, (FlexFun,), attributes)


def _given(found: Signature, options: UdfOptions) -> pa.Schema:
    """Its arguments, nullable where NULL may come: in all of them if it is not called then."""
    if not options.null_in_null_out:
        return found.needed
    return pa.schema([field.with_nullable(True) for field in found.needed])


def _answer(code: Callable[..., Any], found: Signature) -> Callable[[Hinted, Any], Any]:
    """What a call does: how the batch of its arguments is answered."""
    if found.style == BATCH:
        return column_calls.of_arrays
    if found.style == PANDAS:
        return column_calls.of_series
    calls: Any = async_calls if is_async(code) else row_calls
    return calls.scalar if found.kind == SCALAR else calls.tables  # type: ignore[no-any-return]
