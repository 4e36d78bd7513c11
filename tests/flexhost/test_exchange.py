"""DoExchange: functions that are called with batches, over a real socket."""

from __future__ import annotations

import threading

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from exchanging import AB, NOTHING, Exchange, answers, exchange, of, rows_of
from over_batches import add, over_batches, series
from support import LONG, Client, flight_code, function, serving, until

from flexhost.caller import Caller
from flexhost.digests import Digest
from flexhost.errors import BadArgument
from flexhost.events import CallEnded, ExchangeEnded, Refused
from flexhost.function import TABLE
from flexhost.tokens import EnumeratedTokenVerification, Known, Tokens


def test_each_batch_has_an_answer_of_one_batch():
    with serving(over_batches(add)) as client:
        found = answers(client, [of([1, 2], [3, 4]), of([5], [6])])

    assert [batch.to_pydict() for batch in found] == [{"result": [4, 6]}, {"result": [11]}]


def test_a_client_may_wait_for_each_answer():
    with serving(over_batches(add)) as client:
        asked = Exchange(client, "add")

        assert [asked.ask([n], [n]) for n in range(50)] == [[2 * n] for n in range(50)]
        assert asked.rest() == []


def test_a_client_may_wait_for_the_schema_of_the_answers_before_it_sends():
    with serving(over_batches(add)) as client:
        asked = Exchange(client, "add")

        assert asked.reader.schema == pa.schema([("result", pa.int64())])
        assert asked.ask([1], [1]) == [2]
        asked.rest()


def test_a_client_that_sends_no_batch_is_told_the_schema_of_the_answers():
    with serving(over_batches(add)) as client:
        asked = Exchange(client, "add")

        assert asked.rest() == []
        assert asked.reader.schema.names == ["result"]


def test_nulls_come_and_go():
    with serving(over_batches(add)) as client, exchange(client) as asked:
        assert asked.ask([1, None, 3], [1, 2, None]) == [2, None, None]


def test_a_batch_without_rows_is_answered_without_a_call():
    with serving(over_batches(add)) as client:
        found = answers(client, [of([], []), of([1], [1]), of([], [])])

        assert [batch.num_rows for batch in found] == [0, 1, 0]
        assert found[0].schema.names == ["result"]
        assert client.event(CallEnded).rows == 1
        assert client.event(ExchangeEnded).exchange.batches == 3


def test_a_function_without_arguments_is_called_for_each_row():
    ones = over_batches(lambda b: pa.array([1] * b.num_rows), "one", NOTHING)
    with serving(ones) as client:
        found = answers(client, [rows_of(3), rows_of(1)], "one", NOTHING)

    assert [batch.column(0).to_pylist() for batch in found] == [[1, 1, 1], [1]]


def test_a_table_function_says_for_which_row_each_of_its_rows_is():
    with serving(over_batches(series, "series", kind=TABLE)) as client:
        found = answers(client, [of([2, 0, 1], [0, 0, 0]), of([1], [0])], "series")

    table = pa.Table.from_batches(found)
    assert table.schema.types == [pa.int32(), pa.int64()]
    assert table.to_pydict() == {"row": [0, 0, 2, 0], "result": [0, 1, 0, 0]}


def test_a_batch_that_a_table_function_has_no_rows_for_is_answered_all_the_same():
    with (
        serving(over_batches(series, "series", kind=TABLE)) as client,
        exchange(client, "series") as asked,
    ):
        assert asked.ask([0, 0], [0, 0]) == []
        assert asked.ask([1, 0], [0, 0]) == [0]


def test_an_answer_of_many_megabytes_is_one_batch():
    texts = over_batches(lambda b: pa.array(["x" * 1000] * b.num_rows), result=pa.string())
    with serving(texts) as client:
        (found,) = answers(client, [of([1] * 20_000, [1] * 20_000)])

    assert found.num_rows == 20_000
    assert found.nbytes > 20_000_000


def test_dictionaries_may_change_from_batch_to_batch():
    codes = pa.dictionary(pa.int32(), pa.string())
    named = over_batches(lambda b: b.column(0).cast(pa.string()).dictionary_encode(), result=codes)
    with serving(named) as client:
        found = answers(client, [of([n, n], [0, 0]) for n in range(3)])

    assert [b.column(0).to_pylist() for b in found] == [["0", "0"], ["1", "1"], ["2", "2"]]


# what it is called with


def test_flight_info_has_the_fields_of_the_arguments_and_then_those_of_the_result():
    with serving(over_batches(add), over_batches(series, "series", kind=TABLE)) as client:
        info = client.flight.get_flight_info(fl.FlightDescriptor.for_path("add"), client.options())
        table = client.flight.get_flight_info(fl.FlightDescriptor.for_path("series"))

    assert info.descriptor.path == [b"add"]
    assert info.schema.names == ["a", "b", "result"]
    assert info.schema.metadata == {b"x-databend-udf-input-count": b"2"}
    assert (info.total_records, info.endpoints) == (2, [])
    assert (table.schema.names, table.total_records) == (["a", "b", "row", "result"], 2)


def test_get_schema_of_a_path_answers_the_same_fields():
    with serving(over_batches(add)) as client:
        found = client.flight.get_schema(fl.FlightDescriptor.for_path("add"))

    assert found.schema.names == ["a", "b", "result"]


def test_the_version_of_the_protocol_is_two():
    with serving(over_batches(add)) as client:
        (version,) = client.flight.do_action("protocol_version", client.options())
        actions = client.flight.list_actions()

    assert version.body.to_pybytes() == b"\x02"
    assert "protocol_version" in [action.type for action in actions]


def test_builtin_healthy_answers_one_for_each_row():
    with serving(over_batches(add)) as client:
        (found,) = answers(client, [rows_of(1)], "builtin_healthy", NOTHING)
        info = client.flight.get_flight_info(fl.FlightDescriptor.for_path("builtin_healthy"))

    assert found.column(0).to_pylist() == [1]
    assert (info.total_records, info.schema.types) == (0, [pa.int32()])


def test_builtin_echo_answers_what_was_sent():
    schema = pa.schema([("arg1", pa.string())])
    with serving(over_batches(add)) as client:
        (found,) = answers(client, [of(["x", None], schema=schema)], "builtin_echo", schema)

    assert found.column(0).to_pylist() == ["x", None]


# what can be wrong


def refused(client: Client, name: str = "add", schema: pa.Schema = AB) -> tuple[int, str]:
    """Code and message of an exchange that begins wrong."""
    with pytest.raises(fl.FlightError) as error, exchange(client, name, schema) as asked:
        asked.reader.read_chunk()
    return flight_code(error.value)


def test_what_is_no_function_that_takes_batches_is_refused():
    with serving(over_batches(add), function(lambda *_: None)) as client:
        code, text = refused(client, "subtract")
        assert (code, "no function is named 'subtract'" in text) == (1, True)
        code, text = refused(client, "numbers")
        assert (code, "'numbers' takes parameters" in text) == (1, True)


@pytest.mark.parametrize(
    ("descriptor", "told"),
    [
        (fl.FlightDescriptor.for_command(b"add"), "expected the name of a function"),
        (fl.FlightDescriptor.for_path("a", "b"), "the path has 2 parts, expected one"),
    ],
)
def test_a_descriptor_has_to_be_a_path_of_one_name(descriptor, told):
    with serving(over_batches(add)) as client:
        with (
            pytest.raises(fl.FlightServerError, match=told) as error,
            exchange(client, descriptor) as asked,
        ):
            asked.answer()

    assert flight_code(error.value)[0] == 1


def test_columns_of_other_types_are_refused_before_a_batch_comes():
    with serving(over_batches(add)) as client:
        code, text = refused(client, schema=pa.schema([("a", pa.int64()), ("b", pa.string())]))
        assert (code, "column 'b' is string, expected int64" in text) == (1, True)
        code, text = refused(client, "builtin_echo", AB)
        assert (code, "builtin_echo takes string, int64, int64 was sent" in text) == (1, True)


def test_the_error_of_a_function_ends_its_exchange_and_no_other():
    def fails(batch):
        if 13 in batch.column(0).to_pylist():
            raise BadArgument("a", "13 is not served")
        return add(batch)

    with serving(over_batches(fails)) as client, exchange(client) as other:
        with exchange(client) as asked:
            assert asked.ask([1], [1]) == [2]
            with pytest.raises(fl.FlightServerError) as error:
                asked.ask([13], [1])
        assert other.ask([2], [2]) == [4]
        with exchange(client) as next_one:
            assert next_one.ask([3], [3]) == [6]

        code, text = flight_code(error.value)
        assert (code, "a: 13 is not served" in text) == (1, True)
        ended = client.event(ExchangeEnded)
        assert (ended.exchange.batches, ended.error.id in text) == (2, True)


def test_an_answer_of_too_few_values_is_refused():
    with serving(over_batches(lambda b: pa.array([1]))) as client, exchange(client) as asked:
        with pytest.raises(fl.FlightServerError, match="gave 1 values for a batch of 2 rows") as e:
            asked.ask([1, 2], [1, 2])

    assert flight_code(e.value)[0] == 5


def test_a_batch_that_takes_too_long_is_answered_with_timeout():
    stop = threading.Event()
    waits = over_batches(lambda b: stop.wait(LONG) and add(b), deadline=0.2)
    with serving(waits) as client, exchange(client) as asked:
        with pytest.raises(fl.FlightTimedOutError) as error:
            asked.ask([1], [1])
        stop.set()

    assert flight_code(error.value)[0] == 100


def test_a_full_host_refuses_a_batch_and_says_when_to_come_again():
    stop = threading.Event()
    waits = over_batches(lambda b: stop.wait(LONG) and add(b))
    with serving(waits, threads=1, waiting=0) as client, exchange(client) as first:
        first.send([1], [1])
        until(lambda: client.executor.running)
        with exchange(client) as second, pytest.raises(fl.FlightUnavailableError) as error:
            second.ask([1], [1])
        stop.set()
        assert first.answer() == [2]

    assert flight_code(error.value)[0] == 102


def test_no_more_exchanges_are_open_than_may_be():
    with serving(over_batches(add), exchanges=2) as client:
        with exchange(client) as first, exchange(client) as second:
            assert [first.ask([1], [1]), second.ask([2], [2])] == [[2], [4]]
            with pytest.raises(fl.FlightUnavailableError) as error, exchange(client) as third:
                third.ask([3], [3])
        until(lambda: not client.host.exchanges.taken)

        assert flight_code(error.value)[0] == 102
        assert client.event(Refused).error.reason == "max_exchanges"
        assert [b.num_rows for b in answers(client, [of([1], [1])])] == [1]


def test_a_batch_may_have_so_many_bytes():
    with serving(over_batches(add), batch=1600) as client, exchange(client) as asked:
        assert len(asked.ask([1] * 100, [1] * 100)) == 100
        with pytest.raises(fl.FlightServerError, match="at most 1600 are taken") as error:
            asked.ask([1] * 101, [1] * 101)

    assert flight_code(error.value)[0] == 1


def test_a_batch_that_is_broken_inside_is_refused():
    broken = pa.array([b"no \xff text"]).view(pa.string())
    schema = pa.schema([("text", pa.string())])
    with serving(over_batches(add)) as client, exchange(client, "builtin_echo", schema) as asked:
        asked.writer.write_batch(pa.record_batch([broken], schema=schema))
        with pytest.raises(fl.FlightServerError, match="cannot be read") as error:
            asked.answer()

    assert flight_code(error.value)[0] == 1


def test_a_caller_may_exchange_with_the_functions_that_are_its_own():
    known = Known(Tokens((Digest.of("a-good-token"),)), Caller("ann", ("add",)))
    verifier = EnumeratedTokenVerification([known])
    with serving(over_batches(add), over_batches(add, "other"), verifier=verifier) as client:
        showing = client.showing("a-good-token")
        assert [b.num_rows for b in answers(showing, [of([1], [1])])] == [1]
        assert refused(showing, "other")[0] == 111
        assert refused(client)[0] == 110
