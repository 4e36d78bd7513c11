"""Whether a call that nobody wants any more ends, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import thread as pools
from pathlib import Path
from typing import Any

from flexhost.call import Call
from flexhost.caller import Caller
from flexhost.errors import HostError
from flexhost.function import Function, Headers, Instance
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.telemetry.events import CallEnded, Event
from flexhost.testing import calls
from flexhost.testing.calls import Settings
from flexhost.testing.trial import Sample


def violations(
    function: Function,
    sample: Sample,
    settings: Settings | None,
    headers: Headers,
    caller: Caller,
    within: float,
) -> Iterator[str]:
    """within: seconds in which all must have ended."""
    for what, leave in (("cancelled", _cancel), ("whose reader leaves", _leave)):
        found: list[str] = []
        began = Began()
        with calls.hosting(began.told) as (host, resources):
            calls.load(function, settings, host, resources)
            # a sample that fails is told of elsewhere
            with contextlib.suppress(HostError), began.watching(function) as watched:
                # once in peace: it may start what it keeps
                calls.called(host, function.name, sample.sent(), headers, caller)
                host.open(Registry([watched]))
                before = set(threading.enumerate())
                began.event.clear()
                call = host.submit(function.name, sample.sent(), None, headers, caller=caller)
                found += _left_behind(host, call, before, began, leave, within)
        yield from (f"{sample.name}, {what}: {why}" for why in found)


def _left_behind(
    host: Host,
    call: Call,
    before: set[threading.Thread],
    began: Began,
    leave: Callable[[Host, Call, Began, float], None],
    within: float,
) -> Iterator[str]:
    # aside, for it may run the author's code, and for ever
    leaving = threading.Thread(target=leave, args=(host, call, began, within), daemon=True)
    leaving.start()
    leaving.join(within)
    host.drain(0)
    host.close()
    end, function = time.monotonic() + within, call.function
    worker = {one for one in before if one.ident == call.thread}
    for thread in _left(before - worker, end):
        yield (
            f"the thread {thread.name!r} of the call still runs after {within:g} s"
            f"{_where(thread, function)}"
        )
    yield from began.wrong(end)


def _cancel(host: Host, call: Call, began: Began, within: float) -> None:
    """In the midst of it, if it takes long enough."""
    began.event.wait(within)
    host.cancel(call.id, call.caller)


def _leave(host: Host, call: Call, began: Began, within: float) -> None:
    """After the first rows."""
    if not call.ended.wait(within) or call.error is not None:
        return
    with contextlib.suppress(HostError, StopIteration):
        reading = host.read(call.id, caller=call.caller)
        with contextlib.closing(reading):
            next(reading)


# What does the work of an object.
_WATCHED = ("call", "label_elements")


class Began:
    """event: the function is at work, or has ended."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._ended: list[threading.Event] = []  # of generators that began
        self._errors: list[str] = []
        self._objects: list[dict[str, Any]] = []  # attributes of objects that are watched

    def told(self, event: Event) -> None:
        if isinstance(event, CallEnded):
            self.event.set()

    @contextlib.contextmanager
    def watching(self, function: Function) -> Iterator[Function]:
        """The function, of which each object is watched. Afterwards they are as they were."""

        def create() -> Instance:
            instance = function.create()
            with contextlib.suppress(TypeError, AttributeError):  # one with slots is not watched
                self._watch(instance, vars(instance), function.source)
            return instance

        try:
            yield dataclasses.replace(function, create=create, cache=None)
        finally:
            for own in self._objects:
                for name in _WATCHED:
                    own.pop(name, None)

    def wrong(self, end: float) -> Iterator[str]:
        """end: on the clock, when generators must be closed."""
        for ended in self._ended:
            if not ended.wait(max(0.0, end - time.monotonic())):
                yield "its generator is not closed"
        yield from self._errors

    def _watch(self, instance: Instance, own: dict[str, Any], source: Any) -> None:
        for name in _WATCHED:
            if name not in own and (code := getattr(instance, name, None)) is not None:
                own[name] = self._watched(code, generates=_generates(code) or _generates(source))
        self._objects.append(own)

    def _watched(self, code: Callable[..., Any], *, generates: bool) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            if not generates:  # which is at work from its first step on
                self.event.set()
            returned = code(*given, **named)
            if inspect.isgenerator(returned):
                return self._steps(returned)
            if inspect.isasyncgen(returned):
                return self._async_steps(returned)
            return returned

        return call

    def _steps(self, generator: Any) -> Iterator[Any]:
        with self._closing():
            yield from generator

    async def _async_steps(self, generator: Any) -> AsyncIterator[Any]:
        with self._closing():
            try:
                async for one in generator:
                    yield one
            finally:
                await generator.aclose()

    @contextlib.contextmanager
    def _closing(self) -> Iterator[None]:
        ended = threading.Event()
        self._ended.append(ended)
        self.event.set()
        try:
            yield
        except GeneratorExit:
            raise
        except RuntimeError as error:
            if "ignored GeneratorExit" not in str(error):
                raise
            self._errors.append("its generator goes on when it is closed: let GeneratorExit pass")
        finally:
            ended.set()


def _generates(code: Any) -> bool:
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


def _left(before: set[threading.Thread], end: float) -> list[threading.Thread]:
    """Threads that are new and do not end. Those of pools wait for their next job, and may."""
    new = [one for one in threading.enumerate() if one not in before]
    for thread in new:
        if thread not in pools._threads_queues and not thread.name.startswith("Dummy-"):
            thread.join(max(0.0, end - time.monotonic()))
    return [one for one in new if one.is_alive() and one not in pools._threads_queues]


def _where(thread: threading.Thread, function: Function) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    for of, line in traceback.walk_stack(frame) if frame is not None else ():
        if of.f_code.co_filename == function.file:
            return f", at {Path(function.file).name}:{line} in {of.f_code.co_name}"
    return ""
