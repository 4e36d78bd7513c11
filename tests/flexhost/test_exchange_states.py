"""Exchanges that are left, not read, many at once, or open when their host stops."""

from __future__ import annotations

import threading

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from exchanging import Exchange, answers, exchange, of
from over_batches import add, over_batches
from support import LONG, Client, flight_code, serving, until

from flexhost.events import CallEnded, ExchangeEnded
from flexhost.function import TABLE


def test_a_call_is_stopped_when_its_client_leaves():
    stop, asked_to_stop = threading.Event(), threading.Event()

    def waits(batch):
        stop.wait(LONG)
        return add(batch)

    waits.cancel = lambda: asked_to_stop.set() or stop.set()
    with serving(over_batches(waits)) as client:
        with exchange(client) as asked:
            asked.send([1], [1])
            until(lambda: client.executor.running)

        assert asked_to_stop.wait(LONG)
        assert client.event(CallEnded).call.error.code == "COMMAND_CANCELLED"
        assert client.event(ExchangeEnded).error.code == "COMMAND_CANCELLED"


def test_a_generator_is_closed_when_its_client_leaves():
    closed = threading.Event()

    def endless(batch):
        try:
            while True:
                yield pa.record_batch({"row": pa.array([0] * 99_999, pa.int32()), "result": NINES})
        finally:
            closed.set()

    with serving(over_batches(endless, kind=TABLE)) as client:
        with exchange(client) as asked:
            asked.send([1], [1])
            assert len(asked.answer()) == 99_999

        assert closed.wait(LONG)
        until(lambda: not client.host.exchanges.taken)
        assert client.results.open == []


NINES = pa.array([9] * 99_999, pa.int64())


def test_the_function_is_not_called_for_who_does_not_read():
    called = []

    def large(batch):
        called.append(batch)
        return pa.array(["x" * 1_000_000] * batch.num_rows)

    with serving(over_batches(large, result=pa.string())) as client, exchange(client) as asked:
        for _ in range(200):  # all of which fits into what gRPC takes ahead
            asked.send([1], [1])
        until(lambda: [one for one in client.host.exchanges if one.given_at])

        assert len(called) < 20
        assert [len(asked.answer()) for _ in range(200)] == [1] * 200


def test_who_takes_nothing_more_is_cut_off():
    def large(batch):
        return pa.array(["x" * 1_000_000] * batch.num_rows)

    with serving(over_batches(large, result=pa.string()), stall=0.2) as client:
        with exchange(client) as asked:
            for _ in range(50):
                asked.send([1], [1])
            until(lambda: not client.host.exchanges.taken)

        assert client.event(ExchangeEnded).error.code == "COMMAND_CANCELLED"


def test_many_exchanges_run_at_once():
    with serving(over_batches(add), threads=4, waiting=100) as client:
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

    with serving(over_batches(add), waiting=100) as client:
        threads = [threading.Thread(target=asks, args=(n, Client(client.port))) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)

    assert wrong == []


def test_a_stopping_host_answers_what_it_accepted_and_then_ends_the_exchange():
    go_on = threading.Event()
    with serving(over_batches(lambda b: go_on.wait(LONG) and add(b))) as client:
        with exchange(client) as asked:
            asked.send([1], [1])
            until(lambda: client.executor.running)
            draining = threading.Thread(target=client.host.drain, args=(LONG,))
            draining.start()
            until(lambda: not client.host.ready)
            go_on.set()

            assert asked.answer() == [2]
            with pytest.raises(fl.FlightUnavailableError) as error:
                asked.answer()
            draining.join(LONG)
            assert not draining.is_alive()

    assert flight_code(error.value)[0] == 502


def test_a_stopping_host_takes_no_exchange_and_does_not_wait_for_one_that_is_idle():
    with serving(over_batches(add)) as client, exchange(client) as idle:
        assert idle.ask([1], [1]) == [2]
        client.host.drain(LONG)
        with pytest.raises(fl.FlightUnavailableError) as error, exchange(client) as late:
            late.ask([1], [1])

    assert flight_code(error.value)[0] == 502


def test_a_call_that_a_stopping_host_cannot_wait_for_ends_with_shutting_down():
    stop = threading.Event()
    with serving(over_batches(lambda b: stop.wait(LONG) and add(b))) as client:
        with exchange(client) as asked:
            asked.send([1], [1])
            until(lambda: client.executor.running)
            client.host.drain(0.0)
            with pytest.raises(fl.FlightUnavailableError) as error:
                asked.answer()
        stop.set()

    assert flight_code(error.value)[0] == 502
