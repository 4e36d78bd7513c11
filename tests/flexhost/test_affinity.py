"""Requests on one core, functions on all of them."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest
from authority import NOW, Authority
from support import function, serving

from flexhost import certificates
from flexhost.affinity import on_every_core, on_first_core

ALL = getattr(os, "sched_getaffinity", lambda _: set())(0)
pytestmark = pytest.mark.skipif(len(ALL) < 2, reason="takes a system that tells, and two cores")


def test_requests_are_handled_on_one_core_and_functions_run_on_every_one(monkeypatch):
    seen = {}

    def call(parameters, columns, headers):
        seen["function"] = os.sched_getaffinity(0)
        return pa.table({"n": [1]})

    with serving(function(call)) as client:
        submit = client.host.submit

        def recording(*given, **named):
            seen["handler"] = os.sched_getaffinity(0)
            return submit(*given, **named)

        monkeypatch.setattr(client.host, "submit", recording)
        client.call()

    assert seen == {"handler": {min(ALL)}, "function": ALL}
    assert os.sched_getaffinity(0) == ALL


def test_requests_stay_on_one_core_when_a_certificate_changes(monkeypatch):
    authority, seen = Authority(), []
    made = function(lambda *_: pa.table({"n": [1]}))
    with serving(made, tls=authority.settings(), connect=authority.trusting()) as client:
        client.frontend.renew(certificates.load(authority.settings(), NOW))
        submit = client.host.submit
        monkeypatch.setattr(
            client.host,
            "submit",
            lambda *given, **named: seen.append(os.sched_getaffinity(0)) or submit(*given, **named),
        )
        client.call()

    assert seen == [{min(ALL)}]
    assert os.sched_getaffinity(0) == ALL


def test_a_thread_goes_back_and_forth():
    on_first_core()
    assert os.sched_getaffinity(0) == {min(ALL)}

    on_every_core()
    assert os.sched_getaffinity(0) == ALL
