"""Start, serve, drain, stop: one host with its front ends, in this process."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import defaultdict
from types import FrameType
from typing import TYPE_CHECKING

from flexhost import registry
from flexhost.closers import Closers
from flexhost.errors import SettingsError
from flexhost.executors.threads import Threads
from flexhost.frontends import connections
from flexhost.frontends.flight import FlightFrontend
from flexhost.function import LoadContext
from flexhost.health import Health
from flexhost.host import Host
from flexhost.observability import Telemetry
from flexhost.results import Results
from flexhost.settings import Loaded, Server
from flexhost.shares import share_by

if TYPE_CHECKING:
    from flexhost.frontends.http import HttpFrontend, Page
    from flexhost.metrics import Metrics

_logger = logging.getLogger("flexhost")

# Seconds for what should take none once everything ended: closing listeners, leaving the process.
_LAST = 1.0


def serve(loaded: Loaded) -> None:
    """Serve until SIGTERM or SIGINT, then drain. A second signal ends the process with status 1.

    Raises StartError. Whatever the functions leave behind, the process ends soon after this.
    """
    signals = _Signals()
    status = 1
    try:
        _serve(loaded, signals)
        status = 0
    finally:
        # threads that functions started and never ended must not hold the process
        last = threading.Timer(_LAST, _leave, [status])
        last.daemon = True
        last.start()


def _serve(loaded: Loaded, signals: _Signals) -> None:
    wanted = loaded.settings.server
    if wanted.stream_stall_sec and not connections.AVAILABLE:
        raise SettingsError("[server] stream_stall_sec needs /proc/self/fd, which is not here")
    metrics = _metrics(wanted)
    closers = Closers(wanted.task_close_threads)
    telemetry = Telemetry(metrics)
    executor = Threads(
        wanted.task_threads,
        wanted.task_queue_size,
        closers,
        telemetry,
        max_abandoned=wanted.max_abandoned,
    )
    results = Results(wanted.task_result_ttl_sec, closers, telemetry, reads=wanted.max_streams)
    host = Host(
        executor,
        results,
        closers,
        deadline=loaded.settings.flexfun.call_deadline_ms / 1000,
        emit=telemetry,
        share_of=share_by(wanted.fair_queue_by) if wanted.fair_queue_by else None,
        stall=wanted.stream_stall_sec,
        trim_every=wanted.malloc_trim_interval_sec,
    )
    health = Health(lambda: executor.abandoned < wanted.max_abandoned)
    http = _http(wanted, host, health, metrics)
    frontend = FlightFrontend(
        host,
        (wanted.listen_host, wanted.listen_port),
        (wanted.advertise_host, wanted.advertise_port or 0),
        poll=loaded.settings.flexfun.polling_interval_ms / 1000,
        rpcs=wanted.max_rpcs,
        command=wanted.max_command_bytes,
        cut_off=wanted.stream_stall_sec > 0,
        error_detail=wanted.error_detail,
    )
    if metrics is not None:
        metrics.watch(executor, results, frontend)
    try:
        context = LoadContext(loaded.everything, frontend.location, health)
        functions = registry.load(loaded.settings.flexfun.functions, context)
        signals.loaded = True
        host.open(functions)
        _logger.info(
            "serving %s on %s:%s, advertised as %s",
            ", ".join(function.name for function in functions) or "no function",
            wanted.listen_host,
            frontend.port,
            frontend.location.uri.decode(),
        )
        signals.wait()
        host.stop_accepting()
        _logger.info("stopping within %g s", wanted.drain_sec)
        host.drain(wanted.drain_sec)
    finally:
        host.close()
        ended = frontend.stop(_LAST)
        if http is not None:
            http.stop(_LAST)
        telemetry.close(_LAST)
    if not ended:
        _logger.warning("stopped, with requests open that would not end")
        _leave(0)  # pyarrow would wait for them, for ever if a client stopped reading
    _logger.info("stopped")


def _metrics(wanted: Server) -> Metrics | None:
    if wanted.metrics_host is None:
        return None
    from flexhost.metrics import Metrics  # costs 20 ms of start-up where nobody asks for them

    return Metrics()


def _http(
    wanted: Server, host: Host, health: Health, metrics: Metrics | None
) -> HttpFrontend | None:
    if wanted.health_check_host is None and metrics is None:
        return None
    from flexhost.frontends import http  # likewise 80 ms

    pages: defaultdict[tuple[str, int], dict[str, Page]] = defaultdict(dict)
    if wanted.health_check_host is not None:
        address = (wanted.health_check_host, wanted.health_check_port)
        pages[address] |= {
            "/live": http.health(lambda: health.live),
            "/ready": http.health(lambda: host.ready),
        }
    if metrics is not None and wanted.metrics_host is not None:
        address = (wanted.metrics_host, wanted.metrics_port)
        pages[address]["/metrics"] = lambda: http.Answer(200, metrics.page(), metrics.content_type)
    frontend = http.HttpFrontend(pages)
    for bound, paths in zip(frontend.addresses, pages.values(), strict=True):
        _logger.info("HTTP on %s:%s: %s", *bound, " ".join(paths))
    return frontend


class _Signals:
    """The first SIGTERM or SIGINT ends `wait`; the second ends the process with status 1.

    Before the functions are loaded there is nothing to drain: the first ends the process then.
    The main thread reads from a socket that the system's own handler writes to: pyarrow's `wait`
    keeps Python's handlers from running, and a signal that comes just before the main thread
    begins to wait for a lock would go unnoticed.
    """

    def __init__(self) -> None:
        self.loaded = False
        self._came = False
        self._wakes, self._woken = socket.socketpair()
        self._wakes.setblocking(False)
        signal.set_wakeup_fd(self._wakes.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def wait(self) -> None:
        while not self._came:
            self._woken.recv(1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._came:
            _leave(1)
        if not self.loaded:
            _leave(0)
        self._came = True


def _leave(status: int) -> None:
    """End the process now. Handlers of the log write each line when it comes: none is lost."""
    os._exit(status)
