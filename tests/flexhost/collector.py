"""A receiver of spans: OTLP over HTTP and over gRPC, and Zipkin's JSON."""

from __future__ import annotations

import json
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from http_server import Quiet, answering
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from support import LONG


class Collector:
    """What arrived, by the names of the spans. url: where to send it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []

    def take(self, request: ExportTraceServiceRequest) -> None:
        for of_resource in request.resource_spans:
            attributes = of_resource.resource.attributes
            self.resources.append({one.key: one.value.string_value for one in attributes})
            for scope in of_resource.scope_spans:
                for span in scope.spans:
                    self.came.put(span)

    def span(self, name: str) -> Any:
        """The next span of this name, or one that came before another that was asked for."""
        for one in self.spans:
            if one.name == name:
                self.spans.remove(one)
                return one
        while (one := self.came.get(timeout=LONG)).name != name:
            self.spans.append(one)
        return one


def attributes(span: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@contextmanager
def over_http() -> Iterator[Collector]:
    """OTLP, and Zipkin: those spans come as dicts."""

    class Handler(Quiet):
        def do_POST(self) -> None:  # noqa: N802  # the library says so
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/traces":
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
            else:
                assert self.path == "/api/v2/spans"
                for span in json.loads(body):
                    collector.came.put(span)
                self.send_response(202)
            self.end_headers()

    with answering(Handler) as url:
        collector = Collector(url)
        yield collector


@contextmanager
def over_grpc() -> Iterator[Collector]:
    class Service(TraceServiceServicer):  # type: ignore[misc]  # generated without types
        def Export(self, request: Any, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
            collector.take(request)
            return ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(Service(), server)
    collector = Collector(f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    server.start()
    yield collector
    server.stop(None).wait(LONG)
