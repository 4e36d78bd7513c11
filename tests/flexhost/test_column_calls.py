"""Plain functions of pandas.Series. (Those of pyarrow.Array: `test_hinted.py`.)"""

from __future__ import annotations

from typing import Annotated

import pandas as pd
import pyarrow as pa
import pytest
from batches_given import answer

from flexhost.errors import FunctionFailed

batch = pa.record_batch
Ints = Annotated[pd.Series, int]


def test_series_come_and_go():
    def longer(text: Annotated[pd.Series, str], by: Ints) -> Ints:
        return text.str.len() + by

    table = answer(longer, batch({"t": ["a", "bcd"], "b": [1, 2]}))

    assert table["result"].to_pylist() == [2, 5]
    assert answer(longer, {"text": "abc", "by": 4})["result"].to_pylist() == [7]


def test_whole_numbers_stay_whole_beside_a_null():
    big = (1 << 53) + 1

    def same(n: Ints) -> Annotated[pd.Series, int | None]:
        return n + 1

    assert answer(same, batch({"n": [big, None]}))["result"].to_pylist() == [big + 1, None]


def test_nan_is_null_where_there_may_be_one():
    def quotient(a: Annotated[pd.Series, float]) -> Annotated[pd.Series, float | None]:
        return a / a

    assert answer(quotient, batch({"a": [1.0, 0.0]}))["result"].to_pylist() == [1.0, None]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (lambda n: [1, 2], "gave list, expected a pandas.Series"),
        (lambda n: n[:1], "gave 1 values for 2 rows"),
        (lambda n: n.astype(str) + "x", "gave a Series of .*, expected int64"),
        (lambda n: n + 0.5, "gave a Series of float64, expected int64"),
        (lambda n: 1 / 0, "^ZeroDivisionError"),
    ],
)
def test_what_does_not_fit_fails_the_call(given, told):
    def code(n: Ints) -> Ints:
        return given(n)

    with pytest.raises(FunctionFailed, match=told):
        answer(code, batch({"n": [1, 2]}))
