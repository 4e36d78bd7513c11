"""Tables in anonymous memory files, which go from process to process by their descriptors.

No name, so that nothing is left over however a process ends; and no `/proc`, nor the small /dev/shm
of a container.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
from typing import Any

import pyarrow as pa

from flexhost.footprint import write


def written(table: pa.Table) -> int:
    """A descriptor of a new memory file with this table, in the streaming format of Arrow IPC. The
    caller closes it. Raises OSError and ArrowException."""
    fd = _made()
    try:
        with pa.PythonFile(_Sink(fd), mode="w") as sink:
            write(table, sink)
        _seal(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mapped(fd: int) -> pa.Table:
    """The table in a file of `written`, not copied: its buffers are of the file, which goes with
    the last of them. Closes the descriptor. Raises OSError and ArrowException."""
    try:
        memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
    finally:
        os.close(fd)
    return pa.ipc.open_stream(pa.py_buffer(memory)).read_all()


def _made() -> int:
    if not hasattr(os, "memfd_create"):  # not Linux
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    return os.memfd_create("flexhost-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _seal(fd: int) -> None:
    """Whoever maps it may count on its size, and its bytes, from now on."""
    if hasattr(os, "memfd_create"):
        size, bytes_ = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, size | bytes_ | fcntl.F_SEAL_SEAL)


class _Sink:
    """Writes all it is given: a single write of the system takes 2 GiB at most."""

    closed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest:
            rest = rest[os.write(self._fd, rest) :]
        return size

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Whoever made the file closes it."""
