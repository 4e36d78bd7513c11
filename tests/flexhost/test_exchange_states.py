"""Exchanges that are left, not read, many at once, or open when their host stops."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator

import grpc
import pyarrow.flight as fl
import pytest
from exchanging import Exchange, answers, exchange, of
from support import LONG, Client, flight_code, process, serving, until

from flexhost.telemetry.events import CallEnded, ExchangeEnded


def add(a: int, b: int) -> int:
    return a + b


def megabyte(a: int, b: int) -> str:
    called.append(a)
    return "x" * 1_000_000


called: list[int] = []


class Waiting:
    """A function that waits until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()

        def waits(a: int, b: int) -> int:
            assert self.go_on.wait(LONG)
            return a + b

        self.function = waits


@pytest.fixture
def waiting():
    made = Waiting()
    yield made
    made.go_on.set()


def test_a_call_is_stopped_when_its_client_leaves(waiting):
    with serving(waiting.function) as client:
        with exchange(client, "waits") as asked:
            asked.send([1], [1])
            until(lambda: client.executor.running)

        assert client.event(CallEnded).call.error.code == "COMMAND_CANCELLED"
        assert client.event(ExchangeEnded).error.code == "COMMAND_CANCELLED"
        waiting.go_on.set()


def test_a_generator_is_closed_when_its_client_leaves():
    closed = threading.Event()

    def endless(a: int, b: int) -> Iterator[str]:
        try:
            while True:
                yield "x" * 1000
        finally:
            closed.set()

    with serving(endless) as client:
        with exchange(client, "endless") as asked:
            asked.send([1], [1])
            assert asked.answer()[0] == "x" * 1000

        assert closed.wait(LONG)
        until(lambda: not client.host.exchanges.taken)
        assert client.results.open == []


def test_the_function_is_not_called_for_who_does_not_read():
    called.clear()
    with serving(megabyte) as client, exchange(client, "megabyte") as asked:
        for _ in range(200):  # all of which fits into what gRPC takes ahead
            asked.send([1], [1])
        until(lambda: [one for one in client.host.exchanges if one.given_at])

        assert len(called) < 20
        assert [len(asked.answer()) for _ in range(200)] == [1] * 200


def test_who_takes_nothing_more_is_cut_off():
    with serving(megabyte, stall=0.2) as client:
        with exchange(client, "megabyte") as asked:
            for _ in range(50):
                asked.send([1], [1])
            until(lambda: not client.host.exchanges.taken)

        assert client.event(ExchangeEnded).error.code == "COMMAND_CANCELLED"


def test_an_exchange_that_sends_nothing_has_its_place_and_gives_it_back():
    over = threading.Event()
    nothing = iter(lambda: over.wait(LONG), True)  # until the end of the test
    with (
        serving(add, exchanges=1) as client,
        grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel,
    ):
        ask = channel.stream_stream("/arrow.flight.protocol.FlightService/DoExchange")
        silent = ask(nothing, timeout=LONG)
        until(lambda: client.host.exchanges.taken)
        with pytest.raises(fl.FlightUnavailableError, match="1 exchanges are open"):
            answers(client, [of([1], [1])])
        silent.cancel()
        over.set()

        until(lambda: not client.host.exchanges.taken)
        assert [b.num_rows for b in answers(client, [of([1], [1])])] == [1]


def test_many_exchanges_run_at_once():
    with serving(add, threads=4, waiting=100) as client:
        others = [Client(client.port) for _ in range(4)]
        asked = [Exchange(others[n % 4], "add") for n in range(60)]
        for turn in range(5):
            for n, one in enumerate(asked):
                one.send([n], [turn])
            assert [one.answer() for one in asked] == [[n + turn] for n in range(60)]
        for one in asked:
            assert one.rest() == []

        until(lambda: not client.host.exchanges.taken)
        until(lambda: client.frontend.under_way == 0)


def test_exchanges_of_threads_keep_to_themselves():
    wrong = []

    def asks(number: int, client: Client) -> None:
        for turn in range(20):
            found = answers(client, [of([number, n], [turn, 0]) for n in range(5)])
            if [b.column(0).to_pylist() for b in found] != [[number + turn, n] for n in range(5)]:
                wrong.append((number, turn, found))

    with serving(add, waiting=100) as client:
        threads = [threading.Thread(target=asks, args=(n, Client(client.port))) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

    assert wrong == []


def test_a_stopping_host_answers_what_it_accepted_and_then_ends_the_exchange(waiting):
    with serving(waiting.function) as client, exchange(client, "waits") as asked:
        asked.send([1], [1])
        until(lambda: client.executor.running)
        draining = threading.Thread(target=client.host.drain, args=(LONG,))
        draining.start()
        until(lambda: not client.host.ready)
        waiting.go_on.set()

        assert asked.answer() == [2]
        with pytest.raises(fl.FlightUnavailableError) as error:
            asked.answer()
        draining.join(LONG)

    assert not draining.is_alive()
    assert flight_code(error.value)[0] == 502


def test_a_stopping_host_takes_no_exchange_and_does_not_wait_for_one_that_is_idle():
    with serving(add) as client, exchange(client) as idle:
        assert idle.ask([1], [1]) == [2]
        client.host.drain(LONG)
        with pytest.raises(fl.FlightUnavailableError) as error, exchange(client) as late:
            late.ask([1], [1])

    assert flight_code(error.value)[0] == 502


def test_a_call_that_a_stopping_host_cannot_wait_for_ends_with_shutting_down(waiting):
    with serving(waiting.function) as client, exchange(client, "waits") as asked:
        asked.send([1], [1])
        until(lambda: client.executor.running)
        client.host.drain(0.0)
        with pytest.raises(fl.FlightUnavailableError) as error:
            asked.answer()
        waiting.go_on.set()

    assert flight_code(error.value)[0] == 502


FUNCTIONS = """
def add(a: int, b: int) -> int:
    return a + b

def quotient(a: int, b: int) -> int:
    return a // b
"""


@pytest.fixture
def started(tmp_path):
    with process(tmp_path, udfs=FUNCTIONS) as host:
        yield host


def test_an_exchange_has_one_line_of_the_log_and_a_failed_call_its_own(started):
    client = Client(started.port())
    assert len(answers(client, [of([1, 2], [1, 2])] * 3)) == 3
    with exchange(client, "quotient") as asked, pytest.raises(fl.FlightServerError):
        asked.ask([1], [0])

    whole = json.loads(started.line('"event":"exchange"').string)
    failed = json.loads(started.line('"outcome":"failed"').string)
    ended = json.loads(started.line('"event":"exchange"').string)
    assert (whole["batches"], whole["rows"], whole["answered_rows"]) == (3, 6, 6)
    assert (whole["function"], whole["outcome"]) == ("add", "ok")
    assert failed["exchange_id"] == ended["exchange_id"]
    assert (ended["outcome"], ended["call_id"]) == ("command_failed", failed["call_id"])
    assert '"event":"call"' not in "\n".join(started.lines[:-2])


def test_a_process_with_idle_exchanges_ends_at_once(started):
    client = Client(started.port())
    with exchange(client) as idle, exchange(Client(client.port)) as other:
        assert [idle.ask([1], [1]), other.ask([2], [2])] == [[2], [4]]
        started.process.send_signal(signal.SIGTERM)
        with pytest.raises(fl.FlightUnavailableError):
            idle.answer()
        status, log = started.ended()

    assert status == 0
    assert log.endswith('"stopped"}')
