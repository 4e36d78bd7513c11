"""OpenTelemetry spans of requests and calls. Imported only where tracing is switched on."""

from __future__ import annotations

import importlib
import logging
import os
import platform
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa

from flexhost.call import Call
from flexhost.errors import HostError, SettingsError, name_of, text_of
from flexhost.function import Headers
from flexhost.telemetry.events import CallEnded, Event
from flexhost.telemetry.masks import masked
from flexhost.version import VERSION

if TYPE_CHECKING:
    from flexhost.settings import Server

_VARIABLES = "these OTEL_* variables"

try:
    from opentelemetry import context as otel
    from opentelemetry import propagate, trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        ConsoleSpanExporter,
        SpanExporter,
    )
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError as error:
    raise SettingsError(
        f"tracing needs opentelemetry-sdk, which cannot be imported ({error}): install it, or "
        "the project's extra [tracing]"
    ) from None
except Exception as error:  # it reads its variables when it is imported
    raise SettingsError(
        f"OpenTelemetry cannot be used with these OTEL_* variables: {error}"
    ) from None

_logger = logging.getLogger("flexhost")

# Of each kind, where its exporter is and what brings it.
_EXPORTERS = {
    "otlp-grpc": (
        "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
        "OTLPSpanExporter",
        "opentelemetry-exporter-otlp-proto-grpc",
    ),
    "otlp-http": (
        "opentelemetry.exporter.otlp.proto.http.trace_exporter",
        "OTLPSpanExporter",
        "opentelemetry-exporter-otlp-proto-http",
    ),
    "zipkin": (
        "opentelemetry.exporter.zipkin.json",
        "ZipkinExporter",
        "opentelemetry-exporter-zipkin-json",
    ),
}
_SERVICE = "arrow.flight.protocol.FlightService"
# Of an error's text in a span.
_MOST = 500


def tracer(wanted: Server) -> Tracing:
    """Raises SettingsError, see `processor`."""
    provider = TracerProvider(resource=_resource(wanted), shutdown_on_exit=False)
    provider.add_span_processor(processor(wanted.otel_exporter_type))
    trace.set_tracer_provider(provider)  # for the spans of functions
    return Tracing(
        provider,
        {str(k): v for k, v in wanted.log_trace_keys.items()},
        extract=wanted.otel_extract_context,
    )


def processor(kind: str) -> BatchSpanProcessor:
    """Raises SettingsError, see `exporter`, and for wrong variables of its own."""
    sends = exporter(kind)
    try:
        return BatchSpanProcessor(sends)
    except ValueError as error:
        raise SettingsError(f"OpenTelemetry cannot be used with {_VARIABLES}: {error}") from None


def exporter(kind: str) -> SpanExporter:
    """Raises SettingsError when its package is missing or its variables are wrong."""
    if kind == "console":
        return ConsoleSpanExporter()
    module, name, package = _EXPORTERS[kind]
    try:
        made: SpanExporter = getattr(importlib.import_module(module), name)()
    except ImportError as error:
        raise SettingsError(
            f"otel_exporter_type {kind!r} needs {package}, which cannot be imported ({error}): "
            f"install it, or the project's extra [{kind}]"
        ) from None
    except Exception as error:
        raise SettingsError(f"otel_exporter_type {kind!r} cannot be used: {error}") from None
    return made


def _resource(wanted: Server) -> Resource:
    """https://opentelemetry.io/docs/specs/semconv/resource/"""
    attributes = {
        "service.name": wanted.otel_service_name,
        "service.namespace": wanted.otel_service_namespace,
        "service.instance.id": wanted.otel_service_instance_id or socket.gethostname(),
        "service.version": VERSION,
        "os.type": platform.system().lower(),
        "process.pid": os.getpid(),
        "process.runtime.name": platform.python_implementation().lower(),
        "process.runtime.version": platform.python_version(),
    }
    return Resource.create({key: value for key, value in attributes.items() if value is not None})


class Tracing:
    """A `Tracer`, and a listener of the host's events.

    keys:    names of `trace_id`, `span_id` and `parent_span_id` in log lines.
    extract: a request goes on with the trace that its headers name.
    """

    def __init__(
        self, provider: TracerProvider, keys: dict[str, str], *, extract: bool = False
    ) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("flexhost", VERSION)
        self._keys = keys
        self._extract = extract

    @contextmanager
    def request(self, method: str, headers: Headers, call: Call | None = None) -> Iterator[None]:
        parent = propagate.extract(headers, otel.Context()) if self._extract else otel.Context()
        if not _is_valid(trace.get_current_span(parent)) and isinstance(
            spans := getattr(call, "spans", None), CallTrace
        ):
            parent = _as_current(spans.parent)
        service, _, name = method.rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service or _SERVICE,
            "rpc.method": name,
        }
        span = self._tracer.start_span(method, parent, SpanKind.SERVER, attributes)
        token = otel.attach(trace.set_span_in_context(span, parent))
        try:
            yield
        except BaseException as error:
            _failed(span, error)
            span.end()
            raise
        else:
            if call is None:
                span.end()
        finally:
            otel.detach(token)

    def call(self) -> CallTrace:
        return CallTrace(self._tracer, trace.get_current_span(), self._keys)

    def fields(self) -> dict[str, str]:
        """Of a log line that is written in a span."""
        return _fields(trace.get_current_span(), self._keys)

    def __call__(self, event: Event) -> None:
        if isinstance(event, CallEnded) and isinstance(spans := event.call.spans, CallTrace):
            spans.waited(event.call)

    def close(self, seconds: float) -> None:
        """Send what there is, for at most so long."""
        # in a thread, for an exporter may go on trying
        sending = threading.Thread(target=self._provider.shutdown, name="spans", daemon=True)
        sending.start()
        sending.join(seconds)


class CallTrace:
    """`CallSpans`. parent: the span of the request that the call was submitted in."""

    def __init__(self, tracer: trace.Tracer, parent: Span, keys: dict[str, str]) -> None:
        self._tracer = tracer
        self.parent = parent
        self.fields = _fields(parent, keys)

    def waited(self, call: Call) -> None:
        """The call has ended: from its acceptance to the start of its function, if it had one."""
        if call.cache == "hit":
            return
        since = call.accepted_at
        until = call.began_at if call.began_at is not None else call.ended_at
        now, now_ns = time.monotonic(), time.time_ns()
        begun, ended = (now_ns - int((now - at) * 1e9) for at in (since, max(until or 0.0, since)))
        span = self._start("wait", call, begun)
        if call.began_at is None and call.error is not None:
            _failed(span, call.error)
        span.end(ended)

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        span = self._start("function", call)
        try:
            with trace.use_span(span, record_exception=False, set_status_on_exception=False):
                yield
            if call.error is not None:  # of one that was stopped meanwhile
                _failed(span, call.error)
        except BaseException as error:
            _failed(span, error)
            raise
        finally:
            span.end()

    def reading(self, *, ends_request: bool) -> ReadTrace:
        request = trace.get_current_span() if ends_request else trace.INVALID_SPAN
        parent = request if _is_valid(request) else self.parent
        return ReadTrace(self._tracer.start_span("stream", _as_current(parent)), request)

    def carrier(self) -> dict[str, str]:
        made: dict[str, str] = {}
        propagate.inject(made)
        return made

    def _start(self, name: str, call: Call, at: int | None = None) -> Span:
        attributes = {"flexhost.call_id": call.id, "flexhost.function": call.function.name}
        context = _as_current(self.parent)
        return self._tracer.start_span(name, context, attributes=attributes, start_time=at)


class ReadTrace:
    """`ReadSpans`."""

    def __init__(self, span: Span, request: Span) -> None:
        self._span = span
        self._request = request

    def begin(self) -> None:
        otel.attach(_as_current(self._span))

    def end(self, rows: int, size: int, error: HostError | None) -> None:
        self._span.set_attributes({"flexhost.rows": rows, "flexhost.bytes": size})
        for span in (self._span, self._request):
            if error is not None:
                _failed(span, error)
            span.end()


def _as_current(span: Span) -> otel.Context:
    return trace.set_span_in_context(span, otel.Context())


def _is_valid(span: Span) -> bool:
    return span.get_span_context().is_valid


def _failed(span: Span, error: BaseException) -> None:
    if isinstance(error, HostError):
        kind = error.code
    elif isinstance(error, pa.ArrowException | StopIteration):
        return  # the answer to a poll
    else:
        kind = name_of(error)
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR, masked(text_of(error))[:_MOST]))


def _fields(span: Span, keys: dict[str, str]) -> dict[str, str]:
    if not _is_valid(span):
        return {}
    context = span.get_span_context()
    fields = {
        "trace_id": trace.format_trace_id(context.trace_id),
        "span_id": trace.format_span_id(context.span_id),
    }
    parent = getattr(span, "parent", None)
    if parent is not None:
        fields["parent_span_id"] = trace.format_span_id(parent.span_id)
    return {keys.get(key, key): value for key, value in fields.items()}
