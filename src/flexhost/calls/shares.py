"""Whose call it is, where calls of different callers take turns (`fair_queue_by`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flexhost.function import Headers

ShareOf = Callable[[dict[str, Any], Headers], str]


def share_by(rule: str) -> ShareOf:
    """`header:NAME` or `parameters:PATH.TO.VALUE`: the share of a call is what it has there, ""
    where it has nothing. An empty rule puts all calls into one share.

    Raises ValueError for anything else.
    """
    if not rule:
        return lambda parameters, headers: ""
    kind, _, where = rule.partition(":")
    if kind == "header" and where:
        name = where.lower()
        return lambda parameters, headers: "".join(map(str, headers.get(name, ())))
    path = where.split(".")
    if kind == "parameters" and all(path):
        return lambda parameters, headers: _at(parameters, path)
    raise ValueError(rule)


def _at(value: Any, path: list[str]) -> str:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return "" if value is None else str(value)
