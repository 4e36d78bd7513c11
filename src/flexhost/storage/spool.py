"""Tables as files in a private folder."""

from __future__ import annotations

import contextlib
import fcntl
import io
import itertools
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost.errors import SettingsError
from flexhost.storage.footprint import footprint, write

_PREFIX = "flexhost-spool-"


# The addresses of a table's buffers, each with its size.
Buffers: TypeAlias = tuple[tuple[int, int], ...]


class File:
    """A table as a file. `holders` of it say `Spool.release` in the end.

    buffers: that the table had in memory.
    """

    def __init__(self, path: Path, size: int, buffers: Buffers) -> None:
        self.path = path
        self.size = size
        self.buffers = buffers
        self.holders = 1

    def read(self) -> pa.Table:
        """The table, its buffers mapped from the file for as long as they are used.

        Raises OSError and ArrowException.
        """
        with pa.memory_map(str(self.path)) as mapped:
            return pa.ipc.open_stream(mapped).read_all()


class Spool:
    """At most `limit` bytes of files.

    The folder is locked for as long as its process lives (`flock`, which also keeps
    systemd-tmpfiles away), so that the next start tells what a crash left over from what another
    host uses.
    """

    def __init__(self, limit: int, parent: Path | None = None) -> None:
        """parent: where the folder is made; None for the system's place for temporary files.

        Removes what others left over there. Raises SettingsError.
        """
        self.limit = limit
        self.used = 0
        self._files: dict[Buffers, File] = {}
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._parent = parent or _temporary()
        self._locked: int | None
        try:
            self._parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(self._parent)
            self.folder, self._locked = _make(self._parent)
        except OSError as error:
            raise _unusable(str(self._parent), error) from None

    @property
    def warning(self) -> str | None:
        """What to tell of where it is; None when all is well."""
        if not _in_memory(self.folder):
            return None
        return (
            f"[server] result_spool_dir: {self._parent} is in memory (tmpfs), where files save "
            "nothing: name a folder on a disk, or set result_spool_bytes to 0"
        )

    def write(self, table: pa.Table) -> File | None:
        """None when there is no room for it. Raises OSError and ArrowException.

        A table that is there already, since another one of the same buffers was written before, is
        not written again.
        """
        buffers = tuple(sorted(footprint(table).buffers.items()))
        if (file := self._same(buffers, table)) is not None:
            return file
        if (file := self._reserve(buffers, table)) is None:
            return None
        try:
            self._create(file)
            with pa.OSFile(str(file.path), "wb") as sink:
                write(table, sink)
            _check_readable(file)
        except BaseException:
            self.release(file)
            raise
        with self._lock:
            self._files[buffers] = file
        return file

    def release(self, file: File) -> None:
        """The last one removes it."""
        with self._lock:
            file.holders -= 1
            if file.holders:
                return
            self.used -= file.size
            if self._files.get(file.buffers) is file:
                del self._files[file.buffers]
        with contextlib.suppress(OSError):  # somebody else was quicker
            file.path.unlink()

    def close(self) -> None:
        """Remove all files, and write none any more. Any number of times."""
        with self._lock:
            locked, self._locked = self._locked, None
        if locked is not None:
            for _ in range(10):  # until nobody writes who had begun before
                shutil.rmtree(self.folder, ignore_errors=True)
                if not self.folder.exists():
                    break
            os.close(locked)

    def _same(self, buffers: Buffers, table: pa.Table) -> File | None:
        """The file that has this table already. Buffers at the same place need not be the same ones
        as before: what is in them is compared."""
        with self._lock:
            if (file := self._files.get(buffers)) is None:
                return None
            file.holders += 1
        try:
            with pa.memory_map(str(file.path)) as there:
                write(table, pa.PythonFile(_Compared(there), "w"))
                if there.tell() == file.size:
                    return file
        except (OSError, pa.ArrowException, _DiffersError):
            pass  # it is written anew
        self.release(file)
        return None

    def _reserve(self, buffers: Buffers, table: pa.Table) -> File | None:
        counted = pa.MockOutputStream()
        write(table, counted)
        size = int(counted.size())
        with self._lock:
            if self._locked is None or self.used + size > self.limit:
                return None
            self.used += size
            return File(self.folder / f"{next(self._numbers)}.arrows", size, buffers)

    def _create(self, file: File) -> None:
        try:
            _create(file.path)
        except FileNotFoundError:  # somebody tidied up the folder
            with self._lock:
                if self._locked is None:
                    raise
                if not self.folder.exists():
                    os.close(self._locked)
                    self._files.clear()
                    self.folder, self._locked = _make(self._parent)
                file.path = self.folder / file.path.name
            _create(file.path)


def _check_readable(file: File) -> None:
    """There are types that can be written and not be read, as dictionaries of dictionaries."""
    try:
        file.read()
    except OSError as error:
        raise pa.ArrowInvalid(f"what is written of this table cannot be read: {error}") from None


class _DiffersError(Exception):
    pass


class _Compared(io.RawIOBase):
    """Raises _DiffersError when what is written is not what is there already."""

    def __init__(self, there: pa.MemoryMappedFile) -> None:
        self._there = there

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        written = pa.py_buffer(data)
        if not self._there.read_buffer(written.size).equals(written):
            raise _DiffersError
        return int(written.size)


def _temporary() -> Path:
    """The system's place for temporary files, which is found by writing there. Raises
    SettingsError."""
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise _unusable("a place for temporary files", error) from None


def _unusable(place: str, error: OSError) -> SettingsError:
    return SettingsError(
        f"[server] result_spool_dir: no folder for results can be made in {place}: "
        f"{error.strerror}; name another, or set result_spool_bytes to 0"
    )


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _in_memory(folder: Path) -> bool:
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    except OSError:  # no Linux
        return False
    above = {str(one) for one in (folder, *folder.parents)}
    kinds = {where: kind for _, where, kind, *_ in mounts if where in above}
    return kinds[max(kinds, key=len)] == "tmpfs" if kinds else False


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        locked = None
        with contextlib.suppress(FileNotFoundError):
            locked = _lock(folder)
        if locked is not None and folder.exists():
            return folder, locked
        # another host that starts took it for a left-over in between
        if locked is not None:
            os.close(locked)


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another host does the same right now
            there = folder.lstat()
            if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
                continue
            if (locked := _lock(folder)) is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(locked)


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the lock, or None when somebody else has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
