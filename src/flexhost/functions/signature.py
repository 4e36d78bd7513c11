"""What a plain function takes and gives, read from its type hints."""

from __future__ import annotations

import collections.abc
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa

from flexhost.errors import StartError, text_of
from flexhost.function import BATCH, PANDAS, ROW, SCALAR, TABLE
from flexhost.values import types
from flexhost.values.parameters import mangled
from flexhost.values.types import Typed

NOTHING = inspect.Parameter.empty
RESULT = "result"


@dataclass(frozen=True)
class Argument:
    """default: NOTHING for one that has to be given."""

    name: str
    typed: Typed
    default: Any = NOTHING

    @property
    def needed(self) -> bool:
        return self.default is NOTHING

    @property
    def field(self) -> pa.Field:
        return self.typed.field(self.name)


@dataclass(frozen=True)
class Signature:
    """arguments: in order; those that have to be given are first.
    result:    of a scalar, or of one of the rows that a table function gives.
    kind, style: see `Function`.
    """

    arguments: tuple[Argument, ...]
    result: Typed
    kind: str
    style: str

    @property
    def needed(self) -> pa.Schema:
        """The arguments that have to be given."""
        return pa.schema([one.field for one in self.arguments if one.needed])


class NotPlain(StartError):
    """What a function takes or gives is not what a plain one can: perhaps it is not meant to be
    served."""


def read(function: Callable[..., Any], where: str, *, of_object: bool = False) -> Signature:
    """of_object: its first argument is the object that it is a method of.

    Raises NotPlain that names the argument.
    """
    hints = hints_of(function, where)
    arguments = []
    for name, argument in _parameters(function, of_object):
        check_kind(argument, where)
        if name not in hints:
            raise NotPlain(f"{where}: argument {name!r} has no type hint")
        typed = typed_of(hints[name], f"{where}: argument {name!r}")
        arguments.append(Argument(name, typed, argument.default))
    if "return" not in hints:
        raise NotPlain(f"{where}: its result has no type hint")
    kind, result = _result(function, hints["return"], where)
    return Signature(tuple(arguments), result, kind, _style(arguments, result, kind, where))


def check_kind(argument: inspect.Parameter, where: str) -> None:
    """Raises NotPlain for one that cannot be given by its position, and by its name."""
    if argument.kind in (argument.VAR_POSITIONAL, argument.VAR_KEYWORD):
        raise NotPlain(f"{where}: argument {argument} stands for any number of arguments")
    if argument.kind is argument.KEYWORD_ONLY:
        raise NotPlain(
            f"{where}: argument {argument.name!r} can only be given by its name, and SQL has "
            "positions alone"
        )
    if argument.name.startswith("__"):
        raise NotPlain(f"{where}: {mangled(argument.name)}")


def hints_of(function: Callable[..., Any], where: str) -> dict[str, Any]:
    """Raises NotPlain."""
    try:
        return get_type_hints(function, include_extras=True)
    except Exception as error:
        raise NotPlain(f"{where}: its type hints cannot be read: {text_of(error)}") from None


def _parameters(
    function: Callable[..., Any], of_object: bool
) -> list[tuple[str, inspect.Parameter]]:
    return list(inspect.signature(function).parameters.items())[1 if of_object else 0 :]


def typed_of(hint: Any, where: str) -> Typed:
    """Raises NotPlain."""
    try:
        return types.of_hint(hint)
    except TypeError as error:
        raise NotPlain(f"{where}: {error}") from None


def _result(function: Callable[..., Any], hint: Any, where: str) -> tuple[str, Typed]:
    """The kind of function, and what it gives: a scalar one value, a table function many."""
    origin, inner = get_origin(hint), get_args(hint)
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    where = f"{where}: its result"
    if origin in _MANY or hint in _MANY:
        if not inner:
            raise NotPlain(f"{where} is {hint}, which does not say of what")
        return TABLE, typed_of(inner[0], where)
    if yields:
        raise NotPlain(f"{where} is {hint}, but it yields: expected Iterator[...]")
    if origin is list and len(inner) == 1 and types.is_row(inner[0]):
        return TABLE, typed_of(inner[0], where)
    return SCALAR, typed_of(hint, where)


_MANY = (
    collections.abc.Iterator,
    collections.abc.Iterable,
    collections.abc.Generator,
    collections.abc.AsyncIterator,
    collections.abc.AsyncIterable,
    collections.abc.AsyncGenerator,
)
_STYLES = {"": ROW, "arrow": BATCH, "pandas": PANDAS}


def _style(arguments: list[Argument], result: Typed, kind: str, where: str) -> str:
    """Whole columns, or values: all arguments and the result alike. Raises NotPlain."""
    style = _STYLES[result.vector]
    for one in arguments:
        if one.typed.vector != result.vector:
            takes, gives = (_WORDS[vector] for vector in (one.typed.vector, result.vector))
            raise NotPlain(
                f"{where}: argument {one.name!r} is {takes} and its result {gives}: "
                "expected the same of all"
            )
    if style == ROW:
        return style
    if kind == TABLE:
        raise NotPlain(
            f"{where}: its result is an iterator of {_WORDS[result.vector]}s: expected of values"
        )
    if not arguments:
        raise NotPlain(f"{where}: it takes no argument that says how long its result has to be")
    for one in arguments:
        if not one.needed:
            raise NotPlain(f"{where}: argument {one.name!r} has a default, a column cannot")
    return style


_WORDS = {"": "a value", "arrow": "a pyarrow.Array", "pandas": "a pandas.Series"}
