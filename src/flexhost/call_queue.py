"""Where accepted calls wait for a worker, and which of them a worker has."""

from __future__ import annotations

import threading
from collections import OrderedDict

from flexhost.call import Call
from flexhost.calls.run_bounds import RunBounds
from flexhost.errors import Busy
from flexhost.system.bell import Bell

# Of the running time that a caller is told to wait: how much the newest call counts.
_NEWEST = 0.1
# Bounds of what a refused caller is told to wait, in seconds.
_SOONEST, _LATEST = 0.1, 30.0
# Seconds that one refusal is told to everybody.
_TOLD_FOR = 0.1


class CallQueue:
    """Bounded: a caller told `Busy` can go elsewhere, a caller left in a long queue cannot.

    Calls are taken in turns, one of each `share`, within a share in the order they came. When the
    queue is full, a share that has less than its part gets room: the newest call of the share that
    has most is put out. A call whose function runs as often as it may is passed over, and keeps its
    place.

    size:    calls that may wait while every worker has one.
    workers: calls that may run at once. A worker is a thread that comes back with `take`, or
             whatever comes back with `take_now`.
    """

    def __init__(self, size: int, workers: int) -> None:
        self._size = size
        self._workers = workers
        self._started = 0  # workers that were told to start and have not left
        self._shares: OrderedDict[str, OrderedDict[Call, None]] = OrderedDict()
        self._waiting = 0
        self._running: set[Call] = set()
        self._bounds = RunBounds()
        self._typical = _SOONEST  # seconds that a call runs, lately
        self._told = self.busy()
        self._told_until = 0.0
        self._wakes = 0
        self._closed = False
        self._idle: list[Bell] = []  # of workers that wait
        self._bells = threading.local()  # each thread's own
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def started(self) -> int:
        """Workers that were told to start and have not left, those given up aside."""
        return self._started

    @property
    def oldest(self) -> float | None:
        """When the call was accepted that waits longest, on its clock; None when none waits."""
        with self._lock:
            firsts = [next(iter(calls)).accepted_at for calls in self._shares.values()]
        return min(firsts, default=None)

    @property
    def full(self) -> bool:
        return self._waiting + len(self._running) >= self._size + self._workers

    def refusal(self, now: float) -> Busy | None:
        """Why one more call would be refused; None when it would not.

        The same value for a while: in a burst it must cost next to nothing to be told.
        """
        if not self.full:
            return None
        if now >= self._told_until:
            self._told, self._told_until = self.busy(), now + _TOLD_FOR
        return self._told

    def busy(self) -> Busy:
        """The refusal of one more call, with how long it takes to get through those that wait."""
        after = (self._waiting + 1) * self._typical / max(self._workers, 1)
        return Busy(
            f"{len(self._running)} calls run and {self._waiting} are waiting",
            bound="task_queue_size",
            retry_after=min(max(after, _SOONEST), _LATEST),
        )

    def put(self, call: Call) -> tuple[bool, Call | None]:
        """Whether one more worker has to be started, and the call that was put out for this one.

        Raises Busy.
        """
        with self._lock:
            put_out = self._make_room(call.share) if self.full else None
            self._shares.setdefault(call.share, OrderedDict())[call] = None
            self._waiting += 1
            self._bounds.wait(call)
            if self._wants_worker():
                self._started += 1
                return True, put_out
            bell = self._next_idle()
        if bell is not None:
            bell.ring()
        return False, put_out

    def done(self, call: Call) -> bool:
        """A worker has run its call. Whether it goes on, or leaves since the call was given up."""
        with self._lock:
            self._bounds.leave(call)
            if call not in self._running:
                wanted = self._wants_worker()  # for a call that waited for the end of this one
                self._started += wanted
                bell = self._next_idle()
            else:
                self._running.remove(call)
                self._typical += _NEWEST * (call.seconds_run - self._typical)
                return True
        if bell is not None:
            bell.ring()
        return wanted

    def take(self) -> Call | None:
        """The next call, waiting for it. None: the queue is closed, and the worker leaves.

        Raises InterruptedError when it waits and `wake` is called.
        """
        bell, wakes = self._bell(), self._wakes
        while True:
            with self._lock:
                if self._ready:
                    return self._taken()
                if self._closed:
                    self._started -= 1
                    return None
                if wakes != self._wakes:
                    raise InterruptedError
                self._idle.append(bell)
            bell.wait()

    def take_now(self) -> Call | None:
        """The next call, for a worker that does not wait. None: there is none, and it leaves."""
        with self._lock:
            if self._ready:
                return self._taken()
            self._started -= 1
            return None

    def wake(self) -> None:
        """Interrupt the workers that wait for a call."""
        with self._lock:
            self._wakes += 1
            idle, self._idle = self._idle, []
        for bell in idle:
            bell.ring()

    def discard(self, call: Call) -> bool:
        """Take a call out. Whether it was still waiting."""
        with self._lock:
            return self._discard(call)

    def give_up(self, call: Call) -> bool:
        """Count a running call and its worker no more. Whether a worker has to be started."""
        with self._lock:
            if call not in self._running:
                return False
            self._running.remove(call)
            self._started -= 1
            wanted = self._wants_worker()
            self._started += wanted
            return wanted

    def worker_lost(self) -> None:
        """A worker that was told to start could not."""
        with self._lock:
            self._started -= 1

    def close(self) -> None:
        """Workers leave once no call waits that they could take."""
        with self._lock:
            self._closed = True
        self.wake()

    def _bell(self) -> Bell:
        bell: Bell | None = getattr(self._bells, "own", None)
        if bell is None:
            bell = self._bells.own = Bell()
        return bell

    def _next_idle(self) -> Bell | None:
        """Of the worker that waits since the shortest time, whose memory is still at hand."""
        return self._idle.pop() if self._idle else None

    @property
    def _ready(self) -> int:
        """Calls that may be taken now."""
        return self._waiting - self._bounds.held

    def _taken(self) -> Call:
        call = self._next()
        self._discard(call)
        if call.share in self._shares:
            self._shares.move_to_end(call.share)  # behind all others
        self._bounds.enter(call)
        self._running.add(call)
        return call

    def _next(self) -> Call:
        for calls in self._shares.values():
            for call in calls:
                if not self._bounds.held or self._bounds.admits(call):
                    return call
        raise AssertionError("no call is ready")

    def _wants_worker(self) -> bool:
        idle = self._started - len(self._running)
        return self._ready > idle and self._started < self._workers

    def _make_room(self, share: str) -> Call:
        """Put out the newest call of the share that has most. Raises Busy unless the caller's own
        has at least two less, so that shares settle and do not put out each other in turn."""
        most = max(self._shares.values(), key=len, default=OrderedDict[Call, None]())
        if len(self._shares.get(share, ())) + 2 > len(most):
            raise self.busy()
        newest = next(reversed(most))
        self._discard(newest)
        return newest

    def _discard(self, call: Call) -> bool:
        calls = self._shares.get(call.share)
        if calls is None or call not in calls:
            return False
        del calls[call]
        if not calls:
            del self._shares[call.share]
        self._waiting -= 1
        self._bounds.go(call)
        return True
