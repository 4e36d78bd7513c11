"""Plain functions in hosts of their own process: with worker processes, in a shell, in `dev`."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from exchanging import Exchange
from shell import Shell
from support import LONG, Client, flight_code, process, until

FUNCTIONS = """
import os
from collections.abc import Iterator
from dataclasses import dataclass

from flexhost import udf

def add_one(i: int, j: int) -> int:
    return i + j

@udf(executor="processes")
def where(n: int) -> int:
    return os.getpid()

@udf(executor="processes")
def answer() -> int:
    return 42

@udf(executor="processes")
def fails(n: int) -> int:
    return 12 // n

@dataclass
class Item:
    n: int
    text: str

@udf(executor="processes")
def items(n: int) -> Iterator[Item]:
    for each in range(n):
        yield Item(each, str(each))

@udf(executor="processes")
class Opened:
    def open(self, context):
        self.by, self.path = int(context.get_job_parameter("mine.by")), context.settings.mine.path
        self.note("open")

    def eval(self, n: int) -> int:
        return n * self.by

    def close(self):
        self.note("close")

    def note(self, what):
        with open(self.path, "a") as log:
            log.write(f"{what} {os.getpid()}\\n")

def helper(x):
    return x
"""


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("udfs")
    more = f"process_workers = 1\n[mine]\nby = 3\npath = '{folder / 'log'}'\n"
    with process(folder, "", more, udfs=FUNCTIONS) as host:
        host.line("function my_udfs.helper: argument 'x' has no type hint: it is not served")
        client = Client(host.port())
        client.pid, client.folder, client.process = host.process.pid, folder, host.process
        yield client


def exchanged(client, name, batch):
    exchange = Exchange(client, name, batch.schema)
    exchange.writer.write_batch(batch)
    answer = exchange.reader.read_chunk().data
    exchange.leave()
    return answer


def test_a_batch_is_answered_in_a_process_of_its_own(hosted):
    [one, two] = exchanged(hosted, "where", pa.record_batch({"n": [1, 2]}))["result"].to_pylist()

    assert one == two
    assert one != hosted.pid
    assert hosted.call("where", n=1)["result"].to_pylist() == [one]


def test_rows_without_columns_arrive_there(hosted):
    batch = pa.record_batch({"x": [0] * 3}).select([])

    assert exchanged(hosted, "answer", batch)["result"].to_pylist() == [42] * 3


def test_a_slice_goes_there_alone(hosted):
    batch = pa.record_batch({"n": list(range(1, 100))}).slice(2, 2)

    assert exchanged(hosted, "fails", batch)["result"].to_pylist() == [4, 3]


def test_the_row_that_failed_comes_back_from_there(hosted):
    with pytest.raises(pa.flight.FlightServerError) as told:
        exchanged(hosted, "fails", pa.record_batch({"n": [1, 0]}))

    code, message = flight_code(told.value)
    assert code == 5
    assert message.startswith("row 1: ZeroDivisionError: ")


def test_a_table_function_streams_from_there(hosted):
    table = hosted.call("items", n=20_000)

    assert table["n"].to_pylist() == list(range(20_000))
    assert table["text"][-1].as_py() == "19999"


def test_an_object_is_opened_once_in_each_process_and_closed_at_the_end(hosted):
    for n in range(3):
        assert hosted.call("Opened", n=n)["result"].to_pylist() == [3 * n]
    hosted.process.terminate()
    assert hosted.process.wait(LONG) == 0
    # the spare one may have come later than the calls
    lines = (hosted.folder / "log").read_text().splitlines()
    opened, closed = (
        [line.removeprefix(what) for line in lines if line.startswith(what)]
        for what in ("open ", "close ")
    )

    assert opened
    assert len(set(opened)) == len(opened)
    assert str(hosted.pid) not in opened
    assert sorted(closed) == sorted(opened)


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("project"))
    (made.package.parent / "my_udfs.py").write_text(FUNCTIONS)
    made.config.write_text("[udf]\nfunctions = ['my_udfs']\n[mine]\nby = 3\npath = 'log'\n")
    return made


def test_the_commands_know_plain_functions(shell):
    listed = shell("functions")
    checked = shell("check")

    assert re.search(r"^add_one +result +my_udfs$", listed.out, re.MULTILINE)
    assert re.search(r"^items +n, text +my_udfs$", listed.out, re.MULTILINE)
    assert checked.status == 0
    assert re.search(r"^warning function my_udfs.helper: argument 'x' has no", checked.out, re.M)
    assert re.search(r"add_one +result +my_udfs$", checked.out, re.MULTILINE)


def test_describe_tells_what_one_takes_and_gives(shell):
    told = json.loads(shell("describe", "add_one", "--json").out)

    assert (told["kind"], told["style"], told["deterministic"]) == ("scalar", "row", True)
    assert told["arguments"] == [
        {"name": "i", "type": "BIGINT NOT NULL"},
        {"name": "j", "type": "BIGINT NOT NULL"},
    ]
    assert "scalar function of single values" in shell("describe", "add_one").out


def test_call_calls_one(shell):
    assert shell("call", "add_one", "-p", "i=1", "-p", "j=2", "--output", "csv").out.split() == [
        '"result"',
        "3",
    ]
    given = shell("call", "add_one", "--parameters", '{"i": 1, "j": 2}', "--output", "json")
    assert json.loads(given.out) == {"result": 3}
    assert given.err.count("my_udfs.helper: argument 'x' has no type hint") == 1
    table = shell("call", "items", "-p", "n=2", "--columns", "text", "--output", "csv")
    assert table.out.split() == ['"text"', '"0"', '"1"']


def test_call_opens_and_closes_an_object(shell):
    (shell.folder / "log").unlink(missing_ok=True)

    assert shell("call", "Opened", "-p", "n=2", "--output", "csv").out.split() == ['"result"', "6"]
    assert re.fullmatch(r"open (\d+)\nclose \1\n", (shell.folder / "log").read_text())


def test_call_tells_what_is_wrong(shell):
    wrong = shell("call", "add_one", "-p", "i=1")
    failed = shell("call", "fails", "-p", "n=0")

    assert (wrong.status, failed.status) == (1, 1)
    assert "flexhost: BAD_ARGUMENT: j is missing, expected int" in wrong.err
    assert "flexhost: COMMAND_FAILED: ZeroDivisionError: " in failed.err


def test_new_knows_the_names_of_plain_functions(shell):
    told = shell("new", "items")

    assert told.status != 0
    assert "a function is named 'items' already" in told.err


def test_check_tells_of_each_that_cannot_be_served(tmp_path):
    made = Shell(tmp_path)
    (made.package.parent / "my_udfs.py").write_text(FUNCTIONS)
    made.config.write_text("[udf]\nfunctions = ['my_udfs.helper', 'my_udfs.add_oen']\n")
    told = made("check")

    assert told.status == 2
    assert "WRONG   function my_udfs.helper: argument 'x' has no type hint" in told.out
    assert "has no 'add_oen', did you mean 'add_one'?" in told.out


def test_a_saved_plain_function_is_served_anew(tmp_path):
    source = "def number() -> int:\n    return 1\n"
    with process(tmp_path, command="dev", udfs=source) as host:
        client = Client(host.port())
        assert client.call("number")["result"].to_pylist() == [1]
        (tmp_path / "my_udfs.py").write_text(source.replace("1", "23"))

        until(lambda: client.call("number")["result"].to_pylist() == [23])
