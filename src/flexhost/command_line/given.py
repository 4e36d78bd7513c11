"""`-p limit=10 -p region=EU`: parameters as they are typed in a shell."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from flexhost.errors import SettingsError


def parameters(
    whole: str | None, pairs: Iterable[str], schema: Mapping[str, Any] | None
) -> dict[str, Any]:
    """whole:  a JSON object, or `@` and the name of a file that holds one.
    pairs:  `name=value`, over it. A value is JSON where it is some, otherwise a text.
    schema: JSON Schema of the parameters: where it says text and no number, "5" is a text.

    Raises SettingsError.
    """
    made = _whole(whole) if whole is not None else {}
    given: set[str] = set()
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise SettingsError(f"-p {pair!r}: expected NAME=VALUE")
        if name in given:
            raise SettingsError(f"-p {pair!r}: {name} is given twice")
        given.add(name)
        made[name] = _value(text, _kinds((schema or {}).get("properties", {}).get(name), schema))
    return made


def _whole(text: str) -> dict[str, Any]:
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise SettingsError(f"--parameters: cannot read {text[1:]}: {error}") from None
    try:
        made = json.loads(text, parse_constant=_refuse, parse_float=_number)
    except ValueError as error:
        raise SettingsError(f"--parameters is no JSON: {error}") from None
    if not isinstance(made, dict):
        raise SettingsError("--parameters is no JSON object")
    return made


def _value(text: str, kinds: set[str] | None) -> Any:
    """kinds: of JSON that may stand here; None for any."""
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_number)
    except ValueError:
        return text
    if kinds and "string" in kinds and not _KINDS[type(value)] & kinds:
        return text
    return value


def _number(text: str) -> float:
    """Raises ValueError for one that is too large for it, which is no JSON as infinity."""
    return value if math.isfinite(value := float(text)) else _refuse(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


_KINDS: dict[type[Any], set[str]] = {
    str: {"string"},
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"integer", "number"},  # an integral float is an int
    type(None): {"null"},
    list: {"array"},
    dict: {"object"},
}


def _kinds(part: Any, schema: Mapping[str, Any] | None) -> set[str] | None:
    """The kinds of JSON that this part of a schema takes; None when it does not say."""
    if not isinstance(part, Mapping):
        return None
    if "$ref" in part:
        name = str(part["$ref"]).rsplit("/", 1)[-1]
        return _kinds((schema or {}).get("$defs", {}).get(name), schema)
    if "type" in part:
        named = part["type"]
        return {named} if isinstance(named, str) else set(named)
    if "enum" in part:
        return set().union(*(_KINDS[type(one)] for one in part["enum"]))
    found: set[str] = set()
    for one in [*part.get("anyOf", []), *part.get("oneOf", [])]:
        kinds = _kinds(one, schema)
        if kinds is None:
            return None
        found |= kinds
    return found or None
