"""How many processors and threads this process may use: less than the machine has, by the limits
of its container."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from flexhost.system import control_groups

# Threads that belong to no call, read or request: of the host, gRPC and Arrow, and of functions
# that are stuck. Measured: 12 when idle, on two cores.
OTHERS = 64

# What sizes the pools of numpy's and other libraries, and Arrow's.
_VARIABLE = "OMP_NUM_THREADS"


class Threads(NamedTuple):
    """How many there may be of each. A request has a thread, and so has a call that runs; a read
    may have one more, beside that of its request."""

    calls: int
    reads: int
    requests: int


def processors(groups: str | None = None, root: Path = control_groups.ROOT) -> int:
    """At least one; of parts of one the next whole number."""
    given = control_groups.own() if groups is None else groups
    machine: int = pa.cpu_count()
    return min([machine, *(math.ceil(part) for part in _quotas(given, root))])


def bound_pools(count: int) -> None:
    """Keep Arrow and what functions load from starting a thread for each processor of the machine,
    when they may use fewer. A variable of the user wins."""
    if count < pa.cpu_count() and _VARIABLE not in os.environ:
        pa.set_cpu_count(count)
        os.environ[_VARIABLE] = str(count)


def threads(groups: str | None = None, root: Path = control_groups.ROOT) -> int | None:
    """None when there is no limit."""
    given = control_groups.own() if groups is None else groups
    found = control_groups.values(given, "pids.max", "pids", "pids.max", root)
    return min((int(text) for text in found if text.strip() != "max"), default=None)


def within(wanted: Threads, limit: int | None) -> Threads:
    """What is wanted, cut so that the threads of all together stay within the limit: where the
    system gives gRPC no thread, the process aborts."""
    room = math.inf if limit is None else max(limit - OTHERS, 4)
    if sum(wanted) <= room:
        return wanted
    quarter = int(room) // 4
    calls, reads = min(wanted.calls, quarter), min(wanted.reads, quarter)
    return Threads(calls, reads, min(wanted.requests, int(room) - calls - reads))


def _quotas(groups: str, root: Path) -> Iterator[float]:
    """Processors that the groups may use, each."""
    periods = control_groups.values(groups, "cpu.max", "cpu", "cpu.cfs_period_us", root)
    quotas = control_groups.values(groups, "cpu.max", "cpu", "cpu.cfs_quota_us", root)
    for quota, period in zip(quotas, periods, strict=False):
        with contextlib.suppress(ValueError, ZeroDivisionError):  # "max"
            used = int(quota.split()[0]) / int(period.split()[-1])
            if used > 0:  # -1 is none
                yield used
