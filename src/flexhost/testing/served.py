"""`served(Function, ...)`: one call over real Flight. `serving(Function)`: as many as you like."""

from __future__ import annotations

import contextlib
import secrets
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from flexhost.caller import ANYONE, Caller
from flexhost.errors import HostError
from flexhost.function import Function, Headers
from flexhost.host import Host
from flexhost.testing import calls
from flexhost.testing.calls import Request, Settings

if TYPE_CHECKING:
    import pyarrow.flight as fl

    from flexhost.frontends.flight import FlightFrontend

# Seconds that requests may take to end after they were told to.
_ENDING = 5.0


def served(
    function: Any,
    request: Request = None,
    /,
    *,
    columns: Sequence[str] | None = None,
    headers: Mapping[str, str | list[str]] | None = None,
    caller: Caller | str = ANYONE,
    settings: Settings | None = None,
    **parameters: Any,
) -> pa.Table:
    """`run`, but from a client over a socket, to a host that serves this function alone.

    Errors are those of `run`, as far as they can be told from what the client gets, which is their
    `__cause__`, a `pyarrow.flight.FlightError`. A caller shows a token, as the header
    `authorization`.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    asked = calls.sent_as(request, columns, parameters)
    with serving(function, settings=settings) as call:
        return call(asked, headers=headers, caller=caller)


@contextlib.contextmanager
def serving(function: Any, *, settings: Settings | None = None) -> Iterator[Serving]:
    """A host of this function on a socket of this machine, as long as it is inside.

    Raises StartError.
    """
    made = calls.described(function, settings)
    limit = getattr(sys, "tracebacklimit", None)  # the frontend sets it
    try:
        with calls.hosting() as (host, resources), Serving(host, made) as one:
            calls.load(made, settings, host, resources, one.frontend.location)
            yield one
    finally:
        if limit is not None:
            sys.tracebacklimit = limit
        elif hasattr(sys, "tracebacklimit"):
            del sys.tracebacklimit


class Serving:
    """Call it like `run`, without the function. location: for clients of your own, `grpc://...`."""

    def __init__(self, host: Host, function: Function) -> None:
        self._host = host
        self._function = function
        self._tokens: dict[str, Caller] = {}
        self._clients: dict[bool, fl.FlightClient] = {}  # by whether they show a token
        self._frontends: list[FlightFrontend] = []
        self.frontend = self._listen()
        self.location: str = self.frontend.location.uri.decode()

    def __call__(
        self,
        request: Request = None,
        /,
        *,
        columns: Sequence[str] | None = None,
        headers: Mapping[str, str | list[str]] | None = None,
        caller: Caller | str = ANYONE,
        **parameters: Any,
    ) -> pa.Table:
        """Raises HostError."""
        __tracebackhide__ = True
        import pyarrow.flight as fl

        sent = calls.sent_as(request, columns, parameters)
        client, given = self._client(calls.caller_of(caller), calls.headers_of(headers))
        command = {"functionName": self._function.name, "parameters": sent}
        descriptor = fl.FlightDescriptor.for_command(msgspec.json.encode(command))
        options = fl.FlightCallOptions(
            headers=[(n.encode(), v.encode()) for n, values in given.items() for v in values]
        )
        try:
            info = client.get_flight_info(descriptor, options)
            return client.do_get(info.endpoints[0].ticket, options).read_all()
        except fl.FlightError as error:
            raise _told(error) from error

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()
        self._host.drain(0)
        ended = [one.stop(_ENDING) for one in self._frontends]
        if not all(ended):
            warnings.warn("requests were left open that would not end", ResourceWarning, 2)

    def _client(self, caller: Caller, headers: Headers) -> tuple[fl.FlightClient, Headers]:
        """Who has no name shows no token, and goes where none is asked for."""
        shows = caller != ANYONE
        if shows not in self._clients:
            import pyarrow.flight as fl

            frontend = self._listen(self._tokens) if shows else self.frontend
            self._clients[shows] = fl.connect(frontend.location)
        if not shows:
            return self._clients[shows], headers
        token = secrets.token_hex()
        self._tokens[token] = caller
        return self._clients[shows], {**headers, "authorization": [f"Bearer {token}"]}

    def _listen(self, tokens: Mapping[str, Caller] | None = None) -> FlightFrontend:
        from flexhost.auth import Authentication
        from flexhost.frontends.flight import FlightFrontend
        from flexhost.frontends.flight_streams import Slots

        authentication = None
        if tokens is not None:
            authentication = Authentication()
            authentication.open(_Tokens(tokens), ours=True)
        local = ("127.0.0.1", 0)
        frontend = FlightFrontend(
            self._host, local, local, rpcs=Slots(1024), authentication=authentication
        )
        self._frontends.append(frontend)
        return frontend


class _Tokens:
    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._callers = callers

    def verify(self, call_info: Any, token: str) -> Caller | None:
        return self._callers.get(token)


def _told(error: fl.FlightError) -> HostError:
    """The error of the host that a client was told with this one."""
    from flexhost.frontends.flight_wire import CODES

    try:
        info = msgspec.json.decode(error.extra_info)
        number, message = info["code"] & 0xFFFF, info["msg"]
    except (msgspec.DecodeError, TypeError, KeyError):  # the function raised one of its own
        number, message, info = 0, str(error), {}
    code = next((name for name, (n, _) in CODES.items() if n & 0xFFFF == number), HostError.code)
    kind = next((kind for kind in _kinds(HostError) if kind.code == code), HostError)
    told = kind.__new__(kind)
    HostError.__init__(told, message, detail=info.get("detail"))
    told.code = code
    return told


def _kinds(kind: type[HostError]) -> Iterator[type[HostError]]:
    """The tree, from the top."""
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)
