"""Classes with `eval`: when their objects are made, opened and closed, and who has them."""

from __future__ import annotations

import contextlib
import threading
from types import SimpleNamespace

import pyarrow as pa
import pytest
from batches_given import answer_of
from support import LONG, until

from flexhost import LoadContext, in_process, udf
from flexhost.errors import StartError
from flexhost.functions.describe import describe
from flexhost.functions.eval_objects import JobContext
from flexhost.registry import Registry, on_load
from flexhost.telemetry.health import Health

batch = pa.record_batch


def counting(**methods):
    """A class whose objects tell what happens to them."""
    told = []

    class Counting:
        def __init__(self):
            told.append("made")

        def open(self):
            told.append("opened")

        def eval(self, n: int) -> int:
            told.append("called")
            return n

        def close(self):
            told.append("closed")

    for name, method in methods.items():
        setattr(Counting, name, method)
    return Counting, told


@contextlib.contextmanager
def loaded(source):
    """A host that has called `on_load`, as one does that starts."""
    made = describe(source)
    context = LoadContext({}, "location", Health())
    with contextlib.closing(context.resources), in_process.hosting() as host:
        on_load(made, context)
        host.open(Registry([made]))
        yield host


def test_one_object_is_opened_at_the_start_and_closed_at_the_end():
    source, told = counting()
    with loaded(source) as host:
        assert told[-1] == "opened"
        answer_of(host, "Counting", batch({"n": [1, 2]}))
        answer_of(host, "Counting", {"n": 3})
        assert "closed" not in told

    assert told.count("opened") == told.count("closed") == 1
    assert told[-4:] == ["called", "called", "called", "closed"]


def test_an_object_that_cannot_be_opened_ends_the_start():
    def broken(self):
        raise OSError("no model")

    source, _ = counting(open=broken)

    with pytest.raises(StartError, match="Counting cannot be opened: OSError: no model"):
        with loaded(source):
            pass


@pytest.mark.parametrize("bound", [None, 1])
def test_no_object_is_used_by_two_calls_at_once(bound):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(self, n: int) -> int:
        begun.release()
        assert go_on.wait(LONG)
        return id(self)

    source, told = counting(eval=slow)
    with loaded(udf(max_running=bound)(source)) as host:
        calls = [host.submit("Counting", batch({"n": [n]}), None, {}) for n in range(2)]
        for _ in range(2 if bound is None else 1):
            assert begun.acquire(timeout=LONG)
        go_on.set()
        for call in calls:
            host.wait(call, lambda: False)
        until(lambda: all(call.returned for call in calls))
        opened = told.count("opened")
        answer_of(host, "Counting", {"n": 1})

    assert opened == told.count("opened") == told.count("closed") == (bound or 2)


def test_a_method_that_fails_leaves_its_object_in_use():
    def fails(self, n: int) -> int:
        return 12 // n

    source, told = counting(eval=fails)
    with loaded(source) as host:
        with contextlib.suppress(Exception):
            answer_of(host, "Counting", {"n": 0})
        assert answer_of(host, "Counting", {"n": 4})["result"].to_pylist() == [3]

    assert told.count("opened") == 1


def test_the_context_has_what_the_settings_have():
    sections = {"my.factor": 3}
    context = JobContext(SimpleNamespace(get=sections.get))

    assert context.get_job_parameter("my.factor") == "3"
    assert context.get_job_parameter("my.other", "x") == "x"
    assert JobContext(None).get_job_parameter("my.factor") is None
