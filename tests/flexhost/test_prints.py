"""What functions print is logged with the id of their call."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from contextlib import contextmanager

import pyarrow as pa
import pytest
from support import KEEP, Client, function, process

from flexhost.call import Call, running
from flexhost.functions.describe import describe
from flexhost.telemetry.events import CallEnded
from flexhost.telemetry.prints import Prints, capture


@pytest.fixture
def told(monkeypatch):
    """Lines of the loggers `stdout` and `stderr`, each with the call that ran."""
    lines = []

    class Keeping(logging.Handler):
        def emit(self, record):
            lines.append((record.name, record.getMessage(), running.get()))

    handler = Keeping()
    for name in ("stdout", "stderr"):
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logging.INFO)
        logger.addHandler(handler)
    yield lines
    for name in ("stdout", "stderr"):
        logging.getLogger(name).removeHandler(handler)


def call():
    described = describe(function(lambda *_: pa.table({"n": [1]})))
    return Call(described, {}, None, {}, deadline=9.0, emit=lambda event: None, keep=KEEP)


@contextmanager
def within(one):
    token = running.set(one)
    try:
        yield one
    finally:
        running.reset(token)


def test_a_line_of_a_call_is_logged_when_it_is_complete(told):
    stream = io.StringIO()
    prints = Prints(stream, "stdout")

    with within(call()) as one:
        print("a", "b", file=prints)
        print(end="c", file=prints)
        assert told == [("stdout", "a b", one)]
        print("d\n\ne", file=prints)

    assert [text for _, text, _ in told] == ["a b", "cd", "e"]
    assert stream.getvalue() == ""


def test_what_is_written_outside_of_calls_goes_where_it_went(told):
    stream = io.StringIO()
    prints = Prints(stream, "stdout")

    print("a", file=prints)
    prints.writelines(["b", "\n"])

    assert (stream.getvalue(), told) == ("a\nb\n", [])
    assert (prints.encoding, prints.isatty()) == (stream.encoding, False)


def test_lines_of_calls_that_run_at_once_are_kept_apart(told):
    prints, one, two = Prints(io.StringIO(), "stdout"), call(), call()
    for text in ("1", "2\n"):
        for each in (one, two):
            with within(each):
                prints.write(text)

    assert told == [("stdout", "12", one), ("stdout", "12", two)]


def test_a_line_that_does_not_end_is_logged_in_pieces(told):
    prints = Prints(io.StringIO(), "stdout")

    with within(call()):
        prints.write("x" * 20_000)
        assert len(told) == 2
        prints.write("y" * 20_000 + "\n")

    assert max(len(text) for _, text, _ in told) == 8_000
    assert "".join(text for _, text, _ in told) == "x" * 20_000 + "y" * 20_000


def test_what_was_begun_is_a_line_when_the_call_ends(told, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    events = []
    emit = capture(events.append)
    one = call()
    with within(one):
        sys.stdout.write("half")
        sys.stderr.write("failed")

    emit(CallEnded(one, None, None))

    assert told == [("stdout", "half", one), ("stderr", "failed", one)]
    assert len(events) == 1


def test_a_handler_that_prints_is_not_logged_again(told):
    stream = io.StringIO()
    prints = Prints(stream, "stdout")

    class Printing(logging.Handler):
        def emit(self, record):
            print("handled", file=prints)

    handler = Printing()
    logging.getLogger("stdout").addHandler(handler)
    with within(call()):
        print("once", file=prints)
    logging.getLogger("stdout").removeHandler(handler)

    assert ([text for _, text, _ in told], stream.getvalue()) == (["once"], "handled\n")


def test_threads_of_one_call_lose_nothing(told):
    prints, one = Prints(io.StringIO(), "stdout"), call()

    def write():
        with within(one):
            for _ in range(200):
                prints.write("x\n")

    threads = [threading.Thread(target=write) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert "".join(text for _, text, _ in told) == "x" * 800


PRINTING = """
import sys
import pyarrow as pa
from flexhost import CachePolicy, table_function

SCHEMA = pa.schema([("n", pa.int64())])
print("while it is imported")

@table_function(SCHEMA)
def table():
    print("of a table", end="")
    return [{"n": 1}]

@table_function(SCHEMA, cache=CachePolicy(1))
def cached():
    print("of a cached table", end="")
    return [{"n": 1}]

@table_function(SCHEMA)
async def stream():
    yield pa.table({"n": [1]})
    print("of a stream", end="", file=sys.stderr)
"""


def test_prints_carry_the_id_of_their_call(tmp_path):
    with process(tmp_path, PRINTING) as host:
        client = Client(host.port())
        for name in ("table", "cached", "stream"):
            client.call(name)
        host.process.terminate()
        _, text = host.ended()

    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    ids = {line["function"]: line["call_id"] for line in lines if line["event"] == "call"}
    printed = {line["event"]: line for line in lines if line["logger"] in ("stdout", "stderr")}
    assert {text: (line["call_id"], line["logger"]) for text, line in printed.items()} == {
        "of a table": (ids["table"], "stdout"),
        "of a cached table": (ids["cached"], "stdout"),
        "of a stream": (ids["stream"], "stderr"),
    }
