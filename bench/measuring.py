"""What the system tells of processes, and figures made of several rounds."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and of those that it started, as far as they live. To 10 ms."""
    return sum(_cpu(one) for one in family(pid))


def memory(pid: int) -> float:
    """Resident memory of a process and of those that it started, MiB."""
    return sum(_resident(one) for one in family(pid))


def family(pid: int) -> list[int]:
    """A process and those below it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents[int(entry.name)] = int(fields[1])
    found = [pid]
    for one in found:  # which grows meanwhile
        found.extend(child for child, parent in parents.items() if parent == one)
    return found


def ratios(ones: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios within a round; no number where nothing was measured."""
    found = [a / b for a, b in zip(ones, others, strict=True) if b]
    return statistics.median(found) if found else math.nan


def runs(pid: int) -> bool:
    """Whether a process is there, and not only its status."""
    return _stat(pid)[:1] not in ([], ["Z"])


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS if fields else 0.0


def _resident(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _stat(pid: int) -> list[str]:
    """What follows the name: state, parent, ... Empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
