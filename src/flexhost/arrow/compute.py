"""`pyarrow.compute`, imported when something of it is used: most calls need nothing, and it costs
each start 35 ms and 5 MB."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    import pyarrow.compute

    return getattr(pyarrow.compute, name)
