"""Limits that the system sets for a group of processes, as those of a container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def own() -> str:
    """The groups of this process, as the kernel writes them; nothing where there are none."""
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:  # no Linux
        return ""


def values(groups: str, unified: str, controller: str, file: str, root: Path) -> Iterator[str]:
    """What stands in a file of each of the groups and of all above them.

    unified: the name of the file where all controllers share a hierarchy (version 2).
    file:    its name where each has its own (version 1).
    """
    for line in groups.splitlines():
        _, controllers, group = line.split(":", 2)
        if not controllers:
            yield from _up(root, group, unified)
        elif controller in controllers.split(","):
            yield from _up(root / controller, group, file)


def _up(root: Path, group: str, file: str) -> Iterator[str]:
    """Inside of a container the group's own folder may be the root."""
    folder = root / group.lstrip("/")
    for above in (folder, *folder.parents):
        with contextlib.suppress(OSError):  # not there
            yield (above / file).read_text()
        if above == root:
            return
