"""Polling and cancellation, as a FLIGHTRPC data source speaks them, over a real socket."""

from __future__ import annotations

import base64
import json
import threading
import time

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, SCHEMA, command, flight_code, function, serving, until

from flexhost.frontends import flight_wire
from flexhost.host import POLL_PATIENCE
from flexhost.telemetry.events import CallEnded

POLLABLE = {"x-quiver-pollable": "yes"}


class Gate:
    """A function that runs until it is opened, and counts what is done to it."""

    def __init__(self):
        self.opened = threading.Event()
        self.started = threading.Event()
        self.cancels = []
        gate = self

        def call(parameters, columns, headers):
            gate.started.set()
            gate.opened.wait(LONG)
            return pa.table({"n": [1, 2, 3]}, schema=SCHEMA)

        class Gated(function(call)):
            def cancel(self):
                gate.cancels.append(self)
                if not gate.deaf:
                    gate.opened.set()
                return False

        self.deaf = False
        self.function = Gated


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.opened.set()


def poll(client, data):
    """The FlightInfo, or how to go on: the commands to retry and to cancel with."""
    try:
        return client.info(data, POLLABLE), None, None
    except fl.FlightTimedOutError as error:
        info = json.loads(error.extra_info)
        assert info["code"] == 101 | 0x1_0000
        body = json.loads(base64.b64decode(info["body"]))
        assert body["flight_info"] is None
        retry, cancel = (
            fl.FlightDescriptor.deserialize(base64.b64decode(body[key])).command
            for key in ("retry_descriptor", "cancel_descriptor")
        )
        return None, retry, cancel


def cancel(client, data):
    with pytest.raises(fl.FlightCancelledError) as error:
        client.info(data, POLLABLE)
    return flight_code(error.value)[0]


def test_a_call_that_is_ready_within_the_interval_is_answered_at_once():
    fast = function(lambda *_: pa.table({"n": [1]}))
    with serving(fast, poll=LONG) as client:
        info, _, _ = poll(client, command())

    assert info.total_records == 1


def test_a_call_that_is_not_ready_is_polled_until_it_is(gate):
    sent = command(upto=7)
    with serving(gate.function, poll=0.05) as client:
        info, retry, abandon = poll(client, sent)
        assert info is None
        assert (retry[:2], abandon[:2]) == (b"r:", b"c:")
        for _ in range(3):
            assert poll(client, retry)[:2] == (None, retry)

        gate.opened.set()
        while info is None:
            info, _, _ = poll(client, retry)

        assert info.descriptor.command == sent
        assert client.read(info.endpoints[0].ticket).num_rows == 3


def test_a_retry_after_the_result_was_told_tells_it_again(gate):
    gate.opened.set()
    with serving(gate.function, poll=LONG) as client:
        info, _, _ = poll(client, command())
        retry = b"r:" + json.loads(info.endpoints[0].ticket.ticket)["task_id"].encode()

        again, _, _ = poll(client, retry)

    assert again.endpoints[0].ticket == info.endpoints[0].ticket


def test_without_the_header_a_call_is_waited_for(gate):
    with serving(gate.function, poll=0.05) as client:
        _, retry, _ = poll(client, command())
        opening = threading.Thread(target=lambda: (gate.started.wait(LONG), gate.opened.set()))
        opening.start()

        assert client.info(retry).total_records == 3
        opening.join(LONG)


def test_a_cancel_ends_the_call_and_is_answered_the_same_however_often(gate):
    with serving(gate.function, poll=0.05) as client:
        _, retry, abandon = poll(client, command())

        assert [cancel(client, abandon) for _ in range(3)] == [6, 6, 6]
        assert client.event(CallEnded).call.error.code == "COMMAND_CANCELLED"
        until(lambda: gate.cancels)
        with pytest.raises(fl.FlightServerError) as error:
            client.info(retry, POLLABLE)
        assert flight_code(error.value)[0] == 6
        until(lambda: client.host.at_work == 0)

    assert len(gate.cancels) == 1


def test_a_poll_under_way_learns_of_the_cancel(gate):
    with serving(gate.function, poll=LONG) as client:
        errors = []

        def wait():
            try:
                client.info(command(), POLLABLE)
            except fl.FlightServerError as error:
                errors.append(flight_code(error)[0])

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert gate.started.wait(LONG)
        (call,) = client.host._open
        cancel(client, b"c:" + call.id.encode())
        waiting.join(LONG)

    assert errors == [6]


def test_a_cancelled_call_yields_no_data_also_when_it_was_ready_already():
    fast = function(lambda *_: pa.table({"n": [1]}))
    with serving(fast, poll=LONG) as client:
        info, _, _ = poll(client, command())
        ticket = info.endpoints[0].ticket
        call_id = json.loads(ticket.ticket)["task_id"].encode()

        assert cancel(client, b"c:" + call_id) == 6

        with pytest.raises(fl.FlightServerError) as error:
            client.read(ticket)
        assert flight_code(error.value)[0] == 4
        with pytest.raises(fl.FlightServerError) as error:
            client.info(b"r:" + call_id, POLLABLE)
        assert flight_code(error.value)[0] == 1


def test_the_result_of_a_function_that_ignores_its_cancel_is_thrown_away(gate):
    gate.deaf = True
    with serving(gate.function, poll=0.05) as client:
        _, _, abandon = poll(client, command())
        assert cancel(client, abandon) == 6
        until(lambda: gate.cancels)

        gate.opened.set()
        until(lambda: client.host.at_work == 0)

        ticket = flight_wire.encode_ticket(abandon[2:].decode())
        with pytest.raises(fl.FlightServerError, match="cancelled by its caller"):
            client.read(ticket)


@pytest.mark.parametrize("unknown", [b"c:nobody", b"c:", b"c:\xff\xfe", b"c:" + b"x" * 5000])
def test_a_cancel_of_a_call_that_is_not_known_is_answered_as_cancelled(unknown):
    with serving(function(lambda *_: None)) as client:
        assert cancel(client, unknown) == 6


@pytest.mark.parametrize("unknown", [b"r:nobody", b"r:", b"r:\xff\xfe", b"r:" + b"x" * 5000])
def test_a_retry_of_a_call_that_is_not_known_is_a_bad_argument(unknown):
    with serving(function(lambda *_: None)) as client:
        with pytest.raises(fl.FlightServerError) as error:
            client.info(unknown, POLLABLE)

    assert flight_code(error.value)[0] == 1


def test_the_deadline_holds_across_polls_and_every_later_poll_is_told_so(gate):
    with serving(gate.function, poll=0.05, deadline=0.3) as client:
        _, retry, _ = poll(client, command())
        until(lambda: told(client, retry) != 101)

        assert [told(client, retry) for _ in range(3)] == [100, 100, 100]
        until(lambda: gate.cancels)


def told(client, retry):
    """The code that a retry is answered with."""
    with pytest.raises(fl.FlightTimedOutError) as error:
        client.info(retry, POLLABLE)
    return flight_code(error.value)[0]


def test_the_failure_of_a_polled_call_is_told_to_every_retry():
    def fails(parameters, columns, headers):
        raise RuntimeError("broken")

    with serving(function(fails), poll=LONG) as client:
        with pytest.raises(fl.FlightServerError, match="broken"):
            client.info(command(), POLLABLE)
        call_id = client.event(CallEnded).call.id.encode()

        with pytest.raises(fl.FlightServerError, match="broken"):
            client.info(b"r:" + call_id, POLLABLE)


def test_a_call_nobody_polls_is_given_up_after_its_patience(gate):
    with serving(gate.function, poll=0.05) as client:
        poll(client, command())
        (call,) = client.host._open
        until(lambda: call.awaited_by == 0)
        assert call.patience == POLL_PATIENCE
        now = time.monotonic()

        client.host.look(now + POLL_PATIENCE - 1)
        assert not call.ended.is_set()

        call.last_awaited -= POLL_PATIENCE  # the polls ended that long ago
        client.host.look(now)
        assert call.error.code == "COMMAND_CANCELLED"
        until(lambda: gate.cancels)


def test_the_patience_is_three_intervals_where_they_are_longer():
    fast = function(lambda *_: pa.table({"n": [1]}))
    with serving(fast) as client:
        assert client.host.submit("numbers", {}, None, {}, poll=30.0).patience == 90.0


def test_polls_are_answered_while_the_queue_is_full(gate):
    with serving(gate.function, threads=1, waiting=0, poll=0.05) as client:
        _, retry, abandon = poll(client, command())
        with pytest.raises(fl.FlightUnavailableError):
            client.info(command(), POLLABLE)

        assert poll(client, retry)[1] == retry
        assert cancel(client, abandon) == 6
