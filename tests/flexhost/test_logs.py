"""Log lines: as JSON, for people, and from a logging file."""

from __future__ import annotations

import fcntl
import gc
import io
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import KEEP, LONG, NUMBERS, ROOT, SCHEMA, Client, free_port, function, process, until

from flexhost.call import Call
from flexhost.caller import ANYONE, Caller
from flexhost.calls.returned import arrow
from flexhost.errors import (
    BadCall,
    Cancelled,
    FunctionFailed,
    NotReady,
    ShuttingDown,
    Unauthenticated,
)
from flexhost.functions.describe import describe
from flexhost.logs import JsonLines
from flexhost.observability import Telemetry
from flexhost.storage.kept import Kept
from flexhost.telemetry import writer
from flexhost.telemetry.events import CallEnded, ReadEnded, Refused
from flexhost.telemetry.masks import masked
from flexhost.telemetry.put_off import write_later

MORE = (
    NUMBERS
    + """
import logging

class Logging(Numbers):
    Name = "logging"

    def call(self, parameters, columns, headers):
        logging.getLogger("mine").info("plain %s", "line", extra={"extra": 1})
        import structlog  # whenever that is
        structlog.get_logger("mine").info("bound", name="any", args=[1], city="Plzeň")
        raise RuntimeError("with a trace")
"""
)


@pytest.fixture
def access(caplog):
    """The access line of an event, as the fields that are logged."""
    caplog.set_level(logging.INFO, "flexhost.calls")

    def line(*events, clock=time.time):
        caplog.clear()
        telemetry = Telemetry(clock=clock)
        for event in events:
            telemetry(event)
        telemetry.close(LONG)
        return [record.fields for record in caplog.records]

    return line


def of(call):
    """The event of a call that ended."""
    table = isinstance(call.data, Kept)
    return CallEnded(call, *((call.data.rows, call.data.size) if table else (None, None)))


def ended(result, caller=ANYONE):
    def call(*_):
        if isinstance(result, BaseException):
            raise result
        return result

    described = describe(function(call))
    more = {"deadline": 9.0, "emit": lambda event: None, "keep": KEEP, "caller": caller}
    made = Call(described, {}, None, {}, **more)
    made.run()
    return made


def test_a_table_has_its_line_when_the_call_ends(access):
    call = ended(pa.table({"n": [1, 2]}))

    (line,) = access(of(call))

    assert line["call_id"] == call.id
    assert (line["function"], line["outcome"]) == ("numbers", "ok")
    assert (line["rows"], line["bytes"]) == (2, 16)
    assert 0 <= line["waiting_sec"] < 20
    assert 0 <= line["running_sec"] < 20
    assert access(ReadEnded(call, 2, 16, 0.5, True, None, stream=False)) == []


def test_a_stream_has_its_line_when_it_ends(access):
    call = ended(pa.table({"n": [1, 2]}).to_reader())

    assert access(of(call)) == []
    (line,) = access(ReadEnded(call, 2, 16, 0.5, True, None))

    assert (line["rows"], line["bytes"], line["streaming_sec"]) == (2, 16, 0.5)
    assert (line["outcome"], line["complete"]) == ("ok", True)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Cancelled("nobody read the result in time"), "command_cancelled"),
        (ShuttingDown("this host is stopping"), "shutting_down"),
        (FunctionFailed("half way"), "failed"),
    ],
)
def test_only_the_functions_doing_is_the_failure_of_a_stream(access, error, outcome):
    call = ended(pa.table({"n": [1, 2]}).to_reader())

    (line,) = access(ReadEnded(call, 0, 0, 0.5, False, error))

    assert (line["outcome"], line["code"]) == (outcome, error.code)


def test_a_failed_call_has_its_trace_in_its_line(access):
    (line,) = access(of(ended(RuntimeError("lost the database"))))

    assert (line["outcome"], line["code"]) == ("failed", "COMMAND_FAILED")
    assert line["error"] == "lost the database"
    assert line["exception"].splitlines()[-1] == "RuntimeError: lost the database"


def test_a_refused_request_has_a_line_under_the_id_that_the_caller_was_told(access):
    (line,) = access(Refused("id1", "GetFlightInfo", "", BadCall("not JSON")))

    assert (line["call_id"], line["outcome"], line["code"]) == ("id1", "refused", "BAD_ARGUMENT")


def test_every_line_of_a_call_has_its_caller(access):
    call = ended(pa.table({"n": [1]}), Caller("ann"))

    assert access(of(call))[0]["caller"] == "ann"
    assert access(of(ended(pa.table({"n": [1]}))))[0]["caller"] is None
    assert access(Refused("id1", "DoGet", "", BadCall("no"), "bob"))[0]["caller"] == "bob"


def test_failed_authentications_have_ten_lines_a_minute_that_count_the_others(access):
    clock = itertools.count(1000.0, 2.5)  # 24 events a minute
    failed = [Refused(str(n), "DoGet", "", Unauthenticated("no", why="guessed")) for n in range(30)]
    failed[20] = Refused("other", "DoGet", "", BadCall("no"))

    lines = access(*failed, clock=lambda: next(clock))

    told = [(line["call_id"], line.get("suppressed")) for line in lines]
    assert told[:10] == [(str(n), None) for n in range(10)]
    assert told[10:] == [("other", None), ("24", 13), *((str(n), None) for n in range(25, 30))]
    assert lines[0]["why"] == "guessed"


def test_refusals_of_a_host_that_starts_have_ten_lines_a_minute_of_their_own(access):
    early = [Refused(f"early{n}", "DoGet", "", NotReady("starting")) for n in range(20)]
    failed = [Refused(f"failed{n}", "DoGet", "", Unauthenticated("no")) for n in range(20)]

    lines = access(*early, *failed, clock=lambda: 1000.0)

    ids = [line["call_id"] for line in lines]
    assert ids == [f"{kind}{n}" for kind in ("early", "failed") for n in range(10)]


def test_what_a_function_says_is_its_callers_mistake_is_a_warning_with_its_trace(access, caplog):
    [fields] = access(of(ended(ValueError("limit is 0"))))
    assert "ValueError: limit is 0" in fields["exception"]
    assert caplog.records[-1].levelname == "WARNING"

    access(of(ended(KeyError("a bug"))))
    assert caplog.records[-1].levelname == "ERROR"


def test_a_listener_that_fails_does_not_cost_the_call(caplog):
    def broken(event):
        raise OSError("no space left")

    telemetry = Telemetry(broken)
    telemetry(of(ended(pa.table({"n": [1]}))))
    telemetry.close(LONG)

    assert "an event of the host was lost: CallEnded" in caplog.text


def test_what_a_function_logs_has_the_name_of_the_caller():
    seen = []

    def call(*_):
        seen.append(JsonLines().fields(logging.makeLogRecord({})))
        return pa.table({"n": [1]})

    of_function = describe(function(call))
    for caller in (Caller("ann"), ANYONE):
        more = {"deadline": 9.0, "emit": lambda event: None, "keep": KEEP}
        Call(of_function, {}, None, {}, caller=caller, **more).run()

    assert seen[0]["caller"] == "ann"
    assert "caller" not in seen[1]


def test_production_lines_are_json_with_the_call_id_of_what_a_function_logs(tmp_path):
    with process(tmp_path, MORE) as host:
        client = Client(host.port())
        with pytest.raises(fl.FlightServerError, match="with a trace"):
            client.call("logging")
        plain, bound, call = (json.loads(host.line(r"^\{.*\}$")[0]) for _ in range(3))

    assert (plain["event"], plain["extra"], plain["logger"]) == ("plain line", 1, "mine")
    assert (bound["event"], bound["city"], bound["name"], bound["args"]) == (
        "bound",
        "Plzeň",
        "any",
        [1],
    )
    assert plain["call_id"] == bound["call_id"] == call["call_id"]
    assert plain["function"] == "logging"
    assert 'my_functions.py", line' in call["exception"]
    assert (call["level"], call["logger"]) == ("error", "flexhost.calls")


def test_a_warning_of_python_is_a_line_of_the_log(tmp_path):
    warns = "import warnings\nwarnings.warn('loaded twice')\n"
    call = "        warnings.warn('few rows')\n        return"
    with process(tmp_path, warns + NUMBERS.replace("        return", call)) as host:
        Client(host.port()).call()
        host.process.terminate()
        status, written = host.ended()

    lines = [json.loads(line) for line in written.splitlines()]
    loaded, called = (line for line in lines if line["logger"] == "py.warnings")
    assert status == 0
    assert "UserWarning: loaded twice" in loaded["event"]
    assert (called["level"], called["function"]) == ("warning", "numbers")


def test_dev_log_lines_are_for_people(tmp_path):
    with process(tmp_path, NUMBERS, "", "--dev-log") as host:
        Client(host.port()).call()
        line = host.line("flexhost.calls")[0]
        text = host.lines[-1]

    assert line
    assert not text.startswith("{")
    assert "outcome=ok rows=3" in text


def test_a_logging_file_sets_levels_handlers_and_formats(tmp_path):
    (tmp_path / "logging.ini").write_text(
        "[loggers]\nkeys=root,calls\n[handlers]\nkeys=file\n[formatters]\nkeys=json\n"
        "[logger_root]\nlevel=WARNING\nhandlers=file\n"
        "[logger_calls]\nlevel=INFO\nqualname=flexhost.calls\nhandlers=\n"
        "[handler_file]\nclass=FileHandler\nargs=('calls.log',)\nformatter=json\n"
        "[formatter_json]\nclass=flexhost.logs.JsonLines\n"
    )
    listen = f"listen_port = {free_port()}"
    with process(tmp_path, NUMBERS, "", "--logging-config", "logging.ini", listen=listen) as host:
        client = Client(int(listen.split()[-1]))
        client.flight.wait_for_available(20)
        client.call()
        until((tmp_path / "calls.log").read_text)
        (line,) = (tmp_path / "calls.log").read_text().splitlines()
        host.process.terminate()
        assert host.ended() == (0, "")

    assert json.loads(line)["outcome"] == "ok"


def test_a_logging_file_in_toml_is_read_as_a_dict_config(tmp_path):
    (tmp_path / "logging.toml").write_text(
        'version = 1\n[formatters.mine]\nformat = "MINE %(message)s"\n'
        '[handlers.err]\nclass = "logging.StreamHandler"\nformatter = "mine"\n'
        '[root]\nlevel = "INFO"\nhandlers = ["err"]\n'
    )
    with process(tmp_path, NUMBERS, "", "--logging-config", "logging.toml") as host:
        host.line("MINE serving numbers")


@pytest.mark.parametrize(
    ("text", "message"), [(None, "No such file"), ("[loggers]", "cannot be used: ")]
)
def test_a_logging_file_that_cannot_be_used_ends_the_start(tmp_path, text, message):
    if text is not None:
        (tmp_path / "logging.ini").write_text(text)
    with process(tmp_path, NUMBERS, "", "--logging-config", "logging.ini") as host:
        status, written = host.ended()

    assert status == 2
    assert message in written
    assert "logging.ini" in written


def test_the_key_of_the_event_can_be_named(tmp_path):
    with process(tmp_path, NUMBERS, "log_event_key_name = 'message'") as host:
        line = json.loads(host.line(r"^\{.*serving.*\}$")[0])

    assert line["message"].startswith("serving numbers")
    assert "event" not in line


def test_no_other_key_takes_the_place_of_the_event(logger, monkeypatch):
    made, telemetry, written = logger
    monkeypatch.setattr(JsonLines, "event_key", "call_id")
    monkeypatch.setattr(JsonLines, "trace_fields", lambda: {"call_id": "of a trace"})
    described = describe(function(lambda *_: made.info("within") or pa.table({"n": [1]})))
    more = {"deadline": 9.0, "emit": lambda event: None, "keep": KEEP}

    Call(described, {}, None, {}, **more).run()
    telemetry.close(LONG)

    assert written[0]["call_id"] == "within"


def test_an_exception_is_logged_whole_although_the_process_shows_no_frames(monkeypatch):
    monkeypatch.setattr(sys, "tracebacklimit", 0, raising=False)
    try:
        raise RuntimeError("here")
    except RuntimeError:
        record = logging.LogRecord("x", 40, "p", 1, "oops", (), sys.exc_info())

    assert "test_logs.py" in json.loads(JsonLines().format(record))["exception"]


def test_what_is_logged_with_a_line_replaces_neither_its_level_nor_its_text():
    record = logging.makeLogRecord({"msg": "sold", "levelname": "ERROR", "level": "gold"})
    record.created = time.time()
    record.fields = {"event": "fair", "timestamp": "noon"}

    line = json.loads(JsonLines().format(record))

    assert (line["level"], line["event"], line["timestamp"][:2]) == ("error", "sold", "20")
    assert (line["level_"], line["event_"], line["timestamp_"]) == ("gold", "fair", "noon")


def test_a_value_that_is_no_json_is_logged_as_text():
    record = logging.makeLogRecord({"msg": "m", "fields": {"a": SCHEMA, "b": "\ud800", "c": {1}}})

    line = json.loads(JsonLines().format(record))

    assert line["a"].startswith("n: int64")


@pytest.fixture
def logger():
    """A logger of its own, whose handlers write later; with what writes, and what was written."""
    made = logging.getLogger("test_logs.later")
    made.propagate, written = False, []
    made.setLevel(logging.INFO)

    class Handler(logging.Handler):
        def emit(self, record):
            written.append(json.loads(JsonLines().format(record)))

    made.handlers = [Handler()]
    telemetry = Telemetry()
    before = [(one, one.handlers) for one in (logging.root, made)]
    write_later(telemetry)
    yield made, telemetry, written
    telemetry.close(LONG)
    for one, handlers in before:
        one.handlers = handlers


def test_a_line_is_written_by_a_thread_of_its_own(logger):
    made, telemetry, written = logger
    threads = []
    made.handlers[0]._handlers[0].addFilter(lambda _: threads.append(threading.get_ident()) or True)

    made.info("here")
    telemetry.close(LONG)

    assert [line["event"] for line in written] == ["here"]
    assert threads == [telemetry._writer._thread.ident] != [threading.get_ident()]


def test_a_line_says_what_was_true_when_it_was_logged(logger):
    made, telemetry, written = logger
    rows = [1]

    made.info("rows %s", rows, extra={"fields": {"rows": rows}, "also": rows})
    rows.append(2)
    telemetry.close(LONG)

    [line] = written
    assert (line["event"], line["rows"], line["also"]) == ("rows [1]", [1], [1])


def test_a_line_that_cannot_be_formatted_costs_no_call_and_says_so(logger):
    made, telemetry, written = logger

    class Mute:
        def __repr__(self):
            raise RuntimeError("no text")

    for said in ({"msg": "rows %d", "args": ("many",), "of": Mute()}, {"msg": Mute()}):
        record = logging.makeLogRecord({"levelno": logging.INFO, **said})
        made.handlers[0].handle(record)  # not through pytest, whose handler raises
    telemetry.close(LONG)

    wrong, mute = written
    assert wrong["event"].startswith("'rows %d', which cannot be formatted: TypeError: ")
    assert wrong["of"] == "<Mute that cannot be shown>"
    assert mute["event"] == "'Mute', which cannot be formatted: RuntimeError: no text"


def test_a_line_that_is_written_later_has_the_call_it_was_logged_in(logger):
    made, telemetry, written = logger

    described = describe(function(lambda *_: made.info("within") or pa.table({"n": [1]})))
    more = {"deadline": 9.0, "emit": lambda event: None, "keep": KEEP}
    within = Call(described, {}, None, {}, caller=Caller("ann"), **more)
    within.run()
    telemetry.close(LONG)

    assert [(line["call_id"], line["caller"]) for line in written] == [(within.id, "ann")]


def test_a_line_that_waits_to_be_written_keeps_no_frame_of_its_exception(logger):
    made, telemetry, written = logger

    class Large:
        pass

    def failing():
        large = Large()
        seen.append(weakref.ref(large))
        raise RuntimeError("lost")

    seen = []
    writing, go_on = threading.Event(), threading.Event()
    telemetry.later(lambda: (writing.set(), go_on.wait(LONG)))
    assert writing.wait(LONG)
    try:
        failing()
    except RuntimeError:
        record = logging.LogRecord(made.name, 40, "p", 1, "it failed", (), sys.exc_info())
        made.handlers[0].handle(record)  # not through pytest, which keeps what it captures
        del record
    gc.collect()
    held = seen[0]()
    go_on.set()
    telemetry.close(LONG)

    assert held is None
    assert "RuntimeError: lost" in written[0]["exception"]
    assert "in failing" in written[0]["exception"]


def test_lines_past_a_bound_are_counted_and_not_kept(logger, monkeypatch, caplog):
    made, telemetry, written = logger
    monkeypatch.setattr(writer, "MOST", 3)
    writing, go_on = threading.Event(), threading.Event()
    telemetry.later(lambda: (writing.set(), go_on.wait(LONG)))
    assert writing.wait(LONG)

    for n in range(10):
        made.info("line", extra={"n": n})
    go_on.set()
    until(lambda: "left out" in caplog.text)

    assert [line["n"] for line in written] == [0, 1, 2, 3]
    assert "6 lines are left out: the log is too slow" in caplog.text


def test_lines_logged_after_the_end_are_written_at_once(logger):
    made, telemetry, written = logger
    telemetry.close(LONG)

    made.info("late")

    assert [line["event"] for line in written] == ["late"]


def test_a_log_that_is_stuck_delays_no_call(tmp_path):
    code = """
class Logging(Numbers):
    Name = "logging"

    def call(self, parameters, columns, headers):
        logging.getLogger("mine").info("a line")
        return super().call(parameters, columns, headers)

    @staticmethod
    def on_load(ctx):
        logging.root.addHandler(Stuck())

class Stuck(logging.Handler):
    def emit(self, record):
        if record.name == "mine":
            threading.Event().wait()
"""
    with process(tmp_path, NUMBERS + "\nimport logging, threading\n" + code) as host:
        client = Client(host.port())
        tables = [client.call("logging") for _ in range(3)]

    assert [table.num_rows for table in tables] == [3, 3, 3]


@pytest.mark.parametrize(
    "code",
    [
        "import structlog; from flexhost import logs; logs.configure()",
        "from flexhost import logs; logs.configure(); import structlog",
        "from flexhost import logs; logs.configure(readable=True); import structlog",
    ],
)
def test_structlog_is_set_up_whenever_it_is_imported(code):
    code += "; print(structlog.is_configured())"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT / "src", check=True
    )

    assert found.stdout == "True\n"


@pytest.mark.parametrize(
    "code",
    [
        "",
        "sys.meta_path.insert(1, type('Old', (), {'find_module': lambda *_: None})())",
        "importlib.reload(structured).configure_once_imported()",
        "assert find_spec('structlog').loader.get_source('structlog')",
    ],
)
def test_structlog_is_found_among_finders_of_others_and_looked_at_before(code):
    begin = "import importlib, sys; from importlib.util import find_spec"
    begin += "; from flexhost.telemetry import structured; structured.configure_once_imported()"
    end = "import structlog; print(structlog.is_configured(), structlog.__loader__)"
    found = subprocess.run(
        [sys.executable, "-c", "\n".join([begin, code, end])],
        capture_output=True,
        text=True,
        cwd=ROOT / "src",
    )

    assert found.stdout.startswith("True <_frozen_importlib_external.SourceFileLoader"), (
        found.stderr
    )


class Unread:
    """A host whose stderr nobody reads, with what it waits to write once it was called."""

    def __init__(self, folder, writing):
        listen, self.metrics = free_port(), free_port()
        (folder / "my_functions.py").write_text(NUMBERS)
        config = folder / "host.toml"
        config.write_text(
            f"[flexfun]\nfunctions = ['my_functions']\n[server]\nlisten_port = {listen}\n"
            f"metrics_host = '127.0.0.1'\nmetrics_port = {self.metrics}\ndrain_sec = 600\n"
        )
        path = os.pathsep.join([str(folder), str(ROOT / "src")])
        # a lock of Python guards what is buffered, and whoever is stuck holds it
        environ = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": ""}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flexhost", "start", "--config", str(config)],
            env=environ,
            stderr=writing,
        )
        # all that a pipe takes, but for what the host says at its start
        for _ in range(fcntl.fcntl(writing, fcntl.F_GETPIPE_SZ) // 4096 - 1):
            os.write(writing, b"." * 4096)
        self.client = Client(listen)
        self.client.flight.wait_for_available(LONG)
        until(lambda: list(self.client.flight.list_flights()))
        for _ in range(100):
            self.client.call()

    def page(self):
        return urlopen(f"http://127.0.0.1:{self.metrics}/metrics").read().decode()

    def stuck(self):
        """Whether a thread waits for the pipe to take what it writes."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return any("pipe_write" in (task / "wchan").read_text() for task in tasks)


@pytest.fixture
def unread(tmp_path):
    reading, writing = os.pipe()
    host = Unread(tmp_path, writing)
    yield host
    host.process.kill()
    host.process.wait()
    os.close(reading)
    os.close(writing)


def test_metrics_go_on_while_the_log_is_stuck(unread):
    counted = 'flexhost_calls_total{code="OK",function="numbers",outcome="ok"} 100.0'

    until(lambda: counted in unread.page())


def test_a_log_that_is_stuck_holds_up_no_stop(unread):
    until(unread.stuck)

    unread.process.terminate()

    assert unread.process.wait(LONG) == 0


def test_a_log_that_is_stuck_holds_up_no_second_signal(unread):
    unread.client.ticket()  # that is waited for
    until(unread.stuck)

    unread.process.terminate()
    until(lambda: "flexhost_ready 0.0" in unread.page())
    unread.process.terminate()

    assert unread.process.wait(LONG) == 1


def test_a_call_has_one_line_and_the_way_there_none(tmp_path):
    with process(tmp_path, NUMBERS) as host:
        client = Client(host.port())
        for _ in range(3):
            client.call()
        list(client.flight.list_flights(options=client.options()))
        host.process.terminate()
        assert host.ended()[0] == 0

    lines = [json.loads(line) for line in host.lines if line.startswith("{")]
    served = next(n for n, line in enumerate(lines) if line["event"].startswith("serving"))
    stopping = next(n for n, line in enumerate(lines) if line["event"].startswith("stopping"))
    assert [line["logger"] for line in lines[served + 1 : stopping]] == ["flexhost.calls"] * 3


def test_secrets_are_masked_in_lines():
    secrets = {
        "token": "s3cret",
        "x-api-key": "s3cret",
        "headers": {"Authorization": ["Bearer s3cret"], "deep": [{"db_password": "s3cret"}]},
        "url": "postgresql://ann:s3cret@db/sales",
        "metadata": [("authorization", "Basic s3cret"), ("x-rows", "7")],
        "tokens_left": 7,
    }
    try:
        raise RuntimeError("refused: Bearer s3cret.a-b_c")
    except RuntimeError:
        record = logging.LogRecord("x", 40, "p", 1, "auth bearer s3cret1", (), sys.exc_info())
    record.fields, record.password = secrets, "s3cret"

    line = JsonLines().format(record)

    assert "s3cret" not in line
    told = json.loads(line)
    assert (told["url"], told["tokens_left"]) == ("postgresql://ann:***@db/sales", 7)
    assert told["event"] == "auth bearer ***"
    assert told["headers"]["deep"] == [{"db_password": "***"}]


@pytest.mark.parametrize(
    "name", ["accessToken", "clientSecret", "dbPassword", "PGPASSWORD", "AccountKey", "signing_key"]
)
def test_names_of_secrets_are_known_however_they_are_written(name):
    assert masked("s3cret", name) == "***"


@pytest.mark.parametrize(
    "name", ["next_token", "pageToken", "token_count", "max_tokens", "primary_key", "tokenizer"]
)
def test_names_that_only_look_like_those_of_secrets_are_let_alone(name):
    assert masked("v", name) == "v"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db password=s3cret user=ann", "host=db password=*** user=ann"),
        ("Server=a;Pwd = 's3 cret';Database=b", "Server=a;Pwd = ***;Database=b"),
        ("GET /rows?api_key=s3cret&page=2", "GET /rows?api_key=***&page=2"),
        ("postgresql://ann:s3c@ret@db/sales", "postgresql://ann:***@db/sales"),
        ("https://a/rows?token=s3cret&page=2", "https://a/rows?token=***&page=2"),
        ("no {'user': 'ann', 'password': 's3\\'cret'}", "no {'user': 'ann', 'password': '***'}"),
        (r'{"body": "{\"api_key\": \"s3cret\"}"}', r'{"body": "{\"api_key\": \"***\"}"}'),
        ("Authorization: Basic czNjcmV0, Accept: *", "Authorization: ***, Accept: *"),
        ("curl -H 'X-Api-Key: s3cret' x", "curl -H 'X-Api-Key: ***' x"),
        ("{b'authorization': [b'Basic czNjcmV0']}", "{b'authorization': [b'***']}"),
        ("if password == other: next_token=5", "if password == other: next_token=5"),
        ("unexpected token: }, 'nextToken': '7'", "unexpected token: }, 'nextToken': '7'"),
    ],
)
def test_secrets_in_a_text_are_masked(text, shown):
    assert masked(text) == shown


def test_masking_takes_no_longer_than_the_text_is_long():
    for text in ("a-" * 100_000, "'a': \"" * 50_000, "\\" * 200_000 + "':", "-api" * 50_000 + ": "):
        masked(text)  # with the square of it: minutes


def test_a_contract_failure_names_no_exception():
    with pytest.raises(FunctionFailed) as error:
        arrow("text", SCHEMA, "f")

    assert error.value.trace is None


def test_the_text_that_waits_to_be_written_has_a_bound(logger, monkeypatch, caplog):
    made, telemetry, written = logger
    monkeypatch.setattr(writer, "MOST_TEXT", 5_000)
    writing, go_on = threading.Event(), threading.Event()
    telemetry.later(lambda: (writing.set(), go_on.wait(LONG)))
    assert writing.wait(LONG)

    for n in range(10):
        made.info("line", extra={"fields": {"n": n, "deep": [{"text": "x" * 2_000}]}})
    go_on.set()
    until(lambda: "left out" in caplog.text)
    made.info("line", extra={"fields": {"n": "after"}})
    telemetry.close(LONG)

    assert [line["n"] for line in written] == [0, 1, 2, "after"]


class Writes(io.StringIO):
    """What was written, one text each time."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def write(self, text):
        self.texts.append(text)
        return len(text)


def test_lines_of_calls_that_end_together_are_written_at_once_in_their_order(monkeypatch):
    written, telemetry = Writes(), Telemetry()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonLines())
    calls = logging.getLogger("flexhost.calls")
    monkeypatch.setattr(calls, "handlers", [handler])
    monkeypatch.setattr(calls, "propagate", False)
    monkeypatch.setattr(calls, "level", logging.INFO)
    monkeypatch.setattr(logging.root, "handlers", [])
    write_later(telemetry)
    writing, go_on = threading.Event(), threading.Event()
    telemetry.later(lambda: (writing.set(), go_on.wait(LONG)))
    assert writing.wait(LONG)

    made = [ended(pa.table({"n": [n]})) for n in range(5)]
    for call in made[:3]:
        telemetry(of(call))
    calls.info("of a function")
    for call in made[3:]:
        telemetry(of(call))
    go_on.set()
    telemetry.close(LONG)

    lines = [json.loads(line) for text in written.texts for line in text.splitlines() if line]
    ids = [call.id for call in made]
    assert [line.get("call_id") for line in lines] == [*ids[:3], None, *ids[3:]]
    assert [text.count("call_id") for text in written.texts if "call_id" in text] == [3, 2]


def test_a_line_that_waits_for_a_slow_log_keeps_neither_its_call_nor_its_table():
    telemetry = Telemetry()
    writing, go_on = threading.Event(), threading.Event()
    telemetry.later(lambda: (writing.set(), go_on.wait(LONG)))
    assert writing.wait(LONG)
    call = ended(pa.table({"n": [1]}))

    telemetry(of(call))
    gone = weakref.ref(call)
    del call

    assert gone() is None
    go_on.set()
    telemetry.close(LONG)


def test_a_line_that_cannot_be_made_costs_only_itself(caplog):
    lines, written = writer.Writer(), []

    assert lines.made_later(lambda: 1 / 0, 10)
    assert lines.made_later(lambda: lines.text_later(written.append, "a\n"), 10)
    assert lines.text_later(written.append, "b\n")
    lines.close(LONG)

    assert "".join(written) == "a\nb\n"
    assert "a line of the log was lost" in caplog.text
