"""How far a call is: live on a terminal where rich is installed, and as a line for its end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self

import pyarrow as pa


class Progress:
    """live: also while it goes on, unless something else is written to the same terminal."""

    def __init__(self, *, live: bool) -> None:
        self.rows = self.bytes = 0
        self._begun = time.monotonic()
        self._status = _status() if live and sys.stderr.isatty() else None

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Something else is shown now."""
        if self._status is not None:
            self._status.stop()

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        self.bytes += table.nbytes
        if self._status is not None:
            self._status.update(str(self))

    def __str__(self) -> str:
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows}, {self.bytes:,} bytes, {time.monotonic() - self._begun:.2f} s"


def _status() -> Any:
    """None without rich."""
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(stderr=True).status("waiting for the function")
