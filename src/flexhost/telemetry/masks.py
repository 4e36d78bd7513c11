"""What must not be read in a log: values that are secrets by their name, or by their look."""

from __future__ import annotations

import functools
import re
from typing import Any

MASK = "***"

# `db_password`, `x-api-key`, `accessToken`; also `PGPASSWORD`
_NAME = re.compile(
    r"(?:^|[_.-]|(?<=[a-z0-9])(?=[A-Z]))(?i:authorization|cookies?|credentials?|passphrase|secrets?"
    r"|token|(?:api|access|account|private|secret|signing|encryption)[_-]?key)$"
    r"|(?i:passw(?:or)?ds?)$"
)
# Where a list goes on: to be read when something is wrong with it.
_PLACE = re.compile(r"(next|page|continuation)[_-]?token$", re.IGNORECASE)
# All begin with what is cheap to look for.
_BEARER = re.compile(r"\b(bearer\s+)[^\s\"',;]{4,}", re.IGNORECASE)
_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/]+(?=@)")
# of the parameters of a connection or a URL
_PAIR = re.compile(
    r"((?:passw(?:or)?d|passphrase|pwd|secret|(?<![\w-])token"
    r"|(?:access|auth|id|refresh|sas|session)[_-]?token"
    r"|(?:api|access|account|private|secret)[_-]?key)\s?=(?!=)\s?)"
    r"(?:'[^']*'|\"[^\"]*\"|[^\s;,&'\"][^\s;,&\"]*)",
    re.IGNORECASE,
)
# of a dict or of JSON, also within texts that are quoted themselves: what is before the value, its
# name, the value
_ITEM = re.compile(
    r"((?<!\\)(\\{0,15}[\"'])([\w.-]+)\2\s*:\s*\[?b?(\\{0,15}[\"']))(.*?)(?<!\\)(?=\4)", re.DOTALL
)
# of headers; begins where no other can, or time would grow with the square of what has dashes
_HEADER = re.compile(
    r"((?<![\w-])(?:(?:proxy-)?authorization|[\w-]*api[_-]?key|[\w-]+-token|passw(?:or)?d)"
    r":\s?)(?:(?:basic|digest|token)\s+)?[^\s\"',;]+",
    re.IGNORECASE,
)
# of values within values
_DEPTH = 8


def masked(value: Any, name: str = "", depth: int = _DEPTH) -> Any:
    """The value without secrets: all of it when its name is that of one, what follows "Bearer",
    "password=" or "'password':" in a text, the password in a URL; also deep in values."""
    if value is None or isinstance(value, bool):
        return value
    if _is_secret(name):
        return MASK
    if isinstance(value, int | float):
        return value
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, dict | list | tuple) and depth == 0:
        return "..."
    if isinstance(value, dict):
        return {key: masked(one, str(key), depth - 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == 2 and isinstance(value[0], str) and _is_secret(value[0]):
            return [value[0], MASK]  # as headers are often kept
        return [masked(one, "", depth - 1) for one in value]
    return value


def _is_secret(name: str) -> bool:
    return _known(name) if len(name) < _SHORT else _looks_like_one(name)


def _looks_like_one(name: str) -> bool:
    return bool(_NAME.search(name) and not _PLACE.search(name))


# the names of fields come again with each line
_known = functools.lru_cache(1024)(_looks_like_one)
_SHORT = 64


def masked_text(text: str) -> str:
    if "earer" in text or "EARER" in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "=" in text:
        text = _PAIR.sub(rf"\1{MASK}", text)
    if "':" in text or '":' in text:
        text = _ITEM.sub(_item, text)
    if ": " in text:
        text = _HEADER.sub(rf"\1{MASK}", text)
    if "://" in text:
        text = _IN_URL.sub(rf"\1{MASK}", text)
    return text


def _item(found: re.Match[str]) -> str:
    before, _, name, _, value = found.groups()
    return before + (MASK if _is_secret(name) else _ITEM.sub(_item, value))
