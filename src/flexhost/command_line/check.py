"""`flexhost check`: what would be served with these settings, found out without serving it."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.flight as fl

from flexhost import registry, settings
from flexhost.command_line.aligned import aligned
from flexhost.command_line.reach import is_own_machine
from flexhost.errors import PortTaken, SettingsError, StartError
from flexhost.frontends.address import advertised, try_to_bind
from flexhost.function import Function
from flexhost.functions.flex_fun import LoadContext
from flexhost.grpc_udf import grpc_packages
from flexhost.security import verification
from flexhost.security.exposure import is_loopback
from flexhost.settings import Invoke, Loaded, Server
from flexhost.storage.spool import Spool
from flexhost.telemetry.health import Health


class Kind(enum.Enum):
    OK = "ok"
    LISTED = ""  # of the table of functions
    WARNING = "warning"
    WRONG = "WRONG"  # the host would not start


class Finding(NamedTuple):
    """trace: of the author's code, when that is what is wrong."""

    kind: Kind
    text: str
    trace: str | None = None


def check(files: Iterable[str], *, load: bool) -> Iterator[Finding]:
    """All that is wrong, not only the first of it.

    load: also call what may reach out: `on_load` of the functions, `create` of a verifier.
    """
    try:
        loaded = settings.load(files)
        location = location_of(loaded.settings.server)
    except StartError as error:
        yield _wrong(error)
        return
    server = loaded.settings.server
    yield from _addresses(server)
    yield from _runtime(loaded.settings.invoke)
    if server.use_tls:
        yield from _certificates(server)
    context = LoadContext(loaded.everything, location, Health())
    with contextlib.closing(context.resources):
        yield from _tokens(loaded, context, load=load)
        yield from _tracing(server)
        yield from _spool(server)
        yield from _functions(loaded, context if load else None)


def _addresses(server: Server) -> Iterator[Finding]:
    tls = "TLS" if server.use_tls else "no TLS"
    where = f"{server.listen_host}:{server.listen_port}"
    yield Finding(Kind.OK, f"listens on {where}, {tls}, advertised as {_advertised(server)}")
    if is_own_machine(server.advertise_host) and not is_loopback(server.listen_host):
        yield Finding(
            Kind.WARNING,
            f"listens for others and advertises {server.advertise_host}: callers elsewhere get no "
            "rows; set advertise_host to a name that they can reach",
        )
    http = []
    if server.health_check_host is not None:
        http.append((server.health_check_host, server.health_check_port))
    if server.metrics_host is not None:
        http.append((server.metrics_host, server.metrics_port))
    for host, port in dict.fromkeys([(server.listen_host, server.listen_port), *http]):
        yield from _bound(host, port)
    if server.listen_port and server.listen_port in [port for _, port in http]:
        yield Finding(Kind.WRONG, f"{where} cannot be for HTTP too: take another port")


def _runtime(invoke: Invoke) -> Iterator[Finding]:
    if invoke.listen_host is None:
        return
    try:
        grpc_packages.check("[invoke] listen_host")
    except SettingsError as error:
        yield _wrong(error)
        return
    yield Finding(Kind.OK, f"serves gRPC on {invoke.listen_host}:{invoke.listen_port}")
    yield from _bound(invoke.listen_host, invoke.listen_port)


def _bound(host: str, port: int) -> Iterator[Finding]:
    """Whether it can be listened there."""
    try:
        try_to_bind(host, port)
    except PortTaken as error:
        yield Finding(Kind.WARNING, f"{error}: by the host that runs?")
    except StartError as error:
        yield _wrong(error)


def _advertised(server: Server) -> str:
    return str(location_of(server).uri.decode())


def location_of(server: Server) -> fl.Location:
    """Where a host with these settings says that it is reached. Raises SettingsError."""
    port = server.advertise_port or server.listen_port
    return advertised("grpc+tls" if server.use_tls else "grpc", server.advertise_host, port)


def _certificates(server: Server) -> Iterator[Finding]:
    from flexhost.security import certificates  # takes `cryptography`, which takes 50 ms

    assert server.tls_certificate is not None  # as the settings were checked
    assert server.tls_private_key is not None
    written = server.tls_certificate, server.tls_private_key, server.tls_root_certificate
    now = time.time()
    try:
        found = certificates.load(certificates.TlsSettings(*written), now)
    except StartError as error:
        yield _wrong(error)
        return
    days = (found.expires_at - now) / 86400
    yield Finding(Kind.OK, f"the certificate belongs to its key and is valid for {days:.0f} days")
    if warning := found.warning(now):
        yield Finding(Kind.WARNING, warning)


def _tracing(server: Server) -> Iterator[Finding]:
    if server.otel_exporter_type == "none":
        return
    kind = server.otel_exporter_type
    if server.otel_service_name is None:
        text = f"otel_exporter_type is {kind!r}, but without otel_service_name nothing is traced"
        yield Finding(Kind.WARNING, text)
        return
    try:
        from flexhost.telemetry import tracing  # takes OpenTelemetry, which takes 60 ms

        tracing.processor(kind)
    except StartError as error:
        yield _wrong(error)
        return
    yield Finding(Kind.OK, f"traces calls as {server.otel_service_name!r}, through {kind}")


def _tokens(loaded: Loaded, context: LoadContext, *, load: bool) -> Iterator[Finding]:
    server = loaded.settings.server
    if server.authentication_method != "token":
        who = "certificates" if server.use_mtls else "no token: whoever reaches the port can call"
        yield Finding(Kind.OK, f"asks callers for {who}")
        return
    name = server.token_verification
    try:
        if load or name in (settings.ENUMERATED, settings.JWT):
            verification.verifier(loaded.settings, context)
        else:
            verification.class_of(name)
    except StartError as error:
        yield _wrong(error)
        return
    yield Finding(Kind.OK, f"asks callers for tokens, which {name} verifies")


def _spool(server: Server) -> Iterator[Finding]:
    if not server.result_spool_bytes:
        return
    parent = None if server.result_spool_dir is None else Path(server.result_spool_dir)
    try:
        spool = Spool(server.result_spool_bytes, parent)
    except StartError as error:
        yield _wrong(error)
        return
    if warning := spool.warning:
        yield Finding(Kind.WARNING, warning)
    spool.close()


def _functions(loaded: Loaded, context: LoadContext | None) -> Iterator[Finding]:
    names, udfs = loaded.settings.flexfun.functions, loaded.settings.udf.functions
    wrong, skipped = [], list[str]()
    for modules, plain in [*(([one], []) for one in names), *(([], [one]) for one in udfs)]:
        try:  # one by one, to tell of each
            registry.load(modules, None, udfs=plain, skipped=lambda _: None)
        except StartError as error:
            wrong.append(error)
    if not wrong:
        try:
            functions = list(registry.load(names, context, udfs=udfs, skipped=skipped.append))
        except StartError as error:
            wrong.append(error)
    yield from (Finding(Kind.WARNING, text) for text in skipped)
    if wrong:
        yield from map(_wrong, wrong)
        return
    if not functions:
        yield Finding(
            Kind.WARNING, "neither [flexfun] nor [udf] lists functions: nothing can be called"
        )
    for line in _table(functions):
        yield Finding(Kind.LISTED, line)


def _table(functions: list[Function]) -> Iterator[str]:
    rows = [("NAME", "COLUMNS", "CACHE", "MODULE")] if functions else []
    for one in functions:
        cache = "" if one.cache is None else f"{one.cache.ttl_sec:g} s"
        rows.append((one.name, ", ".join(one.schema.names), cache, one.module))
    yield from aligned(rows)


def _wrong(error: StartError) -> Finding:
    return Finding(Kind.WRONG, str(error), error.trace)
