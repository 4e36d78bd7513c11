"""Types as Flink SQL writes them → Arrow."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa

from flexhost.values.sql_names import LONGEST, PLAIN, UNITS, quoted, suffix

_DEEPEST = 50


class Declared(NamedTuple):
    """A type that was written in SQL.

    text: in full, without its nullability: Arrow does not hold every length and precision.
    """

    type: pa.DataType
    nullable: bool
    text: str

    @property
    def full(self) -> str:
        return self.text + suffix(self.nullable)


def of_sql(text: str) -> tuple[pa.DataType, bool]:
    """The Arrow type, and whether it may be NULL. Raises TypeError."""
    declared = read_sql(text)
    return declared.type, declared.nullable


def read_sql(text: str) -> Declared:
    """Raises TypeError that says what is wrong with the text."""
    return _Reader(text).whole()


_TOKEN = re.compile(
    r"(?P<word>[^\W\d]\w*)|`(?P<name>(?:[^`]|``)+)`|(?P<number>\d+)"
    r"|'(?P<comment>(?:[^']|'')*)'|(?P<mark>[<>(),])"
)


class _Reader:
    """Reads one text from its start to its end, by recursive descent."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no SQL type, expected a text")
        self._text = text
        self._tokens: list[tuple[str, str]] = []
        self._at = 0
        self._depth = 0
        place = 0
        while rest := text[place:].lstrip():
            place = len(text) - len(rest)
            found = _TOKEN.match(text, place)
            if found is None:
                raise self._wrong(f"{text[place]!r} is not expected there")
            self._tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            place = found.end()

    def whole(self) -> Declared:
        declared = self._type()
        if self._at < len(self._tokens):
            raise self._wrong(f"{self._tokens[self._at][1]!r} is not expected after the type")
        return declared

    def _type(self) -> Declared:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._wrong(f"it is nested more than {_DEEPEST} deep")
        type_, text = self._base(self._word())
        declared = Declared(type_, self._nullable(), text)
        while self._took("ARRAY"):  # `INT ARRAY` is ARRAY<INT>
            of = pa.list_(pa.field("item", declared.type, declared.nullable))
            declared = Declared(of, self._nullable(), f"ARRAY<{declared.full}>")
        self._depth -= 1
        return declared

    def _base(self, word: str) -> tuple[pa.DataType, str]:
        if word == "DOUBLE":
            self._took("PRECISION")
        word = {"INTEGER": "INT", "DEC": "DECIMAL", "NUMERIC": "DECIMAL"}.get(word, word)
        if word in PLAIN:
            return PLAIN[word], word
        read = _READERS.get(word)
        if read is None:
            raise self._wrong(f"{word} is not a type it can have")
        return read(self, word)

    def _chars(self, word: str) -> tuple[pa.DataType, str]:
        if word == "STRING":
            return pa.utf8(), f"VARCHAR({LONGEST})"
        return pa.utf8(), f"{word}({self._number(1, 1, LONGEST)})"

    def _octets(self, word: str) -> tuple[pa.DataType, str]:
        if word == "BYTES":
            return pa.binary(), f"VARBINARY({LONGEST})"
        length = self._number(1, 1, LONGEST)
        return pa.binary(length if word == "BINARY" else -1), f"{word}({length})"

    def _decimal(self, word: str) -> tuple[pa.DataType, str]:
        precision, scale = 10, 0
        if self._took("("):
            precision = self._within(1, 38)
            if self._took(","):
                scale = self._within(0, precision)
            self._expect(")")
        return pa.decimal128(precision, scale), f"{word}({precision}, {scale})"

    def _time(self, word: str) -> tuple[pa.DataType, str]:
        digits = self._number(0, 0, 9)
        if self._took("WITHOUT"):
            self._expect("TIME", "ZONE")
        unit = _unit(digits)
        return (pa.time32 if digits <= 3 else pa.time64)(unit), f"{word}({digits})"

    def _timestamp(self, word: str) -> tuple[pa.DataType, str]:
        digits = self._number(6, 0, 9)
        if word == "TIMESTAMP" and self._took("WITH"):
            self._expect("LOCAL", "TIME", "ZONE")
            word = "TIMESTAMP_LTZ"
        elif word == "TIMESTAMP" and self._took("WITHOUT"):
            self._expect("TIME", "ZONE")
        zone = "UTC" if word == "TIMESTAMP_LTZ" else None
        return pa.timestamp(_unit(digits), zone), f"{word}({digits})"

    def _interval(self, word: str) -> tuple[pa.DataType, str]:
        start = self._at
        units = [self._interval_unit()]
        if self._took("TO"):
            units.append(self._interval_unit())
        if not set(units) <= {"DAY", "HOUR", "MINUTE", "SECOND"}:
            raise self._wrong(f"an interval of {' to '.join(units)} is not a type it can have")
        written = " ".join(token for _, token in self._tokens[start : self._at]).upper()
        return pa.duration("ms"), f"{word} {re.sub(r' ?([()]) ?', _tight, written).strip()}"

    def _interval_unit(self) -> str:
        unit = self._word()
        self._number(2, 0, 9)
        return unit

    def _array(self, word: str) -> tuple[pa.DataType, str]:
        self._expect("<")
        item = self._type()
        self._expect(">")
        return pa.list_(pa.field("item", item.type, item.nullable)), f"{word}<{item.full}>"

    def _map(self, word: str) -> tuple[pa.DataType, str]:
        self._expect("<")
        key = self._type()
        self._expect(",")
        value = self._type()
        self._expect(">")
        # Arrow has no maps with a NULL for a key
        text = f"{word}<{key.text} NOT NULL, {value.full}>"
        return pa.map_(key.type, pa.field("value", value.type, value.nullable)), text

    def _row(self, word: str) -> tuple[pa.DataType, str]:
        end = ")" if self._took("(") else ">"
        if end == ">":
            self._expect("<")
        fields: list[pa.Field] = []
        texts = []
        while not self._took(end):
            if fields:
                self._expect(",")
            name, field = self._name(), self._type()
            if self._kind() == "comment":
                self._at += 1
            if name in [other.name for other in fields]:
                raise self._wrong(f"two fields are named {name!r}")
            fields.append(pa.field(name, field.type, field.nullable))
            texts.append(f"{quoted(name)} {field.full}")
        return pa.struct(fields), f"{word}<{', '.join(texts)}>"

    def _nullable(self) -> bool:
        if self._took("NOT"):
            self._expect("NULL")
            return False
        self._took("NULL")
        return True

    def _number(self, default: int, least: int, most: int) -> int:
        """The one in parentheses, or `default` when there are none."""
        if not self._took("("):
            return default
        number = self._within(least, most)
        self._expect(")")
        return number

    def _within(self, least: int, most: int) -> int:
        if self._kind() != "number":
            raise self._wrong(f"a number is expected, it has {self._shown()}")
        written = self._tokens[self._at][1]
        if len(written) > 10 or not least <= int(written) <= most:
            raise self._wrong(f"{written} is not from {least} to {most}")
        self._at += 1
        return int(written)

    def _name(self) -> str:
        if self._kind() not in ("word", "name"):
            raise self._wrong(f"the name of a field is expected, it has {self._shown()}")
        kind, name = self._tokens[self._at]
        self._at += 1
        return name.replace("``", "`") if kind == "name" else name

    def _word(self) -> str:
        if self._kind() != "word":
            raise self._wrong(f"a type is expected, it has {self._shown()}")
        self._at += 1
        return self._tokens[self._at - 1][1].upper()

    def _took(self, what: str) -> bool:
        found = self._kind() in ("word", "mark") and self._tokens[self._at][1].upper() == what
        self._at += found
        return found

    def _expect(self, *words: str) -> None:
        for word in words:
            if not self._took(word):
                raise self._wrong(f"{word!r} is expected, it has {self._shown()}")

    def _kind(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _shown(self) -> str:
        return repr(self._tokens[self._at][1]) if self._kind() else "nothing more"

    def _wrong(self, why: str) -> TypeError:
        text = self._text if len(self._text) <= 200 else self._text[:200] + "…"
        return TypeError(f"the SQL type {text!r} cannot be read: {why}")


def _unit(digits: int) -> str:
    return next(unit for most, unit in UNITS.items() if digits <= most)


def _tight(found: re.Match[str]) -> str:
    return "(" if found[1] == "(" else ") "


_READERS: dict[str, Callable[[_Reader, str], tuple[pa.DataType, str]]] = {
    "CHAR": _Reader._chars,
    "VARCHAR": _Reader._chars,
    "STRING": _Reader._chars,
    "BINARY": _Reader._octets,
    "VARBINARY": _Reader._octets,
    "BYTES": _Reader._octets,
    "DECIMAL": _Reader._decimal,
    "TIME": _Reader._time,
    "TIMESTAMP": _Reader._timestamp,
    "TIMESTAMP_LTZ": _Reader._timestamp,
    "INTERVAL": _Reader._interval,
    "ARRAY": _Reader._array,
    "MAP": _Reader._map,
    "ROW": _Reader._row,
}
