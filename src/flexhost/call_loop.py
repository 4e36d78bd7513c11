"""Calls of async functions in one event loop. Loads `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost import memory
from flexhost.call import Call, running
from flexhost.closers import Closers
from flexhost.coroutines import Steps
from flexhost.loop_thread import Flow, LoopThread, stack_of, thread_stack

# Bytes of a table, and rows of a list, from which on a thread makes a result of it: fitting as much
# may take longer than a millisecond, for which all other calls would wait.
LARGE, MANY = 256 << 10, 50

_Steps: TypeAlias = Generator[Any, Any, None]


class CallLoop(LoopThread):
    """finishers: threads for results that would hold up the loop.
    room:      whether a table of so many bytes can be kept without writing files.
    ended:     called with each call that has ended, in any thread.

    coming: calls that have not begun; whoever takes one out begins it.
    calls:  those that have, with their tasks.
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
        self.coming: dict[Call, None] = {}
        self.calls: dict[Call, asyncio.Task[None]] = {}
        super().__init__(new_loop)

    @property
    def idle(self) -> bool:
        return not (self.coming or self.calls or self.flows)

    def begin(self, call: Call) -> None:
        """One that is in `coming`."""
        self.post(self._begin, call)

    def cancel(self, call: Call) -> None:
        if call in self.calls:  # or it will not begin: it has its outcome
            self.post(self._cancel, call)

    def move(self, call: Call, other: CallLoop) -> None:
        """Unless it has begun here."""
        if call in self.coming:
            other.coming[call] = None
            if self.coming.pop(call, _NOT) is _NOT:  # meanwhile
                del other.coming[call]
            else:
                other.begin(call)

    def give_back(self) -> None:
        """Its part of what memory was freed, once it is idle."""
        self._gives_back = True
        self.post(self._give_back)

    @property
    def blocked_by(self) -> Call | None:
        """Whose code runs right now, as far as can be told."""
        task = self.task
        context = None if task is None else self.context_of(task)
        return None if context is None else context.get(running)

    def stack_of(self, call: Call) -> str | None:
        """Where it waits, as text; None when it has ended. In the loop alone."""
        task = self.calls.get(call)
        if task is None:
            return None
        return thread_stack(call.thread) if task.done() else stack_of(task)

    def _begin(self, call: Call) -> None:
        context = contextvars.Context()
        task = self.start(self._run_call(call, context), context)
        self.calls[call] = task  # before it is taken out there: it is always in one of them
        if self.coming.pop(call, _NOT) is _NOT:  # another loop has it
            del self.calls[call]
            task.cancel()

    def _cancel(self, call: Call) -> None:
        if (task := self.calls.get(call)) is not None and call.started_at is not None:
            task.cancel()

    async def _run_call(self, call: Call, context: contextvars.Context) -> None:
        steps, ends = call.steps(), True
        try:
            for returned in steps:
                try:
                    came = await self._came_of(returned, context)
                except BaseException as error:
                    _go_on(steps.throw, error)
                    continue
                if ends := self._light(came):
                    _go_on(steps.send, came)
                else:
                    job = functools.partial(context.run, self._finish, call, steps, came)
                    self.later(self._finishers.submit, job)  # the context is in use until then
                    return
                if isinstance(came, Steps):
                    running.set(call)  # the steps to come are of it, too
        finally:
            if ends:
                self._end(call)

    async def _came_of(self, returned: Any, context: contextvars.Context) -> Any:
        """Of a stream, with its first item taken: nobody who makes a reader of it has to wait."""
        if inspect.isawaitable(returned):
            returned = await returned
        if not isinstance(returned, AsyncIterator):
            return returned
        before = dict(contextvars.copy_context())
        try:
            first = await anext(returned)
        except StopAsyncIteration:
            return iter(())
        now = contextvars.copy_context().items()
        bound = {name: value for name, value in now if before.get(name, _NOT) is not value}
        return Steps(Flow(self, returned, context, bound), returned, [first])

    def _light(self, came: Any) -> bool:
        """Whether the rest of the call takes no time to speak of."""
        if isinstance(came, Steps):
            return True
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
        if self._gives_back and self.idle:
            self._gives_back = False
            memory.give_back()


_NOT = object()


def _go_on(go_on: Callable[[Any], Any], what: Any) -> None:
    with contextlib.suppress(StopIteration):
        go_on(what)
