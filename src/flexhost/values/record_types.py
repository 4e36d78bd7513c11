"""Classes with named fields: dataclass, TypedDict, NamedTuple."""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Callable, Sequence
from functools import partial
from typing import (
    Any,
    NamedTuple,
    NotRequired,
    Required,
    TypedDict,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from flexhost.errors import text_of


def is_record(hint: Any) -> bool:
    if not isinstance(hint, type):
        return False
    named = issubclass(hint, tuple) and hasattr(hint, "_fields")
    return named or dataclasses.is_dataclass(hint) or is_typeddict(hint)


def fields_of(cls: Any) -> dict[str, Any]:
    """The hint of each field, in order. Raises TypeError when one has none that can be read."""
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise TypeError(f"the hints of {cls.__name__} cannot be read: {text_of(error)}") from None
    text: str = cls.__name__
    names: list[str]
    if dataclasses.is_dataclass(cls):
        names = [field.name for field in dataclasses.fields(cls)]
        for field in dataclasses.fields(cls):
            if not field.init:
                raise TypeError(f"{text}.{field.name} has init=False, so it cannot be set")
    elif is_typeddict(cls):
        names = list(hints)
        for name, hint in hints.items():
            if name in cls.__optional_keys__ or get_origin(hint) is NotRequired:
                raise TypeError(f"{text}[{name!r}] may be missing, expected T | None")
            if get_origin(hint) is Required:
                [hints[name]] = get_args(hint)
    else:
        names = list(cls._fields)
    for name in names:
        if name not in hints:
            raise TypeError(f"{cls.__name__}.{name} has no hint")
    return {name: hints[name] for name in names}


def maker(cls: Any, names: Sequence[str]) -> Callable[..., Any] | None:
    """What makes an object of the class of its values in order; None for a dict."""
    if is_typeddict(cls):
        return None
    if dataclasses.is_dataclass(cls) and any(field.kw_only for field in dataclasses.fields(cls)):
        return partial(_by_name, cls, tuple(names))
    return cls  # type: ignore[no-any-return]  # a class makes its objects


def unnamed(names: Sequence[str], hints: Sequence[Any]) -> Any:
    """For fields that have no class of their own: a NamedTuple, or a TypedDict where one of the
    names cannot be an attribute."""
    fields = dict(zip(names, hints, strict=True))
    if all(name.isidentifier() and not name.startswith("_") for name in names) and not any(
        map(keyword.iskeyword, names)
    ):
        return NamedTuple("Row", fields.items())
    return TypedDict("Row", fields)  # type: ignore[operator]  # known only now


def _by_name(cls: Any, names: tuple[str, ...], *values: Any) -> Any:
    return cls(**dict(zip(names, values, strict=True)))
