"""Gives freed memory back to the system."""

from __future__ import annotations

import ctypes
from typing import Any

import pyarrow as pa


def give_back() -> None:
    """malloc_trim alone does nothing for Arrow's default pool (measured: 1,110 → 1,107 MB, and
    with `release_unused` → 105)."""
    pa.default_memory_pool().release_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)


try:
    _malloc_trim: Any = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):  # not glibc
    _malloc_trim = None
