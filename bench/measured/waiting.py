"""A row, after so many seconds of waiting, as for a database."""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa

from measured import Base


class Waiting(Base):  # type: ignore[misc]
    Name = "waiting"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters: dict[str, Any], columns: Any, headers: Any) -> pa.Table:
        time.sleep(parameters["seconds"])
        return pa.table({"n": [1]}, schema=self.Schema)
