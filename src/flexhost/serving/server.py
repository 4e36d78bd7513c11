"""Start, serve, drain, stop: one host with its front ends, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import logging
import os
import sys
import threading
from contextlib import AbstractContextManager
from typing import NoReturn, Protocol

from flexhost.auth import Authentication
from flexhost.calls.shares import share_by
from flexhost.errors import SettingsError
from flexhost.executors.coroutines import Coroutines
from flexhost.executors.routed import Routed
from flexhost.executors.threads import Threads
from flexhost.frontends import connections
from flexhost.frontends.flight import FlightFrontend
from flexhost.frontends.flight_streams import Slots
from flexhost.function import COROUTINES, PROCESSES, THREADS
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.resources import Resources
from flexhost.host import Host
from flexhost.observability import Telemetry
from flexhost.registry import Registry
from flexhost.results import Results
from flexhost.security import verification
from flexhost.serving import optional
from flexhost.serving.runtime_service import RuntimeService
from flexhost.serving.served import Served
from flexhost.serving.signals import LAST, Signals, leave
from flexhost.settings import Loaded, Server
from flexhost.system import affinity, capacity
from flexhost.system.closers import Closers
from flexhost.telemetry import prints, put_off
from flexhost.telemetry.health import Health
from flexhost.workers import forwarded
from flexhost.workers.worker_pool import Recycling, WorkerPool

_logger = logging.getLogger("flexhost")

# Seconds for who connected at the last moment to be told to go elsewhere: gRPC tells those whose
# request arrives in its shutdown CANCELLED, after which no client tries again (measured).
_FAREWELL = 0.2


class Watching(Protocol):
    """Serves other functions later on: `functions` is what is served now."""

    def __call__(self, functions: Registry, served: Served) -> AbstractContextManager[None]:
        """As long as it is inside."""


def serve(loaded: Loaded, watching: Watching | None = None) -> NoReturn:
    """Serve until SIGTERM or SIGINT, then drain and end the process with status 0.

    A second signal ends it with status 1. Raises StartError.
    """
    telemetry = Telemetry(optional.metrics(loaded.settings.server))
    telemetry.tracing = optional.tracing(loaded.settings.server)
    stopping = Signals(loaded.settings.server.drain_sec, telemetry)
    try:
        _serve(loaded, stopping, telemetry, watching)
    finally:
        telemetry.close(LAST)
    leave(0, LAST)


def within_limit(wanted: Server, limit: int | None, frontends: int = 1) -> Server:
    """The settings, with no more threads than there may be.

    frontends: each of which may keep a thread for every request.
    """
    asked = capacity.Threads(wanted.task_threads, wanted.max_streams, wanted.max_rpcs * frontends)
    calls, reads, requests = granted = capacity.within(asked, limit)
    if granted == asked:
        return wanted
    requests = max(1, requests // frontends)
    _logger.warning(
        "[server] %s threads may be started here (pids.max): task_threads is %s, max_streams %s "
        "and max_rpcs %s",
        *(limit, calls, reads, requests),
    )
    return dataclasses.replace(wanted, task_threads=calls, max_streams=reads, max_rpcs=requests)


def _serve(
    loaded: Loaded, stopping: Signals, telemetry: Telemetry, watching: Watching | None
) -> None:
    frontends = 1 if loaded.settings.invoke.listen_host is None else 2
    wanted = within_limit(loaded.settings.server, capacity.threads(), frontends)
    capacity.bound_pools(capacity.processors())
    affinity.keep_requests_on(wanted.grpc_cores)
    sys.setswitchinterval(wanted.switch_interval_ms / 1000)
    if wanted.stream_stall_sec and not connections.AVAILABLE:
        raise SettingsError("[server] stream_stall_sec needs /proc/self/fd, which is not here")
    # gRPC writes a line to stderr for each handshake that fails: whoever can reach the port could
    # fill the log; and one that its listener was closed
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    metrics = telemetry.metrics
    emit = prints.capture(telemetry)
    closers = Closers(wanted.task_close_threads)
    threads = Threads(
        wanted.task_threads,
        wanted.task_queue_size,
        emit,
        max_abandoned=wanted.max_abandoned,
    )
    workers = wanted.process_workers or capacity.processors()
    waits = Threads(workers, wanted.task_queue_size, emit, max_abandoned=wanted.max_abandoned)
    results = Results(
        wanted.task_result_ttl_sec,
        closers,
        emit,
        retained=optional.retained(wanted, telemetry),
        reads=wanted.max_streams,
        after_read=wanted.release_after_read_sec,
    )
    coroutines = Coroutines(
        wanted.task_coroutines,
        wanted.task_queue_size,
        emit,
        max_abandoned=wanted.max_abandoned,
        room=results.retained.has_room,
        new_loop=optional.event_loop,
    )
    executor = Routed({THREADS: threads, PROCESSES: waits, COROUTINES: coroutines})
    host = Host(
        executor,
        results,
        closers,
        deadline=loaded.settings.flexfun.call_deadline_ms / 1000,
        emit=emit,
        exchanges=wanted.max_exchanges,
        share_of=share_by(wanted.fair_queue_by) if wanted.fair_queue_by else None,
        stall=wanted.stream_stall_sec,
        trim_every=wanted.malloc_trim_interval_sec,
        tracer=telemetry.tracing,
    )
    stopping.at_once = results.retained.close  # or files would stay until the next start
    resources = Resources()  # closed after everything that may use them
    health = Health(lambda: executor.abandoned < wanted.max_abandoned and not coroutines.blocked)
    pool = WorkerPool(
        workers,
        streams=wanted.process_streams,
        health=health,
        relay=forwarded.write,
        recycling=Recycling(wanted.process_recycle_calls, wanted.process_recycle_bytes),
        metrics=None if metrics is None else metrics.workers,
    )
    with contextlib.closing(resources), contextlib.closing(pool), contextlib.closing(host):
        http = optional.http(wanted, host, health, metrics)
        authentication = None
        if wanted.authentication_method == "token":
            authentication = Authentication(wanted.token_header_name or "")
        rpcs = Slots(wanted.max_rpcs)
        make = functools.partial(
            FlightFrontend,
            host,
            advertise=(wanted.advertise_host, wanted.advertise_port or 0),
            poll=loaded.settings.flexfun.polling_interval_ms / 1000,
            rpcs=rpcs,
            command=wanted.max_command_bytes,
            batch=wanted.max_batch_bytes,
            cut_off=wanted.stream_stall_sec > 0,
            error_detail=wanted.error_detail,
            authentication=authentication,
            tracer=telemetry.tracing,
        )
        listen = wanted.listen_host, wanted.listen_port
        frontend = optional.listener(make, wanted, health) if wanted.use_tls else make(listen)
        runtime = RuntimeService(
            dataclasses.replace(loaded.settings, server=wanted),
            host,
            frontend,
            rpcs=rpcs,
            authentication=authentication,
            tracer=telemetry.tracing,
        )
        if metrics is not None:
            from flexhost.telemetry import gauges  # costs what `_metrics` does

            gauges.register(
                metrics.registry, wanted, host, health, executor, results, frontend, pool
            )
        try:
            context = LoadContext(loaded.everything, frontend.location, health, resources)
            if authentication is not None:
                authentication.open(
                    verification.verifier(loaded.settings, context),
                    ours=verification.is_ours(loaded.settings),
                )
            served = Served(
                loaded,
                context,
                host,
                executor,
                coroutines,
                pool,
                metrics,
                fresh=watching is not None,
            )
            # what is there now stays: to look through it for garbage, while results are kept, would
            # hold up all calls for 40 ms now and then (measured)
            gc.freeze()
            gc.enable()  # from the first code of an author on
            functions = served.load(loaded.settings)
            gc.freeze()  # what that has imported, too
            served.serve(functions)
            runtime.open()
            stopping.loaded = True
            put_off.write_later(telemetry)  # until now each at once, for a start may fail
            _logger.info(
                "serving %s on %s:%s, advertised as %s",
                ", ".join(function.name for function in functions) or "no function",
                wanted.listen_host,
                frontend.port,
                frontend.location.uri.decode(),
            )
            if runtime.port is not None:
                _logger.info("gRPC on %s:%s", loaded.settings.invoke.listen_host, runtime.port)
            with watching(functions, served) if watching else _UNWATCHED:
                stopping.wait()
            host.stop_accepting()
            runtime.drain()
            telemetry.say(
                f"stopping within {wanted.drain_sec:g} s; a second signal ends it at once"
            )
            host.drain(wanted.drain_sec)
            connections.stop_listening(frontend.port)
            threading.Event().wait(_FAREWELL)
            host.exchanges.cut()
        finally:
            ended = frontend.stop(LAST) & runtime.stop(LAST)
            if http is not None:
                http.stop(LAST)
    telemetry.say("stopped" if ended else "stopped, with requests open that would not end")


_UNWATCHED: AbstractContextManager[None] = contextlib.nullcontext()
