"""What the core needs of tracing, where it is on; `tracing.py` has it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flexhost.call import Call
    from flexhost.errors import HostError
    from flexhost.function import Headers


class ReadSpans(Protocol):
    """Of one read of a result."""

    def begin(self) -> None:
        """The function goes on in the context that this is called in."""

    def end(self, rows: int, size: int, error: HostError | None) -> None: ...


class CallSpans(Protocol):
    """Of one call, below the request that it was submitted in."""

    @property
    def fields(self) -> Mapping[str, str]:
        """Of its log lines."""

    def running(self, call: Call) -> AbstractContextManager[None]:
        """The function runs inside."""

    def reading(self, *, ends_request: bool) -> ReadSpans:
        """ends_request: the span of the request that it is read in ends with it."""

    def carrier(self) -> dict[str, str]:
        """Headers by which another process goes on with the span that this is called in."""


class Tracer(Protocol):
    def request(
        self, method: str, headers: Headers, call: Call | None = None
    ) -> AbstractContextManager[None]:
        """One request is answered inside.

        method: of Flight, or `service/method` of another one.
        call: that it is about. Its span ends with the read that was begun inside.
        """

    def call(self) -> CallSpans:
        """Of a call that is submitted now."""


UNTRACED: AbstractContextManager[None] = contextlib.nullcontext()
