"""A value that may never be needed."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, TypeVar

_Made = TypeVar("_Made")


class Later(Generic[_Made]):
    """Made when it is asked for, once."""

    def __init__(self, make: Callable[[], _Made]) -> None:
        self.get = functools.cache(make)
