"""Who gets in: the one middleware, run before the handler of each request."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable
from typing import NamedTuple

import pyarrow.flight as fl

from flexhost.auth import Authentication
from flexhost.caller import ANYONE, Caller
from flexhost.calls.exchanges import Exchanges
from flexhost.errors import BadRequest, Busy, NotOffered
from flexhost.frontends import flight_wire as wire
from flexhost.frontends.flight_streams import AsFlightErrors, Slots
from flexhost.function import Headers
from flexhost.host import Host

# The name by which `context.get_middleware` knows it.
NAME = "call"

_SERVED = {
    fl.FlightMethod.LIST_FLIGHTS: "ListFlights",
    fl.FlightMethod.GET_SCHEMA: "GetSchema",
    fl.FlightMethod.GET_FLIGHT_INFO: "GetFlightInfo",
    fl.FlightMethod.DO_GET: "DoGet",
    fl.FlightMethod.DO_ACTION: "DoAction",
    fl.FlightMethod.LIST_ACTIONS: "ListActions",
    fl.FlightMethod.DO_EXCHANGE: "DoExchange",
}
_MAY_COME = {fl.FlightMethod.DO_PUT: "DoPut"}
_GET_FLIGHT_INFO = fl.FlightMethod.GET_FLIGHT_INFO
_DO_GET = fl.FlightMethod.DO_GET
_DO_EXCHANGE = fl.FlightMethod.DO_EXCHANGE
_NAMES = _SERVED | _MAY_COME


class Admitted(NamedTuple):
    """What a handler finds of its request: who calls, and the headers without the token.

    again: finds out anew who calls, for a request that goes on; None where nobody is asked. Raises
           Unauthenticated.
    """

    caller: Caller
    headers: Headers
    again: Callable[[], Caller] | None = None


class Admission(fl.ServerMiddlewareFactory):  # type: ignore[misc]  # pyarrow has no types
    """The only middleware, since each entry from gRPC into Python has its price. So has an object
    that goes with a request, which is told of its end: what a handler needs waits here for it."""

    def __init__(
        self,
        host: Host,
        rpcs: Slots,
        errors: AsFlightErrors,
        authentication: Authentication | None,
    ) -> None:
        self._host = host
        self._rpcs = rpcs
        self._errors = errors
        self._authentication = authentication
        # by thread: gRPC runs the handler of a request in the thread that asked for its admission,
        # at once or never, and asks anew for the next one
        self._admitted: dict[int, Admitted] = {}
        self._refusal = _Refusal(rpcs.busy)

    def start_call(self, info: fl.CallInfo, headers: Headers) -> fl.ServerMiddleware | None:
        """Raises a Flight error."""
        method, caller, thread = info.method, ANYONE, threading.get_ident()
        self._admitted.pop(thread, None)  # of one whose handler was never run
        authentication = self._authentication
        if authentication is not None:
            try:
                caller = authentication.caller(info, headers, self._rpcs)
            except BaseException:
                with self._errors(_NAMES.get(method, method.name)):
                    raise
        if method is not _DO_GET:
            self._refuse_early(method, headers, caller)
        again = None
        if authentication is not None:
            if method is _DO_EXCHANGE:
                ask = authentication.caller
                again = functools.partial(ask, info, headers, contextlib.nullcontext())
            headers = authentication.masked(headers)
        self._admitted[thread] = Admitted(caller, headers, again)
        return self._exchange(caller) if method is _DO_EXCHANGE else None

    def admitted(self) -> Admitted:
        """Of the request that this thread begins to handle; once."""
        return self._admitted.pop(threading.get_ident())

    def _refuse_early(self, method: fl.FlightMethod, headers: Headers, caller: Caller) -> None:
        """Refuse what would be refused anyway while that is cheapest."""
        if method is _GET_FLIGHT_INFO:
            # one who polls may ask for a call that was accepted
            polls = wire.POLLABLE in headers
            if busy := self._rpcs.refusal() or (None if polls else self._host.overloaded()):
                raise self._too_many(busy, "GetFlightInfo", caller)
        elif method not in _SERVED:
            # such requests hold a thread otherwise
            with self._errors(_NAMES.get(method, method.name), caller=caller.name):
                if method in _MAY_COME:
                    raise NotOffered(f"{_MAY_COME[method]} is not offered by this host")
                raise BadRequest("this host does not serve requests of this kind")

    def _exchange(self, caller: Caller) -> fl.ServerMiddleware:
        """Takes its places now: such a request has a thread while nothing comes that a handler
        could be run with (measured)."""
        try:
            return _Exchange(self._rpcs, self._host.exchanges)
        except Busy as busy:
            busy.__traceback__ = None  # it is one for all, and would keep the frames of each
            raise self._too_many(busy, "DoExchange", caller) from None

    def _too_many(self, busy: Busy, request: str, caller: Caller) -> fl.FlightError:
        """The error of a refusal that many are told. In a burst of thousands each microsecond of
        Python in a request costs many, so only its id is made anew."""
        if busy is not self._refusal.busy:
            self._refusal = _Refusal(busy)
        return self._refusal.error(self._host.refused(busy, request, caller.name))


class _Exchange(fl.ServerMiddleware):  # type: ignore[misc]  # pyarrow has no types
    """The places of one. It is told of the end of the request, whatever that is."""

    def __init__(self, rpcs: Slots, exchanges: Exchanges) -> None:
        """Raises Busy."""
        rpcs.enter()
        try:
            exchanges.enter()
        except Busy:
            rpcs.leave()
            raise
        self._rpcs = rpcs
        self._exchanges = exchanges

    def call_completed(self, exception: object) -> None:
        self._rpcs.leave()
        self._exchanges.leave()


class _Refusal:
    """One refusal for many requests, each with an id of its own."""

    def __init__(self, busy: Busy) -> None:
        self.busy = busy
        error = wire.flight_error(busy, _ANY_ID)
        self._class = type(error)
        self._text = str(error.args[0]).split(_ANY_ID)
        self._info = bytes(error.extra_info).split(_ANY_ID.encode())

    def error(self, id_: str) -> fl.FlightError:
        return self._class(id_.join(self._text), id_.encode().join(self._info))


_ANY_ID = "0" * 32
