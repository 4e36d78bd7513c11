"""Runs async functions in one event loop: the default executor of those."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexhost.call import Call
from flexhost.call_queue import CallQueue
from flexhost.closers import Closers
from flexhost.errors import Busy
from flexhost.events import Emit, WorkerAbandoned
from flexhost.function import FlexFun
from flexhost.ticker import Ticker

if TYPE_CHECKING:
    import asyncio

    from flexhost.call_loop import CallLoop

# Seconds between two looks at a loop: with `loop_thread.LOOKS`, it is blocked after one second.
LOOK = 0.25
# Seconds that cancelled tasks have to end when the host does.
END = 2.0
# Threads that make results of what functions returned, where the loop would be held up.
FINISHERS = 4


class Coroutines:
    """At most `tasks` calls at once, `waiting` more in the queue. `asyncio` is loaded, and the loop
    started, with `start` or the first call.

    A loop that is blocked is reported, and calls begin in another one until it answers again.

    max_abandoned: calls that go on past their deadline whose places are given away, and loops that
                   stand in for others.
    room:          whether a table of so many bytes can be kept without writing files.
    new_loop:      makes a loop; asyncio's own when it is None.
    """

    def __init__(
        self,
        tasks: int,
        waiting: int,
        emit: Emit,
        *,
        max_abandoned: int = 16,
        room: Callable[[int], bool] = lambda size: True,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._queue = CallQueue(waiting, tasks)
        self._emit = emit
        self._max_abandoned = max_abandoned
        self._room = room
        self._new_loop = new_loop
        self._finishers = Closers(FINISHERS, "finisher")
        self._stuck: set[Call] = set()
        self._watcher: Ticker | None = None
        self._loops: list[CallLoop] = []  # those after the first stand in for it
        self._lock = threading.Lock()  # of that list, and of who may begin where

    @property
    def waiting(self) -> int:
        return self._queue.waiting

    @property
    def oldest(self) -> float | None:
        return self._queue.oldest

    @property
    def running(self) -> int:
        return self._queue.running

    @property
    def abandoned(self) -> int:
        """Loops that are blocked, and calls that go on past their deadline in others."""
        return len(self._stuck) + sum(loop.blocked for loop in self._loops)

    def refusal(self) -> Busy | None:
        """Why one more call would be refused, if it came now; None when it would not."""
        return self._queue.refusal(time.monotonic())

    def start(self) -> None:
        """Have a loop. Raises RuntimeError."""
        with self._lock:
            if not self._loops:
                self._loops = [self._another()]
            if self._watcher is None:
                self._watcher = Ticker("loop watcher", LOOK, self._look)

    def submit(self, call: Call) -> None:
        """Raises Busy."""
        if self._watcher is None:
            try:
                self.start()
            except RuntimeError as error:  # the system has no thread to spare
                text = f"no thread can be started: {error}"
                raise Busy(text, bound="task_coroutines") from None
        wanted, put_out = self._queue.put(call)
        if put_out is not None:
            put_out.stop(self._queue.busy())
        if wanted:
            self._fill()

    def cancel(self, call: Call) -> None:
        """The call leaves the queue, or its task is cancelled and its function asked to cancel:
        aside, for that may block."""
        if self._queue.discard(call):
            return
        cancel = call.take_cancel()  # before the task can end, and its object with it
        for loop in self._loops:
            loop.cancel(call)
        # not for nothing: thousands may be cancelled at once
        if cancel is not None and getattr(cancel, "__func__", None) is not FlexFun.cancel:
            threading.Thread(target=call.ask, args=[cancel], name="cancel", daemon=True).start()

    def abandon(self, call: Call) -> None:
        """The call goes on although it was cancelled: tell where, and give its place away. Where
        the loop is blocked it cannot know, and what blocks is told of already."""
        loop = next((one for one in self._loops if call in one.calls), None)
        if loop is None or call in self._stuck or call.returned:
            return
        if loop.well:
            replaced = len(self._stuck) < self._max_abandoned
            self._stuck.add(call)
            loop.post(self._tell_stuck, loop, call)
            if not replaced:
                return
        if self._queue.give_up(call):
            self._fill()

    def give_back(self) -> None:
        for loop in self._loops:
            loop.give_back()

    def close(self) -> None:
        """Cancel what is there, streams too, and give it a while to end."""
        self._queue.close()
        self._finishers.close()
        if self._watcher is not None:
            self._watcher.close()
        until = time.monotonic() + END
        for loop in self._loops:
            loop.close()
        for loop in self._loops:
            loop.join(max(0.0, until - time.monotonic()))

    def _fill(self) -> None:
        """A place is free: begin the next call, if there is one."""
        if (call := self._queue.take_now()) is None:
            return
        with self._lock:
            loop = self._free()
            loop.coming[call] = None  # from now on it is not ended
        loop.begin(call)

    def _free(self) -> CallLoop:
        """Where calls begin."""
        return next((loop for loop in self._loops if not loop.blocked), self._loops[-1])

    def _ended(self, call: Call) -> None:
        self._stuck.discard(call)
        if self._queue.done(call):
            self._fill()

    def _another(self) -> CallLoop:
        """Raises RuntimeError."""
        from flexhost.call_loop import CallLoop  # 40 ms of start-up where nothing is async

        return CallLoop(self._new_loop, self._finishers, self._room, self._ended)

    def _look(self) -> None:
        for loop in self._loops:
            before = loop.blocked
            loop.look()
            if loop.blocked and not before:
                why = "an async function blocks the event loop"
                self._emit(WorkerAbandoned(loop.blocked_by, loop.stack, why))
        with self._lock:
            over = self._stand_in()
        for loop in over:
            loop.close()

    def _stand_in(self) -> list[CallLoop]:
        """Begin elsewhere what blocked loops have not begun. Loops that nobody needs any more."""
        if all(loop.blocked for loop in self._loops) and len(self._loops) <= self._max_abandoned:
            with contextlib.suppress(RuntimeError):  # no thread to spare: the next look tries again
                self._loops = [*self._loops, self._another()]
        free = self._free()
        if free.blocked:
            return []
        for loop in self._loops:
            for call in list(loop.coming) if loop.blocked else ():
                loop.move(call, free)
        needed = [self._loops[0], free]
        over = [one for one in self._loops if one.idle and not one.blocked and one not in needed]
        self._loops = [one for one in self._loops if one not in over]
        return over

    def _tell_stuck(self, loop: CallLoop, call: Call) -> None:
        """In the loop: nothing moves meanwhile."""
        if (stack := loop.stack_of(call)) is None:
            self._stuck.discard(call)  # it has ended meanwhile
            return
        why = "an async call goes on past its deadline, though it was cancelled"
        self._emit(WorkerAbandoned(call, stack, why))
