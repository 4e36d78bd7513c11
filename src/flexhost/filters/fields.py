"""A JSON object of a request, read field by field.

Strict about what is there, silent about fields that nobody asks for. A null is as good as nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from flexhost.errors import BadCall

E = TypeVar("E", bound=StrEnum)
T = TypeVar("T")
SHOWN = 80  # characters of a value in a message


class Fields:
    """The object at `path`. Its methods raise BadCall with the path and the value of what is wrong.

    raw: the object as it came.
    """

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise wrong(path, "an object", value)
        self.raw: Mapping[str, Any] = value
        self._path = path

    def has(self, name: str) -> bool:
        return self.raw.get(name) is not None

    def at(self, name: str) -> str:
        """The path of a field, for a message."""
        return f"{self._path}.{name}"

    def text(self, name: str) -> str:
        value = self.raw.get(name)
        if isinstance(value, str):
            return value
        raise self.wrong(name, "a text")

    def optional_text(self, name: str) -> str | None:
        return self.text(name) if self.has(name) else None

    def number(self, name: str) -> int:
        """A whole number; an integral float is one, since JSON has one type of numbers."""
        value = self.raw.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        raise self.wrong(name, "a whole number")

    def optional_number(self, name: str) -> int | None:
        return self.number(name) if self.has(name) else None

    def flag(self, name: str) -> bool:
        """False when it is not there."""
        value = self.raw.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise self.wrong(name, "true or false")

    def one_of(self, name: str, kinds: type[E]) -> E:
        value = self.raw.get(name)
        if isinstance(value, str) and value in list(kinds):
            return kinds(value)
        raise self.wrong(name, " or ".join(f'"{kind}"' for kind in kinds))

    def object(self, name: str) -> Fields:
        return Fields(self.raw.get(name), self.at(name))

    def optional(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """An object that may be missing, read by `read`."""
        return read(self.object(name)) if self.has(name) else None

    def each(self, name: str, read: Callable[[Fields], T]) -> tuple[T, ...]:
        """A list of objects, each read by `read`; none when it is not there."""
        return tuple(read(Fields(item, path)) for path, item in self._items(name, "objects"))

    def texts_and_nulls(self, name: str) -> tuple[str | None, ...]:
        if not self.has(name):
            raise self.wrong(name, "a list of texts and nulls")
        items = list(self._items(name, "texts and nulls"))
        for path, item in items:
            if item is not None and not isinstance(item, str):
                raise wrong(path, "a text or null", item)
        return tuple(item for _, item in items)

    def wrong(self, name: str, expected: str) -> BadCall:
        if name not in self.raw:
            return BadCall(f"{self.at(name)}: expected {expected}, it is missing")
        return wrong(self.at(name), expected, self.raw[name])

    def _items(self, name: str, of: str) -> Iterator[tuple[str, Any]]:
        value = self.raw.get(name)
        if value is None:
            return
        if not isinstance(value, list | tuple):
            raise self.wrong(name, f"a list of {of}")
        yield from ((f"{self.at(name)}[{i}]", item) for i, item in enumerate(value))


def wrong(path: str, expected: str, value: Any) -> BadCall:
    shown = repr(value)
    shown = shown if len(shown) <= SHOWN else shown[:SHOWN] + "..."
    return BadCall(f"{path}: expected {expected}, got {shown}")
