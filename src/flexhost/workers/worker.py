"""What a worker process does: it loads the functions of the executor `processes`, and runs their
calls, one at a time, in its main thread. The host's side of it is `worker_process.py`."""

from __future__ import annotations

import contextlib
import contextvars
import math
import os
import pickle
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import pyarrow as pa

from flexhost import logs, registry
from flexhost.arrow.batches import size_of
from flexhost.call import Call, running
from flexhost.caller import Caller
from flexhost.contract import Stream
from flexhost.errors import Cancelled, FunctionFailed, HostError, StartError, text_of
from flexhost.function import Headers
from flexhost.functions.failures import failure
from flexhost.functions.flex_fun import LoadContext, ModuleHealthStatus
from flexhost.functions.fresh import Modules
from flexhost.functions.resources import Resources
from flexhost.registry import Registry
from flexhost.storage.footprint import write
from flexhost.storage.retained import Retained
from flexhost.system import memory
from flexhost.telemetry import prints
from flexhost.telemetry.events import Emit, ReadEnded
from flexhost.telemetry.spans import CallSpans
from flexhost.workers import forwarded, memory_files
from flexhost.workers.channel import Channel
from flexhost.workers.packed import Packed, unpacked

if TYPE_CHECKING:
    from flexhost.telemetry.author_metrics import Own
    from flexhost.workers.worker_start import Setup

# Bytes of a table up to which it goes as a message: less than what a file of its own costs.
_SMALL = 64 << 10
# Bytes of a table after which freed memory goes back to the system.
_LARGE = 32 << 20
# Seconds for spans to be sent when the process ends.
_LAST = 1.0


# Name, parameters, hint, headers, caller and carrier of a call.
Asked: TypeAlias = tuple[
    str, dict[str, Any] | Packed, tuple[str, ...] | None, Headers, Caller, dict[str, str]
]


class Worker:
    """Two threads: one receives, the main one loads the functions and runs calls."""

    def __init__(self, channel: Channel, setup: Setup) -> None:
        self._channel = channel
        self._setup = setup
        self._functions = Registry(())
        self._resources = Resources()
        self._inbox: queue.SimpleQueue[tuple[str, Call, Any] | None] = queue.SimpleQueue()
        self._call: Call | None = None  # that runs, or whose stream is read
        self._stream: Stream | None = None
        self._emit: Emit = prints.capture(lambda _: None)
        self._keep = Retained().keep
        self._metrics: Own | None = None
        self._spans: Callable[[dict[str, str]], CallSpans] | None = None
        self._end_traces: Callable[[float], object] = lambda _: None

    def receive(self) -> None:
        """What the host says, also while a function runs."""
        with contextlib.suppress(EOFError):
            while True:
                (kind, *values), _ = self._channel.receive()
                if kind == "call":
                    self._accept(*values)
                elif (call := self._call) is None or call.id != values[0]:
                    continue  # it has ended meanwhile
                elif kind == "next":
                    self._inbox.put((kind, call, values[1]))
                else:  # aside, for the author's `cancel` may block
                    threading.Thread(
                        target=self._cancel, args=[call], name="cancel", daemon=True
                    ).start()
        if self._call is not None:
            os._exit(1)  # nobody wants it any more
        self._inbox.put(None)

    def work(self) -> None:
        """Ends the process."""
        forwarded.forward(self._log, self._setup.levels)
        try:
            self._load()
            self._channel.send("ready")
            while (message := self._inbox.get()) is not None:
                what, call, _ = message
                if what == "call":
                    self._run(call)
        except StartError as error:
            self._channel.send("failed", str(error), error.trace)
        self._resources.close()
        self._end_traces(_LAST)
        os._exit(0)

    def _load(self) -> None:
        """Raises StartError."""
        setup = self._setup
        if setup.server.traces:
            self._trace()
        if setup.from_source:
            Modules.around([*setup.modules, *setup.udfs]).install()
        month = setup.fiscal_year_start_month
        loaded = registry.load(
            setup.modules,
            None,
            udfs=setup.udfs,
            fiscal_year_start_month=month,
            skipped=lambda _: None,  # the host has told it
        )
        self._functions = Registry(one for one in loaded if one.name in setup.functions)
        if setup.server.metrics_host is not None:
            from flexhost.telemetry.author_metrics import Own

            self._metrics = Own()
        if any(one.loads is not None for one in self._functions):
            import pyarrow.flight as fl

            location, health = fl.Location(setup.location), _Health(self._channel)
            context = LoadContext(setup.everything, location, health, self._resources)
            for function in self._functions:
                registry.on_load(function, context)

    def _trace(self) -> None:
        """Raises SettingsError."""
        from flexhost.telemetry import tracing
        from flexhost.workers import continued

        made = tracing.tracer(self._setup.server)
        logs.JsonLines.trace_fields = made.fields
        self._spans, self._end_traces = continued.Continued, made.close

    def _accept(self, id_: str, given: bytes) -> None:
        try:
            name, sent, hint, headers, caller, carrier = _understood(given)
            asked = unpacked(sent)
            call = Call(
                self._functions[name].called_with(asked),
                asked,
                hint,
                headers,
                deadline=math.inf,  # the host sees to it
                emit=self._emit,
                keep=self._keep,
                caller=caller,
                spans=self._spans(carrier) if self._spans is not None else None,
            )
        except HostError as error:
            self._channel.send("error", _portable(error))
            self._channel.send("idle", 0)
            return
        call.id = id_
        self._call = call
        self._channel.send("begun")
        self._inbox.put(("call", call, None))

    def _cancel(self, call: Call) -> None:
        call.stop(Cancelled("nobody wants it any more"))
        self._inbox.put(("cancel", call, None))
        stream = self._stream
        if stream is not None and self._call is call:  # or it is of a later call
            stream.close()  # what it awaits is cancelled
        call.ask_to_cancel()

    def _run(self, call: Call) -> None:
        contextvars.Context().run(call.run)
        try:
            self._answer(call)
        except EOFError:
            raise
        except Exception as error:
            self._channel.send("error", _portable(failure(error, call.function)))
        self._stream = self._call = None
        if self._metrics is not None and (changed := self._metrics.changed()):
            self._channel.send("metrics", changed)
        asked = self._setup.server.process_recycle_bytes
        self._channel.send("idle", memory.resident() if asked else 0)

    def _answer(self, call: Call) -> None:
        if call.error is not None:
            self._channel.send("error", _portable(call.error))
        elif isinstance(call.data, Stream):
            self._stream = call.data
            self._channel.send("stream", call.data.schema.serialize().to_pybytes())
            self._give_out(call, call.data)
        elif call.data is not None:
            table, size, close = call.data.open()
            self._send("table", table, size)
            close()
            call.data.release()
            del table
            if size > _LARGE:
                memory.give_back()

    def _give_out(self, call: Call, stream: Stream) -> None:
        """One table each time that the host asks for the next."""
        context, begun, rows, size = contextvars.Context(), time.monotonic(), 0, 0
        context.run(running.set, call)
        complete = False
        while not complete and (message := self._inbox.get()) is not None:
            what, of, carrier = message
            if of is not call:  # which has ended meanwhile
                continue
            if what == "cancel":
                break
            if carrier and self._spans is not None:
                context.run(self._spans(carrier).reading(ends_request=False).begin)
            if (table := context.run(next, stream, None)) is None:
                complete = True
            else:
                rows, size = rows + table.num_rows, size + size_of(table)
                self._send("table", table, size_of(table))
        context.run(stream.close)
        self._emit(
            ReadEnded(call, rows, size, time.monotonic() - begun, complete=complete, error=None)
        )
        self._channel.send("end", None)

    def _log(self, line: forwarded.Line) -> None:
        with contextlib.suppress(EOFError):  # the host has gone, and so will this process
            self._channel.send("log", line)

    def _send(self, kind: str, table: pa.Table, size: int) -> None:
        """Raises OSError when no memory file can be made of it."""
        if size <= _SMALL:
            sink = pa.BufferOutputStream()
            write(table, sink)
            self._channel.send(kind, sink.getvalue().to_pybytes())
            return
        fd = memory_files.written(table)
        try:
            self._channel.send(kind, None, fd=fd)
        finally:
            os.close(fd)


def _understood(given: bytes) -> Asked:
    try:
        return cast(Asked, pickle.loads(given))  # noqa: S301  # of our host
    except Exception as error:  # of an object that a verifier made
        what = f"what belongs to the call cannot be had in another process: {text_of(error)}"
        raise FunctionFailed(what, no_result=True) from None


class _Health:
    """The `ctx.health` of a worker process."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def set_module_status(self, name: str, status: ModuleHealthStatus) -> None:
        self._channel.send("health", name, status.value)


def _portable(error: HostError) -> HostError:
    """Without the exception behind it: its class is the author's, which the host need not have.
    One of Flight goes along, since the host passes it on."""
    cause = error.__dict__.get("cause")
    if cause is None:
        return error
    error = error.copy()
    flight = sys.modules.get("pyarrow._flight")
    if flight is None or not isinstance(cause, flight.FlightError):
        error.__dict__["cause"] = None
    elif type(cause).__module__ != flight.__name__:
        own = flight.FlightServerError(str(cause), bytes(cause.extra_info or b""))
        error.__dict__["cause"] = own
    return error
