"""Tables in anonymous memory files, which go from process to process by their descriptors.

No name, so that nothing is left over however a process ends; and no `/proc`, nor the small /dev/shm
of a container.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import tempfile
from typing import Any

import pyarrow as pa

from flexhost.storage.footprint import write

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [
    *(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_FAILED = ctypes.c_void_p(-1).value


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
        memory = _Mapping(fd)
    finally:
        os.close(fd)
    return pa.ipc.open_stream(pa.foreign_buffer(memory.address, memory.size, memory)).read_all()


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


class _Mapping:
    """Of all of a file, to be read. `mmap.mmap` keeps a descriptor for each, of which there may be
    fewer than results."""

    def __init__(self, fd: int) -> None:
        """Raises OSError."""
        self.address = self.size = 0
        size = os.fstat(fd).st_size
        address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        if address == _FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address, self.size = address, size

    def __del__(self) -> None:
        if self.size:
            _libc.munmap(self.address, self.size)


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
