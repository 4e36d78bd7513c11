"""Six rows of six columns, built for each call."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from measured import Base


class Small(Base):  # type: ignore[misc]
    Name = "small"
    Schema = pa.schema(
        [
            ("attribute1", pa.string()),
            ("attribute2", pa.string()),
            ("attribute3", pa.bool_()),
            ("fact1", pa.float64()),
            ("fact2", pa.float64()),
            ("fact3", pa.int64()),
        ]
    )

    def call(self, parameters: dict[str, Any], columns: Any, headers: Any) -> pa.Table:
        return pa.table(
            {
                "attribute1": ["id1", "id1", "id2", "id2", "id3", "id3"],
                "attribute2": ["val1", "val2", "val1", "val2", "val1", "val2"],
                "attribute3": [True, False, True, False, True, False],
                "fact1": [1.0, 2.5, 3.0, 4.5, 5.0, 6.5],
                "fact2": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
                "fact3": [100, 200, 300, 400, 500, 600],
            },
            schema=self.Schema,
        )
