"""What may block is done aside, by threads that leave when they are told to."""

from __future__ import annotations

import threading

from support import LONG, until

from flexhost.system.closers import Closers


def test_threads_leave_after_what_was_submitted_before():
    before, done = set(threading.enumerate()), []
    closers = Closers(2)
    for number in range(5):
        closers.submit(lambda number=number: done.append(number))
    closers.close()

    until(lambda: not set(threading.enumerate()) - before)
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_what_comes_later_is_done_all_the_same():
    closers, done = Closers(1), threading.Event()
    closers.submit(lambda: None)
    closers.close()
    closers.submit(done.set)

    assert done.wait(LONG)
