"""`conforms` finds what is wrong with a function, and nothing where nothing is."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from filtered_rows import COLUMNS
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LONG, function

from flexhost import BadArgument, CachePolicy, FlexFun, table_function
from flexhost.testing import conforms, elements, report

SALES = pa.schema([("region", pa.string()), ("day", pa.date32()), ("revenue", pa.float64())])
TABLE = pa.table(
    {
        "region": ["EU", "EU", None, "US"],
        "day": [dt.date(2026, 1, day) for day in (1, 2, 2, 3)],
        "revenue": [1.5, None, 2.5, 3.5],
    },
    SALES,
)


def sales(call, **attributes):
    """A FlexFun of these columns, whose `call` is given its object and the hint."""

    class Sales(FlexFun):
        Name = "Sales"
        Schema = SALES

        def call(self, parameters, columns, headers):
            return call(self, columns)

    for name, value in attributes.items():
        setattr(Sales, name, value)
    return Sales


def violations(*given, **options):
    with pytest.raises(AssertionError) as caught:
        conforms(*given, **options)
    first, *lines = str(caught.value).splitlines()
    assert first.endswith("does not conform:")
    return lines


def batches(table):
    yield from table.to_batches(max_chunksize=2)


def only_hinted(_, columns):
    return TABLE.select(list(columns)) if columns else TABLE


def takes_all(self, _):
    return self.filters.take(*SALES.names).apply(TABLE)


def takes_the_region(self, _):
    return batches(self.filters.take("region").apply(TABLE))


def takes_by_hand(self, columns):
    keeps = self.filters.take("region", "day").predicate()
    return [row for row in TABLE.to_pylist() if keeps(row)]


def hint_and_filters(self, columns):
    needed = [name for name in SALES.names if not columns or name in columns]
    return takes_all(self, None).select(needed)


@pytest.mark.parametrize(
    "honest",
    [
        sales(lambda self, columns: TABLE),
        sales(only_hinted),
        sales(takes_all),
        sales(takes_the_region),
        sales(takes_by_hand),
        sales(hint_and_filters),
        sales(takes_the_region, ApplyFilters=True, LabelElements="host"),
        sales(takes_all, Labels={"customer.region": "region"}),
        sales(lambda self, columns: TABLE, Cache=CachePolicy(60)),
        sales(takes_all, Executor="processes"),
        function(lambda parameters, columns, headers: batches(TABLE), schema=SALES),
        function(
            lambda *_: pa.RecordBatchReader.from_batches(SALES, TABLE.to_batches()), schema=SALES
        ),
    ],
)
def test_an_honest_function_conforms(honest):
    conforms(
        honest,
        report("revenue", "day")
        .where(region=["EU", None])
        .between("day", "2026-01-02", "2026-02-01"),
        report().where(elsewhere="x"),
        report().where_not({"customer.region": "EU"}),
        elements("region").containing("e"),
        elements("region", "day").only("US", None),
        {},
    )


def test_filters_that_cannot_be_expressed_are_no_reason_to_tell():
    def weekdays(self, _):
        taken = self.filters.take("region").apply(TABLE)
        return taken.slice(1) if self.filters.not_taken else taken

    asked = report().relative("day", "DAY_OF_WEEK", 0, 1).where(region="EU")

    conforms(sales(weekdays), asked)
    [line, *_] = violations(sales(weekdays, ApplyFilters=True), asked)
    assert "sample 1: BAD_ARGUMENT: executionContext.filters: not all can be applied" in line


def test_table_functions_conform_async_ones_too():
    @table_function(SALES)
    def plain(filters):
        yield from batches(filters.take("region").apply(TABLE))

    @table_function(SALES, apply_filters=True)
    async def awaited(upto: int):
        for batch in batches(TABLE.slice(0, upto)):
            await asyncio.sleep(0)
            yield batch

    conforms(plain)
    conforms(awaited, {"upto": 3}, {"upto": 2, **report("day").where(region="EU").parameters})


def test_a_function_that_wants_parameters_is_given_a_sample():
    class Wanted(msgspec.Struct):
        region: str

    wants = sales(lambda self, columns: TABLE, Parameters=Wanted)

    assert violations(wants) == [
        "- without parameters: BAD_ARGUMENT: region is missing, expected str "
        "(give conforms() a sample of what callers send)"
    ]
    conforms(wants, {"region": "EU"})


def test_a_function_may_refuse_filters_that_it_was_not_given():
    def picky(self, _):
        if "region" not in self.filters.columns:
            raise BadArgument("region", "which one?")
        return takes_all(self, None)

    conforms(sales(picky), report().where(region="EU"))


def test_other_rows_each_time_are_not_compared_where_that_is_meant():
    def growing(self, columns):
        numbers.append(len(numbers))
        return [{"n": len(numbers)}]

    numbers = []
    grows = sales(growing, Schema=pa.schema([("n", pa.int64())]))

    [line] = violations(grows)
    assert "a second call does not give the same rows, 1 row {'n': 1} is gone" in line
    conforms(grows, deterministic=False)


def test_what_cannot_be_served_is_told():
    [line] = violations(sales(only_hinted, Metadata={"at": dt.date(2026, 1, 1)}))
    assert "Metadata cannot be written as JSON" in line

    def fails(ctx):
        raise OSError("no database")

    [line] = violations(sales(only_hinted, on_load=staticmethod(fails)))
    assert "on_load of function 'Sales' failed" in line


def test_a_schema_that_does_not_arrive_is_told():
    class Degrees(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.float64(), "test.degrees")

        def __arrow_ext_serialize__(self):
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage_type, serialized):
            return cls()

    schema = pa.schema([("t", Degrees())])
    column = pa.ExtensionArray.from_storage(Degrees(), pa.array([1.0]))
    lines = violations(sales(lambda *_: pa.table([column], schema), Schema=schema))

    assert any("column 't' is declared extension<" in line for line in lines)


def test_a_result_that_is_not_as_declared_is_told():
    [line] = violations(sales(lambda *_: TABLE.drop_columns(["day"])))

    assert "without parameters: COMMAND_FAILED" in line
    assert "the result has no column 'day'" in line


def test_a_hint_that_changes_what_is_computed_is_told():
    def distinct(_, columns):
        found = only_hinted(None, columns)
        return found.group_by(found.column_names).aggregate([])

    lines = violations(sales(distinct))

    assert lines[0].startswith(
        "- without parameters, columns ['region']: rows of the whole result are missing: "
        "1 row {'region': 'EU'}"
    )


def test_a_hint_that_adds_rows_or_fails_is_told():
    def doubles(_, columns):
        if columns == ("day",):
            return pa.concat_tables([TABLE, TABLE])
        return TABLE.select([columns[1], columns[0]]) if columns and len(columns) == 3 else TABLE

    lines = violations(sales(doubles))

    assert "columns ['day']: rows came that the whole result does not have: 4 rows" in lines[0]
    assert "columns ['region', 'day', 'revenue']: COMMAND_FAILED" in lines[1]
    assert "columns ['revenue', 'day', 'region']: COMMAND_FAILED" in lines[2]


def test_the_hint_of_a_sample_is_tried():
    def two(_, columns):
        return TABLE.slice(1) if columns == ("day", "region") else TABLE

    conforms(sales(two))
    [line] = violations(sales(two), report("day", "region"))
    assert "sample 1, columns ['day', 'region']" in line


def test_taking_without_filtering_is_told():
    def takes(self, _):
        self.filters.take("region")
        return TABLE

    lines = violations(sales(takes))

    assert (
        "- without parameters, where region is 'EU': it takes the filters of 'region' and does not "
        "apply them: 2 rows, first {'region': None, 'day': datetime.date(2026, 1, 2), "
        "'revenue': 2.5}" in lines
    )
    assert any(
        "sample 1: it takes" in s for s in violations(sales(takes), report().where(region="US"))
    )


def test_taking_without_filtering_is_told_whatever_else_is_unknown_or_changes():
    def takes(self, _):
        self.filters.take("region")
        return TABLE

    asked = report().where(region="US", elsewhere="x")

    assert any("sample 1: it takes" in s for s in violations(sales(takes), asked))
    assert any(
        "sample 1: it takes" in s for s in violations(sales(takes), asked, deterministic=False)
    )


def test_filtering_without_a_receipt_is_told():
    def filters(self, _):
        return self.filters.apply(TABLE)

    lines = violations(sales(filters))

    assert (
        "- without parameters, where region is 'EU': it filters without a receipt, which is "
        "filters.take('region'): 2 rows, first {'region': None, 'day': datetime.date(2026, 1, 2), "
        "'revenue': 2.5} is gone" in lines
    )


def test_a_receipt_for_half_of_what_is_filtered_is_told():
    def half(self, _):
        self.filters.take("region")
        return self.filters.apply(TABLE)

    lines = violations(
        sales(half), report().where(region="EU").between("day", "2026-01-01", "2026-01-01")
    )

    assert any(
        "sample 1: it filters without a receipt, which is filters.take('day')" in s for s in lines
    )


def test_a_class_that_has_no_receipts_need_not_give_them():
    class ByShape:
        Name = "ByShape"
        Schema = SALES

        def call(self, parameters, columns, headers):
            for one in parameters.get("executionContext", {}).get("filters", []):
                if one["filterType"] == "positiveAttributeFilter" and one["values"] == ["EU"]:
                    return TABLE.filter(pc.field("region") == "EU")
            return TABLE

    conforms(ByShape)


def test_null_that_is_lost_with_a_negative_filter_is_told():
    def as_sql_does(self, _):
        taken = self.filters.take("region")
        kept = taken.apply(TABLE)
        return kept.filter(pc.field("region").is_valid()) if taken.columns else kept

    lines = violations(sales(as_sql_does))

    assert lines[0].startswith(
        "- without parameters, where region is not 'EU': rows are missing that the filters keep: "
        "1 row {'region': None"
    )


@pytest.mark.parametrize(
    "fails",
    [
        lambda rows: max(row["revenue"] or 0 for row in rows),
        lambda rows: rows[0]["region"],
    ],
)
def test_a_result_that_fails_when_it_is_empty_is_told(fails):
    def call(self, _):
        rows = takes_by_hand(self, _)
        fails(rows)
        return rows

    lines = violations(sales(call))

    assert any("with filters that keep no row: " in line for line in lines)


def test_an_empty_result_of_other_columns_is_told():
    def call(self, _):
        found = takes_all(self, _)
        return found if found.num_rows else pa.table({"nothing": []})

    assert any(
        "with filters that keep no row: COMMAND_FAILED: function 'Sales': the result has no "
        "column 'region'" in line
        for line in violations(sales(call))
    )


ONE = pa.schema([("n", pa.int64())])
N = pa.table({"n": [1, 2, 3]})


def numbers(call, **attributes):
    return sales(call, Schema=ONE, **attributes)


def test_a_call_that_does_not_end_when_it_is_cancelled_is_told():
    over = threading.Event()

    class Stubborn(FlexFun):
        Name = "Stubborn"
        Schema = ONE

        def __init__(self):
            self.asked = threading.Event()

        def call(self, parameters, columns, headers):
            if self.asked.wait(0.05):
                over.wait(LONG)
            return N

        def cancel(self):
            self.asked.set()

    [line] = violations(Stubborn, within=0.3)
    over.set()

    assert re.fullmatch(
        r"- without parameters, cancelled: the thread 'worker' of the call still runs after "
        r"0\.3 s, at test_testing_conforms\.py:\d+ in call",
        line,
    )


def test_a_call_that_ends_when_it_is_cancelled_conforms():
    cancelled = []

    class Waiting(FlexFun):
        Name = "Waiting"
        Schema = ONE

        def __init__(self):
            self.asked = threading.Event()

        def call(self, parameters, columns, headers):
            if self.asked.wait(0.05):
                cancelled.append(self)
                raise InterruptedError("nobody wants it")
            return N

        def cancel(self):
            self.asked.set()
            return True

    conforms(Waiting, within=2.0)

    assert len(cancelled) == 1


def test_a_thread_that_a_call_leaves_behind_is_told():
    over = threading.Event()

    def leaves(self, _):
        threading.Thread(target=over.wait, args=[LONG], name="poller", daemon=True).start()
        return N

    lines = violations(numbers(leaves), within=0.2)
    over.set()

    assert lines == [
        "- without parameters, cancelled: the thread 'poller' of the call still runs after 0.2 s",
        "- without parameters, whose reader leaves: the thread 'poller' of the call still runs "
        "after 0.2 s",
    ]


def test_threads_of_a_pool_may_stay():
    with ThreadPoolExecutor(4) as pool:

        def pooled(self, _):
            return pool.submit(lambda: N).result()

        conforms(numbers(pooled), within=0.2)


def test_threads_that_on_load_starts_are_not_those_of_a_call():
    def on_load(ctx):
        over = threading.Event()
        thread = threading.Thread(target=over.wait, args=[LONG])
        thread.start()
        ctx.on_close(lambda: (over.set(), thread.join()))

    conforms(numbers(lambda *_: N, on_load=staticmethod(on_load)), within=0.2)


@table_function(ONE)
def stubborn():
    for batch in N.to_batches(max_chunksize=1):
        try:
            yield batch
        except GeneratorExit:
            yield batch


@table_function(ONE)
async def stubborn_too():
    for batch in N.to_batches(max_chunksize=1):
        try:
            yield batch
        except GeneratorExit:
            yield batch


@pytest.mark.parametrize("goes_on", [stubborn, stubborn_too])
def test_a_generator_that_goes_on_when_it_is_closed_is_told(goes_on):
    told = "its generator goes on when it is closed: let GeneratorExit pass"

    assert f"- without parameters, whose reader leaves: {told}" in violations(goes_on)


def test_a_generator_whose_end_does_not_end_is_told():
    over = threading.Event()

    def call(parameters, columns, headers):
        try:
            yield from N.to_batches(max_chunksize=1)
        except GeneratorExit:
            over.wait(LONG)

    lines = violations(function(call, schema=ONE), within=0.3)
    over.set()

    assert lines
    assert all("of the call still runs" in one or "is not closed" in one for one in lines)


def test_generators_that_close_conform():
    closed = []

    @table_function(ONE)
    def steps():
        try:
            yield from N.to_batches(max_chunksize=1)
        finally:
            closed.append("steps")

    @table_function(ONE)
    async def async_steps():
        try:
            for batch in N.to_batches(max_chunksize=1):
                yield batch
        finally:
            closed.append("async")

    conforms(steps)
    conforms(async_steps)

    assert {*closed} == {"steps", "async"}


def test_an_object_that_is_given_again_is_as_it_was():
    class Same(FlexFun):
        Name = "Same"
        Schema = ONE

        @classmethod
        def create(cls):
            return same

        def call(self, parameters, columns, headers):
            return N

    same = Same()
    conforms(Same)

    assert "call" not in vars(same)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_honest_functions_of_any_columns_conform(data):
    names = data.draw(st.lists(st.sampled_from(list(COLUMNS)), min_size=1, max_size=3, unique=True))
    count = data.draw(st.integers(0, 6))
    table = pa.table(
        {
            name: pa.array(
                data.draw(st.lists(st.none() | COLUMNS[name][1], min_size=count, max_size=count)),
                COLUMNS[name][0],
            )
            for name in names
        }
    )
    taken = data.draw(st.lists(st.sampled_from(names), unique=True))
    applies = data.draw(st.booleans())

    def call(self, columns):
        found = self.filters.take(*taken).apply(table)
        return batches(found) if data_stream else found

    data_stream = data.draw(st.booleans())
    conforms(sales(call, Schema=table.schema, ApplyFilters=applies))
