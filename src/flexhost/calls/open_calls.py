"""The calls that are under way: begun, looked after, and stopped when nobody wants them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator

from flexhost.call import Call
from flexhost.caller import Caller
from flexhost.calls.shares import ShareOf
from flexhost.errors import Busy, Cancelled, HostError, TimedOut
from flexhost.executor import Executor
from flexhost.function import Function, Given, Headers
from flexhost.results import Results
from flexhost.storage.cache import key_of
from flexhost.telemetry.events import Emit
from flexhost.telemetry.spans import Tracer

# Seconds that a late function has to end by itself before its thread counts as stuck.
GRACE = 0.5


class OpenCalls:
    """Those that wait or run, in whichever executor, also those that ended early and still run.

    deadline: seconds from acceptance, for functions without one of their own.
    share_of: see `Host`.
    """

    def __init__(
        self,
        executor: Executor,
        results: Results,
        *,
        deadline: float,
        emit: Emit,
        share_of: ShareOf | None = None,
        tracer: Tracer | None = None,
        clock: Callable[[], float],
    ) -> None:
        self._executor = executor
        self._results = results
        self._deadline = deadline
        self._emit = emit
        self._share_of = share_of
        self._tracer = tracer
        self._clock = clock
        self._calls: set[Call] = set()
        self._executions: set[Call] = set()
        self._lock = threading.Lock()  # of callers with a bound of their own

    def __len__(self) -> int:
        return len(self._calls) + len(self._executions)

    def __iter__(self) -> Iterator[Call]:
        """Those of this moment: others may come and go meanwhile."""
        return iter([*list(self._calls), *list(self._executions)])

    @property
    def all_ended(self) -> bool:
        """Whether each has its outcome."""
        return all(call.ended.is_set() for call in self)

    def add(
        self,
        function: Function,
        given: Given,
        columns: tuple[str, ...] | None,
        headers: Headers,
        *,
        patience: float = 0.0,
        command: bytes = b"",
        caller: Caller,
        exchange: str = "",
    ) -> tuple[Call, Call | None]:
        """A call that is in the results and has its place, and what has to be run for it: itself,
        the execution that it shares with its equals, or nothing. See `Call` for what it is given.

        Raises BadCall, and Busy when its caller has as many calls under way as it may have.
        """
        parameters = given if isinstance(given, dict) else {}
        key = None
        if function.cache is not None:
            key = key_of(function, parameters, columns, headers, caller.name)
        make = functools.partial(
            Call,
            function,
            given,
            columns,
            headers,
            deadline=self._clock() + self._seconds_of(function),
            keep=self._results.keep,
            share=self._share_of(parameters, headers) if self._share_of else "",
            caller=caller,
            exchange=exchange,
            spans=self._tracer.call() if self._tracer else None,
            clock=self._clock,
        )
        call = make(emit=self._emit, patience=patience, command=command)
        self._count(call)
        self._results.add(call)
        if key is None:
            return call, call
        try:
            execution = self._results.cache.join(call, key, lambda emit: make(emit=emit))
        except BaseException:
            self._forget(call)
            raise
        if execution is not None:
            self._executions.add(execution)  # that counts for none of its callers
        return call, execution

    def not_run(self, call: Call, execution: Call, error: BaseException) -> None:
        """What `add` gave could not be run."""
        if execution is not call:
            self._discard(execution)
            if self._results.cache.leave(call) is None and isinstance(error, HostError):
                execution.stop(error.copy())  # others came to share it meanwhile
        self._forget(call)

    def look(self, now: float) -> None:
        """Stop calls that are late or that nobody waits for; give up those that do not stop."""
        for call in self:
            if call.ended.is_set():
                if call.returned or call.started_at is None:
                    self._discard(call)
                elif call.deadline + GRACE <= now:
                    self._executor.abandon(call)
            elif call.deadline <= now:
                seconds = self._seconds_of(call.function)
                self.stop(call, TimedOut(f"no result within {seconds:g} s"))
            elif call.abandoned_by_all:
                self.stop(call, Cancelled("nobody waits for the call any more"))

    def stop(self, call: Call, error: HostError) -> bool:
        """Whether this ended the call."""
        if not call.stop(error):
            return False
        if call.cache is None:
            self._executor.cancel(call)
        elif (execution := self._results.cache.leave(call)) is not None:
            self.stop(execution, error.copy())  # nobody else needs it
        return True

    def _count(self, call: Call) -> None:
        """Raises Busy when its caller has as many calls under way as it may have."""
        caller = call.caller
        if caller.max_running is None:
            self._calls.add(call)
            return
        with self._lock:
            its = (one for one in list(self._calls) if one.caller.name == caller.name)
            if sum(map(_at_work, its)) >= caller.max_running:
                text = f"caller {caller.name!r} has {caller.max_running} calls under way"
                raise Busy(text, bound="max_running")
            self._calls.add(call)

    def _discard(self, call: Call) -> None:
        self._calls.discard(call)
        self._executions.discard(call)

    def _forget(self, call: Call) -> None:
        self._discard(call)
        self._results.drop(call)

    def _seconds_of(self, function: Function) -> float:
        return self._deadline if function.deadline is None else function.deadline


def _at_work(call: Call) -> bool:
    """Whether it waits or runs, also one that ended early: whoever cancels has not its thread back
    before that."""
    return not call.ended.is_set() or (call.started_at is not None and not call.returned)
