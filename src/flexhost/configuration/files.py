"""Files that settings name, as `@/path`."""

from __future__ import annotations

import os
import stat

from flexhost.errors import FileMissing, SettingsError

# Seconds between two looks whether they changed. New content counts when two looks found the same,
# so that nothing half-written does.
LOOK = 1.0
MOST_BYTES = 1 << 20

_MISSING = (FileNotFoundError, NotADirectoryError)


def content(file: str, what: str) -> bytes:
    """what: is in it, for the error. Raises SettingsError, FileMissing."""
    try:
        # a pipe that nobody writes to is not waited for
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SettingsError(f"the file {file} of {what} is no regular file")
            data = os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        kind = FileMissing if isinstance(error, _MISSING) else SettingsError
        raise kind(f"cannot read the file {file} of {what}: {error.strerror}") from None
    if len(data) > MOST_BYTES:
        raise SettingsError(f"the file {file} of {what} has over {MOST_BYTES} bytes")
    return data
