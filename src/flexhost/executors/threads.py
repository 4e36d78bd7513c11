"""Runs calls on threads: the default executor."""

from __future__ import annotations

import contextvars
import sys
import threading
import time
import traceback

from flexhost.call import Call
from flexhost.call_queue import CallQueue
from flexhost.errors import Busy
from flexhost.system import memory
from flexhost.system.affinity import Cores
from flexhost.telemetry.events import Emit, WorkerAbandoned

# Seconds of CPU in a call up to which its function needs no core but that of requests. By the clock
# on the wall any takes as long, now and then, when many compete.
_LITTLE = 0.002


class Threads:
    """At most `threads` calls at once, `waiting` more in the queue; a thread starts when there is
    work for it. The threads are daemons: a function that never returns cannot hold the process.

    max_abandoned: threads stuck in late calls that are replaced; one more keeps its place.
    """

    def __init__(
        self,
        threads: int,
        waiting: int,
        emit: Emit,
        *,
        max_abandoned: int = 16,
    ) -> None:
        self._queue = CallQueue(waiting, threads)
        self._emit = emit
        self._max_abandoned = max_abandoned
        self._abandoned: set[Call] = set()
        # workers, each with the CPU time that it had taken when it began with its call
        self._confined: dict[Cores, float] = {}
        self._little: dict[str, bool] = {}  # whether the last call of a function took little CPU
        self._trims = 0  # times that freed memory was asked for

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
        """Threads that are stuck in calls past their deadline."""
        return len(self._abandoned)

    def refusal(self) -> Busy | None:
        """Why one more call would be refused, if it came now; None when it would not."""
        return self._queue.refusal(time.monotonic())

    def submit(self, call: Call) -> None:
        """Raises Busy."""
        wanted, put_out = self._queue.put(call)
        if put_out is not None:
            put_out.stop(self._queue.busy())
        if wanted:
            self._start(call)

    def cancel(self, call: Call) -> None:
        """The call leaves the queue, or its function is asked to cancel: aside, for that may
        block."""
        if not self._queue.discard(call):
            # a thread of its own for each, of which there are no more than running calls: one
            # that never ends must not hold up another
            threading.Thread(target=call.ask_to_cancel, name="cancel", daemon=True).start()

    def abandon(self, call: Call) -> None:
        """The thread of this call is stuck: tell where, and put another into its place. It leaves
        when it comes back."""
        if call in self._abandoned or call.returned or call.thread is None:
            return
        replaced = len(self._abandoned) < self._max_abandoned
        self._abandoned.add(call)
        frame = sys._current_frames().get(call.thread)
        stack = "".join(traceback.format_stack(frame, limit=100)) if frame is not None else ""
        self._emit(WorkerAbandoned(call, stack))
        if replaced and self._queue.give_up(call):
            self._start()
        if call.returned:
            self._abandoned.discard(call)

    def give_back(self) -> None:
        """Each idle thread gives back its part of what was freed, since nobody else can; each
        other one when it has ended its call."""
        self._trims += 1
        self._queue.wake()

    def look(self, now: float) -> None:
        """A call that takes much gets every core, whatever is known of its function."""
        for cores, before in list(self._confined.items()):
            if cores.cpu() - before > _LITTLE:
                cores.widen()

    def close(self) -> None:
        self._queue.close()

    def join(self, seconds: float) -> None:
        """After `close`: wait for the threads to leave, for at most so long. One that is at work in
        Arrow when the interpreter ends would abort the process."""
        end = time.monotonic() + seconds
        while self._queue.started and time.monotonic() < end:
            threading.Event().wait(0.005)

    def _start(self, call: Call | None = None) -> None:
        try:
            threading.Thread(target=self._work, name="worker", daemon=True).start()
        except RuntimeError as error:  # the system has no thread to spare
            self._queue.worker_lost()
            if call is not None and self._queue.discard(call):
                raise Busy(f"no thread can be started: {error}", bound="task_threads") from None

    def _work(self) -> None:
        cores, trims = Cores(), self._trims
        while True:
            if trims != self._trims:
                trims = self._trims
                memory.give_back()
            try:
                call = self._queue.take()
            except InterruptedError:
                continue
            if call is None:
                break
            cpu = time.thread_time()
            self._place(call.function.name, cores, cpu)
            # in a context of its own: what a function binds there is not for the next one
            contextvars.Context().run(call.run)
            self._little[call.function.name] = time.thread_time() - cpu <= _LITTLE
            self._confined.pop(cores, None)
            self._abandoned.discard(call)
            if not self._queue.done(call):
                break
            del call  # or its data would live for as long as this thread waits
        cores.leave()

    def _place(self, function: str, cores: Cores, cpu: float) -> None:
        """On the core of requests if its function is known to take little: to hand the result from
        core to core would cost more than that. Any other has every core from its start: pools of
        threads that a library makes in it would be as narrow for ever."""
        if self._little.get(function):
            cores.confine()
            self._confined[cores] = cpu
        else:
            cores.widen()
