"""What is async, for threads that wait for it: a call in a loop of its own, and streams."""

from __future__ import annotations

import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from flexhost.function import Instance

if TYPE_CHECKING:
    import asyncio


class Awaited:
    """An object whose `call` is async, as one whose `call` is not.

    What yields asynchronously becomes `Steps`. Its `cancel` also cancels the task.
    """

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._loop = _Loop()

    def call(self, *arguments: Any, **named: Any) -> Any:
        returned: Any = None
        try:
            returned = self._instance.call(*arguments, **named)
            if inspect.isawaitable(returned):
                awaitable = returned
                returned = self._loop.run(lambda: awaitable)
        finally:
            if not isinstance(returned, AsyncIterator):
                self._loop.close()
        return Steps(self._loop, returned) if isinstance(returned, AsyncIterator) else returned

    def cancel(self) -> bool:
        self._loop.cancel()
        cancel = getattr(self._instance, "cancel", None)
        return cancel is not None and bool(cancel())


class Driver(Protocol):
    """A loop, as one stream uses it."""

    @property
    def cancelled(self) -> bool: ...

    @property
    def waits(self) -> bool:
        """Whether `close` waits for the end."""

    def run(self, step: Callable[[], Awaitable[Any]]) -> Any:
        """What comes of it. Raises what it raises, and CancelledError."""

    def cancel(self) -> None:
        """What is awaited now, and later. May be called in any thread, at any time."""

    def close(self, source: AsyncIterator[Any] | None = None) -> None: ...


class Steps:
    """An asynchronous iterator as one for threads. With its end, or with the last reference, the
    author's `finally` runs, in its loop. One thread iterates, any may interrupt.

    taken: what was taken from the source already.
    """

    def __init__(self, loop: Driver, source: AsyncIterator[Any], taken: Iterable[Any] = ()) -> None:
        self._loop = loop
        self._source: AsyncIterator[Any] | None = source
        self._taken = deque(taken)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if (source := self._source) is None:
            raise StopIteration
        if self._taken:
            return self._taken.popleft()
        try:
            return self._loop.run(lambda: anext(source))
        except BaseException as error:
            self._close()
            # by us: whatever comes of it, nobody asks for it
            if self._loop.cancelled or isinstance(error, StopAsyncIteration):
                raise StopIteration from None
            raise

    def interrupt(self) -> None:
        """Cancel what is awaited now, and let nothing more come."""
        self._loop.cancel()

    def _close(self) -> None:
        source, self._source = self._source, None
        self._loop.close(source)

    def __del__(self) -> None:
        if self._source is None:
            return
        if (
            self._loop.waits and _in_a_loop()
        ):  # of another call, which dropped it by chance: it cannot run two
            close, source = self._loop.close, self._source
            threading.Thread(target=close, args=[source], name="closer", daemon=True).start()
        else:
            self._close()


def _in_a_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Loop:
    """A `Driver`, made with the first `run`, in whose context all tasks run. One thread runs it at
    a time."""

    waits = True

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self._lock = threading.Lock()

    def run(self, step: Callable[[], Awaitable[Any]]) -> Any:
        import asyncio  # costs 40 ms of start-up where nothing is async

        if self._runner is None:
            # not this thread's loop: another thread may go on with it
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        value, error = self._runner.run(self._step(step))
        try:
            if error is not None:
                raise error
            return value
        finally:
            del error  # as in `_step`

    def cancel(self) -> None:
        with self._lock:
            self.cancelled = True
            if self._task is not None:
                self._task.get_loop().call_soon_threadsafe(self._task.cancel)

    def close(self, source: AsyncIterator[Any] | None = None) -> None:
        if self._runner is None:
            return
        try:
            if inspect.isasyncgen(source):
                self._runner.run(source.aclose())
        finally:
            self._runner.close()
            self._runner = None

    async def _step(self, step: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
        """The value, or the error: raised by a task it would be kept by the task that it keeps, and
        with it all that its frames hold, until some thread collects garbage."""
        import asyncio

        with self._lock:
            self._task = asyncio.current_task()
            if self.cancelled and self._task is not None:
                self._task.cancel()  # at the first `await`
        try:
            return await step(), None
        except BaseException as error:
            return None, error
        finally:
            with self._lock:
                self._task = None
