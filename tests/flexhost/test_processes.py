"""Functions that run in worker processes, in a host of its own process."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from in_processes import alive, failed, host_of, live
from support import LONG, command, flight_code, until


@pytest.fixture(scope="module")
def hosted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    with host_of(folder) as client:
        yield client


@pytest.fixture
def log(hosted, tmp_path):
    return tmp_path / "log"


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
        ("foreign", 5, "from afar"),
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


def test_what_a_function_started_ends_with_its_worker(hosted, log):
    error = failed(hosted, "forks", how="exit", log=str(log))

    assert "its process ended itself, with status 7" in flight_code(error)[1]
    until(lambda: not alive(int(log.read_text())))


def test_a_process_that_a_function_forks_writes_lines_of_its_own(hosted, log):
    hosted.call("forks", how="go on", log=str(log))

    assert "my_functions" not in hosted.host.line('"of a child"').string
    assert [hosted.call("numbers", upto=n).num_rows for n in (3, 100_000)] == [3, 100_000]


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
    def ran_in():
        failed(hosted, "hangs", how="nicely", log=str(log))
        until(lambda: "cancelled" in log.read_text())
        return int(log.read_text().split()[0])

    until(lambda: ran_in() == ran_in())  # at the first try, unless the next call was faster


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
