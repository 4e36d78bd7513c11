"""What the sample over Parquet files answers, called as its host does, without one."""

import pyarrow as pa

from flexfun.sales import SCHEMA, retail_sales
from flexhost.pushdown import Filters


def call(columns: tuple[str, ...] | None = None, **parameters: int) -> pa.Table:
    return pa.Table.from_batches(retail_sales(Filters(SCHEMA), columns, **parameters))


def test_there_is_a_row_for_each_kind_of_shop_and_month():
    table = call()

    assert table.schema == SCHEMA
    assert table.num_rows == 2 * 6 * 12
    assert table["month"].null_count == table["sales"].null_count == 0


def test_it_gives_the_columns_that_are_asked_for():
    assert call(("sales", "kind")).column_names == ["sales", "kind"]


def test_months_that_sold_less_are_left_out():
    best = call(at_least=34_000).to_pylist()

    assert [(row["month"].year, row["month"].month) for row in best] == [(2016, 12), (2019, 12)]
