"""Who gets in, over Flight: every kind of request, every place for a token."""

from __future__ import annotations

import json
import threading
from base64 import b64decode

import grpc
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, SCHEMA, Client, command, flight_code, function, serving, until

from flexhost.caller import Caller
from flexhost.frontends import flight_wire
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.telemetry.events import CallEnded, Refused

POLL = {"x-quiver-pollable": "1"}


def numbers(parameters, columns, headers):
    return pa.table({"n": [1, 2, 3]}, schema=SCHEMA)


def of(**callers):
    """A verifier of `name=token` or `name=(token, Caller)`."""
    pairs = [one if isinstance(one, tuple) else (one, Caller(n)) for n, one in callers.items()]
    return EnumeratedTokenVerification(
        [Known(Tokens((Digest.of(token),)), caller) for token, caller in pairs]
    )


def only_ann(**options):
    return serving(function(numbers), verifier=of(ann="a-good-token"), **options)


REQUESTS = {
    "ListFlights": lambda one, options: list(one.list_flights(options=options)),
    "GetSchema": lambda one, options: one.get_schema(DESCRIPTOR, options),
    "GetFlightInfo": lambda one, options: one.get_flight_info(DESCRIPTOR, options),
    "DoGet": lambda one, options: one.do_get(fl.Ticket(b'{"task_id": "x"}'), options),
    "DoPut": lambda one, options: one.do_put(DESCRIPTOR, SCHEMA, options)[0].close(),
    "DoExchange": lambda one, options: one.do_exchange(DESCRIPTOR, options)[0].close(),
    "DoAction": lambda one, options: list(one.do_action("any", options)),
    "ListActions": lambda one, options: one.list_actions(options),
}
DESCRIPTOR = fl.FlightDescriptor.for_command(command())


@pytest.mark.parametrize("request_", REQUESTS)
def test_no_request_is_served_without_a_token(request_):
    with only_ann() as client:
        # GetSchema: pyarrow keeps neither the class nor extra_info there
        expected = OSError if request_ == "GetSchema" else fl.FlightUnauthenticatedError
        with pytest.raises(expected, match="no header 'authorization' with a token"):
            REQUESTS[request_](client.flight, client.options())

        assert client.event(Refused).request == request_


def test_requests_that_pyarrow_has_no_name_for_are_not_served_either():
    with only_ann() as client:
        with grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
            for name in ("Handshake", "PollFlightInfo"):
                stream = name == "Handshake"
                kind = channel.stream_stream if stream else channel.unary_unary
                call = kind(f"/arrow.flight.protocol.FlightService/{name}")
                with pytest.raises(grpc.RpcError) as error:
                    list(call(iter([b""]), timeout=LONG)) if stream else call(b"", timeout=LONG)

                assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED, name


def test_what_is_not_offered_is_refused_to_a_good_token_before_it_sends_anything():
    over = threading.Event()
    nothing = iter(lambda: over.wait(LONG), True)  # until the end of the test
    with only_ann() as client, grpc.insecure_channel(f"127.0.0.1:{client.port}") as channel:
        ask = channel.stream_stream("/arrow.flight.protocol.FlightService/DoPut")
        with pytest.raises(grpc.RpcError, match="DoPut is not offered by this host"):
            # else a thread would wait for what comes
            list(ask(nothing, timeout=LONG, metadata=[("authorization", "Bearer a-good-token")]))
        over.set()

        assert client.event(Refused).caller == "ann"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer   ")],
        [("authorization", "a-good-token")],
        [("authorization", "Basic a-good-token")],
        [("authorization", "Bearera-good-token")],
        [("authorization", "Bearer a-good-toke")],
        [("authorization", "Bearer a-good-token2")],
        [("authorization", "Bearer A-good-token")],
        [("authorization", "Bearer a-good-token a-good-token")],
        [("authorization", "Bearer a-good-token, Bearer a-good-token")],
        [("authorization", "Bearer a")],
        [("authorization", "Bearer a-good-token"), ("authorization", "Bearer a-good-token")],
        [("authorization", "Bearer a-good-token"), ("authorization-bin", "Bearer a-good-token")],
        [("authorization-bin", "Bearer a-good-token")],
        [("proxy-authorization", "Bearer a-good-token")],
        [("x-token", "a-good-token")],
        [("cookie", "authorization=Bearer a-good-token")],
    ],
)
def test_what_is_not_one_good_token_in_its_header_is_refused(headers):
    with only_ann() as client:
        client.headers = headers
        with pytest.raises(fl.FlightUnauthenticatedError) as error:
            client.info(command())

        assert flight_code(error.value)[0] == 110
        assert "a-good-token" not in str(error.value)
        assert client.event(Refused).error.reason == "unauthenticated"
        assert not client.results


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR"])
def test_the_scheme_may_be_written_in_any_case(scheme):
    with only_ann() as client:
        client.headers = [("authorization", f"{scheme} a-good-token")]

        assert client.call().num_rows == 3


def test_every_bad_token_is_refused_with_the_same_words():
    with only_ann() as client:
        said = set()
        for token in ("a-good-tokem", "x", "a-good-token-and-more", "🙂".encode().hex()):
            with pytest.raises(fl.FlightUnauthenticatedError) as error:
                client.showing(token).info(command())
            said.add(flight_code(error.value)[1].split(" [id")[0])

    assert said == {"the token is not accepted"}


def test_a_header_of_another_name_has_the_token_alone():
    with only_ann(header="X-Token") as client:
        client.headers = [("x-token", "a-good-token")]
        assert client.call().num_rows == 3

        for wrong in (
            [("authorization", "Bearer a-good-token")],
            [("x-token", "Bearer a-good-token")],
            [("x-token", "a-good-token"), ("x-token", "a-good-token")],
            [("x-token", "")],
        ):
            client.headers = wrong
            with pytest.raises(fl.FlightUnauthenticatedError):
                client.info(command())


@pytest.mark.parametrize("size", [4_000, 8_000, 12_000, 16_000, 32_000])
def test_a_large_header_gets_nobody_in_and_breaks_nothing(size):
    with only_ann() as client:
        # past 8 KB gRPC itself begins to refuse, past 16 KB always
        with pytest.raises((fl.FlightUnauthenticatedError, pa.ArrowInvalid)):
            client.showing("a-good-token" + "x" * size).info(command())

        assert client.showing("a-good-token").call().num_rows == 3


def test_a_failed_login_never_delays_or_locks_out_a_good_token():
    with only_ann() as client:
        for _ in range(200):
            with pytest.raises(fl.FlightUnauthenticatedError):
                client.showing("a-guess").info(command())

        assert client.showing("a-good-token").call().num_rows == 3


def test_the_token_is_asked_for_before_there_is_room_or_a_function():
    with serving(verifier=of(ann="a-good-token"), rpcs=1) as client:
        client.frontend._rpcs.enter()
        try:
            with pytest.raises(fl.FlightUnauthenticatedError):
                client.info(command())
        finally:
            client.frontend._rpcs.leave()
        with pytest.raises(fl.FlightUnavailableError, match="still being loaded"):
            client.showing("a-good-token").info(command())


def test_a_function_sees_the_headers_without_the_token():
    seen = []

    def call(parameters, columns, headers):
        seen.append(headers)
        return numbers(parameters, columns, headers)

    with serving(function(call), verifier=of(ann="a-good-token")) as client:
        client.showing("a-good-token").info(command(), {"x-tenant": "one"})

    assert seen[0]["authorization"] == ["***"]
    assert seen[0]["x-tenant"] == ["one"]
    assert "a-good-token" not in str(seen)


def test_a_function_that_asks_for_the_caller_gets_it_over_the_wire():
    seen = []

    class Asking(function(None)):
        def call(self, parameters, columns, headers, caller):
            seen.append(caller)
            return numbers(parameters, columns, headers)

    ann = Caller("ann", functions=("num*",), max_running=3)
    with serving(Asking, verifier=of(ann=("a-good-token", ann))) as client:
        client.showing("a-good-token").call()

    assert seen == [ann]


def test_a_call_belongs_to_the_caller_whose_token_it_came_with():
    with only_ann() as client:
        client.showing("a-good-token").call()

        assert client.event(CallEnded).call.caller == Caller("ann")


def two_callers(*functions):
    return serving(*functions, verifier=of(ann="a-good-token", bob="another-good-token"), poll=0.05)


def failing(what, *arguments):
    with pytest.raises(fl.FlightError) as error:
        what(*arguments)
    code, message = flight_code(error.value)
    return type(error.value), code, message.split(" [id")[0]


def test_a_ticket_is_good_for_its_own_caller_alone():
    with two_callers(function(numbers)) as client:
        ann, bob = client.showing("a-good-token"), client.showing("another-good-token")
        ticket = ann.ticket()
        call_id = json.loads(ticket.ticket)["task_id"]

        unknown = failing(bob.read, flight_wire.encode_ticket("0" * 32))
        assert unknown[1] == 4
        answer = failing(bob.read, ticket)
        assert (*answer[:2], answer[2].replace(call_id, "0" * 32)) == unknown
        assert ann.read(ticket).num_rows == 3


def descriptors(client):
    """Those to go on waiting for a call, and to cancel it."""
    with pytest.raises(fl.FlightTimedOutError) as error:
        client.info(command(), POLL)
    body = json.loads(b64decode(json.loads(error.value.extra_info)["body"]))
    return [
        fl.FlightDescriptor.deserialize(b64decode(body[key])).command
        for key in ("retry_descriptor", "cancel_descriptor")
    ]


def test_poll_descriptors_are_good_for_their_own_caller_alone():
    go = threading.Event()

    def call(*arguments):
        go.wait(LONG)
        return numbers(*arguments)

    with two_callers(function(call)) as client:
        ann, bob = client.showing("a-good-token"), client.showing("another-good-token")
        retry, cancel = descriptors(ann)
        call_id = retry[2:].decode()

        for verb, of_ann in ((b"r:", retry), (b"c:", cancel)):
            unknown = failing(bob.info, verb + b"0" * 32, POLL)
            answer = failing(bob.info, of_ann, POLL)
            assert (*answer[:2], answer[2].replace(call_id, "0" * 32)) == unknown
        go.set()
        until(lambda: client.results.find(call_id, Caller("ann")).ended.is_set())
        assert ann.read(ann.info(retry, POLL).endpoints[0].ticket).num_rows == 3


SOME = Caller("some", functions=("sales*", "num?ers"))


def some_functions():
    names = ("numbers", "salesToday", "hidden")
    verifier = of(some=("a-good-token", SOME), all=("another-good-token", Caller("all")))
    return serving(*(function(numbers, name) for name in names), verifier=verifier)


def listed(client):
    flights = client.flight.list_flights(options=client.options())
    return {json.loads(flight.descriptor.command)["functionName"] for flight in flights}


def test_only_functions_that_a_caller_may_call_are_listed():
    with some_functions() as client:
        assert listed(client.showing("a-good-token")) == {"numbers", "salesToday"}
        assert listed(client.showing("another-good-token")) == {"numbers", "salesToday", "hidden"}


def test_a_function_that_is_not_allowed_is_unauthorized_whether_it_exists_or_not():
    with some_functions() as client:
        some = client.showing("a-good-token")
        hidden = failing(some.info, command("hidden"))
        missing = failing(some.info, command("missng"))

        assert hidden[:2] == (fl.FlightUnauthorizedError, 111)
        assert (*missing[:2], missing[2].replace("missng", "hidden")) == hidden
        assert some.call("salesToday").num_rows == 3
        assert client.showing("another-good-token").call("hidden").num_rows == 3


def test_the_schema_of_a_function_that_is_not_allowed_is_not_told():
    with some_functions() as client:
        some = client.showing("a-good-token")
        said = []
        for name in ("hidden", "missng", "salesToday"):
            try:
                asked = fl.FlightDescriptor.for_command(command(name))
                said.append(some.flight.get_schema(asked, some.options()).schema)
            except pa.ArrowException as error:
                said.append(str(error).split(" [id")[0].replace("missng", "hidden"))

    assert said[0] == said[1]
    assert "may not call function 'hidden'" in said[0]
    assert said[2] == SCHEMA


@pytest.mark.parametrize(
    "name", ["Numbers", "numbers\n", "x/../numbers", "*", "numbers\x00", "sAles"]
)
def test_tricks_with_the_name_of_a_function_get_nobody_further(name):
    with some_functions() as client:
        assert failing(client.showing("a-good-token").info, command(name))[1] == 111


def test_whoever_may_call_everything_is_told_that_there_is_no_such_function():
    with some_functions() as client:
        answer = failing(client.showing("another-good-token").info, command("missng"))

    assert answer[1:] == (1, "no function is named 'missng'")


def test_a_caller_over_its_own_bound_is_told_backpressure():
    go = threading.Event()

    def call(*arguments):
        go.wait(LONG)
        return numbers(*arguments)

    few = of(few=("a-good-token", Caller("few", max_running=1)))
    with serving(function(call), verifier=few, poll=0.05) as client:
        one = client.showing("a-good-token")
        descriptors(one)
        busy = failing(one.info, command())
        go.set()

        assert busy[:2] == (fl.FlightUnavailableError, 102)
        assert "caller 'few' has 1 calls under way" in busy[2]
        until(lambda: not client.host.at_work)
        assert one.call().num_rows == 3


def test_a_host_that_asks_for_no_token_takes_any_header():
    with serving(function(numbers)) as client:
        assert client.showing("anything").call().num_rows == 3


def test_refusals_name_the_caller_that_is_known():
    with only_ann() as client:
        with pytest.raises(fl.FlightServerError):
            client.showing("a-good-token").info(b"no command")
        assert client.event(Refused).caller == "ann"

        with pytest.raises(fl.FlightUnauthenticatedError):
            Client(client.port).info(command())
        assert client.event(Refused).caller == ""
