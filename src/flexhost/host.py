"""Submit, wait, read, cancel, drain: the only thing a front end talks to. Knows no wire."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from flexhost.call import Call
from flexhost.caller import ANYONE, Caller
from flexhost.calls.exchanges import NO_BATCH, Exchange, Exchanges
from flexhost.calls.ids import new_id
from flexhost.calls.open_calls import OpenCalls
from flexhost.calls.shares import ShareOf
from flexhost.calls.upkeep import Upkeep
from flexhost.calls.waiters import Waiter, Waiters
from flexhost.errors import BadCall, Busy, Cancelled, HostError, NotReady, ShuttingDown
from flexhost.executor import Executor
from flexhost.function import Given, Headers
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.storage.reading import Reading
from flexhost.system.closers import Closers
from flexhost.system.ticker import Ticker
from flexhost.telemetry.events import Emit, Refused
from flexhost.telemetry.spans import Tracer

# Seconds between two looks at who waits, which calls are late and what has expired. With the 0.35 s
# between two questions to one caller: who left is noticed within 0.5 s, and later only where
# hundreds wait, see `Waiters`.
TICK = 0.05
# Seconds that nobody need wait for a call whose caller polls, at the least.
POLL_PATIENCE = 10.0
# Seconds after its last call that a stopping host waits for results that nobody came to read.
UNREAD = 5.0


class Host:
    """deadline:   seconds from acceptance after which a call is answered with TimedOut, unless its
                function has a deadline of its own.
    exchanges:  that may be open at once.
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
        exchanges: int = 256,
        share_of: ShareOf | None = None,
        stall: float = 0.0,
        trim_every: float = 0.0,
        tracer: Tracer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._results = results
        self._closers = closers
        self._share_of = share_of
        self._emit = emit
        self._clock = clock
        self._registry: Registry | None = None
        self._caches = False  # whether a call may be answered without being run
        self._draining = False
        self._waiters = Waiters(clock)
        self._open = OpenCalls(
            executor,
            results,
            deadline=deadline,
            emit=emit,
            share_of=share_of,
            tracer=tracer,
            clock=clock,
        )
        self.exchanges = Exchanges(exchanges, emit, clock)
        self._closed = threading.Event()
        self._upkeep = Upkeep(
            executor,
            results,
            self.exchanges,
            closers,
            stall=stall,
            trim_every=trim_every,
            now=clock(),
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
        exchange: Exchange | None = None,
    ) -> Call:
        """Accept a call. Whoever submits it must `wait` for it.

        given:    see `Function.called_with`.
        poll:     seconds between the polls of a caller that polls; the call goes on between them.
        command:  kept with the call for such a caller.
        exchange: that the call is one of, whose function it is then.

        Raises UnknownFunction, Unauthorized, BadCall, Busy, NotReady, ShuttingDown.
        """
        function = self.functions.get(name, caller) if exchange is None else exchange.function
        try:
            if exchange is None:
                function = function.called_with(given)
            self._check_open()
            call, to_run = self._open.add(
                function,
                given,
                columns,
                headers,
                patience=max(3 * poll, POLL_PATIENCE) if poll else 0.0,
                command=command,
                caller=caller,
                exchange="" if exchange is None else exchange.id,
            )
            if to_run is not None:
                try:
                    self._check_room()
                    self._executor.submit(to_run)
                except BaseException as error:
                    self._open.not_run(call, to_run, error)
                    raise
        except HostError as error:
            error.function = function.name
            raise
        return call

    def exchange(
        self, name: str, headers: Headers, cut: Callable[[], object], *, caller: Caller = ANYONE
    ) -> AbstractContextManager[Exchange]:
        """Inside, the function takes batches, see `submit`. cut: see `Exchange`.

        Raises UnknownFunction, Unauthorized, BadCall, Busy, NotReady, ShuttingDown.
        """
        function = self.functions.get(name, caller).called_with(NO_BATCH)
        self._check_open()
        return self.exchanges.open(Exchange(function, headers, caller, cut))

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
        if call is None or self._open.stop(call, Cancelled("cancelled by its caller")):
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
        """Accept no more, let calls, answers and reads finish for `seconds`, then stop the rest."""
        self.stop_accepting()
        begun = awaited = self._clock()
        while (now := self._clock()) - begun < seconds:
            if not self._open.all_ended or self.exchanges.busy:
                awaited = now
            unread = self._results.unread if now - awaited < UNREAD else 0
            if not (awaited == now or self._results.open or unread):
                return
            self._closed.wait(TICK / 2)
        text = "this host was stopped before the end"
        for call in self._open:
            self._open.stop(call, ShuttingDown(text))
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
        self._open.look(now)
        self._upkeep.look(now)

    def _check_open(self) -> None:
        if self._draining:
            raise ShuttingDown("this host is stopping and takes no new calls")

    def _check_room(self) -> None:
        """Raises Busy while no result could be kept."""
        if (full := self._results.retained.refusal()) is not None:
            raise full
