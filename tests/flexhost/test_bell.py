"""What wakes a thread."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support import LONG, until

from flexhost.system import bell
from flexhost.system.bell import Bell, Latch


@pytest.fixture(params=["file", "lock"])
def kind(request, monkeypatch):
    """With and without what the system may not have."""
    if request.param == "lock":
        monkeypatch.delattr(os, "eventfd", raising=False)
        monkeypatch.setattr(bell, "_spare", [])
        monkeypatch.setattr(bell, "_made", 0)
    return request.param


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def waiting(call):
    """A thread that does this, and what comes of it."""
    came = []
    thread = threading.Thread(target=lambda: came.append(call()), daemon=True)
    thread.start()
    return thread, came


def test_a_ring_wakes_who_waits_and_one_that_comes_before_is_not_lost(kind):
    one = Bell()
    one.ring()
    one.wait()
    thread, came = waiting(one.wait)
    one.ring()
    thread.join(LONG)

    assert came == [None]


def test_a_bell_gives_its_descriptor_back():
    before = descriptors()
    bells = [Bell() for _ in range(10)]
    assert descriptors() >= before + 10
    del bells

    assert descriptors() == before


def test_all_who_wait_for_a_latch_go_on_when_it_is_set(kind):
    latch = Latch()
    threads = [waiting(latch.wait) for _ in range(100)]  # more than there are spare bells
    timed, came = waiting(lambda: latch.wait(LONG))
    until(lambda: len(latch._waiting) == 101)
    latch.set()

    for thread, _ in [*threads, (timed, came)]:
        thread.join(LONG)
    assert [found for _, found in threads] == [[True]] * 100
    assert came == [True]
    assert latch.is_set()
    assert latch.wait()


def test_who_waits_for_a_latch_with_a_timeout_goes_on_after_it():
    latch = Latch()

    assert not latch.wait(0.01)
    latch.set()
    assert latch.wait(0)
