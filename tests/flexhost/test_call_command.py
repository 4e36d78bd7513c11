"""`flexhost call`, in a process of its own: rows on stdout, all else on stderr."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import socket
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from authority import Authority, Files
from shell import Shell
from support import LONG, Process

FUNCTIONS = '''
import os
import subprocess
import sys
import threading

import pyarrow as pa
from flexhost import BadArgument, FlexFun, table_function


@table_function(pa.schema([("city", pa.string()), ("people", pa.int64())]))
def cities(at_least: int = 0, region: str = "CZ"):
    print("printed by cities")
    subprocess.run(["echo", "printed by another process"])
    people = {"Brno": 402_739, "Praha": 1_384_732}
    return [{"city": city, "people": n} for city, n in people.items() if n >= at_least]


class Asked(FlexFun):
    """Gives back what it was called with."""

    Name = "asked"
    Schema = pa.schema([("asked", pa.string()), ("columns", pa.string()), ("day", pa.date32())])

    def call(self, parameters, columns, headers):
        import json
        return [{"asked": json.dumps(parameters), "columns": str(columns), "day": None}]


class Endless(FlexFun):
    Name = "endless"
    Schema = pa.schema([("n", pa.int64()), ("text", pa.string())])

    def call(self, parameters, columns, headers):
        rows = parameters.get("rows", 1000)
        batch = pa.record_batch([pa.array(range(rows)), pa.array(["x" * 1000] * rows)], self.Schema)
        try:
            for _ in range(parameters.get("batches", 1_000_000_000)):
                yield batch
            if "fail" in parameters:
                raise RuntimeError("in the midst of it")
        finally:
            print("endless was closed", flush=True)


class Waits(FlexFun):
    Name = "waits"
    Schema = pa.schema([("n", pa.int64())])

    def __init__(self):
        self.cancelled = threading.Event()

    def call(self, parameters, columns, headers):
        print("waits has begun", flush=True)
        self.cancelled.wait()
        print("waits was cancelled", flush=True)
        return [{"n": 1}]

    def cancel(self):
        self.cancelled.set()
        return True

    @staticmethod
    def on_load(ctx):
        print("loaded with", ctx.settings.get("mine", {}).get("key"), flush=True)
        ctx.on_close(lambda: print("resources were closed", flush=True))


@table_function(pa.schema([("n", pa.int64())]))
def fails(how: str):
    if how == "argument":
        raise BadArgument("how", "not like that")
    raise RuntimeError("no database")
'''


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    made = Shell(tmp_path_factory.mktemp("project"), mine=FUNCTIONS)
    made.config.write_text(made.config.read_text() + '[mine]\nkey = "of the settings"\n')
    return made


@contextmanager
def serving(shell, settings=""):
    """A running host of the same functions: its process, and the URL."""
    config = shell.folder / "src" / "host.toml"
    config.write_text(f"{shell.config.read_text()}\n[server]\nlisten_port = 0\n{settings}\n")
    process = Process([config], [], {})
    try:
        scheme = "grpc+tls" if "use_tls = true" in settings else "grpc"
        yield process, f"{scheme}://localhost:{process.port()}"
    finally:
        process.process.kill()
        process.process.wait()


@pytest.fixture(scope="module")
def running(shell):
    with serving(shell) as (_, url):
        yield url


@pytest.fixture(params=["here", "there"])
def where(request):
    """Options for a call in the process itself, and on a running host."""
    there = request.param == "there"
    return ["--host", request.getfixturevalue("running")] if there else []


def test_rows_alone_go_to_stdout(shell, where):
    done = shell("call", "cities", "-p", "at_least=500000", *where)

    assert done.out == "city    people\n-----  -------\nPraha  1384732\n"
    assert re.search(r"^1 row, \d+ bytes, \d+\.\d\d s$", done.err, re.MULTILINE)
    assert done.status == 0
    if not where:
        assert "printed by cities" in done.err
        assert "printed by another process" in done.err


def test_a_function_gets_parameters_columns_and_filters_as_from_a_backend(shell, where):
    done = shell(
        *("call", "asked", "-p", "limit=5", "-p", "region=EU", "--columns", "columns,asked"),
        *("--where", "day >= 2026-01-01", "--timezone", "Europe/Prague", "--output", "json"),
        *where,
    )
    row = json.loads(done.out)
    asked = json.loads(row["asked"])

    assert list(row) == ["columns", "asked"]
    assert row["columns"] == "('columns', 'asked')"
    assert {key: asked[key] for key in ("limit", "region")} == {"limit": 5, "region": "EU"}
    assert asked["executionContext"]["timezone"] == "Europe/Prague"
    assert asked["executionContext"]["filters"] == [
        {
            "filterType": "absoluteDateFilter",
            "datasetIdentifier": "day",
            "from": "2026-01-01",
            "to": "9999-12-31",
        }
    ]


def test_without_filters_there_is_no_execution_context(shell):
    asked = json.loads(json.loads(shell("call", "asked", "--output", "json").out)["asked"])

    assert asked == {}


def test_a_text_that_looks_like_json_stays_one_for_a_text(shell, where):
    done = shell("call", "cities", "-p", "region=5", "--output", "csv", *where)

    assert done.out.splitlines() == ['"city","people"', '"Brno",402739', '"Praha",1384732']


def test_binary_formats_come_whole(shell, where):
    status, parquet, _ = shell.bytes("call", "cities", "--output", "parquet", *where)
    _, arrow, _ = shell.bytes("call", "cities", "--output", "arrow", *where)

    assert status == 0
    assert pq.read_table(io.BytesIO(parquet)).column("city").to_pylist() == ["Brno", "Praha"]
    assert pa.ipc.open_stream(arrow).read_all().column("people").to_pylist() == [402739, 1384732]


def test_a_file_is_written_in_the_format_of_its_ending(shell):
    done = shell("call", "cities", "-o", "cities.parquet")

    assert (done.status, done.out) == (0, "")
    assert pq.read_table(shell.folder / "cities.parquet").num_rows == 2


def test_a_file_is_written_whole_or_not_at_all(shell):
    (shell.folder / "old.csv").write_text("as it was")
    before = sorted(shell.folder.iterdir())

    done = shell("call", "endless", "-p", "batches=9", "-p", "fail=1", "-o", "old.csv")
    elsewhere = shell("call", "cities", "-o", "no/such/folder.csv")
    folder = shell("call", "cities", "-o", "src")

    assert (done.status, elsewhere.status, folder.status) == (1, 1, 1)
    assert "cannot write src: Is a directory" in folder.err
    assert "COMMAND_FAILED: in the midst of it" in done.err
    assert "cannot write no/such/folder.csv: No such file" in elsewhere.err
    assert (shell.folder / "old.csv").read_text() == "as it was"
    assert sorted(shell.folder.iterdir()) == before


def test_a_stream_that_fails_in_its_midst_is_no_success(shell, where):
    done = shell("call", "endless", "-p", "batches=2", "-p", "fail=1", "--output", "csv", *where)

    assert len(done.out.splitlines()) == 2001
    assert "COMMAND_FAILED: in the midst of it" in done.err
    assert done.status == 1


@pytest.mark.parametrize("kind", ["table", "csv", "parquet"])
def test_a_device_that_takes_no_more_is_told(shell, kind):
    full = shell("call", "cities", "--output", kind, "-o", "/dev/full")

    assert "flexhost: cannot write /dev/full: No space left on device" in full.err
    assert full.status == 1
    assert shell("call", "cities", "--output", kind, "-o", "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()


def test_a_table_has_the_first_rows_of_a_stream_that_never_ends(shell, where):
    done = shell("call", "endless", "--columns", "n", *where)

    assert len(done.out.splitlines()) == 2 + 50
    assert "the first 50 rows, there are more: --rows all shows them all" in done.err
    assert done.status == 0


def test_rows_bounds_every_format(shell, where):
    rows = shell("call", "endless", "--rows", "1001", "--output", "csv", *where)
    none = shell("call", "endless", "--rows", "0", "--output", "json", *where)

    assert len(rows.out.splitlines()) == 1002
    assert (none.out, none.status) == ("", 0)


def test_a_table_has_all_rows_when_they_are_asked_for(shell):
    whole = shell("call", "endless", "-p", "batches=1", "--rows", "all")

    assert len(whole.out.splitlines()) == 1002


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "arrow"])
def test_a_large_stream_is_written_in_bounded_memory(shell, kind):
    peaks = []
    for batches in (1, 300):  # of 1 MB
        with (shell.folder / "out").open("wb") as out:
            process = shell.start(
                *("call", "endless", "-p", f"batches={batches}", "--output", kind), stdout=out
            )
            assert b"rows" in process.stderr.read()
            process.stderr.close()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss / 1024)

    assert peaks[1] - peaks[0] < 150, peaks


def test_a_reader_who_has_seen_enough_ends_it_quietly(shell, where):
    with shell.start("call", "endless", "--output", "csv", *where) as process:
        first = process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read().decode()
        status = process.wait(LONG)

    assert first == b'"n","text"\n'
    assert "Traceback" not in err
    assert "flexhost:" not in err
    assert status == 1
    if not where:
        assert "endless was closed" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_is_cancelled(shell, number):
    with shell.start("call", "waits") as process:
        while b"waits has begun" not in process.stderr.readline():
            pass
        process.send_signal(number)
        out, err = process.communicate(timeout=LONG)

    assert process.returncode == 130
    assert out == b""
    told = err.decode().splitlines()
    assert told == ["flexhost: cancelled", "waits was cancelled", "resources were closed"]


def test_an_interrupted_call_is_cancelled_on_its_host(shell):
    with serving(shell) as (host, url):
        with shell.start("call", "waits", "--host", url) as process:
            host.line("waits has begun")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=LONG)
        host.line("waits was cancelled")

    assert process.returncode == 130
    assert err.decode() == "flexhost: cancelled\n"


def test_a_call_that_is_interrupted_before_it_begins_leaves_no_file(shell, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"grpc+tls://127.0.0.1:{silent.getsockname()[1]}"
        folder = tmp_path / "written"
        folder.mkdir()
        arguments = ["call", "cities", "--host", url, "-o", str(folder / "cities.csv")]
        with shell.start(*arguments) as process:
            silent.settimeout(LONG)
            silent.accept()[0].close()  # it looks whether somebody listens
            with silent.accept()[0] as greeted:
                greeted.recv(1)
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=LONG)

    assert process.returncode == 130
    assert list(folder.iterdir()) == []


def test_an_interrupted_read_is_given_up(shell, where):
    with shell.start("call", "endless", "--output", "csv", *where) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LONG)

    assert process.returncode == 130
    assert "flexhost: cancelled" in err.decode()
    assert "flexhost: SHUTTING_DOWN" not in err.decode()


def test_on_load_is_called_with_the_settings_and_resources_are_closed(shell):
    err = shell("call", "cities").err

    assert "loaded with of the settings" in err
    assert err.index("loaded with") < err.index("printed by cities") < err.index("were closed")


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["nope"], 1, "BAD_ARGUMENT: no function is named 'nope'"),
        (["cities", "-p", "at_leas=1"], 1, "BAD_ARGUMENT: there is no parameter 'at_leas', did"),
        (["cities", "-p", "at_least=many"], 1, "BAD_ARGUMENT: at_least is 'many'"),
        (["cities", "--columns", "city,x"], 1, "BAD_ARGUMENT: function 'cities' has no column 'x'"),
        (["fails", "-p", "how=argument"], 1, "BAD_ARGUMENT: how: not like that"),
        (["fails", "-p", "how=really"], 1, "COMMAND_FAILED: no database"),
        (["asked", "--where", "asked > 5"], 2, "only dates can be compared with >"),
        (["asked", "--where", "x = 5"], 2, "there is no column 'x'"),
        (["asked", "-p", "x"], 2, "-p 'x': expected NAME=VALUE"),
        (["asked", "--parameters", "[]"], 2, "--parameters is no JSON object"),
        (["asked", "--rows", "-1"], 2, "--rows is '-1', expected a number, or all"),
        (["asked", "--where", "day = 2026-01-01", "--timezone", "Mars"], 2, "'Mars'"),
        (["asked", "--output", "xml"], 2, "invalid choice: 'xml'"),
    ],
)
def test_a_failure_is_told_with_its_code(shell, arguments, status, told):
    done = shell("call", *arguments)

    assert done.out == ""
    assert told in done.err, done.err
    assert done.status == status


def test_a_failure_of_a_running_host_is_told_with_its_code(shell, running):
    unknown = shell("call", "nope", "--host", running)
    failed = shell("call", "fails", "-p", "how=really", "--host", running)

    assert "flexhost: BAD_ARGUMENT: no function is named 'nope'" in unknown.err
    assert "flexhost: COMMAND_FAILED: no database [id " in failed.err
    assert (unknown.status, failed.status) == (1, 1)


def test_a_failure_of_the_function_is_told_with_where_it_happened(shell, where):
    done = shell("call", "fails", "-p", "how=really", *where)

    assert re.search(r"mine.py.* in fails", done.err)
    assert "RuntimeError: no database" in done.err


def test_a_host_that_cannot_be_reached_is_told(shell):
    refused = shell("call", "cities", "--host", "grpc://127.0.0.1:1")
    wrong = shell("call", "cities", "--host", "127.0.0.1:1")

    assert "nothing listens on 127.0.0.1:1: start the host" in refused.err
    assert "'127.0.0.1:1' is no address of a host, expected grpc://HOST:PORT" in wrong.err
    assert (refused.status, wrong.status) == (1, 2)


def test_a_token_opens_a_host_that_asks_for_one(shell):
    settings = 'authentication_method = "token"\n[enumerated_tokens]\ntokens = ["secret"]'
    (shell.folder / "token").write_text("secret\n")
    with serving(shell, settings) as (_, url):
        without = shell("call", "cities", "--host", url)
        with_it = shell("call", "cities", "--host", url, "--token", f"@{shell.folder / 'token'}")

    assert "UNAUTHENTICATED" in without.err
    assert without.status == 1
    assert with_it.out.splitlines()[-1] == "Praha  1384732"


def test_tls_is_spoken_with_the_authority_that_is_given(shell):
    authority = Authority()
    root = shell.folder / "root.pem"
    root.write_bytes(authority.root)
    settings = Files(shell.folder, authority.pair("localhost")).toml
    settings += 'advertise_host = "localhost"\n'
    with serving(shell, settings) as (_, url):
        without = shell("call", "cities", "--host", url)
        done = shell("call", "cities", "--host", url, "--tls-root", str(root))

    assert "is not trusted here" in without.err
    assert done.out.splitlines()[-1] == "Praha  1384732", done.err


def on_a_terminal(shell, *arguments, **options):
    """What is shown on a terminal, stdout and stderr, and the exit status."""
    ours, theirs = pty.openpty()
    with shell.start("call", *arguments, stdout=theirs, stderr=theirs, **options) as process:
        os.close(theirs)
        shown = b""
        while chunk := _read(ours):
            shown += chunk
        os.close(ours)
    return shown.decode(), process.returncode


def _read(terminal):
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # that is how a terminal says that its other end is closed
        return b""


def test_binary_formats_are_not_for_a_terminal(shell):
    shown, status = on_a_terminal(shell, "cities", "--output", "parquet")

    assert "--output parquet is nothing for a terminal: redirect it, or take -o FILE" in shown
    assert status == 2


def test_a_terminal_shows_the_table_and_how_far_it_is(shell):
    shown, status = on_a_terminal(shell, "cities", env={"TERM": "xterm"})

    assert "─────" in shown  # the table is rich's
    assert "waiting for the function" in shown
    assert re.search(r"Brno.* 402739", shown)
    assert "2 rows" in shown
    assert status == 0


WITHOUT_RICH = """
import sys
for name in ("rich", "tomlkit", "watchfiles"):
    sys.modules[name] = None
"""


def test_without_the_extras_everything_but_their_commands_works(tmp_path):
    shell = Shell(tmp_path, mine=FUNCTIONS)
    (shell.folder / "src" / "sitecustomize.py").write_text(WITHOUT_RICH)
    shown, status = on_a_terminal(shell, "cities", env={"TERM": "xterm"})
    new, dev = shell("new", "weather"), shell("dev")

    assert "Brno    402739" in shown
    assert status == 0
    assert (new.status, dev.status) == (2, 2)
    assert "`flexhost new` needs tomlkit" in new.err
    assert "`flexhost dev` needs watchfiles" in dev.err
    with serving(shell) as (_, url):
        assert shell("functions", "--host", url).status == 0


def test_files_of_settings_can_be_named(shell):
    other = shell.folder / "other.toml"
    other.write_text("[flexfun]\nfunctions = []\n")

    assert shell("call", "cities", "--config", str(other)).status == 1
    assert shell("call", "cities", cwd=shell.folder / "src").status == 2
