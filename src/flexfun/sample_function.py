"""A sample to start from: six rows that never change."""

from typing import Any

import pyarrow as pa
import structlog

from flexhost import FlexFun

_logger = structlog.get_logger("sample_function")


class SampleFlexFunction(FlexFun):
    """The name a caller uses, the columns it can ask for, and the code that makes the rows."""

    Name = "SampleFlexFunction"
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

    def call(
        self,
        parameters: dict[str, Any],
        columns: tuple[str, ...] | None,
        headers: dict[str, list[str]],
    ) -> pa.Table:
        # never log the headers: they may carry secrets
        context = parameters.get("executionContext") or {}
        _logger.debug(
            "sample function called",
            execution_type=context.get("executionType"),
            columns=columns,
            filters=context.get("filters"),
        )
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
