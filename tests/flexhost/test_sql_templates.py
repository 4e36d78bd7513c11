"""The text of a query and its placeholders."""

from __future__ import annotations

import pyarrow as pa
import pytest
from contexts import context, only

from flexhost.pushdown import Filters
from flexhost.queries.sql_templates import Template
from flexhost.sources import DuckDb, SqlQuery

SCHEMA = pa.schema([("a?%s", pa.string()), ("n", pa.int64())])


def filters(*made):
    return Filters.of(context(*made), SCHEMA)


def bound(text, style="duckdb", made=(), **values):
    return Template(text).bind(filters(*made), ["n"], values, style)


def test_without_filters_the_placeholder_is_true():
    query = bound("SELECT n FROM t WHERE {filters}")

    assert query.text == 'SELECT "n" FROM (\nSELECT n FROM t WHERE (TRUE)\n) AS "rows"'
    assert query.parameters == {}


@pytest.mark.parametrize(("style", "mark"), [("duckdb", "$low"), ("postgres", "%(low)s")])
def test_values_are_bound_by_name_beside_those_of_filters(style, mark):
    query = bound("SELECT n FROM t WHERE n > $low AND {filters}", style, [only("n", "1")], low=5)

    assert f"n > {mark} AND" in query.text
    assert query.parameters["low"] == 5
    assert [*query.parameters.values()] in ([5, 1], [5, [1]])


def test_a_marker_in_the_name_of_a_column_is_part_of_the_name():
    query = bound("SELECT n FROM t WHERE {filters}", "duckdb", [only("a?%s", "x")])

    assert '"a?%s" IN ($flexhost_0)' in query.text
    assert query.parameters == {"flexhost_0": "x"}


def test_a_query_without_the_placeholder_has_its_rows_filtered():
    query = bound("SELECT n FROM t", "duckdb", [only("n", "1")])

    assert query.text.endswith(') AS "rows" WHERE "n" IN ($flexhost_0)')


def test_percent_signs_of_the_author_stay_what_they_are_for_psycopg():
    assert "LIKE 'a%%'" in bound("SELECT n FROM t WHERE a LIKE 'a%' AND {filters}", "postgres").text


def test_nothing_in_quotes_or_comments_is_a_parameter():
    text = """SELECT '$a; ?' AS n, $$ $b $$, "$c" -- $d;\n FROM t /* {filters} $e; */"""

    assert Template(text).names == ()


def test_a_quote_behind_a_backslash_ends_no_text_that_has_escapes():
    assert Template(r"SELECT E'it\'s $a; \\' AS n, 'c:\' AS m WHERE $b = 1").names == ("b",)


def test_a_dollar_within_a_name_is_part_of_the_name():
    assert Template("SELECT sys$today, a$b$ FROM t$b$c WHERE n=$low").names == ("low",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SELECT {region} FROM t", "has {region}, the only placeholder is {filters}"),
        ("SELECT 1 WHERE { Filters }", "has { Filters }"),
        ("SELECT 1 WHERE r = '{region}'", "has {region} in quotes"),
        ("SELECT 1 WHERE r = E'{region}'", "has {region} in quotes"),
        ("SELECT 1; DROP TABLE t", "has a ; in it"),
        ("SELECT $flexhost_0", "names with flexhost_ are taken"),
        (" ; ", "is empty"),
    ],
)
def test_a_query_that_cannot_be_right_is_refused_when_it_is_made(text, message):
    with pytest.raises(ValueError, match="query") as refused:
        SqlQuery(text)

    assert message in str(refused.value)


@pytest.mark.parametrize("given", [{}, {"low": 1, "high": 2}])
def test_a_parameter_that_is_missing_or_unknown_is_named(given):
    with pytest.raises(TypeError, match=r"takes the parameters \['low'\]: see \['(low|high)'\]"):
        SqlQuery("SELECT 1 AS n WHERE $low = 1", DuckDb()).read(filters(), **given)
