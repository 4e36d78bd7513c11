"""The wire: ListFlights, GetSchema, GetFlightInfo and DoGet over a real socket."""

from __future__ import annotations

import json
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, ROOT, SCHEMA, Client, command, flight_code, function, serving

from flexhost.telemetry.events import ReadEnded

AB = pa.schema([("a", pa.string()), ("b", pa.int64())], metadata={"of": "the schema"})


def numbers(parameters, columns, headers):
    return pa.table({"n": list(range(parameters.get("upto", 3)))}, schema=SCHEMA)


def stream(parameters, columns, headers):
    batches = [pa.record_batch({"n": pa.array([n])}) for n in range(3)]
    return pa.RecordBatchReader.from_batches(SCHEMA, iter(batches))


def test_a_call_returns_the_rows_of_the_function():
    with serving(function(numbers)) as client:
        assert client.call(upto=4).to_pydict() == {"n": [0, 1, 2, 3]}


def test_list_flights_shows_each_function_with_its_schema_and_metadata():
    described = function(numbers)
    described.Metadata = {"for": "a test"}
    with serving(described, function(numbers, "other", AB)) as client:
        infos = list(client.flight.list_flights(b"\xff any criteria"))

    assert [json.loads(info.descriptor.command) for info in infos] == [
        {"functionName": "numbers", "metadata": {"for": "a test"}},
        {"functionName": "other", "metadata": None},
    ]
    assert infos[1].schema.equals(AB, check_metadata=True)
    assert [(i.endpoints, i.total_records, i.total_bytes) for i in infos] == [([], -1, -1)] * 2


def test_get_schema_answers_the_declared_schema():
    with serving(function(numbers, schema=AB)) as client:
        answer = client.flight.get_schema(fl.FlightDescriptor.for_command(command()))

    assert answer.schema.equals(AB, check_metadata=True)


def test_get_flight_info_tells_what_will_come():
    with serving(function(numbers)) as client:
        sent = b' {"functionName":"numbers", "parameters": {"upto": 5}, "more": 1}'
        before = time.time()
        info = client.info(sent)

        assert info.descriptor.command == sent
        assert info.schema == SCHEMA
        assert (info.total_records, info.total_bytes) == (5, 40)
        (endpoint,) = info.endpoints
        assert set(json.loads(endpoint.ticket.ticket)) == {"task_id"}
        assert endpoint.locations == [client.frontend.location]
        assert 55 < endpoint.expiration_time.as_py().timestamp() - before < 65


def test_the_size_of_a_stream_is_not_known():
    with serving(function(stream)) as client:
        info = client.info(command())

    assert (info.total_records, info.total_bytes) == (-1, -1)


def test_the_advertised_location_is_the_one_asked_for():
    with serving(function(numbers), advertise=("flex.example", 1234)) as client:
        info = client.info(command())

    assert info.endpoints[0].locations == [fl.Location("grpc://flex.example:1234")]


def test_a_table_can_be_read_many_times():
    with serving(function(numbers)) as client:
        ticket = client.ticket()

        assert [client.read(ticket).num_rows for _ in range(3)] == [3, 3, 3]


def test_a_stream_can_be_read_once():
    with serving(function(stream)) as client:
        ticket = client.ticket()
        assert client.read(ticket).to_pydict() == {"n": [0, 1, 2]}

        with pytest.raises(fl.FlightServerError) as error:
            client.read(ticket)
        assert flight_code(error.value)[0] == 8


def test_parameters_columns_and_headers_reach_the_function():
    seen = []
    with serving(function(lambda *given: seen.append(given) or numbers(*given))) as client:
        client.info(command(columns=["n"], city="Brno"), {"x-one": "1"})
        client.info(command(columns=[]))
        client.info(b'{"functionName": "numbers", "parameters": null}')

    parameters, columns, headers = seen[0]
    assert (parameters, columns) == ({"columns": ["n"], "city": "Brno"}, ("n",))
    assert headers["x-one"] == ["1"]
    assert [columns for _, columns, _ in seen[1:]] == [None, None]
    assert seen[2][0] == {}


def test_a_result_is_fitted_to_its_declaration():
    shuffled = {"z": [0], "b": pa.array([1], pa.int32()), "a": ["x"]}
    with serving(function(lambda *_: pa.table(shuffled), schema=AB)) as client:
        assert client.info(command()).schema.equals(AB, check_metadata=True)
        assert client.call().to_pydict() == {"a": ["x"], "b": [1]}


@pytest.mark.parametrize("result", [lambda t: t, lambda t: t.to_reader()], ids=["table", "stream"])
def test_a_result_has_the_hinted_columns_in_the_order_of_the_hint(result):
    table = pa.table({"a": ["x"], "b": [1]})
    with serving(function(lambda *_: result(table), schema=AB)) as client:
        assert client.info(command(columns=["b"])).schema.names == ["b"]
        assert client.call(columns=["b", "a"]).column_names == ["b", "a"]


def test_dictionary_columns_that_change_between_batches_survive_a_stream():
    type_ = pa.dictionary(pa.int32(), pa.string())
    schema = pa.schema([("d", type_)])
    batches = [pa.record_batch([pa.array(v, type_)], schema) for v in (["a", "b"], ["c"], ["a"])]
    made = function(
        lambda *_: pa.RecordBatchReader.from_batches(schema, iter(batches)), schema=schema
    )
    with serving(made) as client:
        assert client.call().column("d").to_pylist() == ["a", "b", "c", "a"]


def test_thousands_of_empty_batches_in_a_row_are_passed_over():
    empty = pa.record_batch({"n": pa.array([], pa.int64())})
    some = pa.record_batch({"n": pa.array([7])})
    made = function(
        lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, iter([empty] * 2000 + [some]))
    )
    with serving(made) as client:
        assert client.call().to_pydict() == {"n": [7]}


def test_a_stream_without_rows_is_an_empty_table():
    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, iter([])))
    with serving(made) as client:
        assert client.call().schema == SCHEMA


def test_the_generator_of_a_stream_that_is_left_halfway_is_closed():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield pa.record_batch({"n": pa.array(range(100_000))})
        finally:
            closed.set()

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, endless()))
    with serving(made) as client:
        reader = client.flight.do_get(client.ticket())
        reader.read_chunk()
        reader.cancel()

        assert closed.wait(LONG)
        assert not client.event(ReadEnded).complete
        assert client.results.open == []


def test_the_samples_of_a_bi_backend_are_answered(tmp_path):
    from flexfun.sample_function import SampleFlexFunction

    with serving(SampleFlexFunction) as client:
        for name, columns in (
            ("report_request", ["attribute1", "fact1"]),
            ("label_elements_request", ["attribute2"]),
        ):
            request = (ROOT / "tests" / "flexhost" / "samples" / f"{name}.json").read_bytes()
            info = client.info(request)

            table = client.read(info.endpoints[0].ticket)
            assert (table.column_names, table.num_rows) == (columns, 6)


def test_calls_of_many_clients_at_once_each_get_their_own_rows():
    with serving(function(numbers), threads=3, waiting=200) as client:
        counts: dict[int, int] = {}

        def one(upto: int) -> None:
            counts[upto] = Client(client.frontend.port).call(upto=upto).num_rows

        threads = [threading.Thread(target=one, args=[n]) for n in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

    assert counts == {n: n for n in range(40)}
