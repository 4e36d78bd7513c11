"""How much memory there is, and giving back to the system what was freed."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from flexhost.system import control_groups


def give_back() -> None:
    """malloc_trim alone does nothing for Arrow's default pool (measured: 1,110 → 1,107 MB, and
    with `release_unused` → 105)."""
    pa.default_memory_pool().release_unused()
    if _malloc_trim is not None:
        _malloc_trim(0)


def resident() -> int:
    """Bytes of memory that this process has now; where that is not told, that it ever had."""
    try:
        pages = Path("/proc/self/statm").read_bytes().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


# Bytes after which freed memory is given back at the next occasion, and seconds between two.
MUCH, SOON = 32 << 20, 5.0


class GivingBack:
    """When freed memory is to be given back: now and then, and soon after much was freed.

    every: seconds between two times; 0 for never.
    """

    def __init__(self, every: float, now: float) -> None:
        self._every = every
        self._next = now + every
        self._last = -math.inf
        self._freed = 0

    def due(self, now: float, freed: int) -> bool:
        """freed: bytes since this was asked last."""
        self._freed += freed
        soon = self._freed >= MUCH and now >= self._last + SOON
        if not self._every or not (soon or now >= self._next):
            return False
        self._next, self._last, self._freed = now + self._every, now, 0
        return True


def available() -> int:
    """Bytes that this process may use: what the machine has, or less by a limit of its container
    (control groups, version 1 and 2) or of its own (`ulimit -v`)."""
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *_limits()])


def _limits() -> Iterator[int]:
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        yield limit
    yield from limits_of_groups(control_groups.own())


def limits_of_groups(groups: str, root: Path = control_groups.ROOT) -> Iterator[int]:
    """groups: of a process, as the kernel writes them."""
    files = "memory.max", "memory", "memory.limit_in_bytes"
    for text in control_groups.values(groups, *files, root):
        with contextlib.suppress(ValueError):  # "max"
            yield int(text)


try:
    _malloc_trim: Any = ctypes.CDLL(None).malloc_trim
except (AttributeError, OSError, TypeError):  # not glibc
    _malloc_trim = None
