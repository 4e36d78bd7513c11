"""Runs async functions in one event loop: the default executor of those."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexhost.call import Call
from flexhost.call_queue import CallQueue
from flexhost.errors import Busy
from flexhost.functions.flex_fun import FlexFun
from flexhost.system.closers import Closers
from flexhost.system.ticker import Ticker
from flexhost.telemetry.events import Emit, WorkerAbandoned

if TYPE_CHECKING:
    import asyncio

    from flexhost.calls.call_loop import CallLoop

# Seconds between two looks at a loop: with `loop_thread.LOOKS`, it is blocked after one second.
LOOK = 0.25
# Seconds that cancelled tasks have to end when the host does.
END = 2.0
# Threads that make results of what functions returned, where the loop would be held up.
FINISHERS = 4


class Coroutines:
    """At most `tasks` calls at once, `waiting` more in the queue. `asyncio` is loaded, and the loop
    started, with `start` or the first call.

    A loop that is blocked is reported, and goes on when what blocks it lets go: another one in its
    place would share what functions share, such as clients, which belong to one loop.

    max_abandoned: calls that go on past their deadline whose places are given away.
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
        self._loop: CallLoop | None = None
        self._lock = threading.Lock()

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
    def blocked(self) -> bool:
        """Whether the loop does not answer."""
        return self._loop is not None and self._loop.blocked

    @property
    def abandoned(self) -> int:
        """Calls that go on past their deadline, and a loop that is blocked."""
        return len(self._stuck) + self.blocked

    def refusal(self) -> Busy | None:
        """Why one more call would be refused, if it came now; None when it would not."""
        return self._queue.refusal(time.monotonic())

    def start(self) -> None:
        """Have a loop, and who looks after it. Raises RuntimeError."""
        with self._lock:
            if self._loop is None:
                from flexhost.calls.call_loop import CallLoop  # 40 ms where nothing is async

                self._loop = CallLoop(self._new_loop, self._finishers, self._room, self._ended)
            if self._watcher is None:
                self._watcher = Ticker(
                    "loop watcher", LOOK, functools.partial(self._look, self._loop)
                )

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
        if self._loop is not None:
            self._loop.cancel(call)
        # not for nothing: thousands may be cancelled at once
        if cancel is not None and getattr(cancel, "__func__", None) is not FlexFun.cancel:
            threading.Thread(target=call.ask, args=[cancel], name="cancel", daemon=True).start()

    def abandon(self, call: Call) -> None:
        """The call goes on although it was cancelled: tell where, and give its place away. Where
        the loop is blocked it cannot know, and what blocks is told of already."""
        loop = self._loop
        if loop is None or not loop.well or call in self._stuck or call.returned:
            return
        replaced = len(self._stuck) < self._max_abandoned
        self._stuck.add(call)
        loop.post(self._tell_stuck, loop, call)
        if replaced and self._queue.give_up(call):
            self._fill()

    def look(self, now: float) -> None:
        """Its loop has every core."""

    def give_back(self) -> None:
        if self._loop is not None:
            self._loop.give_back()

    def close(self) -> None:
        """Cancel what is there, streams too, and give it a while to end."""
        self._queue.close()
        self._finishers.close()
        if self._watcher is not None:
            self._watcher.close()
        if self._loop is not None:
            self._loop.close()
            self._loop.join(END)

    def _fill(self) -> None:
        """A place is free: begin the next call, if there is one."""
        if (call := self._queue.take_now()) is not None and self._loop is not None:
            self._loop.begin(call)

    def _ended(self, call: Call) -> None:
        self._stuck.discard(call)
        if self._queue.done(call):
            self._fill()

    def _look(self, loop: CallLoop) -> None:
        before = loop.blocked
        loop.look()
        if loop.blocked and not before:
            why = "an async function blocks the event loop"
            self._emit(WorkerAbandoned(loop.blocked_by, loop.stack, why))

    def _tell_stuck(self, loop: CallLoop, call: Call) -> None:
        """In the loop: nothing moves meanwhile."""
        if (stack := loop.stack_of(call)) is None:
            self._stuck.discard(call)  # it has ended meanwhile
            return
        why = "an async call goes on past its deadline, though it was cancelled"
        self._emit(WorkerAbandoned(call, stack, why))
