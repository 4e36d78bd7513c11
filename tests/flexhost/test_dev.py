"""`flexhost dev`, in a process of its own: what is saved is served, nothing else is disturbed."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import pyarrow.flight as fl
import pytest
from support import Client, process, until

FUNCTION = """
import sys
import pyarrow as pa
from flexhost import FlexFun
from helper import VALUE

class Answer(FlexFun):
    Name = "answer"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        if "until" in parameters:
            open(parameters["begun"], "w").close()
            open(parameters["until"]).read()
        return [{"n": VALUE}]

    @staticmethod
    def on_load(ctx):
        print("loaded answer", VALUE, file=sys.stderr, flush=True)
"""
OTHER = """
import pyarrow as pa
from flexhost import FlexFun

class Other(FlexFun):
    Name = "other"
    Schema = pa.schema([("n", pa.int64())])

    def call(self, parameters, columns, headers):
        return [{"n": 0}]

    @staticmethod
    def on_load(ctx):
        ctx.resources.add(lambda: None)
        with open("other-loaded", "a") as told:
            told.write("x")
"""


@pytest.fixture
def serving(tmp_path):
    """`flexhost dev` with `answer` and `other`: a client, and the host's process."""

    @contextmanager
    def started(**variables):
        (tmp_path / "helper.py").write_text("VALUE = 1\n")
        (tmp_path / "other.py").write_text(OTHER)
        listed = {"GOODDATA_FLIGHT_FLEXFUN__FUNCTIONS": '["my_functions", "other"]'}
        with process(tmp_path, FUNCTION, command="dev", **listed, **variables) as host:
            client = Client(host.port())
            assert answer(client) == 1
            yield client, host

    return started


def answer(client, **parameters):
    return client.call("answer", **parameters)["n"][0].as_py()


def test_what_is_saved_is_served_on_the_same_port(tmp_path, serving):
    with serving() as (client, _):
        (tmp_path / "my_functions.py").write_text(FUNCTION.replace("VALUE}]", "VALUE + 10}]"))

        until(lambda: answer(client) == 11)


def test_so_is_what_a_function_imports(tmp_path, serving):
    with serving() as (client, _):
        for value in (2, 3, 4):  # files of one size, within one second
            (tmp_path / "helper.py").write_text(f"VALUE = {value}\n")
            until(lambda value=value: answer(client) == value)


def test_a_call_that_runs_ends_on_the_code_it_began_with(tmp_path, serving):
    fifo, begun = tmp_path / "fifo", tmp_path / "begun"
    os.mkfifo(fifo)
    with serving() as (client, _):
        got = []
        waits = {"until": str(fifo), "begun": str(begun)}
        waiting = threading.Thread(target=lambda: got.append(answer(client, **waits)))
        waiting.start()
        until(begun.exists)
        (tmp_path / "helper.py").write_text("VALUE = 2\n")
        until(lambda: answer(client) == 2)
        fifo.write_text("go on")
        waiting.join()

    assert got == [1]


def test_an_error_is_told_with_file_and_line_and_the_old_code_goes_on(tmp_path, serving):
    with serving() as (client, host):
        (tmp_path / "helper.py").write_text("VALUE = 2\nimport nowhere\n")
        told = host.line("nowhere.*the code of before is served")
        assert "module 'my_functions' cannot be imported: ModuleNotFoundError" in told.string
        host.line(r'helper\.py", line 2')
        assert answer(client) == 1
        (tmp_path / "helper.py").write_text("VALUE = (\n")
        host.line(r"SyntaxError: '\(' was never closed \(helper.py, line 1\)")
        assert answer(client) == 1

        (tmp_path / "helper.py").write_text("VALUE = 2\n")
        until(lambda: answer(client) == 2)


def test_functions_in_processes_are_served_anew_too(tmp_path, serving):
    with serving(GOODDATA_FLIGHT_FLEXFUN__EXECUTORS='{"answer": "processes"}') as (client, host):
        for value in (2, 3):
            (tmp_path / "helper.py").write_text(f"VALUE = {value}\n")
            until(lambda value=value: answer(client) == value)
        (tmp_path / "helper.py").write_text("VALUE = 1 / 0\n")
        host.line("ZeroDivisionError.*the code of before is served")

        assert answer(client) == 3


def test_a_module_that_is_added_mends_what_lacked_it(tmp_path, serving):
    with serving() as (client, host):
        (tmp_path / "helper.py").write_text("from added import VALUE\n")
        host.line("No module named 'added'")
        (tmp_path / "added.py").write_text("VALUE = 5\n")

        until(lambda: answer(client) == 5)


def test_what_did_not_change_is_not_loaded_again(tmp_path, serving):
    with serving() as (client, host):
        (tmp_path / "helper.py").write_text("VALUE = 2\n")
        host.line("loaded answer 2")
        until(lambda: answer(client) == 2)

        assert client.call("other").num_rows == 1
        assert (tmp_path / "other-loaded").read_text() == "x"


def test_functions_that_are_listed_or_struck_out_later_come_and_go(tmp_path):
    (tmp_path / "other.py").write_text(OTHER)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    with process(tmp_path, FUNCTION, command="dev") as host:
        client = Client(host.port())
        config = tmp_path / "host.toml"
        config.write_text(config.read_text().replace('"my_functions"', '"other"'))
        host.line("serving other anew, no more answer, after ")

        assert client.call("other").num_rows == 1
        with pytest.raises(fl.FlightServerError, match="no function is named 'answer'"):
            client.call("answer")


def test_a_setting_that_became_wrong_is_told_and_nothing_changes(tmp_path, serving):
    with serving() as (client, host):
        config = tmp_path / "host.toml"
        config.write_text(config.read_text() + "\nwhat = 1\n")
        host.line("has no setting 'what'")

        assert answer(client) == 1


def test_it_stops_as_start_does(serving):
    with serving() as (_, host):
        host.process.terminate()

        assert host.ended()[0] == 0


def test_without_watchfiles_it_says_what_to_install(tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['watchfiles'] = None\n")
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    with process(tmp_path, FUNCTION, command="dev") as host:
        status, told = host.ended()

    assert status == 2
    assert "`flexhost dev` needs watchfiles" in told
