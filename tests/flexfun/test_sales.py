"""What the sample over Parquet files answers, called as its host does, without one."""

from flexfun.sales import SCHEMA, retail_sales
from flexhost.testing import conforms, report, run


def test_there_is_a_row_for_each_kind_of_shop_and_month():
    table = run(retail_sales)

    assert table.schema == SCHEMA
    assert table.num_rows == 2 * 6 * 12
    assert table["month"].null_count == table["sales"].null_count == 0


def test_it_gives_the_columns_that_are_asked_for():
    assert run(retail_sales, columns=["sales", "kind"]).column_names == ["sales", "kind"]


def test_months_that_sold_less_are_left_out():
    best = run(retail_sales, at_least=34_000).to_pylist()

    assert [(row["month"].year, row["month"].month) for row in best] == [(2016, 12), (2019, 12)]


def test_a_report_gets_the_months_of_its_filters():
    spring = report("month", "sales").between("month", "2019-03-01", "2019-05-31")

    assert [day.month for day in run(retail_sales, spring)["month"].to_pylist()] == [3, 4, 5] * 2


def test_it_keeps_to_what_every_function_has_to():
    conforms(retail_sales, report("sales", "kind"), {"at_least": 30_000})
