"""Filters and elements that a function leaves to the host, over Flight."""

from __future__ import annotations

import asyncio
import json
from typing import ClassVar

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from contexts import but, only, parameters
from support import Client, process, serving

from flexhost import CachePolicy, FlexFun, table_function
from flexhost.errors import StartError
from flexhost.functions.describe import describe

SCHEMA = pa.schema([("region", pa.string()), ("city", pa.string()), ("people", pa.int64())])
ROWS = pa.table(
    {
        "region": ["EU", "EU", "US", None, "EU"],
        "city": ["Brno", "Praha", "Boston", "Nowhere", "Brno"],
        "people": [4, 12, 7, 0, 4],
    },
    schema=SCHEMA,
)


class Cities(FlexFun):
    """Returns all rows; `seen` are the hints that `call` got."""

    Name = "cities"
    Schema = SCHEMA
    ApplyFilters = True
    seen: ClassVar = []

    def call(self, parameters, columns, headers):
        self.seen.append(columns)
        return ROWS


class Streamed(Cities):
    Name = "streamed"

    def call(self, parameters, columns, headers):
        for start in range(ROWS.num_rows):
            yield ROWS.slice(start, 1).to_batches()[0]


def elements(label, **request):
    return parameters(
        executionType="LABEL_ELEMENTS", labelElementsExecutionRequest={"label": label, **request}
    )


@pytest.mark.parametrize("cls", [Cities, Streamed])
def test_the_host_applies_the_filters_where_a_function_leaves_them_to_it(cls):
    with serving(cls) as client:
        table = client.call(cls.Name, **parameters(only("region", "EU"), but("city", "Brno")))

    assert table.to_pylist() == [{"region": "EU", "city": "Praha", "people": 12}]


def test_no_filter_is_applied_unless_the_function_says_so():
    class Plain(Cities):
        ApplyFilters = False

    with serving(Plain) as client:
        assert client.call("cities", **parameters(only("region", "US"))).num_rows == 5


@pytest.mark.parametrize("cls", [Cities, Streamed])
def test_the_hint_is_widened_for_the_filters_and_the_result_cut_to_it(cls):
    Cities.seen.clear()
    with serving(cls) as client:
        told = client.ticket(cls.Name, columns=["people"], **parameters(only("region", "US")))
        table = client.read(told)

    assert table.to_pydict() == {"people": [7]}
    assert Cities.seen in ([("people", "region")], [])


def test_a_function_that_drops_a_column_which_a_filter_needs_fails_with_its_name():
    class Drops(Cities):
        def call(self, parameters, columns, headers):
            return ROWS.select(["people"])

    with serving(Drops) as client:
        with pytest.raises(fl.FlightServerError, match=r"'cities'.*'region'"):
            client.call("cities", columns=["people"], **parameters(only("region", "US")))


def test_filters_that_a_function_took_are_its_own_business():
    class Takes(Cities):
        def call(self, parameters, columns, headers):
            self.filters.take("region")
            return ROWS

    filters = parameters(only("region", "US"), only("city", "Brno", "Boston"))
    with serving(Takes) as client:
        table = client.call("cities", **filters)

    assert table["city"].to_pylist() == ["Brno", "Boston", "Brno"]


def test_a_generator_takes_filters_until_its_first_batch():
    class Takes(Cities):
        def call(self, parameters, columns, headers):
            taken = self.filters.take("region").expression()
            yield from ROWS.filter(taken).to_batches()

    with serving(Takes) as client:
        table = client.call("cities", **parameters(only("region", "US"), only("city", "Boston")))

    assert table["people"].to_pylist() == [7]


def test_an_identifier_stands_for_the_column_that_labels_say():
    class Labelled(Cities):
        Labels: ClassVar = {"customer.region": "region"}

    filters = parameters(only("customer.region", "US"), only("product.name", "x"))
    with serving(Labelled) as client:
        assert client.call("cities", **filters)["people"].to_pylist() == [7]


def test_a_filter_that_cannot_be_expressed_refuses_the_call_before_it_runs():
    Cities.seen.clear()
    bounded = {"filterType": "boundedFilter", "labelIdentifier": "region"}
    with serving(Cities) as client:
        with pytest.raises(fl.FlightServerError, match="not all can be applied: .*boundedFilter"):
            client.call("cities", **parameters(bounded))

    assert Cities.seen == []


def test_measure_filters_are_not_applied():
    report = {
        "attributes": [],
        "measures": [{"localIdentifier": "m", "definition": {"filters": [only("region", "US")]}}],
        "filters": [],
    }
    with serving(Cities) as client:
        assert client.call("cities", **parameters(reportExecutionRequest=report)).num_rows == 5


def test_a_wrong_context_is_refused_where_it_matters_and_nowhere_else():
    class Plain(FlexFun):
        Name = "plain"
        Schema = SCHEMA

        def call(self, parameters, columns, headers):
            return ROWS

    class Looks(Plain):
        Name = "looks"

        def call(self, parameters, columns, headers):
            return ROWS.slice(0, len(self.context.filters))

    wrong = parameters(timezone="Mars/Olympus")
    with serving(Cities, Plain, Looks) as client:
        for name in ("cities", "looks"):
            with pytest.raises(fl.FlightServerError, match=r"executionContext.timezone.*Mars"):
                client.call(name, **wrong)
        assert client.call("plain", **wrong).num_rows == 5
        assert client.call("looks", **parameters(only("region", "US"))).num_rows == 1


def test_a_table_function_has_the_same_by_its_arguments():
    @table_function(SCHEMA, labels={"r": "region"}, apply_filters=True)
    async def towns(context, filters, columns):
        await asyncio.sleep(0)
        assert columns == ("city", "region")
        assert context.workspace_id == "sales"
        assert filters.columns == ("region",)
        return ROWS

    with serving(towns) as client:
        table = client.call("towns", columns=["city"], **parameters(only("r", "US", None)))

    assert table.to_pydict() == {"city": ["Boston", "Nowhere"]}


def test_a_cached_table_is_one_of_those_filters():
    class Cached(Cities):
        Cache = CachePolicy(ttl_sec=60)

    with serving(Cached) as client:
        for region, people in (("US", [7]), ("EU", [4, 12, 4]), ("US", [7])):
            found = client.call("cities", **parameters(only("region", region)))
            assert found["people"].to_pylist() == people


class Elements(Cities):
    ApplyFilters = False
    LabelElements = "host"


class StreamedElements(Streamed):
    ApplyFilters = False
    LabelElements = "host"


@pytest.mark.parametrize("cls", [Elements, StreamedElements])
def test_the_host_narrows_rows_to_the_elements_of_a_label(cls):
    asked = elements("city", patternFilter="BO", offset=1, limit=1)
    with serving(cls) as client:
        some = client.call(cls.Name, columns=["city"], **asked)
        depending = client.call(
            cls.Name,
            columns=["city"],
            **elements("city", dependsOn=[{"label": "region", "values": ["EU"]}]),
        )
        report = client.call(cls.Name, columns=["city"], **parameters())

    assert some.to_pydict() == {"city": ["Boston"]}  # offset and limit are the backend's
    assert depending.to_pydict() == {"city": ["Brno", "Praha"]}
    assert report.num_rows == 5


def test_elements_that_cannot_be_narrowed_refuse_the_call():
    asked = elements("city", patternFilter="x", filterBy={"labelType": "PRIMARY"})
    with serving(Elements) as client:
        with pytest.raises(fl.FlightServerError, match="not all can be applied"):
            client.call("cities", columns=["city"], **asked)


@pytest.mark.parametrize("kind", ["plain", "async", "generator"])
def test_a_function_may_write_its_elements_itself(kind):
    class Own(Cities):
        ApplyFilters = False

        if kind == "plain":

            def label_elements(self, parameters, columns, headers):
                return pa.table({"city": [self.context.label_elements_execution_request.label]})

        elif kind == "async":

            async def label_elements(self, parameters, columns, headers):
                await asyncio.sleep(0)
                return pa.table({"city": ["city"]})

        else:

            def label_elements(self, parameters, columns, headers):
                yield pa.record_batch({"city": ["city"]})

    with serving(Own) as client:
        assert client.call("cities", columns=["city"], **elements("city")).to_pydict() == {
            "city": ["city"]
        }
        assert client.call("cities", **parameters()).num_rows == 5


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"Labels": {"r": "nothing"}}, "Labels: 'r' stands for 'nothing', which is no column"),
        ({"Labels": ["r"]}, "Labels is ['r'], expected a dict of texts"),
        ({"ApplyFilters": "yes"}, "ApplyFilters is 'yes', expected True or False"),
        ({"LabelElements": "me"}, "LabelElements is 'me', expected \"host\" or None"),
        ({"label_elements": lambda self: 1}, "label_elements cannot be called with (parameters,"),
        (
            {
                "LabelElements": "host",
                "label_elements": lambda self, parameters, columns, headers: 1,
            },
            'LabelElements is "host", and it has label_elements',
        ),
    ],
)
def test_a_declaration_that_is_wrong_ends_the_start(attributes, told):
    wrong = type("Wrong", (Cities,), attributes)

    with pytest.raises(StartError) as error:
        describe(wrong)

    assert told in str(error.value)


def test_a_date_filter_goes_by_the_fiscal_year_of_the_host(tmp_path):
    module = """
import datetime, pyarrow as pa
from flexhost import table_function

@table_function(pa.schema([("day", pa.date32())]), apply_filters=True)
def days():
    return [{"day": datetime.date(2026, month, 1)} for month in range(1, 13)]
"""
    this_year = {
        "filterType": "relativeDateFilter",
        "datasetIdentifier": "day",
        "granularity": "FISCAL_YEAR",
        "from": 0,
        "to": 0,
    }
    month = {"GOODDATA_FLIGHT_FLEXFUN__FISCAL_YEAR_START_MONTH": "4"}
    with process(tmp_path, module, **month) as host:
        table = Client(host.port()).call("days", **parameters(this_year))

    assert [day.month for day in table["day"].to_pylist()] == list(range(4, 13))


@table_function(SCHEMA)
def misspells(filters):
    return filters.take("regoin").apply(ROWS)


def test_a_column_that_a_function_misspells_is_no_fault_of_its_caller():
    with serving(misspells) as client, pytest.raises(fl.FlightServerError) as error:
        client.call("misspells")

    assert "'regoin' is no column, did you mean 'region'?" in str(error.value)
    assert json.loads(error.value.extra_info)["code"] == 5
