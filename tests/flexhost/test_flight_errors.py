"""Every error of the protocol that a client can meet, over a real socket."""

from __future__ import annotations

import json
import threading

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, SCHEMA, Client, command, flight_code, function, serving, until

from flexhost.errors import HostError, Internal
from flexhost.frontends import endpoints, flight_wire
from flexhost.telemetry.events import CallEnded, Refused

RETRY_ANY = 0x3_0000
RETRY_OTHER = 0x2_0000


def numbers(parameters, columns, headers):
    return pa.table({"n": [1, 2, 3]}, schema=SCHEMA)


def raising(error):
    def call(parameters, columns, headers):
        raise error

    return function(call)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"", "the command is not JSON"),
        (b"\xff\xfe", "the command is not JSON"),
        (b'{"functionName": "numbers"} x', "trailing characters"),
        (b"[" * 100_000, "the command is nested too deep|the command is not"),
        (b'{"functionName":"x","parameters":%s1%s}' % (b'{"a":' * 9999, b"}" * 9999), "too deep"),
        (b"[]", "Expected `object`, got `array`"),
        (b"null", "Expected `object`, got `null`"),
        (b"{}", "missing required field `functionName`"),
        (b'{"functionName": 7}', "Expected `str`, got `int` - at `functionName`"),
        (b'{"functionName": ""}', "functionName is empty"),
        (b'{"functionName": "numbers", "parameters": []}', "got `array` - at `parameters`"),
        (b'{"functionName": "numbers", "paramters": {}}', "'paramters': did you mean"),
        (b'{"functionName": "numbers", "\xff": 1}', "the command is not JSON"),
        (b'{"functionName": "nobody"}', "no function is named 'nobody'"),
        (command(columns=5), "parameters.columns: Expected `array`, got `int`"),
        (command(columns=["n", 5]), "Expected `str`, got `int`"),
        (command(columns=["m"]), "function 'numbers' has no column 'm'"),
        (command(columns=["n", "n"]), "column 'n' is asked for twice"),
    ],
)
def test_a_wrong_command_is_a_bad_argument_that_says_what_is_wrong(sent, message):
    with serving(function(numbers)) as client:
        with pytest.raises(fl.FlightServerError, match=message) as error:
            client.info(sent)

        assert flight_code(error.value)[0] == 1
        refused = client.event(Refused)
        assert refused.request == "GetFlightInfo"
        assert f"[id {refused.id}]" in str(error.value)


def test_a_path_descriptor_is_a_bad_argument():
    with serving(function(numbers)) as client, pytest.raises(fl.FlightServerError) as error:
        client.flight.get_flight_info(fl.FlightDescriptor.for_path("numbers"))

    assert flight_code(error.value)[0] == 1


@pytest.mark.parametrize(
    ("ticket", "code", "message"),
    [
        (b"", 1, "the ticket is not JSON"),
        (b"[1]", 1, "Expected `object`, got `array`"),
        (b'{"task_id": 5}', 1, "Expected `str`, got `int` - at `task_id`"),
        (b'{"task_id": "none"}', 4, "call 'none' has no result here"),
    ],
)
def test_a_wrong_ticket_is_told_apart_from_one_whose_result_is_not_there(ticket, code, message):
    with serving(function(numbers)) as client:
        with pytest.raises(fl.FlightServerError, match=message) as error:
            client.read(fl.Ticket(ticket))

    assert flight_code(error.value)[0] == code


def test_a_value_error_of_the_function_is_a_bad_argument():
    with serving(raising(ValueError("the city is unknown"))) as client:
        with pytest.raises(fl.FlightServerError, match="the city is unknown") as error:
            client.call()

    assert flight_code(error.value)[0] == 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class ClassFails(Exception):
    __class__ = property(lambda self: 1 / 0)


class NameFails(type):
    __name__ = property(lambda cls: 1 / 0)


class MetaFails(Exception, metaclass=NameFails):
    pass


class EverythingFails(BaseException):
    def __getattribute__(self, name):
        raise RuntimeError("no")


class OddHostError(HostError):
    code = "FOO"

    def __init__(self):
        pass


class OddFlightError(fl.FlightServerError, metaclass=NameFails):
    pass


ODD = [
    ClassFails(),
    MetaFails(),
    EverythingFails(),
    OddHostError(),
    OddFlightError("odd", b""),
    RuntimeError("lost the database"),
    KeyError("k"),
    SystemExit("enough"),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    StopIteration(),
    Unspeakable(),
    RuntimeError("a lone \ud800 surrogate"),
    RuntimeError("\x00" * 10_000 + "é" * 10_000),
    pa.ArrowKeyError("arrow"),
]


@pytest.mark.parametrize("number", range(len(ODD)))  # pytest itself trips over some of them
def test_whatever_a_function_raises_fails_its_own_call_and_no_other(number):
    with serving(raising(ODD[number]), function(numbers, "fine"), threads=1) as client:
        for _ in range(3):
            with pytest.raises(fl.FlightServerError) as told:
                client.call()
            code, message = flight_code(told.value)
            assert code == 5
            assert message.endswith("]")
            assert len(told.value.extra_info) < 2048

        assert client.call("fine").num_rows == 3


def test_the_client_sees_the_lines_of_the_authors_file_and_no_path():
    with serving(raising(RuntimeError("lost the database"))) as client:
        with pytest.raises(fl.FlightServerError) as error:
            client.call()

        told = str(error.value) + error.value.extra_info.decode()
        assert "/" not in told
        assert "flexhost" not in told
        detail = json.loads(error.value.extra_info)["detail"]
        assert detail.startswith("RuntimeError: lost the database\nsupport.py:")
        event = client.event(CallEnded)
        assert f"[id {event.call.id}]" in str(error.value)
        frames = [line for line in event.call.error.trace.splitlines() if ", line" in line]
        assert 'support.py", line' in frames[0]  # not those that led there


def test_with_error_detail_off_the_text_of_an_exception_stays_in_the_host():
    secret = RuntimeError("postgres://u:hunter2@db")
    with serving(raising(secret), error_detail=False) as client:
        with pytest.raises(fl.FlightServerError, match="function 'numbers' failed") as error:
            client.call()

        assert b"hunter2" not in error.value.extra_info
        assert "hunter2" in client.event(CallEnded).call.error.trace


def test_a_flight_error_of_the_function_passes_with_its_class_and_extra_info():
    raised = fl.FlightUnauthorizedError("not this month", b'{"mine": 1}')
    with serving(raising(raised)) as client:
        with pytest.raises(fl.FlightUnauthorizedError, match="not this month") as error:
            client.call()

    assert error.value.extra_info == b'{"mine": 1}'


@pytest.mark.parametrize("extra_info", [b"", b"x" * 5000])
def test_a_flight_error_without_usable_extra_info_gets_ours(extra_info):
    with serving(raising(fl.FlightUnavailableError("busy", extra_info))) as client:
        with pytest.raises(fl.FlightUnavailableError, match="busy") as error:
            client.call()

    assert flight_code(error.value)[0] == 5


@pytest.mark.parametrize(
    "call",
    [
        lambda *_: pa.array(["x"]).cast(pa.int64()),
        lambda *_: pa.RecordBatchReader.from_stream(failing_reader()),
    ],
    ids=["in the call", "of a reader from elsewhere"],
)
def test_an_arrow_error_of_the_function_says_nothing_about_the_arguments(call):
    with serving(function(call)) as client, pytest.raises(fl.FlightServerError) as error:
        client.call()

    assert flight_code(error.value)[0] == 5


def failing_reader():
    def broken():
        yield pa.record_batch({"n": [1]})
        raise RuntimeError("broken")

    return pa.RecordBatchReader.from_batches(SCHEMA, broken())


def test_a_failure_in_mid_stream_reaches_the_client_as_a_coded_error():
    def broken():
        yield pa.record_batch({"n": [1]})
        raise RuntimeError("the source broke")

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, broken()))
    with serving(made) as client:
        with pytest.raises(fl.FlightServerError, match="the source broke") as error:
            client.call()

        assert flight_code(error.value)[0] == 5
        assert f"[id {client.event(CallEnded).call.id}]" in str(error.value)


def test_a_cancelled_error_in_mid_stream_does_not_interrupt_the_client():
    def broken():
        yield pa.record_batch({"n": [1]})
        raise fl.FlightCancelledError("gone", b"")

    made = function(lambda *_: pa.RecordBatchReader.from_batches(SCHEMA, broken()))
    with serving(made) as client, pytest.raises(fl.FlightServerError, match="gone"):
        client.call()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "returned NoneType, expected a pyarrow.Table"),
        ({"n": [1]}, "returned dict"),
        (pa.table({"m": [1]}), "the result has no column 'n' .declared int64.; it has 'm'"),
        (pa.table({"n": ["1"]}), "column 'n' is declared int64, the result has string"),
        (pa.table({"n": [1.5]}), "column 'n' is declared int64, the result has double"),
    ],
)
def test_a_result_that_is_not_as_declared_fails_the_call(result, message):
    with serving(function(lambda *_: result)) as client:
        with pytest.raises(fl.FlightServerError, match=message) as error:
            client.call()

    assert flight_code(error.value)[0] == 5


def test_a_full_queue_refuses_with_backpressure_at_once():
    release = threading.Event()
    slow = function(lambda *given: release.wait(LONG) and numbers(*given))
    with serving(slow, threads=1, waiting=1) as client:
        others = [threading.Thread(target=Client(client.frontend.port).call) for _ in range(2)]
        for other in others:
            other.start()
        until(lambda: client.host.at_work == 2)

        with pytest.raises(fl.FlightUnavailableError, match="1 calls run and 1 are") as error:
            client.info(command())
        release.set()
        for other in others:
            other.join(LONG)

    assert json.loads(error.value.extra_info)["code"] == 102 | RETRY_ANY


def test_a_call_past_its_deadline_answers_timeout():
    release = threading.Event()
    with serving(function(lambda *_: release.wait(LONG)), deadline=0.2) as client:
        with pytest.raises(fl.FlightTimedOutError, match="no result within 0.2 s") as error:
            client.info(command())
        release.set()

    assert flight_code(error.value)[0] == 100


def test_before_the_functions_are_loaded_everything_is_told_not_ready():
    with serving() as client:
        for ask in (
            lambda: client.info(command()),
            lambda: list(client.flight.list_flights()),
        ):
            with pytest.raises(fl.FlightUnavailableError, match="still being loaded") as error:
                ask()
            assert json.loads(error.value.extra_info)["code"] == 501 | RETRY_ANY


def test_a_draining_host_refuses_new_calls_and_serves_what_it_accepted():
    with serving(function(numbers)) as client:
        ticket = client.ticket()
        drain = threading.Thread(target=client.host.drain, args=[LONG])
        drain.start()
        until(lambda: not client.host.ready)

        with pytest.raises(fl.FlightUnavailableError, match="is stopping") as error:
            client.info(command())
        assert json.loads(error.value.extra_info)["code"] == 502 | RETRY_OTHER
        assert client.read(ticket).num_rows == 3
        drain.join(LONG)


def test_an_expired_result_is_not_there_any_more():
    with serving(function(numbers), ttl=0.0) as client:
        ticket = client.ticket()
        until(lambda: not len(client.results))

        with pytest.raises(fl.FlightServerError, match="or it has expired") as error:
            client.read(ticket)

    assert flight_code(error.value)[0] == 4


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (lambda c: list(c.do_action("anything")), 503),
        (lambda c: c.do_put(fl.FlightDescriptor.for_path("p"), SCHEMA)[0].close(), 503),
        (lambda c: c.authenticate_basic_token("user", "password"), 2),
    ],
    ids=["DoAction", "DoPut", "Handshake"],
)
def test_a_request_that_is_not_offered_says_so_with_a_code(ask, code):
    with serving(function(numbers)) as client, pytest.raises(fl.FlightServerError) as error:
        ask(client.flight)

    assert flight_code(error.value)[0] == code
    assert "Traceback" not in str(error.value)


def test_an_error_of_get_schema_is_plain_text_without_a_frame():
    with serving(function(numbers)) as client, pytest.raises(pa.ArrowInvalid) as error:
        client.flight.get_schema(fl.FlightDescriptor.for_command(command("nobody")))

    assert "no function is named 'nobody'" in str(error.value)
    assert "File" not in str(error.value)
    assert "/" not in str(error.value)


def test_a_bug_of_the_host_is_told_as_one_without_its_trace(monkeypatch):
    def bug(call_id):
        raise TypeError("a secret of /etc/passwd")

    with serving(function(numbers)) as client:
        monkeypatch.setattr(endpoints, "encode_ticket", bug)
        with pytest.raises(fl.FlightInternalError) as error:
            client.call()

        assert json.loads(error.value.extra_info)["code"] == 500 | RETRY_OTHER
        assert "secret" not in str(error.value) + error.value.extra_info.decode()
        refused = client.event(Refused)
        assert isinstance(refused.error, Internal)
        assert "a secret of /etc/passwd" in refused.error.trace
        assert f"[id {refused.id}]" in str(error.value)


def test_every_code_an_error_can_have_is_known_to_the_wire():
    def kinds(cls):
        return [cls, *(k for s in cls.__subclasses__() for k in kinds(s))]

    from flexhost.errors import HostError

    ours = [cls for cls in kinds(HostError) if cls.__module__ == HostError.__module__]
    assert {cls.code for cls in ours} <= set(flight_wire.CODES)


def test_a_request_whose_span_cannot_begin_is_answered_with_a_code():
    class NoSpan:
        def request(self, *_):
            return self

        def __enter__(self):
            raise RuntimeError("no span")

        def __exit__(self, *_): ...

    with serving(function(numbers), tracer=NoSpan()) as client:
        with pytest.raises(fl.FlightInternalError) as raised:
            client.info(command())

    assert flight_code(raised.value)[0] == 500
