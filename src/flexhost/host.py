"""Submit, wait, read, cancel, drain: the only thing a front end talks to. Knows no wire."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Any

from flexhost.cache import Key, key_of
from flexhost.call import Call
from flexhost.caller import ANYONE, Caller
from flexhost.closers import Closers
from flexhost.errors import BadCall, Busy, Cancelled, HostError, NotReady, ShuttingDown, TimedOut
from flexhost.events import Emit, Refused
from flexhost.executor import Executor
from flexhost.function import Function, Given, Headers
from flexhost.ids import new_id
from flexhost.open_calls import OpenCalls
from flexhost.reading import Reading
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.shares import ShareOf
from flexhost.spans import Tracer
from flexhost.ticker import Ticker
from flexhost.upkeep import Upkeep
from flexhost.waiters import Waiter, Waiters

# Seconds between two looks at who waits, which calls are late and what has expired. With the 0.4 s
# between two questions to one caller: who left is noticed within 0.5 s.
TICK = 0.05
# Seconds that a late function has to end by itself before its thread counts as stuck.
GRACE = 0.5
# Seconds that nobody need wait for a call whose caller polls, at the least.
POLL_PATIENCE = 10.0
# Seconds after its last call that a stopping host waits for results that nobody came to read.
UNREAD = 5.0


class Host:
    """deadline:   seconds from acceptance after which a call is answered with TimedOut, unless its
                function has a deadline of its own.
    share_of:   calls of different shares take turns, see `CallQueue`.
    stall, trim_every: see `Upkeep`.
    """

    def __init__(
        self,
        executor: Executor,
        results: Results,
        closers: Closers,
        *,
        deadline: float,
        emit: Emit,
        share_of: ShareOf | None = None,
        stall: float = 0.0,
        trim_every: float = 0.0,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._results = results
        self._closers = closers
        self._deadline = deadline
        self._share_of = share_of
        self._tracer = tracer
        self._emit = emit
        self._clock = clock
        self._registry: Registry | None = None
        self._caches = False  # whether a call may be answered without being run
        self._draining = False
        self._waiters = Waiters()
        self._open = OpenCalls()
        self._closed = threading.Event()
        self._upkeep = Upkeep(
            executor, results, closers, stall=stall, trim_every=trim_every, now=clock()
        )
        self._watcher = Ticker("watcher", TICK, lambda: self.look(self._clock()))

    @property
    def ready(self) -> bool:
        """Whether calls are accepted."""
        return self._registry is not None and not self._draining

    @property
    def at_work(self) -> int:
        """Calls that wait or run now, also those that ended early and still run."""
        return len(self._open)

    @property
    def functions(self) -> Registry:
        """Raises NotReady."""
        if self._registry is None:
            raise NotReady("the functions are still being loaded")
        return self._registry

    def open(self, registry: Registry) -> None:
        """From now on calls are accepted."""
        self._registry = registry
        self._caches = any(function.cache is not None for function in registry)

    def submit(
        self,
        name: str,
        given: Given,
        columns: tuple[str, ...] | None,
        headers: Headers,
        *,
        poll: float = 0.0,
        command: bytes = b"",
        caller: Caller = ANYONE,
    ) -> Call:
        """Accept a call. Whoever submits it must `wait` for it.

        given:   see `Function.called_with`.
        poll:    seconds between the polls of a caller that polls; the call goes on between them.
        command: kept with the call for such a caller.

        Raises UnknownFunction, Unauthorized, BadCall, Busy, NotReady, ShuttingDown.
        """
        function = self.functions.get(name, caller)
        try:
            function = function.called_with(given)
            parameters = given if isinstance(given, dict) else {}
            key = None
            if function.cache is not None:
                key = key_of(function, parameters, columns, headers, caller.name)
            if self._draining:
                raise ShuttingDown("this host is stopping and takes no new calls")
            make = functools.partial(
                Call,
                function,
                given,
                columns,
                headers,
                deadline=self._clock() + self._seconds_of(function),
                keep=self._results.retained.keep,
                share=self._share_of(parameters, headers) if self._share_of else "",
                caller=caller,
                spans=self._tracer.call() if self._tracer else None,
                clock=self._clock,
            )
            call = make(
                emit=self._emit,
                patience=max(3 * poll, POLL_PATIENCE) if poll else 0.0,
                command=command,
            )
            self._open.add(call)
            self._results.add(call)
            try:
                if key is None:
                    self._check_room()
                    self._executor.submit(call)
                else:
                    self._share(call, key, make)
            except BaseException:
                self._open.discard(call)
                self._results.drop(call)
                raise
        except HostError as error:
            error.function = function.name
            raise
        return call

    def wait(self, call: Call, gone: Callable[[], bool], timeout: float | None = None) -> bool:
        """Whether the call has its outcome, after at most `timeout` seconds.

        gone: see `Waiters`. A call that nobody waits for is stopped.
        """
        call.join()
        waiter = self._waiters.enter(gone, lambda _: call.leave())
        try:
            return call.ended.wait(timeout)
        finally:
            waiter.leave()

    def find(self, call_id: str, caller: Caller = ANYONE) -> Call | None:
        """A call of this caller that was accepted and is still known."""
        return self._results.find(call_id, caller)

    def cancel(self, call_id: str, caller: Caller = ANYONE) -> None:
        """From now on the call has no result, whether it runs, waits, or ended. Unknown, or of
        another caller: nothing to do."""
        call = self.find(call_id, caller)
        if call is None or self._stop(call, Cancelled("cancelled by its caller")):
            return
        if call.data is not None:
            self.forget(call)

    def read(
        self, call_id: str, cut: Callable[[], object] | None = None, *, caller: Caller = ANYONE
    ) -> Reading:
        """Open the result of a call of this caller. cut: see `Reading`.

        Raises NoResult, ResultConsumed, Busy, and the call's own error.
        """
        return self._results.read(call_id, cut, caller=caller)

    def watch(self, reading: Reading, gone: Callable[[], bool]) -> Waiter:
        """Close a reading when its reader is found gone, whatever its function is doing. Whoever
        watches calls `leave` of what this returns before `gone` becomes invalid."""

        def left(found_gone: bool) -> None:
            if found_gone:  # aside: closing runs the author's `finally`
                close = functools.partial(reading.close, Cancelled("the reader has gone"))
                self._closers.submit(close)

        return self._waiters.enter(gone, left)

    def overloaded(self) -> Busy | None:
        """The refusal that a call would get now, whoever's it is; None when it might not. Cheaper
        to ask than to be refused."""
        return None if self._share_of or self._caches else self._executor.refusal()

    def expires_at(self, call: Call) -> float:
        """When the result of an ended call goes, in seconds since the epoch."""
        return time.time() + self._results.expires_at(call) - self._clock()

    def invalidate(
        self, name: str, parameters: dict[str, Any] | None = None, *, caller: Caller = ANYONE
    ) -> int:
        """Forget the cached tables of a function, whoever's, so that its next calls run. How many
        there were of this caller, or for all.

        parameters: only of calls whose parameters have these in them.

        Raises UnknownFunction, Unauthorized, BadCall, NotReady.
        """
        function = self.functions.get(name, caller)
        if function.cache is None:
            raise BadCall(f"function {name!r} has no Cache")
        return self._results.cache.invalidate(function, parameters, caller.name)

    def forget(self, call: Call) -> None:
        """Drop a call whose outcome its caller has been told and cannot ask for again."""
        self._results.drop(call)

    def refused(self, error: HostError, request: str, caller: str = "") -> str:
        """Tell of a request that became no call. The id to find it by in the log."""
        if error.id:  # that of its call, which is told of on its own
            return error.id
        id_ = new_id()
        self._emit(Refused(id_, request, error.function, error, caller))
        return id_

    def stop_accepting(self) -> None:
        """From now on calls are refused with ShuttingDown."""
        self._draining = True

    def drain(self, seconds: float) -> None:
        """Accept no more, let calls and reads finish for `seconds`, then stop what is left."""
        self.stop_accepting()
        begun = awaited = self._clock()
        while (now := self._clock()) - begun < seconds:
            if any(not call.ended.is_set() for call in self._open):
                awaited = now
            unread = self._results.unread if now - awaited < UNREAD else 0
            if not (awaited == now or self._results.open or unread):
                return
            self._closed.wait(TICK / 2)
        text = "this host was stopped before the end"
        for call in self._open:
            self._stop(call, ShuttingDown(text))
        for reading in self._results.open:
            reading.close(ShuttingDown(text))

    def close(self) -> None:
        self._closed.set()
        self._watcher.close()
        self._executor.close()
        self._results.close()
        self._closers.close()

    def look(self, now: float) -> None:
        """Stop calls that are late or that nobody waits for; then see `Upkeep`."""
        self._waiters.look(now)
        self._executor.look(now)
        for call in self._open:
            if call.ended.is_set():
                if call.returned or call.started_at is None:
                    self._open.discard(call)
                elif call.deadline + GRACE <= now:
                    self._executor.abandon(call)
            elif call.deadline <= now:
                seconds = self._seconds_of(call.function)
                self._stop(call, TimedOut(f"no result within {seconds:g} s"))
            elif call.abandoned_by_all:
                self._stop(call, Cancelled("nobody waits for the call any more"))
        self._upkeep.look(now)

    def _seconds_of(self, function: Function) -> float:
        return self._deadline if function.deadline is None else function.deadline

    def _check_room(self) -> None:
        """Raises Busy while no result could be kept."""
        if (full := self._results.retained.refusal()) is not None:
            raise full

    def _share(self, call: Call, key: Key, make: Callable[..., Call]) -> None:
        """Start the execution that the call shares with its equals, unless there is one, or its
        table. Raises Busy."""
        execution = self._results.cache.join(call, key, lambda emit: make(emit=emit))
        if execution is None:
            return
        self._open.add_execution(execution)
        try:
            self._check_room()
            self._executor.submit(execution)
        except HostError as error:
            self._open.discard(execution)
            if self._results.cache.leave(call) is None:
                execution.stop(error.copy())  # others came to share it meanwhile
            raise

    def _stop(self, call: Call, error: HostError) -> bool:
        """Whether this ended the call."""
        if not call.stop(error):
            return False
        if call.cache is None:
            self._executor.cancel(call)
        elif (execution := self._results.cache.leave(call)) is not None:
            self._stop(execution, error.copy())  # nobody else needs it
        return True
