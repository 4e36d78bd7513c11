"""Tables as files in a private folder."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import stat
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from flexhost.errors import SettingsError

_PREFIX = "flexhost-spool-"


class File(NamedTuple):
    path: Path
    size: int

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
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._locked: int | None
        parent = parent or Path(tempfile.gettempdir())
        try:
            parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(parent)
            self.folder, self._locked = _make(parent)
        except OSError as error:
            raise SettingsError(
                f"[server] result_spool_dir: no folder for results can be made in {parent}: "
                f"{error.strerror}; name another, or set result_spool_bytes to 0"
            ) from None

    def write(self, table: pa.Table) -> File | None:
        """None when there is no room for it. Raises OSError and ArrowException."""
        size = _size(table)
        with self._lock:
            if self.used + size > self.limit:
                return None
            self.used += size
        file = File(self.folder / f"{next(self._numbers)}.arrows", size)
        try:
            os.close(os.open(file.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            # the streaming format: the file format has no dictionaries that change
            with pa.OSFile(str(file.path), "wb") as sink:
                _write(table, sink)
        except BaseException:
            self.unlink(file)
            self.freed(file)
            raise
        return file

    def unlink(self, file: File) -> None:
        """Whoever has it mapped keeps it."""
        with contextlib.suppress(OSError):  # somebody else was quicker
            file.path.unlink()

    def freed(self, file: File) -> None:
        """The file is unlinked, and nobody has it mapped any more."""
        with self._lock:
            self.used -= file.size

    def close(self) -> None:
        """Remove all files. Any number of times."""
        locked, self._locked = self._locked, None
        if locked is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            os.close(locked)


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def _size(table: pa.Table) -> int:
    counted = pa.MockOutputStream()
    _write(table, counted)
    return int(counted.size())


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
