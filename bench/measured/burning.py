"""A row, after so many seconds of pure Python, measured as the CPU time that it takes."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from measured import Base


class Burning(Base):  # type: ignore[misc]
    Name = "burning"
    Schema = pa.schema([("n", pa.int64())])
    Executor = "processes"  # where there is such a thing

    def call(self, parameters: dict[str, Any], columns: Any, headers: Any) -> pa.Table:
        until = time.thread_time() + parameters["seconds"]
        n = 0
        while time.thread_time() < until:
            n += sum(range(1000))
        return pa.table({"n": [n]}, schema=self.Schema)
