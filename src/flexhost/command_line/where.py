"""Conditions in words, such as `day >= 2026-01-01` or `region in (EU, US)`, as filters the way that
a BI backend sends them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from flexhost.errors import BadCall, SettingsError, meant
from flexhost.filters.context_filters import read_absolute
from flexhost.filters.fields import Fields

Filter = dict[str, Any]

# Ends of a date filter of which only one is said.
_FIRST, _LAST = "0001-01-01", "9999-12-31"

_CONDITION = re.compile(
    r"""\s* (?P<column> "[^"]+" | [^\s=!<>"]+ ) \s*
    (?P<operator> [!<>]= | <> | ==? | [<>] |
        (?<=[\s"]) (?: between | is(\s+not)? |
            (?:not\s+)? (?: in | contains | starts\s+with | ends\s+with ) ) (?=[\s('"]) )
    \s* (?P<rest> .*? ) \s*""",
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"]|"")*\""""
_VALUE = re.compile(rf"""\s*(?:({_QUOTED})|([^,'"][^,]*?))\s*(?:,|\Z)""")
_EQUAL = {"=": False, "==": False, "is": False, "!=": True, "<>": True, "is not": True}
_MATCHES = {"contains": "CONTAINS", "starts with": "STARTS_WITH", "ends with": "ENDS_WITH"}


def filters(
    conditions: Iterable[str], schema: pa.Schema, labels: Mapping[str, str] | None = None
) -> list[Filter]:
    """labels: identifiers of labels and date data sets whose column has another name.

    Raises SettingsError for what is no condition, and for one that a backend never sends.
    """
    made: list[Filter] = []
    for condition in conditions:
        _join(made, _filter(condition, schema, labels or {}))
    return made


def _filter(text: str, schema: pa.Schema, labels: Mapping[str, str]) -> Filter:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise SettingsError(
            f"--where {text!r} is no condition, expected for example region = EU, region in (EU, "
            "US), name contains a, or day >= 2026-01-01"
        )
    operator = " ".join(found["operator"].lower().split())
    identifier, kind = _column(found["column"].strip('"'), schema, labels)
    _refuse_joined(text, found["rest"], {*schema.names, *labels})
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _of_dates(text, identifier, operator, found["rest"])
    return _of_members(text, identifier, operator, found["rest"])


def _refuse_joined(text: str, rest: str, names: Set[str]) -> None:
    """A second condition in the value of the first, which no row would have."""
    for joint in re.finditer(r"\s(?:and|or)\s+(?=(.*))", re.sub(_QUOTED, "''", rest), re.I | re.S):
        more = _CONDITION.fullmatch(joint[1])
        if more is not None and more["column"].strip('"') in names:
            raise SettingsError(
                f"--where {text!r}: one condition at a time, give --where again for the next; all "
                "of them must hold. If all that is a value, put it in quotes"
            )


def _column(name: str, schema: pa.Schema, labels: Mapping[str, str]) -> tuple[str, pa.DataType]:
    """How a backend calls it, and its type."""
    column = labels.get(name, name)
    if column not in schema.names:
        raise SettingsError(f"--where: there is no column {name!r}, {meant(name, schema.names)}")
    own = (label for label, of in labels.items() if of == column)
    return name if name in labels else next(own, name), schema.field(column).type


def _of_members(text: str, identifier: str, operator: str, rest: str) -> Filter:
    negated = operator.startswith("not ")
    operator = operator.removeprefix("not ")
    if operator in _EQUAL:
        return _members(identifier, [_value(text, rest)], negative=_EQUAL[operator])
    if operator == "in":
        return _members(identifier, _values(text, rest), negative=negated)
    if operator in _MATCHES:
        value = _value(text, rest)
        return {
            "filterType": "matchAttributeFilter",
            "labelIdentifier": identifier,
            "literal": rest if value is None else value,
            "matchType": _MATCHES[operator],
            "negate": negated,
            "caseSensitive": False,
        }
    raise SettingsError(
        f"--where {text!r}: only dates can be compared with {operator}. A BI backend filters "
        "numbers by itself, after the function, and never sends that"
    )


def _members(identifier: str, values: list[str | None], *, negative: bool) -> Filter:
    kind = "negativeAttributeFilter" if negative else "positiveAttributeFilter"
    return {"filterType": kind, "labelIdentifier": identifier, "values": values}


def _values(text: str, rest: str) -> list[str | None]:
    if not (rest.startswith("(") and rest.endswith(")")):
        raise SettingsError(f"--where {text!r}: expected values in parentheses, such as (EU, US)")
    inner, at, values = rest[1:-1].strip(), 0, []
    while at < len(inner):
        found = _VALUE.match(inner, at)
        if found is None:
            raise SettingsError(f"--where {text!r}: cannot read the values from {inner[at:]!r} on")
        values.append(_text(found))
        at = found.end()
    if not values:
        raise SettingsError(f"--where {text!r}: there is no value")
    return values


def _value(text: str, rest: str) -> str | None:
    if not rest:
        raise SettingsError(f"--where {text!r}: there is no value")
    return _plain(rest) if re.fullmatch(_QUOTED, rest) else _bare(rest)


def _text(found: re.Match[str]) -> str | None:
    return _bare(found[2]) if found[1] is None else _plain(found[1])


def _bare(text: str) -> str | None:
    return None if text.lower() == "null" else text


def _plain(quoted: str) -> str:
    """As in SQL, the quote itself is written twice."""
    return quoted[1:-1].replace(quoted[0] * 2, quoted[0])


def _of_dates(text: str, identifier: str, operator: str, rest: str) -> Filter:
    if operator == "between":
        start, _, end = re.sub(r"\s+and\s+", "\n", rest, count=1, flags=re.IGNORECASE).partition(
            "\n"
        )
        return _absolute(text, identifier, _value(text, start), _value(text, end))
    moment = _value(text, rest)
    match operator:
        case "=" | "==":
            return _absolute(text, identifier, moment, moment)
        case ">=":
            return _absolute(text, identifier, moment, _LAST)
        case "<=":
            return _absolute(text, identifier, _FIRST, moment)
        case ">":
            return _absolute(text, identifier, _beside(text, moment, after=True), _LAST)
        case "<":
            return _absolute(text, identifier, _FIRST, _beside(text, moment, after=False))
    raise SettingsError(
        f"--where {text!r}: of a date there is =, >=, <=, >, < and between ... and ..."
    )


def _absolute(text: str, identifier: str, start: str | None, end: str | None) -> Filter:
    made = {
        "filterType": "absoluteDateFilter",
        "datasetIdentifier": identifier,
        "from": start,
        "to": end,
    }
    try:
        read_absolute(Fields(made, ""), identifier)
    except BadCall as error:
        raise SettingsError(f"--where {text!r}: {str(error).lstrip('.')}") from None
    return made


def _beside(text: str, moment: str | None, *, after: bool) -> str:
    """The day, minute or second after this one, or before it."""
    made = _absolute(text, "", moment, moment)
    read = read_absolute(Fields(made, ""), "")
    try:
        if after:
            shifted = read.end or datetime.max + timedelta(1)
        else:
            shifted = read.start - ((read.end or datetime.max) - read.start)
    except OverflowError:
        raise SettingsError(f"--where {text!r}: there is no date beyond that") from None
    if ":" not in str(moment):
        return shifted.date().isoformat()
    return shifted.isoformat(" ", "minutes" if str(moment).count(":") == 1 else "seconds")


def _join(made: list[Filter], more: Filter) -> None:
    """Two conditions that each say one end of a period are one filter, as a backend has it."""
    for other in made:
        if other.get("datasetIdentifier") == more.get("datasetIdentifier") is not None:
            for end, nothing in (("from", _FIRST), ("to", _LAST)):
                opposite, whole = ("to", _LAST) if end == "from" else ("from", _FIRST)
                if other[end] == nothing and more[opposite] == whole and more[end] != nothing:
                    other[end] = more[end]
                    return
    made.append(more)


def context(made: list[Filter], zone: str, given: Any = None) -> dict[str, Any]:
    """The execution context of a report with these filters.

    zone:  of their dates. given: a context to add them to, which has its own.

    Raises SettingsError.
    """
    if isinstance(given, Mapping):
        return {**given, "filters": [*(given.get("filters") or []), *made]}
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, LookupError):  # a folder, a file that is none, no such file
        raise SettingsError(f"--timezone is {zone!r}, expected one such as Europe/Prague") from None
    return {
        "executionType": "REPORT",
        "organizationId": "default",
        "workspaceId": "default",
        "userId": "flexhost",
        "timestamp": datetime.now(timezone.utc).isoformat(),
        "timezone": zone,
        "weekStart": "monday",
        "attributes": [],
        "filters": made,
    }
