"""Calls of async functions in one event loop. Loads `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import sys
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost.call import Call, running
from flexhost.calls.coroutines import Steps
from flexhost.calls.loop_thread import Flow, LoopThread, stack_of, thread_stack
from flexhost.system import memory
from flexhost.system.closers import Closers

# Bytes of a table, and rows of a list, from which on a thread makes a result of it: fitting as much
# may take longer than a millisecond, for which all other calls would wait.
LARGE, MANY = 256 << 10, 50

_Steps: TypeAlias = Generator[Any, Any, None]


class CallLoop(LoopThread):
    """finishers: threads for results that would hold up the loop.
    room:      whether a table of so many bytes can be kept without writing files.
    ended:     called with each call that has ended, in any thread.

    calls: those that have begun, and not ended, with their tasks.
    """

    def __init__(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop] | None,
        finishers: Closers,
        room: Callable[[int], bool],
        ended: Callable[[Call], object],
    ) -> None:
        """Raises RuntimeError when no thread can be started."""
        self._finishers = finishers
        self._room = room
        self._ended = ended
        self._gives_back = False
        self._tasks: dict[asyncio.Task[None], Call] = {}  # those of streams, too
        self.calls: dict[Call, asyncio.Task[None]] = {}
        super().__init__(new_loop)

    def begin(self, call: Call) -> None:
        self.post(self._begin, call)

    def cancel(self, call: Call) -> None:
        if call in self.calls:  # or it will not begin: it has its outcome
            self.post(self._cancel, call)

    def give_back(self) -> None:
        """Its part of what memory was freed, once it is idle."""
        self._gives_back = True
        self.post(self._give_back)

    @property
    def blocked_by(self) -> Call | None:
        """Whose code runs right now. Before Python 3.12 it is not known of tasks that functions
        made."""
        if (task := self.task) is None:
            return None
        if sys.version_info >= (3, 12):
            return task.get_context().get(running)
        return self._tasks.get(task)

    def stack_of(self, call: Call) -> str | None:
        """Where it waits, as text; None when it has ended. In the loop alone."""
        task = self.calls.get(call)
        if task is None:
            return None
        return thread_stack(call.thread) if task.done() else stack_of(task)

    def _begin(self, call: Call) -> None:
        context = contextvars.Context()
        task = asyncio.create_task(self._run_call(call, context), context=context)
        self.calls[call] = task
        self._tasks[task] = call
        task.add_done_callback(self._tasks.pop)

    def _cancel(self, call: Call) -> None:
        if (task := self.calls.get(call)) is not None and call.started_at is not None:
            task.cancel()

    async def _run_call(self, call: Call, context: contextvars.Context) -> None:
        flow = await self._outcome_of(call, context)
        if flow is not None:
            running.set(call)  # the steps to come are of it, too
            del call  # its reader has it
            await flow.go_on()

    async def _outcome_of(self, call: Call, context: contextvars.Context) -> Flow | None:
        """Run it. What goes on afterwards, if it is a stream."""
        steps, ends, flow = call.steps(), True, None
        try:
            for returned in steps:
                try:
                    came, flow = await self._came_of(returned)
                except BaseException as error:
                    _go_on(steps.throw, error)
                    continue
                if ends := flow is not None or self._light(came):
                    _go_on(steps.send, came)
                else:
                    job = functools.partial(context.run, self._finish, call, steps, came)
                    # when this step has ended: the context is in use until then
                    asyncio.get_running_loop().call_soon(self._finishers.submit, job)
                    return None
        finally:
            if ends:
                self._end(call)
        return flow

    async def _came_of(self, returned: Any) -> tuple[Any, Flow | None]:
        """Of a stream, with its first item taken: nobody who makes a reader of it has to wait."""
        if inspect.isawaitable(returned):
            returned = await returned
        if not isinstance(returned, AsyncIterator):
            return returned, None
        before = dict(contextvars.copy_context())
        try:
            first = await anext(returned)
        except StopAsyncIteration:
            return iter(()), None
        now = contextvars.copy_context().items()
        bound = {name: value for name, value in now if before.get(name, _NOT) is not value}
        flow = Flow(self, returned, bound)
        return Steps(flow, returned, [first]), flow

    def _light(self, came: Any) -> bool:
        """Whether the rest of the call takes no time to speak of."""
        if isinstance(came, (pa.Table, pa.RecordBatch)):
            return came.nbytes <= LARGE and self._room(came.nbytes)
        if not isinstance(came, (list, tuple)):
            return False
        of_values = not any(isinstance(item, (pa.Table, pa.RecordBatch)) for item in came[:1])
        return of_values and len(came) <= MANY and self._room(LARGE)

    def _finish(self, call: Call, steps: _Steps, came: Any) -> None:
        call.thread = threading.get_ident()
        try:
            _go_on(steps.send, came)
        finally:
            self._end(call)

    def _end(self, call: Call) -> None:
        del self.calls[call]
        self._ended(call)
        if self._gives_back:
            self.post(self._give_back)

    def _give_back(self) -> None:
        if self._gives_back and not (self.calls or self._tasks):
            self._gives_back = False
            memory.give_back()


_NOT = object()


def _go_on(go_on: Callable[[Any], Any], what: Any) -> None:
    with contextlib.suppress(StopIteration):
        go_on(what)
