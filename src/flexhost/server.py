"""Start, serve, drain, stop: one host with its front ends, in this process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import threading
from collections import defaultdict
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from flexhost import affinity, capacity, forwarded, logs, memory, prints, verification
from flexhost.auth import Authentication
from flexhost.closers import Closers
from flexhost.errors import SettingsError
from flexhost.executors.coroutines import Coroutines
from flexhost.executors.routed import Routed
from flexhost.executors.threads import Threads
from flexhost.flex_fun import LoadContext
from flexhost.frontends import connections
from flexhost.frontends.flight import FlightFrontend
from flexhost.frontends.flight_streams import Slots
from flexhost.function import COROUTINES, PROCESSES, THREADS
from flexhost.health import Health
from flexhost.host import Host
from flexhost.observability import Telemetry
from flexhost.registry import Registry
from flexhost.resources import Resources
from flexhost.results import Results
from flexhost.retained import Retained
from flexhost.runtime_service import RuntimeService
from flexhost.served import Served
from flexhost.settings import Loaded, Server
from flexhost.shares import share_by
from flexhost.signals import LAST, Signals, leave
from flexhost.spool import Spool
from flexhost.worker_pool import Recycling, WorkerPool

if TYPE_CHECKING:
    import asyncio

    from flexhost.frontends.http import HttpFrontend, Page
    from flexhost.frontends.listener import Listener, Make
    from flexhost.metrics import Metrics
    from flexhost.tracing import Tracing

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
    telemetry = Telemetry(_metrics(loaded.settings.server))
    telemetry.tracing = _tracing(loaded.settings.server)
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
    waits = Threads(
        workers,
        wanted.task_queue_size,
        emit,
        max_abandoned=wanted.max_abandoned,
        elsewhere=True,
    )
    results = Results(
        wanted.task_result_ttl_sec,
        closers,
        emit,
        retained=_retained(wanted, telemetry),
        reads=wanted.max_streams,
        after_read=wanted.release_after_read_sec,
    )
    coroutines = Coroutines(
        wanted.task_coroutines,
        wanted.task_queue_size,
        emit,
        max_abandoned=wanted.max_abandoned,
        room=results.retained.has_room,
        new_loop=_event_loop,
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
        http = _http(wanted, host, health, metrics)
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
        frontend = _listener(make, wanted, health) if wanted.use_tls else make(listen)
        runtime = RuntimeService(
            dataclasses.replace(loaded.settings, server=wanted),
            host,
            frontend,
            rpcs=rpcs,
            authentication=authentication,
            tracer=telemetry.tracing,
        )
        if metrics is not None:
            from flexhost import gauges  # costs what `_metrics` does

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
            functions = served.load(loaded.settings)
            served.serve(functions)
            runtime.open()
            stopping.loaded = True
            logs.write_later(telemetry)  # until now each at once, for a start may fail
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


def _event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's when it is there."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _retained(wanted: Server, telemetry: Telemetry) -> Retained:
    """Raises StartError."""
    budget = wanted.result_memory_bytes or memory.available() // 4
    folder = None if wanted.result_spool_dir is None else Path(wanted.result_spool_dir)
    limit = wanted.result_spool_bytes
    spool = Spool(limit, folder) if limit else None
    if spool is not None and spool.warning:
        _logger.warning(spool.warning)
    return Retained(budget, spool, telemetry)


def _listener(make: Make, wanted: Server, health: Health) -> Listener:
    from flexhost.certificates import TlsSettings  # costs 50 ms, like the next
    from flexhost.frontends.listener import Listener

    assert wanted.tls_certificate is not None  # as the settings were checked
    assert wanted.tls_private_key is not None
    return Listener(
        make,
        (wanted.listen_host, wanted.listen_port),
        TlsSettings(wanted.tls_certificate, wanted.tls_private_key, wanted.tls_root_certificate),
        health,
    )


def _metrics(wanted: Server) -> Metrics | None:
    if wanted.metrics_host is None:
        return None
    from flexhost.metrics import Metrics  # costs 20 ms of start-up where nobody asks for them

    return Metrics()


def _tracing(wanted: Server) -> Tracing | None:
    """Raises SettingsError."""
    if not wanted.traces:
        if wanted.otel_exporter_type != "none":
            _logger.warning(
                "nothing is traced: otel_exporter_type is %r, and otel_service_name is not set",
                wanted.otel_exporter_type,
            )
        return None
    from flexhost import tracing  # costs 60 ms, and is not needed otherwise

    made = tracing.tracer(wanted)
    logs.JsonLines.trace_fields = made.fields
    return made


def _http(
    wanted: Server, host: Host, health: Health, metrics: Metrics | None
) -> HttpFrontend | None:
    if wanted.health_check_host is None and metrics is None:
        return None
    from flexhost.frontends import http  # likewise 20 ms

    pages: defaultdict[tuple[str, int], dict[str, Page]] = defaultdict(dict)
    if wanted.health_check_host is not None:
        address = (wanted.health_check_host, wanted.health_check_port)
        pages[address] |= {
            "/live": http.health(lambda: health.live),
            "/ready": http.health(lambda: host.ready),
        }
    if metrics is not None and wanted.metrics_host is not None:
        address = (wanted.metrics_host, wanted.metrics_port)
        pages[address]["/metrics"] = http.Page(
            lambda: http.Answer(200, metrics.page(), metrics.content_type), slow=True
        )
    frontend = http.HttpFrontend(pages)
    for bound, paths in zip(frontend.addresses, pages.values(), strict=True):
        _logger.info("HTTP on %s:%s: %s", *bound, " ".join(paths))
    return frontend
