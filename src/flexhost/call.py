"""One call, from acceptance to its outcome."""

from __future__ import annotations

import contextvars
import enum
import math
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import pyarrow as pa

from flexhost.arrow.batches import arranged
from flexhost.caller import ANYONE, Caller
from flexhost.calls.arguments import Arguments, accept, instance_for
from flexhost.calls.ids import new_id
from flexhost.calls.narrowing import narrowing
from flexhost.calls.returned import arrow
from flexhost.calls.stops import Stops
from flexhost.contract import Stream, fit
from flexhost.errors import FunctionFailed, HostError, NoResult
from flexhost.function import SCALAR, Function, Given, Headers, Instance
from flexhost.functions.failures import failure
from flexhost.storage.kept import Kept, Passing
from flexhost.storage.source import Source, Sources
from flexhost.system.bell import Latch
from flexhost.telemetry.events import CallEnded, Emit
from flexhost.telemetry.spans import UNTRACED, CallSpans

# The call that this thread runs: log lines of the author's code carry its id.
running: contextvars.ContextVar[Call | None] = contextvars.ContextVar("running", default=None)


# What is known of the tables that functions returned.
_sources = Sources()

Data: TypeAlias = Kept | Stream
# Keeps a table, its source, of this function.
Keep: TypeAlias = Callable[[pa.Table, Source, str], Kept]


class State(enum.Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"  # cancelled, timed out, or given up: `error` says which


class Call:
    """State goes one way: waiting → running → finished | failed, and from the first two → stopped.

    The first outcome wins; a result that comes later is closed and thrown away.

    deadline: seconds on `clock`, after which the call is stopped.
    patience: seconds a call goes on with nobody waiting for it.
    share:    calls of different shares take turns in a queue.
    command:  the caller's own bytes, echoed to one who polls.
    caller:   whose call it is: nobody else may read, poll or cancel it.
    exchange: the id of the exchange whose batch it is called with, which is told of as a whole.
    keep:     takes the table, when there is one, until the call is dropped.
    spans:    where it is traced.
    stops:    what works for it, or for the reader of its stream, and can be ended.
    cache:    "hit", "shared" or "miss", for a call whose function has a cache.
    """

    # tens of thousands may be kept; a `dict` each, of so many names, would take 1 KB more
    __slots__ = (
        "__weakref__",
        "_arguments",
        "_clock",
        "_emit",
        "_instance",
        "_keep",
        "_lock",
        "accepted_at",
        "awaited_by",
        "cache",
        "caller",
        "command",
        "data",
        "deadline",
        "ended",
        "ended_at",
        "error",
        "exchange",
        "execution",
        "function",
        "id",
        "last_awaited",
        "patience",
        "read",
        "read_at",
        "returned",
        "schema",
        "seconds_run",
        "share",
        "spans",
        "started_at",
        "state",
        "stops",
        "thread",
    )

    def __init__(
        self,
        function: Function,
        given: Given,
        columns: tuple[str, ...] | None,
        headers: Headers,
        *,
        deadline: float,
        emit: Emit,
        keep: Keep,
        patience: float = 0.0,
        share: str = "",
        command: bytes = b"",
        caller: Caller = ANYONE,
        exchange: str = "",
        spans: CallSpans | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = new_id()
        self.function = function
        self.caller = caller
        self.schema = function.select(columns)
        self.command = command
        self.exchange = exchange
        self.deadline = deadline
        self.patience = patience
        self.share = share
        self.spans = spans
        self.stops = Stops()
        self.state = State.WAITING
        self.cache: str | None = None
        self.execution: Call | None = None  # that runs for this one, and perhaps for others
        self.data: Data | None = None
        self.error: HostError | None = None
        self.ended = Latch()  # there is an outcome
        self.accepted_at = clock()
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.thread: int | None = None  # that runs it, by its identity
        self.returned = False  # no thread is at work for it any more
        self.seconds_run = 0.0
        self.read = False
        self.read_at: float | None = None  # when somebody had read all of its table
        self.awaited_by = 0
        self.last_awaited = math.inf  # nobody came to wait yet: whoever submitted it will
        self._arguments: Arguments | None = accept(function, given, columns, headers, caller)
        self._instance: Instance | None = None
        self._emit = emit
        self._keep = keep
        self._clock = clock
        self._lock = threading.Lock()

    def run(self) -> None:
        """Call the function and keep the outcome. Never raises, whatever the function does."""
        next(self.steps(in_a_loop=False), None)

    def steps(self, *, in_a_loop: bool = True) -> Generator[Any, Any, None]:
        """`run` for who awaits things: yields what an async function returned, at most once, and
        goes on with what came of that, when it is sent or thrown. All in one context."""
        with self._lock:
            if self.state is not State.WAITING:
                self.returned = True
                return
            self.state = State.RUNNING
            self.started_at = started_at = self._clock()
            self.thread = threading.get_ident()
            arguments = self._arguments
        token = running.set(self)
        try:
            assert arguments is not None
            with UNTRACED if self.spans is None else self.spans.running(self):
                instance = instance_for(self.function, arguments, in_a_loop=in_a_loop)
                if self._started(instance):
                    by_place, by_name = arguments.for_call
                    returned = instance.call(*by_place, **by_name)
                    if in_a_loop:
                        returned = yield returned
                    if self.state is State.RUNNING:  # or nobody wants it any more
                        self._end(State.FINISHED, self._kept(returned, arguments))
        except BaseException as error:  # SystemExit of a function must not cost us the thread
            self._end(State.FAILED, error=failure(error, self.function))
        finally:
            running.reset(token)
            self._instance = None
            self.seconds_run = self._clock() - started_at
            self.returned = True

    def _kept(self, returned: Any, arguments: Arguments) -> Data:
        """Fitted, and within the budget if it is a table. Raises FunctionFailed and Busy."""
        name, narrow = self.function.name, narrowing(self.function, arguments)
        asked = self.schema if narrow is None else self.function.select(arguments.columns)
        data = arrow(returned, asked, name)
        fitted = fit(data, asked, name, narrow)
        if isinstance(fitted, Stream):
            if self.function.cache is None:
                return fitted
            fitted.close()
            raise FunctionFailed(
                f"function {self.function.name!r} has a Cache and returned a stream: only a "
                "table can be cached"
            )
        if self.exchange:
            # a client takes the first batch that comes for the whole answer of a scalar
            scalar = self.function.kind == SCALAR
            return Passing(fitted if scalar else arranged(fitted))
        source = _sources.of(data)
        return self._keep(source.arranged(fitted), source, name)

    def stop(self, error: HostError) -> bool:
        """End the call with this error. False when it had its outcome already."""
        return self._end(State.STOPPED, error=error)

    def forget_arguments(self) -> None:
        """Another call runs in the place of this one."""
        self._arguments = None

    @property
    def began_at(self) -> float | None:
        """When its function was called."""
        return self.started_at if self.execution is None else self.execution.started_at

    def finish(self, table: Kept) -> bool:
        """End the call with a table that another one made; see `Cache`. It is released with it."""
        return self._end(State.FINISHED, table)

    def fail(self, state: State, error: HostError) -> bool:
        """End the call as another one ended that ran for it too."""
        return self._end(state, error=error.copy())

    def ask_to_cancel(self) -> None:
        """End what works for it, and call the function's own `cancel`, once, if it is running. May
        block as long as that does.

        Raises what the function raises.
        """
        if (cancel := self.take_cancel()) is not None:
            self.ask(cancel)

    def take_cancel(self) -> Callable[[], object] | None:
        """End what works for it. The function's own `cancel`, for `ask`: once, if it is running."""
        self.stops.all()
        with self._lock:
            instance, self._instance = self._instance, None
        return getattr(instance, "cancel", None)

    def ask(self, cancel: Callable[[], object]) -> None:
        contextvars.copy_context().run(self._as_running, cancel)

    def _as_running(self, what: Callable[[], object]) -> None:
        running.set(self)
        what()

    def result(self) -> Data:
        """The data of a call that ended. Raises its error, and NoResult once it was dropped."""
        if self.error is not None:
            raise self.error.with_traceback(None)
        if (data := self.data) is None:
            raise NoResult(f"call {self.id!r} has no result here, or it has expired")
        return data

    def join(self) -> None:
        """Somebody begins to wait for the outcome."""
        with self._lock:
            self.awaited_by += 1

    def leave(self) -> None:
        """Somebody stops waiting for the outcome."""
        with self._lock:
            self.awaited_by -= 1
            self.last_awaited = self._clock()

    @property
    def abandoned_by_all(self) -> bool:
        """Nobody waits for it, and nobody came back within its patience."""
        return not self.awaited_by and self._clock() - self.last_awaited >= self.patience

    def _started(self, instance: Instance) -> bool:
        """Whether the call is still wanted now that its instance exists."""
        with self._lock:
            if self.state is not State.RUNNING:
                return False
            self._instance = instance
            return True

    def _end(self, state: State, data: Data | None = None, error: HostError | None = None) -> bool:
        with self._lock:
            won = self.state in (State.WAITING, State.RUNNING)
            if won:
                self.data, self.error = data, error
                self.ended_at = self._clock()
                self._arguments = None
                self.state = state
                if error is not None:
                    self.command = b""
                    error.id, error.function = self.id, self.function.name
        if not won:
            if isinstance(data, Stream):
                data.close()
            elif data is not None:
                data.release()
            return False
        try:
            if isinstance(data, Kept):
                self._emit(CallEnded(self, data.rows, data.size))
            else:
                self._emit(CallEnded(self, None, None))
        finally:
            self.ended.set()
        return True
