"""An async `call` in a thread that waits for it: each call has an event loop of its own."""

from __future__ import annotations

import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TYPE_CHECKING, Any

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
                returned = self._loop.run(returned)
        finally:
            if not isinstance(returned, AsyncIterator):
                self._loop.close()
        return Steps(self._loop, returned) if isinstance(returned, AsyncIterator) else returned

    def cancel(self) -> bool:
        self._loop.cancel()
        cancel = getattr(self._instance, "cancel", None)
        return cancel is not None and bool(cancel())


class Steps:
    """An asynchronous iterator as one for threads. With the last reference the author's `finally`
    runs, in its loop; whoever iterates has one. One thread iterates, any may interrupt."""

    def __init__(self, loop: _Loop, source: AsyncIterator[Any]) -> None:
        self._loop = loop
        self._source = source

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        try:
            return self._loop.run(anext(self._source))
        except StopAsyncIteration:
            raise StopIteration from None
        except BaseException:
            if self._loop.cancelled:  # by us: whatever comes of it, nobody asks for it
                raise StopIteration from None
            raise

    def interrupt(self) -> None:
        """Cancel what is awaited now, and let nothing more come."""
        self._loop.cancel()

    def __del__(self) -> None:
        self._loop.close(self._source)


class _Loop:
    """Made with the first `run`, in whose context all tasks run. One thread runs it at a time."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._task: asyncio.Task[Any] | None = None
        self.cancelled = False
        self._lock = threading.Lock()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Raises what it raises, and CancelledError."""
        import asyncio  # costs 40 ms of start-up where nothing is async

        if self._runner is None:
            # not this thread's loop: another thread may go on with it
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        return self._runner.run(self._step(awaitable))

    def cancel(self) -> None:
        """May be called in any thread, at any time."""
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

    async def _step(self, awaitable: Awaitable[Any]) -> Any:
        import asyncio

        with self._lock:
            task = self._task = asyncio.current_task()
            if self.cancelled:
                assert task is not None
                task.cancel()  # at the first `await`
        try:
            return await awaitable
        finally:
            with self._lock:
                self._task = None
