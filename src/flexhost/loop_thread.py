"""An event loop in a thread of its own, and the streams in it. Loads `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import inspect
import logging
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeAlias

from flexhost.affinity import on_every_core
from flexhost.errors import ShuttingDown

_logger = logging.getLogger("flexhost")

# Looks in which a loop has not answered after which it counts as blocked.
LOOKS = 4


class LoopThread:
    """The thread is a daemon: what blocks the loop cannot hold the process.

    new_loop: asyncio's own when it is None.

    flows:    streams that are open in it.
    blocked:  it has not answered for LOOKS looks, each of which asks it.
    well:     it answers, and has done all that it was asked to before the last look.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        """Raises RuntimeError when no thread can be started."""
        self._loop = (new_loop or asyncio.new_event_loop)()
        self.flows: set[Flow] = set()
        self.blocked = False
        self._answered = True
        self._in_time = 0  # looks that found an answer, without a break
        self._unanswered = 0
        self._contexts: dict[Any, contextvars.Context] = {}  # of tasks; only before Python 3.12
        self._thread = threading.Thread(target=self._run, name="event loop", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def post(self, what: Callable[..., object], *arguments: Any) -> bool:
        """Have it called in the loop, soon. False when the loop is closed. In any thread."""
        try:
            self._loop.call_soon_threadsafe(what, *arguments)
        except RuntimeError:
            return False
        return True

    def start(
        self, what: Coroutine[Any, Any, Any], context: contextvars.Context
    ) -> asyncio.Task[Any]:
        """In the loop alone."""
        task = self._loop.create_task(what, context=context)
        if sys.version_info < (3, 12):
            self._contexts[task] = context
            task.add_done_callback(self._contexts.pop)
        return task

    def context_of(self, task: asyncio.Task[Any]) -> contextvars.Context | None:
        """None when it cannot be told: before Python 3.12, of tasks that functions made."""
        if sys.version_info < (3, 12):
            return self._contexts.get(task)
        return task.get_context()

    def later(self, what: Callable[..., object], *arguments: Any) -> None:
        """When what runs now has ended its step. In the loop alone."""
        self._loop.call_soon(what, *arguments)

    def look(self) -> None:
        """To be called every so often, by one thread: what asks whether it is blocked."""
        if self._answered:
            self._answered, self._unanswered = False, 0
            self._in_time += 1
            self.post(self._answer)
        else:
            self._unanswered += 1
            self._in_time = 0
        self.blocked = self._unanswered >= LOOKS

    @property
    def well(self) -> bool:
        return self._in_time > 1 and self._answered

    @property
    def task(self) -> asyncio.Task[Any] | None:
        """That runs right now."""
        return asyncio.current_task(self._loop)

    @property
    def stack(self) -> str:
        """Where its thread is, as text."""
        return thread_stack(self._thread.ident)

    def close(self) -> None:
        """Cancel what is there, let it end, and end the thread. Does not wait."""
        self.post(self._wind_up_soon)

    def join(self, seconds: float) -> bool:
        """Whether the thread has ended, after at most so long."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _answer(self) -> None:
        self._answered = True

    def _run(self) -> None:
        on_every_core()  # it may have been started from a thread of gRPC
        while True:
            try:
                self._loop.run_forever()
            except BaseException:  # SystemExit of a task that a function made ends no other's
                _logger.exception("a task of an async function ended the event loop: it goes on")
            else:
                break
        self._loop.close()

    def _wind_up_soon(self) -> None:
        self._winding_up = self._loop.create_task(self._wind_up())

    async def _wind_up(self) -> None:
        try:
            others = asyncio.all_tasks() - {self._winding_up}
            _cancel(others)
            others |= {self.start(flow.end(), flow.context) for flow in self.flows}
            while others:
                await asyncio.wait(others)
                others = asyncio.all_tasks() - {self._winding_up}  # that those began
                _cancel(others)
            await self._loop.shutdown_asyncgens()
        finally:
            self._loop.stop()


# Of variables of a context.
Values: TypeAlias = dict[contextvars.ContextVar[Any], Any]


class Flow:
    """A `coroutines.Driver`: an asynchronous iterator's steps as tasks of a loop that others share.

    context: that all of its steps run in. With the first, what the thread that asks has is set in
             it, and over that what is `bound`.
    """

    waits = False

    def __init__(
        self,
        thread: LoopThread,
        source: AsyncIterator[Any],
        context: contextvars.Context,
        bound: Values,
    ) -> None:
        """In the loop."""
        self._thread = thread
        self._source = source
        self.context = context
        self._bound: Values | None = bound
        self._task: asyncio.Task[Any] | None = None
        self._step: Future[_Outcome] | None = None
        self._over = False
        self.cancelled = False
        thread.flows.add(self)

    def run(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Raises ShuttingDown when the loop has ended."""
        came: Future[_Outcome] = Future()
        self._step = came
        told: Values = {}
        if self._bound is not None:
            told, self._bound = {**contextvars.copy_context(), **self._bound}, None
        if self.cancelled:  # before it could see the step
            came.cancel()
        if not self._thread.post(self._begin, step, came, told):
            raise _ended()
        value, error = came.result()
        self._step = None
        try:
            if error is not None:
                raise error
            return value
        finally:
            del came, error  # which would keep this frame, and it them

    def cancel(self) -> None:
        self.cancelled = True
        if (step := self._step) is not None:
            step.cancel()  # who waits for it goes on at once, even if the loop is blocked
        self._thread.post(self._cancel)

    def close(self, source: AsyncIterator[Any] | None = None) -> None:
        self._thread.post(self._close)

    async def end(self) -> None:
        """Cancel the step of now, wait for it, and close the iterator. In the loop."""
        self._over = True
        try:
            if self._step is not None:
                _settle(self._step, (None, _ended()))
            if (task := self._task) is not None:
                _cancel([task])
                await asyncio.wait([task])
            if inspect.isasyncgen(self._source):
                await self._source.aclose()
        finally:
            self._thread.flows.discard(self)

    def _begin(
        self,
        step: Callable[[], Awaitable[Any]],
        came: Future[_Outcome],
        told: Values,
    ) -> None:
        for variable, value in told.items():
            self.context.run(variable.set, value)
        if self._over:
            _settle(came, (None, _ended()))
        elif not came.cancelled():
            self._task = self._thread.start(self._take(step, came), self.context)

    async def _take(self, step: Callable[[], Awaitable[Any]], came: Future[_Outcome]) -> None:
        outcome = await _outcome(step)
        self._task = None
        _settle(came, outcome)

    def _cancel(self) -> None:
        if self._task is not None:
            _cancel([self._task])

    def _close(self) -> None:
        if self in self._thread.flows and not self._over:
            self._ending = self._thread.start(self.end(), self.context)  # a loop keeps no task


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Each once: a second time would interrupt what is awaited in a `finally`."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()


_Outcome: TypeAlias = tuple[Any, BaseException | None]


async def _outcome(step: Callable[[], Awaitable[Any]]) -> _Outcome:
    try:
        return await step(), None
    except BaseException as error:
        return None, error


def _settle(came: Future[_Outcome], outcome: _Outcome) -> None:
    with contextlib.suppress(InvalidStateError):  # nobody waits for it any more
        came.set_result(outcome)


def _ended() -> ShuttingDown:
    return ShuttingDown("this host was stopped before the end")


def thread_stack(ident: int | None) -> str:
    """Where a thread is, as text."""
    frame = sys._current_frames().get(ident or 0)
    return "" if frame is None else "".join(traceback.format_stack(frame, limit=100))


def stack_of(task: asyncio.Task[Any]) -> str:
    """Where a task that is not running right now waits, as text: all of its coroutines."""
    return "".join(traceback.StackSummary.extract(_frames(task.get_coro()), limit=100).format())


def _frames(awaited: Any) -> Iterator[tuple[Any, int]]:
    while awaited is not None:
        for frame_of, next_of in _CHAINS:
            if (frame := getattr(awaited, frame_of, None)) is not None:
                yield frame, frame.f_lineno
                awaited = getattr(awaited, next_of)
                break
        else:  # the step of a generator tells of it in no other way
            awaited = next(filter(inspect.isasyncgen, gc.get_referents(awaited)), None)


_CHAINS = (("cr_frame", "cr_await"), ("ag_frame", "ag_await"), ("gi_frame", "gi_yieldfrom"))
