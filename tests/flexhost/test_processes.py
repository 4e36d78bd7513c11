"""Functions that run in worker processes, in a host of its own process."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import LONG, Client, command, flight_code, process, until

FUNCTIONS = """
import asyncio, ctypes, logging, os, signal, threading
from typing import Annotated

import msgspec
import pyarrow as pa
import pyarrow.flight as fl
import structlog
from flexhost import BadArgument, FlexFun, ModuleHealthStatus, table_function
from flexhost.function import CachePolicy

SCHEMA = pa.schema([("n", pa.int64())])


class Base(FlexFun):
    Executor = "processes"
    Schema = SCHEMA

    def rows(self, *values):
        return pa.table({"n": list(values)}, schema=self.Schema)


class Numbers(Base):
    Name = "numbers"

    def call(self, parameters, columns, headers):
        return self.rows(*range(parameters.get("upto", 3)))


class Whereabouts(Base):
    Name = "whereabouts"
    loaded = None

    @staticmethod
    def on_load(ctx):
        Whereabouts.loaded = os.getpid(), ctx.settings.mine.key, str(ctx.location.uri)
        ctx.on_close(lambda: open(ctx.settings.mine.closed, "a").write(f"{os.getpid()} "))

    def call(self, parameters, columns, headers):
        pid, key, uri = self.loaded
        return self.rows(os.getpid(), pid, os.getppid(), key, int("grpc" in uri))


class Fails(Base):
    Name = "fails"

    def call(self, parameters, columns, headers):
        match parameters["how"]:
            case "value": raise ValueError("too old")
            case "argument": raise BadArgument("age", "is too much")
            case "flight": raise fl.FlightUnavailableError("later", b"own extra")
            case "exit": os._exit(7)
            case "system exit": raise SystemExit(3)
            case "segfault": ctypes.string_at(0)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "memory": bytearray(8 << 30)
            case "schema": return pa.table({"m": [1]})
            case "unpicklable":
                class Local(Exception):
                    def __init__(self): super().__init__("only here"); self.lock = threading.Lock()
                raise Local


class Stream(Base):
    Name = "stream"

    def call(self, parameters, columns, headers):
        try:
            for n in range(parameters.get("upto", 1_000)):
                with open(parameters["log"], "a") as log:
                    log.write(f"{n} ")
                if n == parameters.get("die"):
                    os.kill(os.getpid(), signal.SIGKILL)
                if n == parameters.get("fail"):
                    raise OSError("the database went away")
                yield pa.record_batch({"n": [n] * parameters.get("rows", 1)}, schema=SCHEMA)
        finally:
            with open(parameters["log"], "a") as log:
                log.write("closed")


class Hangs(Base):
    Name = "hangs"
    DeadlineSec = 0.3

    def call(self, parameters, columns, headers):
        with open(parameters["log"], "w") as log:
            log.write(str(os.getpid()))
        self.log, self.wait = parameters["log"], threading.Event()
        match parameters["how"]:
            case "native": ctypes.PyDLL(None).sleep(600)  # with the lock of the interpreter
            case "python":
                while True: pass
            case "nicely": self.wait.wait(600)
        return self.rows()

    def cancel(self):
        with open(self.log, "a") as log:
            log.write(" cancelled")
        self.wait.set()
        return True


class Says(Base):
    Name = "says"

    def call(self, parameters, columns, headers):
        print("printed")
        logging.getLogger("mine").warning("logged %s", 1)
        structlog.get_logger("ours").info("told", field={"a": 1})
        logging.getLogger("mine").debug("not told")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("mine").exception("caught")
        return self.rows()


class Gone(Base):
    Name = "gone"
    health = None

    @staticmethod
    def on_load(ctx):
        Gone.health = ctx.health

    def call(self, parameters, columns, headers):
        self.health.set_module_status("source", ModuleHealthStatus(parameters["status"]))
        return self.rows()


class Wants(msgspec.Struct):
    limit: Annotated[int, msgspec.Meta(ge=1)] = 2


class Typed(Base):
    Name = "typed"
    Schema = pa.schema([("n", pa.int64()), ("who", pa.string()), ("hint", pa.string())])
    Parameters = Wants

    def call(self, parameters, columns, headers):
        row = {"n": self.params.limit, "who": headers["x-who"][0], "hint": str(columns)}
        return [row] * self.params.limit


class Filtered(Base):
    Name = "filtered"
    ApplyFilters = True
    Schema = pa.schema([("region", pa.string()), ("year", pa.string())])

    def call(self, parameters, columns, headers):
        self.filters.take("year")  # and applies nothing: the receipt is believed
        return [{"region": r, "year": y} for r in ("EU", "US") for y in ("1", "2")]


class Cached(Base):
    Name = "cached"
    Cache = CachePolicy(ttl_sec=60)
    ran = 0

    def call(self, parameters, columns, headers):
        with open(parameters["log"], "a") as log:
            log.write("ran ")
        return self.rows(1)


@table_function(SCHEMA, executor="processes")
async def later(upto: int):
    await asyncio.sleep(0)
    return [{"n": n} for n in range(upto)]


class Threaded(FlexFun):
    Name = "threaded"
    Schema = SCHEMA

    def call(self, parameters, columns, headers):
        return pa.table({"n": [os.getpid()]})
"""


class Hosted(Client):
    """A client of the host, and its process."""

    def __init__(self, host):
        self.http = int(host.line(r"HTTP on 127.0.0.1:(\d+)")[1])
        super().__init__(host.port())
        self.host = host
        self.pid = host.process.pid


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with host_of(folder) as client:
        yield client


@pytest.fixture
def log(hosted, tmp_path):
    return tmp_path / "log"


@contextmanager
def host_of(folder, settings=""):
    wanted = (
        "process_workers = 2\nhealth_check_host = '127.0.0.1'\nhealth_check_port = 0\n"
        f"{settings}\n[mine]\nkey = 5\nclosed = '{folder / 'closed'}'"
    )
    with process(folder, FUNCTIONS, wanted) as host:
        yield Hosted(host)


def children(pid):
    """Processes below this one, by their ids."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found += [int(stat.parent.name), *children(int(stat.parent.name))]
    return found


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def live(hosted):
    """What /live answers."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{hosted.http}/live", timeout=LONG) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def failed(client, name, **parameters):
    with pytest.raises(fl.FlightError) as raised:
        client.call(name, **parameters)
    return raised.value


def test_calls_run_in_processes_of_their_own(hosted):
    ran, loaded, parent, key, location = hosted.call("whereabouts")["n"].to_pylist()

    assert ran == loaded
    assert hosted.pid not in (ran, parent)
    assert (key, location) == (5, 1)


def test_other_functions_run_in_the_host(hosted):
    assert hosted.call("threaded")["n"].to_pylist() == [hosted.pid]


@pytest.mark.parametrize("rows", [0, 3, 100_000, 3_000_000])
def test_a_table_comes_back_whatever_its_size(hosted, rows):
    table = hosted.call("numbers", upto=rows)

    assert table.equals(pa.table({"n": pa.array(range(rows), pa.int64())}))


def test_a_stream_comes_back(hosted, log):
    table = hosted.call("stream", upto=300, rows=1_000, log=str(log))

    assert table["n"].to_pylist() == [n for n in range(300) for _ in range(1_000)]
    until(lambda: log.read_text().endswith("closed"))


def test_a_stream_is_made_no_further_than_it_is_read(hosted, log):
    rows = 200_000  # more than what is joined, or waits in a socket
    reader = hosted.flight.do_get(hosted.ticket("stream", rows=rows, log=str(log)))
    reader.read_chunk()
    until(lambda: "3" in log.read_text())
    threading.Event().wait(0.3)  # for it to go on, if it did

    assert len(log.read_text().split()) < 40
    reader.cancel()


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("value", 1, "too old"),
        ("argument", 1, "age: is too much"),
        ("system exit", 5, "3"),
        ("schema", 5, "the result has no column 'n'"),
        ("unpicklable", 5, "only here"),
        ("exit", 5, "its process ended itself, with status 7"),
        ("segfault", 5, "its process was ended by SIGSEGV"),
        ("kill", 5, "its process was ended by SIGKILL, as the system does when memory runs out"),
    ],
)
def test_what_goes_wrong_fails_that_call_alone(hosted, how, code, text):
    error = failed(hosted, "fails", how=how)

    assert flight_code(error)[0] == code
    assert text in flight_code(error)[1]
    assert hosted.call().num_rows == 3


def test_an_exception_shows_the_lines_of_the_authors_file(hosted):
    detail = json.loads(failed(hosted, "fails", how="value").extra_info)["detail"]

    assert detail.startswith("ValueError: too old\nmy_functions.py:")


def test_a_flight_error_passes_through(hosted):
    error = failed(hosted, "fails", how="flight")

    assert isinstance(error, fl.FlightUnavailableError)
    assert error.extra_info == b"own extra"


def test_an_error_in_mid_stream_comes_after_what_there_was(hosted, log):
    reader = hosted.flight.do_get(hosted.ticket("stream", fail=3, rows=100_000, log=str(log)))
    with pytest.raises(fl.FlightServerError, match="the database went away") as raised:
        reader.read_all()

    assert flight_code(raised.value)[0] == 5


def test_a_worker_that_dies_in_mid_stream_fails_that_stream_alone(hosted, log):
    other = hosted.flight.do_get(hosted.ticket("stream", upto=5, rows=100_000, log=f"{log}2"))
    reader = hosted.flight.do_get(hosted.ticket("stream", die=3, rows=100_000, log=str(log)))
    with pytest.raises(fl.FlightServerError, match="was ended by SIGKILL"):
        reader.read_all()

    assert other.read_all().num_rows == 500_000


@pytest.mark.parametrize("how", ["native", "python"])
def test_a_call_that_does_not_end_in_time_is_killed(hosted, log, how):
    error = failed(hosted, "hangs", how=how, log=str(log))
    pid = int(log.read_text().split()[0])

    assert isinstance(error, fl.FlightTimedOutError)
    until(lambda: not alive(pid))
    assert hosted.call().num_rows == 3


def test_a_call_that_ends_when_it_is_cancelled_keeps_its_worker(hosted, log):
    failed(hosted, "hangs", how="nicely", log=str(log))
    pid, word = log.read_text().split()
    used = {hosted.call("whereabouts")["n"].to_pylist()[0] for _ in range(30)}

    assert word == "cancelled"
    assert alive(int(pid))
    assert used


def test_a_call_whose_caller_has_left_is_killed(hosted, log):
    with pytest.raises(fl.FlightTimedOutError):
        hosted.flight.get_flight_info(
            fl.FlightDescriptor.for_command(command("hangs", how="native", log=str(log))),
            fl.FlightCallOptions(timeout=0.25),
        )
    until(log.exists)
    pid = int(log.read_text())

    until(lambda: not alive(pid))


def test_a_stream_whose_reader_leaves_is_closed(hosted, log):
    reader = hosted.flight.do_get(hosted.ticket("stream", rows=100_000, log=str(log)))
    reader.read_chunk()
    reader.cancel()

    until(lambda: log.read_text().endswith("closed"))


def test_lines_and_prints_are_those_of_the_call(hosted):
    info = hosted.info(command("says"))
    id_ = json.loads(info.endpoints[0].ticket.ticket)["task_id"]
    lines = {}
    for text in ("printed", "logged 1", "told", "caught"):
        line = json.loads(hosted.host.line(f'"event":"{text}"').string)
        assert (line["call_id"], line["function"]) == (id_, "says")
        lines[text] = line

    assert lines["told"]["field"] == {"a": 1}
    assert lines["logged 1"]["level"] == "warning"
    assert "ZeroDivisionError" in lines["caught"]["exception"]
    assert not any("not told" in line for line in hosted.host.lines)


def test_parameters_headers_and_the_hint_arrive_as_they_were_sent(hosted):
    data = command("typed", limit=3.0, columns=["hint", "who"])
    info = hosted.info(data, {"x-who": "me"})
    table = hosted.read(info.endpoints[0].ticket)

    assert table.to_pylist() == [{"hint": "('hint', 'who')", "who": "me"}] * 3
    assert flight_code(failed(hosted, "typed", limit=0))[1].startswith("limit is 0, expected int")


def test_the_host_applies_what_a_function_in_a_process_has_not_taken(hosted):
    equals = [
        {
            "filterType": "positiveAttributeFilter",
            "labelIdentifier": label,
            "values": [value],
        }
        for label, value in (("region", "EU"), ("year", "1"))
    ]
    sample = json.loads((Path(__file__).parent / "samples" / "report_request.json").read_text())
    context = {**sample["parameters"]["executionContext"], "filters": equals}
    table = hosted.call("filtered", executionContext=context, columns=["year"])

    assert table["year"].to_pylist() == ["1", "2"]


def test_a_cached_function_runs_once_for_equal_calls(hosted, log):
    for _ in range(3):
        hosted.call("cached", log=str(log))

    assert log.read_text() == "ran "


def test_an_async_function_runs_in_a_process(hosted):
    assert hosted.call("later", upto=4)["n"].to_pylist() == [0, 1, 2, 3]


def test_what_a_function_says_of_its_health_reaches_the_host(hosted):
    hosted.call("gone", status="not_ok")
    until(lambda: live(hosted) == 500)
    for _ in range(20):  # whichever worker said so says otherwise, or was replaced
        hosted.call("gone", status="ok")
    until(lambda: live(hosted) == 204)


def test_calls_run_on_as_many_processes_as_there_are_workers(hosted, log):
    errors = []

    def hang():
        try:
            hosted.call("hangs", how="nicely", log=f"{log}{threading.get_ident()}")
        except fl.FlightError as error:
            errors.append(error)

    callers = [threading.Thread(target=hang) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(LONG)
    logs = [path.read_text().split()[0] for path in log.parent.iterdir()]

    assert len(set(logs)) == len(errors) == 2
