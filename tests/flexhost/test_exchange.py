"""DoExchange: functions that are called with batches, over a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from exchanging import AB, NOTHING, Exchange, answers, exchange, of, of_field, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from support import LONG, Client, flight_code, function, serving, until

from flexhost.caller import Caller
from flexhost.frontends import flight_exchange
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.telemetry.events import CallEnded, ExchangeEnded, Refused

NUMBERS = st.none() | st.integers(-(2**62), 2**62 - 1)


def add(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def series(n: int, first: int) -> Iterator[int]:
    yield from range(first, first + n)


def one() -> int:
    return 1


def shouted(text: str | None) -> str | None:
    return text and text.upper()


def long_text(size: int) -> str:
    return "x" * size


def test_each_batch_has_an_answer_of_one_batch():
    with serving(add) as client:
        found = answers(client, [of([1, 2], [3, 4]), of([5], [6])])

    assert [batch.to_pydict() for batch in found] == [{"result": [4, 6]}, {"result": [11]}]


def test_a_client_may_wait_for_each_answer():
    with serving(add) as client:
        asked = Exchange(client, "add")

        assert [asked.ask([n], [n]) for n in range(50)] == [[2 * n] for n in range(50)]
        assert asked.rest() == []


def test_a_client_may_wait_for_the_schema_of_the_answers_before_it_sends():
    with serving(add) as client:
        asked = Exchange(client, "add")

        assert asked.reader.schema == pa.schema([("result", pa.int64())])
        assert asked.ask([1], [1]) == [2]
        asked.rest()


def test_a_client_that_sends_no_batch_is_told_the_schema_of_the_answers():
    with serving(add) as client:
        asked = Exchange(client, "add")

        assert asked.rest() == []
        assert asked.reader.schema.names == ["result"]


def test_nulls_come_and_go():
    with serving(add) as client, exchange(client) as asked:
        assert asked.ask([1, None, 3], [1, 2, None]) == [2, None, None]


def test_a_batch_without_rows_is_answered_without_a_call():
    with serving(add) as client:
        found = answers(client, [of([], []), of([1], [1]), of([], [])])

        assert [batch.num_rows for batch in found] == [0, 1, 0]
        assert found[0].schema.names == ["result"]
        assert client.event(CallEnded).rows == 1
        assert client.event(ExchangeEnded).exchange.batches == 3


def test_a_function_without_arguments_is_called_for_each_row():
    with serving(one) as client:
        found = answers(client, [rows_of(3), rows_of(1)], "one", NOTHING)

    assert [batch.column(0).to_pylist() for batch in found] == [[1, 1, 1], [1]]


def test_a_table_function_says_for_which_row_each_of_its_rows_is():
    with serving(series) as client:
        found = answers(client, [of([2, 0, 1], [0, 0, 0]), of([1], [0])], "series")

    table = pa.Table.from_batches(found)
    assert table.schema.types == [pa.int32(), pa.int64()]
    assert table.to_pydict() == {"row": [0, 0, 2, 0], "result": [0, 1, 0, 0]}


def test_a_batch_that_a_table_function_has_no_rows_for_is_answered_all_the_same():
    with (
        serving(series) as client,
        exchange(client, "series") as asked,
    ):
        assert asked.ask([0, 0], [0, 0]) == []
        assert asked.ask([1, 0], [0, 0]) == [0]


def test_an_answer_of_many_megabytes_is_one_batch():
    schema = pa.schema([("size", pa.int64())])
    with serving(long_text) as client:
        (found,) = answers(client, [of([1000] * 20_000, schema=schema)], "long_text", schema)

    assert found.num_rows == 20_000
    assert found.nbytes > 20_000_000


@settings(max_examples=60, deadline=None)
@given(sent=st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30), max_size=5))
def test_an_exchange_equals_a_loop_in_python(everything, sent):
    batches = [of(*map(list, zip(*rows, strict=True))) if rows else of([], []) for rows in sent]

    found = answers(everything, batches)

    assert [b.column(0).to_pylist() for b in found] == [[add(*row) for row in r] for r in sent]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 20), st.integers(-9, 9)), min_size=1, max_size=30))
def test_an_exchange_with_a_table_function_equals_a_loop_in_python(everything, rows):
    found = answers(everything, [of(*map(list, zip(*rows, strict=True)))], "series")

    given_rows = pa.Table.from_batches(found)
    expected = [(number, item) for number, row in enumerate(rows) for item in series(*row)]
    assert list(zip(*given_rows.to_pydict().values(), strict=True)) == expected


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.none() | st.text(), max_size=30))
def test_texts_go_there_and_back(everything, texts):
    schema = pa.schema([("text", pa.string())])
    (found,) = answers(everything, [of(texts, schema=schema)], "shouted", schema)

    assert found.column(0).to_pylist() == list(map(shouted, texts))


@pytest.fixture(scope="module")
def everything():
    with serving(add, series, shouted) as client:
        yield client


# what it is called with


def test_flight_info_has_the_fields_of_the_arguments_and_then_those_of_the_result():
    with serving(add, series) as client:
        info = client.flight.get_flight_info(fl.FlightDescriptor.for_path("add"), client.options())
        table = client.flight.get_flight_info(fl.FlightDescriptor.for_path("series"))

    assert info.descriptor.path == [b"add"]
    assert info.schema.names == ["a", "b", "result"]
    assert info.schema.metadata == {b"x-databend-udf-input-count": b"2"}
    assert (info.total_records, info.endpoints) == (2, [])
    assert (table.schema.names, table.total_records) == (["n", "first", "row", "result"], 2)


def test_get_schema_of_a_path_answers_the_same_fields():
    with serving(add) as client:
        found = client.flight.get_schema(fl.FlightDescriptor.for_path("add"))

    assert found.schema.names == ["a", "b", "result"]


def test_the_version_of_the_protocol_is_two():
    with serving(add) as client:
        (version,) = client.flight.do_action("protocol_version", client.options())
        actions = client.flight.list_actions()

    assert version.body.to_pybytes() == b"\x02"
    assert "protocol_version" in [action.type for action in actions]


def test_builtin_healthy_answers_one_for_each_row():
    with serving(add) as client:
        (found,) = answers(client, [rows_of(1)], "builtin_healthy", NOTHING)
        info = client.flight.get_flight_info(fl.FlightDescriptor.for_path("builtin_healthy"))

    assert found.column(0).to_pylist() == [1]
    assert (info.total_records, info.schema.types) == (0, [pa.int32()])


def test_builtin_echo_answers_what_was_sent():
    schema = pa.schema([("arg1", pa.string())])
    with serving(add) as client:
        (found,) = answers(client, [of(["x", None], schema=schema)], "builtin_echo", schema)

    assert found.column(0).to_pylist() == ["x", None]


# what can be wrong


def refused(client: Client, name: str = "add", schema: pa.Schema = AB) -> tuple[int, str]:
    """Code and message of an exchange that begins wrong."""
    with pytest.raises(fl.FlightError) as error, exchange(client, name, schema) as asked:
        asked.reader.read_chunk()
    return flight_code(error.value)


def test_what_is_no_function_that_takes_batches_is_refused():
    with serving(add, function(lambda *_: None)) as client:
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
    with serving(add) as client:
        with (
            pytest.raises(fl.FlightServerError, match=told) as error,
            exchange(client, descriptor) as asked,
        ):
            asked.answer()

    assert flight_code(error.value)[0] == 1


def test_columns_of_other_types_are_refused_before_a_batch_comes():
    with serving(add) as client:
        code, text = refused(client, schema=pa.schema([("a", pa.int64()), ("b", pa.string())]))
        assert (code, "argument 'b' is int64, the column has string" in text) == (1, True)
        code, text = refused(client, schema=pa.schema([("a", pa.int64())]))
        assert (code, "takes 2 columns (a, b), it was given 1" in text) == (1, True)
        code, text = refused(client, "builtin_echo", AB)
        assert (code, "builtin_echo takes string, int64, int64 was sent" in text) == (1, True)


def test_the_error_of_a_function_ends_its_exchange_and_no_other():
    def quotient(a: int, b: int) -> int:
        return a // b

    with serving(quotient) as client, exchange(client, "quotient") as other:
        with exchange(client, "quotient") as asked:
            assert asked.ask([4], [2]) == [2]
            with pytest.raises(fl.FlightServerError) as error:
                asked.ask([1, 1], [1, 0])
        assert other.ask([2], [2]) == [1]
        with exchange(client, "quotient") as next_one:
            assert next_one.ask([3], [1]) == [3]

        code, text = flight_code(error.value)
        assert (code, text.partition(" [id")[0]) == (
            5,
            "row 1: ZeroDivisionError: integer division or modulo by zero",
        )
        ended = client.event(ExchangeEnded)
        assert (ended.exchange.batches, ended.error.id in text) == (2, True)


def test_a_batch_that_takes_too_long_is_answered_with_timeout():
    stop = threading.Event()

    def waits(a: int, b: int) -> bool:
        return stop.wait(LONG)

    with serving(waits, deadline=0.2) as client, exchange(client, "waits") as asked:
        with pytest.raises(fl.FlightTimedOutError) as error:
            asked.ask([1], [1])
        stop.set()

    assert flight_code(error.value)[0] == 100


def test_a_full_host_refuses_a_batch_and_says_when_to_come_again():
    stop = threading.Event()

    def waits(a: int, b: int) -> bool:
        return stop.wait(LONG)

    with serving(waits, threads=1, waiting=0) as client, exchange(client, "waits") as first:
        first.send([1], [1])
        until(lambda: client.executor.running)
        with exchange(client, "waits") as second, pytest.raises(fl.FlightUnavailableError) as error:
            second.ask([1], [1])
        stop.set()
        assert first.answer() == [True]

    assert flight_code(error.value)[0] == 102


def test_a_client_is_not_refused_for_its_own_batch_before():
    with serving(add, threads=1, waiting=0) as client, exchange(client) as asked:
        assert [asked.ask([n], [n]) for n in range(200)] == [[2 * n] for n in range(200)]


def test_no_more_exchanges_are_open_than_may_be():
    with serving(add, exchanges=2) as client:
        with exchange(client) as first, exchange(client) as second:
            assert [first.ask([1], [1]), second.ask([2], [2])] == [[2], [4]]
            with pytest.raises(fl.FlightUnavailableError) as error, exchange(client) as third:
                third.ask([3], [3])
        until(lambda: not client.host.exchanges.taken)

        assert flight_code(error.value)[0] == 102
        assert client.event(Refused).error.reason == "max_exchanges"
        assert [b.num_rows for b in answers(client, [of([1], [1])])] == [1]


def test_a_batch_may_have_so_many_bytes():
    with serving(add, batch=1600) as client, exchange(client) as asked:
        assert len(asked.ask([1] * 100, [1] * 100)) == 100
        with pytest.raises(fl.FlightServerError, match="at most 1600 are taken") as error:
            asked.ask([1] * 101, [1] * 101)

    assert flight_code(error.value)[0] == 1


@pytest.mark.parametrize("column", [pa.nulls(1601), None], ids=["one that takes no bytes", "none"])
def test_a_batch_may_have_as_many_rows_as_bytes(column):
    batch = rows_of(1601) if column is None else pa.record_batch([column], names=["a"])
    name = "builtin_healthy" if column is None else "shouted"
    with serving(shouted, batch=1600) as client, exchange(client, name, batch.schema) as asked:
        asked.writer.write_batch(batch)
        with pytest.raises(
            fl.FlightServerError, match="1601 rows, at most 1600 are taken"
        ) as error:
            asked.answer()

    assert flight_code(error.value)[0] == 1


DICTIONARY = pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    "type_",
    [
        DICTIONARY,
        pa.list_(DICTIONARY),
        pa.opaque(DICTIONARY, "name", "vendor"),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_no_dictionaries_are_taken_wherever_they_are(type_):
    with serving(shouted) as client:
        code, message = refused(client, "shouted", pa.schema([("text", type_)]))

    assert (code, "column 'text'" in message) == (1, True)
    assert "neither dictionaries nor run ends are taken" in message


@dataclass
class Text:
    text: str | None


def many_views() -> pa.Array:
    """Of one text of 100 bytes."""
    _, views, *texts = pa.array(["x" * 100], pa.string_view()).buffers()
    views = pa.py_buffer(views.to_pybytes()[:16] * 20)
    return pa.Array.from_buffers(pa.string_view(), 20, [None, views, *texts])


ALL = pa.array([0, 20], pa.int32())


@pytest.mark.parametrize(
    ("hint", "column"),
    [
        (str, many_views()),
        (list[str | None], pa.ListArray.from_arrays(ALL, many_views())),
        (Text, pa.StructArray.from_arrays([many_views()], ["text"])),
        (dict[int, str], pa.MapArray.from_arrays(ALL, pa.array(range(20)), many_views())),
        (
            list[int | None],
            pa.ListArray.from_arrays(pa.array([0, 2000], pa.int32()), pa.nulls(2000)),
        ),
    ],
    ids=str,
)
def test_what_takes_few_bytes_counts_with_what_it_stands_for(hint, column):
    def told(x) -> int:
        return 1

    told.__annotations__["x"] = hint
    batch = pa.record_batch([column], names=["x"])
    with serving(told, batch=4000) as client, exchange(client, "told", batch.schema) as asked:
        asked.writer.write_batch(batch)
        assert set(asked.answer()) == {1}
    with serving(told, batch=1600) as client, exchange(client, "told", batch.schema) as asked:
        asked.writer.write_batch(batch)
        with pytest.raises(fl.FlightServerError, match=r"has 2\d\d\d bytes, at most 1600"):
            asked.answer()


@pytest.mark.parametrize("texts", [[], [None], [None, ""]], ids=str)
def test_views_of_nothing_are_taken(texts):
    batch = pa.record_batch([pa.array(texts, pa.string_view())], names=["text"])
    with serving(shouted) as client:
        (found,) = answers(client, [batch], "shouted", batch.schema)

    assert found.column(0).to_pylist() == texts


def test_a_null_that_is_a_view_of_nothing_is_refused():
    _, views, *seen = pa.array(["x" * 100], pa.string_view()).buffers()
    wild = b"\xff\xff\xff\x7f" * 4
    buffers = [pa.py_buffer(b"\x01"), pa.py_buffer(views.to_pybytes()[:16] + wild), *seen]
    column = pa.Array.from_buffers(pa.string_view(), 2, buffers)
    batch = pa.record_batch([column], names=["text"])

    with serving(shouted) as client, exchange(client, "shouted", batch.schema) as asked:
        asked.writer.write_batch(batch)
        with pytest.raises(fl.FlightServerError, match="cannot be read: .*View at slot 1"):
            asked.answer()


def messages_of(batch: pa.RecordBatch) -> tuple[bytes, bytes]:
    """The headers of its schema and of itself."""
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    source = pa.BufferReader(stream.getvalue())
    schema, written = (pa.ipc.read_message(source).metadata.to_pybytes() for _ in range(2))
    return schema, written


@pytest.mark.parametrize("type_", [pa.int64(), pa.list_(pa.struct([("name", pa.int64())]))])
def test_a_name_that_is_no_text_is_refused(type_):
    named = "name" if pa.types.is_integer(type_) else "list"
    batch = pa.record_batch([pa.array([], type_)], names=[named])
    schema, written = messages_of(batch)
    path = b"\x08\x01" + of_field(3, b"add")
    sent = of_field(1, path) + of_field(2, schema.replace(b"name", b"n\xc2>e"))

    with serving(add) as client, grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
        ask = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")
        with pytest.raises(
            grpc.RpcError, match=r"column 0 has a name in it that is no UTF-8"
        ) as no:
            list(ask(iter([sent, of_field(2, written)]), timeout=LONG))

    assert r"xc2>e'" in no.value.details()


def test_a_buffer_may_be_longer_than_its_views():
    batch = pa.record_batch([pa.array(["x" * 100, "y"], pa.string_view())], names=["text"])
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    source = pa.BufferReader(stream.getvalue())
    schema, written = (pa.ipc.read_message(source) for _ in range(2))
    header = written.metadata.to_pybytes()
    at_0, length, one_more = (n.to_bytes(8, "little") for n in (0, 32, 33))
    longer = header.replace(at_0 + length, at_0 + one_more)
    path = b"\x08\x01" + of_field(3, b"shouted")
    first = of_field(1, path) + of_field(2, schema.metadata.to_pybytes())
    sent = [first, of_field(2, longer) + of_field(1000, written.body.to_pybytes())]

    with serving(shouted) as client, grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
        ask = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")
        _, answered = ask(iter(sent), timeout=LONG)

    assert longer != header
    assert b"X" * 100 in answered


def test_a_batch_with_less_than_no_rows_is_refused():
    schema, batch = messages_of(rows_of(5))
    less = batch.replace((5).to_bytes(8, "little"), (-1).to_bytes(8, "little", signed=True))
    path = b"\x08\x01" + of_field(3, b"one")
    sent = [of_field(1, path) + of_field(2, schema), of_field(2, less)]

    with serving(one) as client, grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
        ask = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")
        with pytest.raises(grpc.RpcError, match="cannot be read: a batch has -1 rows"):
            list(ask(iter(sent), timeout=LONG))


def test_a_batch_that_is_broken_inside_is_refused():
    broken = pa.array([b"no \xff text"]).view(pa.string())
    schema = pa.schema([("text", pa.string())])
    with serving(add) as client, exchange(client, "builtin_echo", schema) as asked:
        asked.writer.write_batch(pa.record_batch([broken], schema=schema))
        with pytest.raises(fl.FlightServerError, match="cannot be read") as error:
            asked.answer()

    assert flight_code(error.value)[0] == 1


def test_a_caller_may_exchange_with_the_functions_that_are_its_own():
    known = Known(Tokens((Digest.of("a-good-token"),)), Caller("ann", ("add",)))
    verifier = EnumeratedTokenVerification([known])
    with serving(add, one, verifier=verifier) as client:
        showing = client.showing("a-good-token")
        assert [b.num_rows for b in answers(showing, [of([1], [1])])] == [1]
        assert refused(showing, "one")[0] == 111
        assert refused(client)[0] == 110


def test_a_token_that_is_removed_is_good_in_an_open_exchange_no_more(monkeypatch):
    monkeypatch.setattr(flight_exchange, "_GOOD_FOR", 0.0)
    callers = [Caller("ann"), Caller("ann", ("add",)), Caller("ann", ("one",))]

    class Verifier:
        def verify(self, call_info, token):
            return callers.pop(0)

    with serving(add, verifier=Verifier()) as client, exchange(client.showing("any")) as asked:
        assert asked.ask([1], [1]) == [2]
        with pytest.raises(fl.FlightUnauthorizedError) as error:
            asked.ask([2], [2])
    assert flight_code(error.value)[0] == 111

    callers += [Caller("ann")]
    with serving(add, verifier=Verifier()) as client, exchange(client.showing("any")) as asked:
        with pytest.raises(fl.FlightUnauthenticatedError) as error:
            asked.ask([1], [1])
    assert flight_code(error.value)[0] == 110
