"""Requests on one core, functions on all of them."""

from __future__ import annotations

import os
import threading
import time

import pyarrow as pa
import pytest
from authority import NOW, Authority
from support import LONG, function, serving

from flexhost.executors.threads import Threads
from flexhost.security import certificates
from flexhost.system import affinity
from flexhost.system.affinity import (
    Cores,
    everywhere,
    go_home,
    home,
    keep_requests_on,
    on_every_core,
)

ALL = getattr(os, "sched_getaffinity", lambda _: set())(0)
ONE = pa.table({"n": [1]})
pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="takes a system that tells, and two cores")


@pytest.fixture(autouse=True)
def _default():
    keep_requests_on(1)
    yield
    keep_requests_on(1)


def where(call=lambda: None):
    """A function that keeps on which cores it was called, and did `call`."""
    seen = []

    def made(parameters, columns, headers):
        seen.append(os.sched_getaffinity(0))
        call()
        return ONE

    return function(made), seen


def test_requests_are_handled_on_one_core(monkeypatch):
    made, _ = where()
    seen = []
    with serving(made) as client:
        submit = client.host.submit

        def recording(*given, **named):
            seen.append(os.sched_getaffinity(0))
            return submit(*given, **named)

        monkeypatch.setattr(client.host, "submit", recording)
        client.call()

    assert seen == [home()]
    assert len(home()) == 1
    assert os.sched_getaffinity(0) == ALL


def test_who_is_woken_where_requests_are_handled_puts_nobody_aside():
    policies = []
    with serving(function(lambda *_: policies.append(os.sched_getscheduler(0)) or ONE)) as client:
        client.call()

    assert policies == [os.SCHED_BATCH], "of a thread that a request has started"
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_where_the_policy_may_not_be_set_nothing_is_lost(monkeypatch):
    def refused(*_):
        raise PermissionError("not here")

    monkeypatch.setattr(os, "sched_setscheduler", refused)
    made, seen = where()
    with serving(made) as client:
        assert client.call() == ONE

    assert len(seen) == 1


def test_a_function_runs_on_every_core_until_it_has_shown_that_it_takes_little():
    made, seen = where()
    with serving(made) as client:
        for _ in range(3):
            client.call()

    assert seen == [ALL, home(), home()]


def test_a_call_that_only_waits_stays_where_it_is(monkeypatch):
    looked, look, after = threading.Event(), Threads.look, []

    def looking(executor, now):
        look(executor, now)
        looked.set()

    def wait():
        for _ in range(2):
            looked.clear()
            assert looked.wait(LONG)
        after.append(os.sched_getaffinity(0))

    monkeypatch.setattr(Threads, "look", looking)
    made, _ = where(wait)
    with serving(made) as client:
        for _ in range(2):
            client.call()

    assert after == [ALL, home()]


def test_a_function_that_takes_much_begins_on_every_core():
    def burn():
        end = time.thread_time() + 0.01
        while time.thread_time() < end:
            pass

    made, seen = where(burn)
    with serving(made) as client:
        for _ in range(3):
            client.call()

    assert seen == [ALL, ALL, ALL]


def test_a_call_that_takes_more_than_its_function_did_gets_every_core():
    calls = []

    def burn_once():
        calls.append(1)
        end = time.thread_time() + LONG
        while len(calls) == 2 and os.sched_getaffinity(0) != ALL:
            assert time.thread_time() < end

    made, seen = where(burn_once)
    with serving(made) as client:
        for _ in range(3):
            client.call()

    assert seen[:2] == [ALL, home()]


def test_requests_may_be_given_more_cores_or_all():
    keep_requests_on(2)
    assert len(home()) == 2
    keep_requests_on(0)
    assert home() == ALL


def test_hosts_on_one_machine_begin_with_the_core_that_they_are_on(monkeypatch):
    last = max(ALL)
    monkeypatch.setattr(affinity, "_here", lambda: last)
    keep_requests_on(1)

    assert home() == {last}


def test_where_the_system_refuses_nothing_is_lost(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    made, seen = where()
    with serving(made) as client:
        client.call()

    assert seen == [ALL]


def test_requests_stay_on_one_core_when_a_certificate_changes(monkeypatch):
    authority, seen = Authority(), []
    made = function(lambda *_: ONE)
    with serving(made, tls=authority.settings(), connect=authority.trusting()) as client:
        client.frontend.renew(certificates.load(authority.settings(), NOW))
        submit = client.host.submit
        monkeypatch.setattr(
            client.host,
            "submit",
            lambda *given, **named: seen.append(os.sched_getaffinity(0)) or submit(*given, **named),
        )
        client.call()

    assert seen == [home()]
    assert os.sched_getaffinity(0) == ALL


def test_a_thread_goes_back_and_forth():
    go_home()
    assert os.sched_getaffinity(0) == home()

    on_every_core()
    assert os.sched_getaffinity(0) == ALL


def test_a_thread_that_has_left_is_not_moved():
    cores = Cores()
    cores.leave()
    cores.confine()

    assert os.sched_getaffinity(0) == ALL


def test_what_makes_a_lasting_pool_of_threads_is_lent_every_core():
    go_home()
    try:
        with everywhere():
            assert os.sched_getaffinity(0) == ALL
        assert os.sched_getaffinity(0) == home()
    finally:
        on_every_core()
