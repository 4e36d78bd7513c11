"""What a call answers, wherever it was made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa


class Answer(NamedTuple):
    """rows: how many there will be; None for a stream, of which nobody knows."""

    schema: pa.Schema
    rows: int | None
    tables: Iterator[pa.Table]
