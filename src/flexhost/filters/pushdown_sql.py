"""Conditions as the text after WHERE, with bound parameters: no value is ever pasted into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, TypeAlias
from typing import Literal as OneOf

import pyarrow as pa

from flexhost.filters.conditions import LOWER, UPPER, Condition, Match, Members, Within
from flexhost.filters.literals import PER_SECOND

Style: TypeAlias = OneOf["duckdb", "postgres"]
Part: TypeAlias = tuple[str, list[Any]]

_EPOCH = datetime(1970, 1, 1)
_FOLDED = f"translate({{}}, '{UPPER}', '{LOWER}')"
_ESCAPED = str.maketrans({"!": "!!", "%": "!%", "_": "!_"})


@dataclass(frozen=True)
class Where:
    """text: with `?` for DuckDB, with `%s` for psycopg; hand over `parameters` even if empty."""

    text: str
    parameters: tuple[Any, ...]


def where(conditions: Iterable[Condition], style: Style) -> Where:
    """All conditions at once; TRUE for none.

    Raises TypeError for another style: a ValueError of a function is its caller's mistake.
    """
    render = {"duckdb": _DuckDb, "postgres": _Postgres}.get(style)
    if render is None:
        raise TypeError(f"style: expected 'duckdb' or 'postgres', got {style!r}")
    parts = [render().part(condition) for condition in conditions]
    text = " AND ".join(text for text, _ in parts)
    return Where(text or "TRUE", tuple(value for _, values in parts for value in values))


class _DuckDb:
    mark = "?"

    def part(self, condition: Condition) -> Part:
        match condition:
            case Members():
                return self._members(condition)
            case Match():
                return self._match(condition)
            case Within():
                return self._within(condition)

    def name(self, column: str) -> str:
        doubled = column.replace('"', '""')
        return f'"{doubled}"'

    def column(self, condition: Condition) -> str:
        name = self.name(condition.column)
        # which is compared with no timestamp but its own kind, and that not in every version
        return f"epoch_ns({name})" if _is_instant_ns(condition.type) else name

    def bound(self, value: Any, type_: pa.DataType) -> tuple[str, Any] | None:
        """A marker and its parameter; None for a value that the database cannot hold."""
        if _is_instant_ns(type_):
            return self.mark, value
        if pa.types.is_timestamp(type_) and type_.unit == "ns" and value % 1000:
            return "CAST(? AS TIMESTAMP_NS)", _with_nanoseconds(value)
        plain = _value(value, type_)
        return None if plain is None else (self.mark, plain)

    def among(self, column: str, bound: list[tuple[str, Any]], negative: bool) -> Part:
        marks = ", ".join(mark for mark, _ in bound)
        return f"{column} {'NOT IN' if negative else 'IN'} ({marks})", [v for _, v in bound]

    def _members(self, condition: Members) -> Part:
        column, negative = self.name(condition.column), condition.negative
        found = (self.bound(value, condition.type) for value in condition.values)
        bound = [one for one in found if one is not None]
        if not bound:
            if condition.null:
                return f"{column} IS {'NOT ' if negative else ''}NULL", []
            return ("TRUE" if negative else "FALSE"), []
        text, values = self.among(self.column(condition), bound, negative)
        if condition.null is not negative:
            text = f"({text} OR {column} IS NULL)"
        return text, values

    def _match(self, condition: Match) -> Part:
        column, negate = self.column(condition), condition.negate
        folded = column if condition.case_sensitive else _FOLDED.format(column)
        before = "" if condition.match_type == "STARTS_WITH" else "%"
        after = "" if condition.match_type == "ENDS_WITH" else "%"
        pattern = f"{before}{condition.literal.translate(_ESCAPED)}{after}"
        text = f"{folded} {'NOT ' if negate else ''}LIKE {self.mark} ESCAPE '!'"
        return (f"({text} OR {column} IS NULL)" if negate else text), [pattern]

    def _within(self, condition: Within) -> Part:
        column, texts, values = self.column(condition), [], []
        for operator, limit in ((">=", condition.start), ("<", condition.end)):
            bound = None if limit is None else self.bound(limit, condition.type)
            if bound is not None:
                texts.append(f"{column} {operator} {bound[0]}")
                values.append(bound[1])
        return " AND ".join(texts) or f"{column} IS NOT NULL", values


class _Postgres(_DuckDb):
    """As psycopg takes it. A list is one parameter, since there may be no more than 65,535."""

    mark = "%s"

    def part(self, condition: Condition) -> Part:
        if isinstance(condition, Match) and "\0" in condition.literal:  # which no text of it has
            return ("TRUE" if condition.negate else "FALSE"), []
        return super().part(condition)

    def name(self, column: str) -> str:
        return super().name(column).replace("%", "%%")

    def column(self, condition: Condition) -> str:
        return self.name(condition.column)

    def bound(self, value: Any, type_: pa.DataType) -> tuple[str, Any] | None:
        if isinstance(value, str) and "\0" in value:
            return None
        plain = _value(value, type_)
        return None if plain is None else (self.mark, plain)

    def among(self, column: str, bound: list[tuple[str, Any]], negative: bool) -> Part:
        return f"{column} {'<> ALL' if negative else '= ANY'} (%s)", [[v for _, v in bound]]


def _value(value: Any, type_: pa.DataType) -> Any:
    """As Python has it, to the microsecond; None for a value that is finer."""
    if not (pa.types.is_timestamp(type_) or pa.types.is_time(type_)):
        return value
    microseconds, finer = divmod(value * 10**6, PER_SECOND[type_.unit])
    if finer:
        return None
    moment = _EPOCH + timedelta(microseconds=microseconds)
    if pa.types.is_time(type_):
        return moment.time()
    return moment if type_.tz is None else moment.replace(tzinfo=timezone.utc)


def _with_nanoseconds(value: int) -> str:
    seconds, part = divmod(value, 10**9)
    return f"{_EPOCH + timedelta(seconds=seconds)}.{part:09}"


def _is_instant_ns(type_: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(type_) and type_.tz is not None and type_.unit == "ns")
