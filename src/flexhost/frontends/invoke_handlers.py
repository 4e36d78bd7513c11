"""`FunctionRuntime.Invoke`: who calls, which handler answers, and what a failure looks like."""

from __future__ import annotations

import traceback
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, NoReturn

import grpc

from flexhost.auth import Authentication
from flexhost.caller import ANYONE, Caller
from flexhost.errors import (
    BadArgument,
    BadCall,
    FunctionFailed,
    HostError,
    Internal,
    TimedOut,
    Unauthenticated,
    Unavailable,
    UnknownFunction,
)
from flexhost.frontends import tls
from flexhost.frontends.flight_streams import Slots
from flexhost.function import Function, Headers
from flexhost.grpc_udf import extraction
from flexhost.grpc_udf.class_names import Functions
from flexhost.grpc_udf.execution import Execution
from flexhost.grpc_udf.udf_messages import METHOD, SERVICE, InvokeResponse
from flexhost.host import Host
from flexhost.telemetry.spans import UNTRACED, Tracer

HANDLERS = EXTRACTION, EXECUTION = "extraction", "execution"
# Request metadata: which function is executed, which handler answers, how types are told.
CLASS_NAME, HANDLER_NAME, DETAIL = "class_name", "handler_name", "detail"
# Characters of what a failure says.
_LONGEST = 4_000


class CallInfo(NamedTuple):
    """What a verifier is told of a request, like `pyarrow.flight.CallInfo`."""

    method: str


class InvokeHandlers:
    """functions:    those that can be described and called.
    handler:      of requests that name neither a handler nor a function.
    rpcs, authentication, error_detail, tracer: see `FlightFrontend`.
    mutual:       whether the certificate of a connection names its caller.
    """

    def __init__(
        self,
        host: Host,
        functions: Functions,
        *,
        rpcs: Slots,
        handler: str = EXTRACTION,
        authentication: Authentication | None = None,
        mutual: bool = False,
        error_detail: bool = True,
        tracer: Tracer | None = None,
    ) -> None:
        self._host = host
        self._functions = functions
        self._rpcs = rpcs
        self.spec: Execution | None = None  # what is executed unless another function is named
        self._handler = handler
        self._authentication = authentication
        self._mutual = mutual
        self._error_detail = error_detail
        self._tracer = tracer
        self._executions: weakref.WeakKeyDictionary[Function, Execution] = (
            weakref.WeakKeyDictionary()
        )

    def invoke(self, request: Any, context: grpc.ServicerContext) -> Any:
        """An InvokeResponse, of a failure too. Only who may not call at all is told by gRPC."""
        caller = ANYONE
        try:
            caller, headers = self.admitted(context, METHOD)
            with self._traced(headers), self._rpcs:
                return InvokeResponse(
                    payload=self._answer(request.payload, headers, caller, context)
                )
        except HostError as error:
            failed = error
        except Exception as error:
            trace = "".join(traceback.format_exception(error, limit=100))
            failed = Internal("the host failed in a way it should not", trace=trace)
        if isinstance(failed, Unauthenticated):
            self.refuse(failed, context)
        return self._failure(failed, caller)

    def _traced(self, headers: Headers) -> AbstractContextManager[None]:
        if self._tracer is None:
            return UNTRACED
        return self._tracer.request(f"{SERVICE}/{METHOD}", headers)

    def admitted(self, context: grpc.ServicerContext, request: str) -> tuple[Caller, Headers]:
        """Who calls, and the headers without the token. Raises Unauthenticated, NotReady, Busy."""
        headers = headers_of(context.invocation_metadata())
        if self._authentication is not None:
            caller = self._authentication.caller(CallInfo(request), headers, self._rpcs)
            return caller, self._authentication.masked(headers)
        if self._mutual:
            return tls.named(next(iter(context.peer_identities() or ()), b"")), headers
        return ANYONE, headers

    def refuse(self, error: HostError, context: grpc.ServicerContext) -> NoReturn:
        """End a request with a status of gRPC. Raises what gRPC does."""
        id_ = self._host.refused(error, METHOD)
        status = grpc.StatusCode.UNAVAILABLE
        if isinstance(error, Unauthenticated):
            status = grpc.StatusCode.UNAUTHENTICATED
        context.abort(status, f"{error} [id {id_}]")
        raise AssertionError("abort raises")  # gRPC has no types

    def _answer(
        self, payload: bytes, headers: Headers, caller: Caller, context: grpc.ServicerContext
    ) -> bytes:
        class_name = _one(headers, CLASS_NAME)
        usual = EXECUTION if class_name or self.spec is not None else self._handler
        handler = _one(headers, HANDLER_NAME) or usual
        if handler == EXECUTION:
            execution = self.spec if not class_name else self._execution(class_name, caller)
            if execution is None:
                raise BadCall(f"this server has no spec: name a function in {CLASS_NAME!r}")
            return execution.call(
                payload, self._host, headers, caller, lambda: not context.is_active()
            )
        if handler != EXTRACTION:
            raise BadCall(f"{HANDLER_NAME} is {handler!r}, expected one of {', '.join(HANDLERS)}")
        full = _one(headers, DETAIL) == "full"
        return extraction.answer(
            payload, lambda name: self._functions.find(name, caller), full=full
        )

    def _execution(self, class_name: str, caller: Caller) -> Execution:
        try:
            function = self._functions.find(class_name, caller)
        except extraction.NotExtracted as error:
            raise BadCall(str(error)) from None
        if (known := self._executions.get(function)) is None:
            self._executions[function] = known = Execution(function)
        return known

    def _failure(self, error: HostError, caller: Caller) -> Any:
        """What failed, as a text in the payload too: whoever decodes only that can read it."""
        # it may be kept with its call, and its frames would keep this request
        error.__traceback__ = error.__context__ = None
        id_ = self._host.refused(error, METHOD, caller.name)
        told = f"{told_of(error, detail=self._error_detail)[:_LONGEST]} [id {id_}]"
        data = told.encode("utf-8", "replace")
        return InvokeResponse(
            payload=data,
            error={
                "code": error.code,
                "message": data.decode(),
                "retryable": isinstance(error, (Unavailable, TimedOut)),
            },
        )


def told_of(error: HostError, *, detail: bool = True) -> str:
    """Where it failed and how, in a sentence. detail: with the text of a function's exception."""
    if isinstance(error, FunctionFailed):
        if error.said:
            said = error.said if detail else f"function {error.function!r} failed"
            return f"calling UDF: {said}"
        return f"{'calling UDF' if error.no_result else 'encoding result'}: {error}"
    if isinstance(error, BadArgument):  # by the word of the function
        return f"calling UDF: {error}"
    if isinstance(error, BadCall) and not isinstance(error, UnknownFunction):
        return f"decoding arguments: {error}"
    return f"{error.code}: {error}"


def headers_of(metadata: Iterable[tuple[str, Any]]) -> Headers:
    headers: Headers = {}
    for key, value in metadata:
        headers.setdefault(key, []).append(value)
    return headers


def _one(headers: Headers, name: str) -> str:
    """Its only value; "" when it is not there. Raises BadCall."""
    values = headers.get(name, [""])
    if len(values) != 1:
        raise BadCall(f"the request has {len(values)} headers {name!r}, expected one")
    return values[0]
