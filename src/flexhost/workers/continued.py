"""The spans of a call in a worker process: those that its function makes are below the host's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context as otel
from opentelemetry import propagate

from flexhost.call import Call
from flexhost.errors import HostError


class Continued:
    """`CallSpans` and `ReadSpans` that make none of their own.

    carrier: headers that name the span of the host.
    """

    def __init__(self, carrier: dict[str, str]) -> None:
        self._context = propagate.extract(carrier, otel.Context())
        self.fields: dict[str, str] = {}

    @contextmanager
    def running(self, call: Call) -> Iterator[None]:
        token = otel.attach(self._context)
        try:
            yield
        finally:
            otel.detach(token)

    def reading(self, *, ends_request: bool) -> Continued:
        return self

    def begin(self) -> None:
        otel.attach(self._context)

    def end(self, rows: int, size: int, error: HostError | None) -> None:
        """The host ends its own."""

    def carrier(self) -> dict[str, str]:
        return {}
