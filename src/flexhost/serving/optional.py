"""What a host has only if its settings ask for it: imported then, so that no other start waits."""

from __future__ import annotations

import logging
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from flexhost import logs
from flexhost.host import Host
from flexhost.observability import Telemetry
from flexhost.settings import Server
from flexhost.storage.retained import Retained
from flexhost.storage.spool import Spool
from flexhost.system import memory
from flexhost.telemetry.health import Health

if TYPE_CHECKING:
    import asyncio

    from flexhost.frontends.http import HttpFrontend, Page
    from flexhost.frontends.listener import Listener, Make
    from flexhost.telemetry.metrics import Metrics
    from flexhost.telemetry.tracing import Tracing

_logger = logging.getLogger("flexhost")


def event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's when it is there."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def retained(wanted: Server, telemetry: Telemetry) -> Retained:
    """Raises StartError."""
    budget = wanted.result_memory_bytes or memory.available() // 4
    folder = None if wanted.result_spool_dir is None else Path(wanted.result_spool_dir)
    limit = wanted.result_spool_bytes
    spool = Spool(limit, folder) if limit else None
    if spool is not None and spool.warning:
        _logger.warning(spool.warning)
    return Retained(budget, spool, telemetry)


def listener(make: Make, wanted: Server, health: Health) -> Listener:
    from flexhost.frontends.listener import Listener
    from flexhost.security.certificates import TlsSettings  # 50 ms, like the next

    assert wanted.tls_certificate is not None  # as the settings were checked
    assert wanted.tls_private_key is not None
    return Listener(
        make,
        (wanted.listen_host, wanted.listen_port),
        TlsSettings(wanted.tls_certificate, wanted.tls_private_key, wanted.tls_root_certificate),
        health,
    )


def metrics(wanted: Server) -> Metrics | None:
    if wanted.metrics_host is None:
        return None
    from flexhost.telemetry.metrics import Metrics  # 20 ms

    return Metrics()


def tracing(wanted: Server) -> Tracing | None:
    """Raises SettingsError."""
    if not wanted.traces:
        if wanted.otel_exporter_type != "none":
            _logger.warning(
                "nothing is traced: otel_exporter_type is %r, and otel_service_name is not set",
                wanted.otel_exporter_type,
            )
        return None
    from flexhost.telemetry.tracing import tracer  # costs 60 ms

    made = tracer(wanted)
    logs.JsonLines.trace_fields = made.fields
    return made


def http(
    wanted: Server, host: Host, health: Health, metrics: Metrics | None
) -> HttpFrontend | None:
    if wanted.health_check_host is None and metrics is None:
        return None
    from flexhost.frontends import http as pages_of  # likewise 20 ms

    pages: defaultdict[tuple[str, int], dict[str, Page]] = defaultdict(dict)
    if wanted.health_check_host is not None:
        address = (wanted.health_check_host, wanted.health_check_port)
        pages[address] |= {
            "/live": pages_of.health(lambda: health.live),
            "/ready": pages_of.health(lambda: host.ready),
        }
    if metrics is not None and wanted.metrics_host is not None:
        address = (wanted.metrics_host, wanted.metrics_port)
        pages[address]["/metrics"] = pages_of.Page(
            lambda: pages_of.Answer(200, metrics.page(), metrics.content_type), slow=True
        )
    frontend = pages_of.HttpFrontend(pages)
    for bound, paths in zip(frontend.addresses, pages.values(), strict=True):
        _logger.info("HTTP on %s:%s: %s", *bound, " ".join(paths))
    return frontend
