"""An event loop in a thread of its own, and the streams in it. Loads `asyncio`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import logging
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from typing import Any, TypeAlias

from flexhost.errors import ShuttingDown
from flexhost.system.affinity import on_every_core

_logger = logging.getLogger("flexhost")

# Looks in which a loop has not answered after which it counts as blocked.
LOOKS = 4


class LoopThread:
    """The thread is a daemon: what blocks the loop cannot hold the process.

    new_loop: asyncio's own when it is None.

    ending:   it was told to end.
    blocked:  it has not answered for LOOKS looks, each of which asks it.
    well:     it answers, and has done all that it was asked to before the last look.
    """

    def __init__(self, new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        """Raises RuntimeError when no thread can be started."""
        self._loop = (new_loop or asyncio.new_event_loop)()
        self.ending = False
        self.blocked = False
        self._answered = True
        self._in_time = 0  # looks that found an answer, without a break
        self._unanswered = 0
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
        self.ending = True
        self._winding_up = self._loop.create_task(self._wind_up())

    async def _wind_up(self) -> None:
        try:
            others = asyncio.all_tasks() - {self._winding_up}
            _cancel(others)
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
    """A `coroutines.Driver`: all steps of an asynchronous iterator in one task, which waits between
    them for its reader. So a timeout or a group of tasks around a `yield` is of that task.

    bound: what the iterator has bound so far; what the reader's thread has bound is set beside it.
    """

    waits = False

    def __init__(self, thread: LoopThread, source: AsyncIterator[Any], bound: Values) -> None:
        """In the task that comes back with `go_on`."""
        self._thread = thread
        self._source = source
        self._bound: Values | None = bound
        self._task = asyncio.current_task()
        self._asked: asyncio.Queue[_Asked] = asyncio.Queue()
        self._step: Future[_Outcome] | None = None
        self._over = False
        self.cancelled = False

    def run(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """Raises ShuttingDown when the loop has ended."""
        came: Future[_Outcome] = Future()
        self._step = came
        told: Values = {}
        if self._bound is not None:
            told, self._bound = {**contextvars.copy_context(), **self._bound}, None
        if self.cancelled:  # before it could see the step
            came.cancel()
        if not self._thread.post(self._ask, (step, came, told)):
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
        self._thread.post(self._stop)

    def close(self, source: AsyncIterator[Any] | None = None) -> None:
        self._thread.post(self._stop)

    async def go_on(self) -> None:
        """Take the steps that are asked for, until the end, and close the iterator."""
        try:
            await self._take_steps()
        finally:
            self._over = True
            while not self._asked.empty():
                _settle(self._asked.get_nowait()[1], (None, _ended()))
            await self._close_source()

    async def _close_source(self) -> None:
        if inspect.isasyncgen(self._source):
            try:
                await self._source.aclose()
            except Exception:
                _logger.exception("an async generator failed when it was closed")

    async def _take_steps(self) -> None:
        ahead: _Outcome | None = None  # that nobody has asked for yet
        while not (self._over or self._thread.ending):
            try:
                step, came, told = await self._asked.get()
            except asyncio.CancelledError as error:
                if self._over or self._thread.ending or not inspect.isasyncgen(self._source):
                    raise
                # by what is around its `yield`
                ahead = await _outcome(functools.partial(self._source.athrow, error))
                continue
            for variable, value in told.items():
                variable.set(value)
            outcome, ahead = ahead or await _outcome(step), None
            _settle(came, (None, _ended()) if self._thread.ending else outcome)
            failed = outcome[1] is not None
            # or what was given would live until the next one is asked for; and an error, whose
            # frames keep this one from Python 3.12 on, would keep the stream that it has ended
            del step, came, outcome
            if failed:
                return

    def _ask(self, asked: _Asked) -> None:
        if self._over:
            _settle(asked[1], (None, _ended()))
        else:
            self._asked.put_nowait(asked)

    def _stop(self) -> None:
        if not self._over and self._task is not None:  # once: the second would meet a `finally`
            self._over = True
            self._task.cancel()


def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Each once: a second time would interrupt what is awaited in a `finally`."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()


_Outcome: TypeAlias = tuple[Any, BaseException | None]
_Asked: TypeAlias = tuple[Callable[[], Awaitable[Any]], Future[_Outcome], Values]


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
