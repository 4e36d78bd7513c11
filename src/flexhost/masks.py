"""What must not be read in a log: values that are secrets by their name, or by their look."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

_NAME = re.compile(
    r"(^|[_.-])(authorization|cookie|credentials?|passphrase|passw(or)?d|secret|token"
    r"|(api|access|private|secret)[_-]?key)$",
    re.IGNORECASE,
)
# Both begin with what is cheap to look for.
_BEARER = re.compile(r"\b(bearer\s+)[^\s\"',;]{4,}", re.IGNORECASE)
_IN_URL = re.compile(r"(://[^\s/:@]*:)[^\s/@]+(?=@)")
# of values within values
_DEPTH = 8


def masked(value: Any, name: str = "", depth: int = _DEPTH) -> Any:
    """The value without secrets: all of it when its name is that of one, what follows "Bearer" in a
    text, the password in a URL; also deep in mappings and lists."""
    if value is None or isinstance(value, bool):
        return value
    if _NAME.search(name):
        return MASK
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict | list | tuple) and depth == 0:
        return "..."
    if isinstance(value, dict):
        return {key: masked(one, str(key), depth - 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked(one, "", depth - 1) for one in value]
    return value


def _text(text: str) -> str:
    if "earer" in text or "EARER" in text:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if "://" in text:
        text = _IN_URL.sub(rf"\1{MASK}", text)
    return text
