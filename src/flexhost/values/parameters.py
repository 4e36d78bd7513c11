"""Typed parameters: what a caller sent as an author's own class, or all that is wrong with it."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, get_type_hints

import msgspec

from flexhost.errors import BadCall, StartError, name_of, text_of
from flexhost.values.problems import Fault, convert, fields_of, problems, shown, unknown, with_ints

_logger = logging.getLogger("flexhost.parameters")

# What a caller sends beside a function's own parameters.
COLUMNS, CONTEXT = "columns", "executionContext"

# Problems of one call that are told, and bytes of their text that are sure to reach the caller.
_MOST, _BYTES = 20, 200
# Keys of one function that are logged because nobody knows them.
_MOST_LOGGED = 100


class Parameters:
    """A msgspec.Struct or a dataclass, compiled once.

    schema: its JSON Schema, the top object inlined.
    """

    def __init__(self, cls: Any, where: str) -> None:
        """where: whose it is, for the error. Raises StartError."""
        self._cls = cls
        self._where = where
        self._logged: set[str] = set()
        if not isinstance(cls, type) or fields_of_class(cls, where) is None:
            raise StartError(
                f"{where}: Parameters is {cls!r}, expected a msgspec.Struct or a dataclass"
            )
        fields = fields_of(cls) or ()
        self._names = tuple(field.name for field in fields)
        for name in (COLUMNS, CONTEXT):
            if name in self._names:
                raise StartError(f"{where}: {name!r} is no parameter, every call may have one")
        self._known = frozenset(self._names) | _tag_of(cls)
        self._expected = self._known | {COLUMNS, CONTEXT}
        try:
            msgspec.json.Decoder(cls)
            self.schema = _schema(cls)
        except Exception as error:
            why = " ".join(text_of(error).split())
            raise StartError(
                f"{where}: Parameters cannot be used: {name_of(error)}: {why}"
            ) from None

    def read(self, parameters: Mapping[str, Any], /) -> Any:
        """An object of the class, with defaults for what is not given.

        Raises BadCall that tells everything that is wrong, and what `__post_init__` raises.
        """
        given = {name: parameters[name] for name in self._known if name in parameters}
        extra = len(parameters) - len(given) - (COLUMNS in parameters) - (CONTEXT in parameters)
        if extra and (strangers := self._strangers(parameters)):
            given = with_ints(self._cls, given)
            raise _refusal([*strangers, *islice(problems(self._cls, given), _MOST)])
        try:
            return convert(given, self._cls)
        except Fault:  # be it for an integral float alone
            given = with_ints(self._cls, given)
        try:
            return convert(given, self._cls)
        except Fault:
            found = list(islice(problems(self._cls, given), _MOST))
        raise _refusal(found)

    def _strangers(self, parameters: Mapping[str, Any]) -> list[str]:
        """What is told of parameters that there are not; with an execution context only the log is,
        since a backend may add some."""
        names = [
            name
            for name in parameters
            if name not in self._known and name not in (COLUMNS, CONTEXT)
        ]
        if isinstance(parameters.get(CONTEXT), dict):
            for name in names:
                self._log(name)
            return []
        return [unknown(name, self._names) for name in names[:_MOST]]

    def _log(self, name: str) -> None:
        if name not in self._logged and len(self._logged) < _MOST_LOGGED:
            self._logged.add(name)
            _logger.info("%s: passed over %s, which is no parameter", self._where, shown(name))


def class_of(function: Callable[..., Any], reserved: Iterable[str], where: str) -> type[Any]:
    """The hinted arguments of a function as a class, those with `reserved` names aside.

    Raises StartError.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception as error:
        raise StartError(f"{where}: its type hints cannot be read: {text_of(error)}") from None
    fields: list[Any] = []
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind not in (argument.POSITIONAL_OR_KEYWORD, argument.KEYWORD_ONLY):
            raise StartError(f"{where}: argument {argument} cannot be given by its name")
        if name in reserved:
            continue
        if name.startswith("__"):
            raise StartError(f"{where}: {mangled(name)}")
        if name not in hints:
            raise StartError(f"{where}: argument {name!r} has no type hint")
        if argument.default is argument.empty:
            fields.append((name, hints[name]))
        else:
            fields.append((name, hints[name], default(argument.default)))
    return struct_of(fields, where)


def mangled(name: str) -> str:
    """What is wrong with an argument of this name. A class has none by it: Python puts its own name
    before it, or means something by it."""
    return f"argument {name!r} begins with two underscores, expected another name"


def struct_of(fields: Iterable[Any], where: str) -> type[Any]:
    """A class with these fields: a name, a hint and perhaps a `default`. Raises StartError."""
    try:
        return msgspec.defstruct("Parameters", fields, kw_only=True)
    except Exception as error:
        raise StartError(f"{where}: its arguments cannot be used: {text_of(error)}") from None


def default(value: Any) -> Any:
    """For a field; each call gets its own list. What JSON has no form for is in no schema."""
    if isinstance(value, (list, dict, set)):
        return msgspec.field(default_factory=lambda: copy.deepcopy(value))
    try:
        msgspec.json.encode(value)
    except Exception:
        return msgspec.field(default_factory=lambda: value)
    return value


def fields_of_class(cls: type[Any], where: str) -> Any:
    """Raises StartError when a hint names what is not there."""
    try:
        return fields_of(cls)
    except Exception as error:
        raise StartError(f"{where}: Parameters cannot be used: {text_of(error)}") from None


def _tag_of(cls: Any) -> frozenset[str]:
    config = None if dataclasses.is_dataclass(cls) else cls.__struct_config__
    return frozenset() if config is None or config.tag is None else frozenset([config.tag_field])


def _schema(cls: type[Any]) -> dict[str, Any]:
    (top,), defs = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    name = top["$ref"].rsplit("/", 1)[1]
    inlined = dict(defs[name])
    if f"'{top['$ref']}'" not in repr(defs):  # unless it is nested in itself
        del defs[name]
    return {**inlined, "$defs": defs} if defs else inlined


def _refusal(found: list[str]) -> BadCall:
    """As many problems in the message as are sure to arrive whole; more of them in its detail."""
    told: list[str] = []
    size = 0
    for problem in found:
        size += len(problem.encode("utf-8", "replace")) + 2
        if told and size > _BYTES:
            break
        told.append(problem)
    rest = len(found) - len(told)
    more = f"; and {rest} more" if rest else ""
    detail = "\n".join(found) if len(found) > 1 else None
    return BadCall("; ".join(told) + more, detail=detail)
