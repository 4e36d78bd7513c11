"""The text of a query with `{filters}` and `$name` in it, as a statement with bound values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flexhost.filters.pushdown_sql import Style
from flexhost.pushdown import Filters

# Text in quotes and comments are parts of their own: nothing in them is a placeholder.
_PARTS = re.compile(
    r"""(?P<quoted> (?<!\w)[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
                  | (?<!\w)\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
                  | --[^\n]* | /\*.*?\*/)
      | (?<!\w)\$(?P<name>[A-Za-z_]\w*)
      | \{\s*(?P<placeholder>[A-Za-z_]\w*)\s*\}
      | (?P<end>;)""",
    re.VERBOSE | re.DOTALL,
)
_IN_QUOTES = re.compile(r"\{\s*[A-Za-z_]\w*\s*\}")
_MARKS = {
    "duckdb": re.compile(r'"(?:[^"]|"")*"|(\?)'),
    "postgres": re.compile(r'"(?:[^"]|"")*"|(%s)'),
}
# What the values of filters are named; an author's own names must not begin with it.
_OURS = "flexhost_"


@dataclass(frozen=True)
class Bound:
    """A statement and the values of its named parameters, as DuckDB or psycopg takes them."""

    text: str
    parameters: dict[str, Any]


class Template:
    """names: of the parameters that it has to be given."""

    def __init__(self, text: str) -> None:
        """Raises ValueError, which says what is wrong with the text, and TypeError."""
        if not isinstance(text, str):
            raise TypeError(f"SqlQuery needs the text of a query, it was given {text!r}")
        self._text = text.strip().rstrip(";").rstrip()
        if not self._text:
            raise ValueError("the text of the query is empty")
        self.names: tuple[str, ...] = ()
        self._has_filters = False
        for part in _PARTS.finditer(self._text):
            self._check(part)

    def bind(
        self, filters: Filters, columns: Iterable[str], values: Mapping[str, Any], style: Style
    ) -> Bound:
        """The query with these columns of its rows, and those that the filters keep.

        Raises TypeError for a parameter that is missing, or is none.
        """
        if wrong := sorted(set(self.names) ^ set(values)):
            raise TypeError(f"the query takes the parameters {list(self.names)}: see {wrong}")
        where, parameters = _named(filters, style)
        inner = self._rendered(where, style)
        names = ", ".join(_identifier(name, style) for name in columns)
        # names are quoted, values are bound, the rest is the author's
        text = f'SELECT {names} FROM (\n{inner}\n) AS "rows"'  # noqa: S608
        if not self._has_filters:
            text += f" WHERE {where}"
        return Bound(text, {**values, **parameters})

    def _check(self, part: re.Match[str]) -> None:
        if quoted := part["quoted"]:
            if quoted.lstrip("eE").startswith("'") and (found := _IN_QUOTES.search(quoted)):
                raise ValueError(
                    f"the query has {found[0]} in quotes, where nothing is put in: values are "
                    "bound, write $name without quotes"
                )
        elif part["end"]:
            raise ValueError("the query has a ; in it: it has to be one statement")
        elif part["placeholder"]:
            if part["placeholder"] != "filters":
                raise ValueError(
                    f"the query has {part[0]}, the only placeholder is {{filters}}; a parameter "
                    "is written $name"
                )
            self._has_filters = True
        elif part["name"].startswith(_OURS):
            raise ValueError(f"the query has {part[0]}: names with {_OURS} are taken")
        elif part["name"] not in self.names:
            self.names = (*self.names, part["name"])

    def _rendered(self, where: str, style: Style) -> str:
        def plain(text: str) -> str:
            return text.replace("%", "%%") if style == "postgres" else text

        pieces, at = [], 0
        for part in _PARTS.finditer(self._text):
            pieces.append(plain(self._text[at : part.start()]))
            at = part.end()
            if part["placeholder"]:
                pieces.append(f"({where})")
            elif part["name"]:
                pieces.append(_mark(part["name"], style))
            else:
                pieces.append(plain(part[0]))
        return "".join([*pieces, plain(self._text[at:])])


def _mark(name: str, style: Style) -> str:
    return f"%({name})s" if style == "postgres" else f"${name}"


def _identifier(name: str, style: Style) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled.replace("%", "%%") if style == "postgres" else doubled}"'


def _named(filters: Filters, style: Style) -> tuple[str, dict[str, Any]]:
    """The text after WHERE with named parameters: positions would not go together with names."""
    where = filters.sql(style)
    parameters: dict[str, Any] = {}

    def name(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        named = f"{_OURS}{len(parameters)}"
        parameters[named] = where.parameters[len(parameters)]
        return _mark(named, style)

    return _MARKS[style].sub(name, where.text), parameters
