"""Filters as a BI backend sends them: plain dicts, of whatever a test has at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, TypeAlias

from flexhost.filters.conditions import MATCH_TYPES

# A value of an attribute; what is no text is written as one. None is NULL.
Value: TypeAlias = str | int | float | Decimal | date | time | None
# One value, or several.
Values: TypeAlias = Value | list[Value] | tuple[Value, ...]
# The same for several labels, by their identifiers.
ByLabel: TypeAlias = Mapping[str, Values]
# A day, or a minute or second of one, by the clock on the wall.
Moment: TypeAlias = str | date
Raw: TypeAlias = dict[str, Any]


def members(kind: str, label: str, values: Values) -> Raw:
    """kind: positive or negative."""
    return {
        "filterType": f"{kind}AttributeFilter",
        "labelIdentifier": named(label, "a label"),
        "values": texts(values, label),
    }


def match(label: str, match_type: str, literal: str, *, negate: bool, case_sensitive: bool) -> Raw:
    if match_type not in MATCH_TYPES:
        raise ValueError(f"match type {match_type!r}, expected one of {', '.join(MATCH_TYPES)}")
    if not isinstance(literal, str):
        raise TypeError(f"label {label!r}: {literal!r} is no text to match")
    return {
        "filterType": "matchAttributeFilter",
        "labelIdentifier": named(label, "a label"),
        "literal": literal,
        "matchType": match_type,
        "negate": bool(negate),
        "caseSensitive": bool(case_sensitive),
    }


def absolute(dataset: str, start: Moment, end: Moment) -> Raw:
    return {
        "filterType": "absoluteDateFilter",
        "datasetIdentifier": named(dataset, "a date data set"),
        "from": _moment(start, dataset),
        "to": _moment(end, dataset),
    }


def relative(dataset: str, granularity: str, first: int, last: int) -> Raw:
    if not isinstance(granularity, str) or granularity != granularity.upper() or not granularity:
        raise ValueError(f"granularity {granularity!r}, expected DAY, MONTH ... in capitals")
    for shift in (first, last):
        if type(shift) is not int:
            raise TypeError(f"date data set {dataset!r}: {shift!r} is no whole number of periods")
    return {
        "filterType": "relativeDateFilter",
        "datasetIdentifier": named(dataset, "a date data set"),
        "granularity": granularity,
        "from": first,
        "to": last,
    }


def as_of_a_request(one: Mapping[str, Any]) -> Raw:
    """A filter of the context in the form that `reportExecutionRequest` repeats it in."""
    kind: Any = one.get("filterType")
    rest = {name: value for name, value in one.items() if name != "filterType"}
    if (label := rest.pop("labelIdentifier", None)) is not None:
        listed = {"positiveAttributeFilter": "in", "negativeAttributeFilter": "notIn"}
        if kind in listed:
            rest = {listed[kind]: {"values": rest.get("values")}}
        return {kind: {"label": reference(label, "label"), **rest, "applyOnResult": None}}
    if (dataset := rest.pop("datasetIdentifier", None)) is not None:
        return {kind: {"dataset": reference(dataset, "dataset"), **rest}}
    return {kind: rest}


def as_a_dependency(one: Mapping[str, Any]) -> Raw:
    """A filter in the form that `dependsOn` of a request for elements has it in."""
    if "labelIdentifier" in one:
        return {
            "label": one["labelIdentifier"],
            "values": one["values"],
            "complementFilter": one["filterType"] == "negativeAttributeFilter",
        }
    rest = {k: v for k, v in one.items() if k not in ("filterType", "datasetIdentifier")}
    return {"dateFilter": {"dataset": reference(one["datasetIdentifier"], "dataset"), **rest}}


def reference(name: str, kind: str) -> Raw:
    return {"identifier": {"id": name, "type": kind}}


def by_label(given: ByLabel | None, named: ByLabel) -> dict[str, Values]:
    """What was given as a mapping and by name. Raises TypeError and ValueError."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"{given!r} is no mapping of labels to values: say region={given!r}")
    if twice := sorted((given or {}).keys() & named.keys()):
        raise ValueError(f"label {twice[0]!r} is given twice")
    if not (both := {**(given or {}), **named}):
        raise TypeError("no label is given: say which and its values, region='EU'")
    return both


def texts(values: Values, label: str) -> list[str | None]:
    """The values as the backend writes them. Raises TypeError and ValueError."""
    several = values if isinstance(values, list | tuple) else [values]
    return [None if value is None else _text(value, label) for value in several]


def named(name: str, what: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name of {what}")
    if not name:
        raise ValueError(f"the name of {what} is empty")
    return name


def _text(value: Value, label: str) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat(" ")
        case date() | time():
            return value.isoformat()
        case int():
            return str(value)
        case float() | Decimal() if math.isfinite(value):
            return str(value)
    raise TypeError(
        f"label {label!r}: {value!r} is no value of an attribute; expected a text, None, a number, "
        "a date or a time, or a list of them"
    )


def _moment(moment: Moment, dataset: str) -> str:
    if isinstance(moment, datetime):
        if moment.tzinfo is not None or moment.microsecond:
            raise ValueError(
                f"date data set {dataset!r}: {moment!r}, expected a time by the clock on the wall, "
                "in whole seconds"
            )
        return moment.isoformat(" ")
    if isinstance(moment, date):
        return moment.isoformat()
    if isinstance(moment, str):
        return moment
    raise TypeError(f"date data set {dataset!r}: {moment!r} is no day")
