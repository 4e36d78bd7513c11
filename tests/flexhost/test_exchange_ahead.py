"""Exchanges of a client that sends on without waiting for answers, and says so."""

from __future__ import annotations

import threading

import pyarrow.flight as fl
import pytest
from exchanging import exchange
from support import LONG, flight_code, serving, until

from flexhost import udf
from flexhost.frontends import flight_exchange
from flexhost.telemetry.events import ExchangeEnded

AHEAD = {"x_flexhost_ahead": "1"}


def answered(asked) -> list[list[int]]:
    return [batch.column(0).to_pylist() for batch in asked.rest()]


@pytest.mark.parametrize("header", ["x_flexhost_ahead", "x_databend_query_id"])
def test_its_batches_run_at_once_and_are_answered_in_order(header):
    second_is_through = threading.Event()

    def waits(a: int, b: int) -> int:
        assert second_is_through.wait(LONG) if a == 1 else True
        second_is_through.set()
        return a + b

    with serving(waits) as client, exchange(client, "waits", **{header: "1"}) as asked:
        for n in range(1, 7):
            asked.send([n], [n])
        assert answered(asked) == [[2 * n] for n in range(1, 7)]


def test_no_more_than_two_batches_are_ahead_of_the_answers():
    called, go_on = [], threading.Semaphore(0)

    def waits(a: int, b: int) -> int:
        called.append(a)
        assert go_on.acquire(timeout=LONG)
        return a

    with serving(waits, threads=8) as client, exchange(client, "waits", **AHEAD) as asked:
        for n in range(6):
            asked.send([n], [n])
        until(lambda: len(called) == 2)
        for _ in range(6):
            assert client.executor.running <= 2
            go_on.release()
        assert answered(asked) == [[n] for n in range(6)]


def test_a_function_that_runs_once_at_a_time_does_so_here():
    running = []

    @udf(max_running=1)
    def alone(a: int, b: int) -> int:
        running.append(a)
        assert running == [a]
        running.remove(a)
        return a

    with serving(alone) as client, exchange(client, "alone", **AHEAD) as asked:
        for n in range(20):
            asked.send([n], [n])
        assert answered(asked) == [[n] for n in range(20)]


def test_where_there_is_room_for_one_call_the_next_batch_waits_for_it():
    def add(a: int, b: int) -> int:
        return a + b

    with serving(add, threads=1, waiting=0) as client, exchange(client, **AHEAD) as asked:
        for n in range(30):
            asked.send([n], [n])
        assert answered(asked) == [[2 * n] for n in range(30)]


def test_a_batch_is_refused_when_others_have_taken_all_room():
    go_on = threading.Event()

    def waits(a: int, b: int) -> int:
        assert go_on.wait(LONG)
        return a

    with serving(waits, threads=1, waiting=0) as client, exchange(client, "waits") as other:
        other.send([1], [1])
        until(lambda: client.executor.running)
        with exchange(client, "waits", **AHEAD) as asked:
            asked.send([2], [2])
            with pytest.raises(fl.FlightUnavailableError) as error:
                asked.rest()
        go_on.set()
        assert other.answer() == [1]

    assert flight_code(error.value)[0] == 102


def quotient(a: int, b: int) -> int:
    return a // b


def test_what_came_before_a_failure_is_answered():
    all_sent = threading.Event()

    def slow_quotient(a: int, b: int) -> int:
        assert all_sent.wait(LONG)
        return a // b

    with serving(slow_quotient) as client, exchange(client, "slow_quotient", **AHEAD) as asked:
        for n in (2, 1, 0, 1, 1, 1):
            asked.send([2], [n])
        asked.writer.done_writing()
        all_sent.set()
        assert [asked.answer(), asked.answer()] == [[1], [2]]
        with pytest.raises(fl.FlightServerError, match="row 0: ZeroDivisionError"):
            asked.answer()

        assert client.event(ExchangeEnded).error.code == "COMMAND_FAILED"
        until(lambda: not client.host.at_work)


def test_who_waits_for_an_answer_all_the_same_is_let_go(monkeypatch):
    monkeypatch.setattr(flight_exchange, "_PATIENCE", 0.1)
    with serving(quotient) as client, exchange(client, "quotient", **AHEAD) as asked:
        assert asked.ask([4], [2]) == [2]  # is served until something fails
        with pytest.raises(fl.FlightUnavailableError):
            asked.ask([1], [0])

        assert client.event(ExchangeEnded).error.code == "COMMAND_FAILED"


def test_its_calls_are_stopped_when_it_leaves():
    go_on = threading.Event()

    def waits(a: int, b: int) -> int:
        assert go_on.wait(LONG)
        return a

    with serving(waits) as client:
        with exchange(client, "waits", **AHEAD) as asked:
            asked.send([1], [1])
            asked.send([2], [2])
            until(lambda: client.executor.running == 2)

        assert client.event(ExchangeEnded).error.code == "COMMAND_CANCELLED"
        go_on.set()
