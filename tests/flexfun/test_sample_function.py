"""An example of how to test a function: call it, look at the table."""

from typing import Any

import pyarrow as pa
import pytest
from structlog.testing import capture_logs

from flexfun.sample_function import SampleFlexFunction


def call(parameters: dict[str, Any]) -> pa.Table:
    return SampleFlexFunction.create().call(parameters, None, {"x-token": ["secret"]})


def test_the_sample_has_six_rows_of_the_declared_columns():
    table = call({})

    assert table.schema == SampleFlexFunction.Schema
    assert table.num_rows == 6


@pytest.mark.parametrize("execution", ["REPORT", "LABEL_ELEMENTS", None])
def test_the_sample_logs_what_it_was_asked_and_never_headers(execution):
    filters = [{"filterType": "positiveAttributeFilter"}]
    with capture_logs() as logs:
        call({"executionContext": {"executionType": execution, "filters": filters}})

    assert logs[0]["execution_type"] == execution
    assert logs[0]["filters"] == filters
    assert "secret" not in str(logs)
