"""`run(Function, ...)`: one call, in this process, the way that a host makes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec
import pyarrow as pa

from flexhost import in_process, registry
from flexhost.caller import ANYONE, Caller
from flexhost.errors import BadCall, FunctionFailed, HostError
from flexhost.function import Function, Headers
from flexhost.functions.describe import describe
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.resources import Resources
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.storage.reading import Reading
from flexhost.telemetry.events import Emit
from flexhost.telemetry.health import Health
from flexhost.testing.asked import Asked

# What a test asks with: a builder, or the parameters themselves.
Request: TypeAlias = Asked | Mapping[str, Any] | None
# Sections of settings.
Settings: TypeAlias = Mapping[str, Mapping[str, Any]]


def run(
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
    """What a caller gets of a function: of a FlexFun class, of a class of that shape, or of a
    `@table_function`.

    request, parameters: of `report()` or `elements()`, or a dict; and more of them by name.
    columns:  the column hint, in place of that of the request.
    settings: sections for its `on_load`: {"my": {"url": "..."}}. `fiscal_year_start_month` of
              "flexfun" counts, too. What it names for the end is closed before this returns.

    Raises what the caller would be told, a `flexhost.errors.HostError` with its `code`; what the
    function itself raised is the `__cause__`. StartError when it cannot be served.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    made, sent = described(function, settings), sent_as(request, columns, parameters)
    with hosting() as (host, resources):
        load(made, settings, host, resources)
        return called(host, made.name, sent, headers_of(headers), caller_of(caller))


class Parts(NamedTuple):
    host: Host
    resources: Resources


@contextlib.contextmanager
def hosting(emit: Emit = lambda event: None) -> Iterator[Parts]:
    """A host that serves nothing before `load`. What `on_load` makes is closed after it."""
    with contextlib.closing(Resources()) as resources, in_process.hosting(emit=emit) as host:
        yield Parts(host, resources)


def described(function: Any, settings: Settings | None) -> Function:
    """Raises StartError."""
    own = (settings or {}).get("flexfun", {})
    return describe(function, fiscal_year_start_month=own.get("fiscal_year_start_month", 1))


def load(
    function: Function,
    settings: Settings | None,
    host: Host,
    resources: Resources,
    location: Any = None,
) -> None:
    """Serve the function, after its `on_load`. Raises StartError.

    location: where callers reach the host, if they do.
    """
    if function.loads is not None:
        registry.on_load(function, _context(settings or {}, resources, location))
    host.open(Registry([function]))


def called(
    host: Host, name: str, sent: dict[str, Any], headers: Headers, caller: Caller
) -> pa.Table:
    """Raises HostError."""
    __tracebackhide__ = True  # pytest shows the line of the test
    try:
        reading = in_process.call(host, name, sent, hint_of(sent), headers, caller)
        with contextlib.closing(reading):
            return whole(reading)
    except HostError as error:
        error.__traceback__ = None  # of the way through the host
        if not isinstance(error, FunctionFailed) or error.cause is None:
            raise error
        if error.trace:
            error.cause.add_note(error.trace)  # the frames themselves are gone by now
        raise error from error.cause


def whole(reading: Reading) -> pa.Table:
    """All rows of a result. Raises HostError."""
    if reading.table is not None:
        return reading.whole()
    return pa.concat_tables([reading.schema.empty_table(), *reading])


def sent_as(
    request: Request, columns: Sequence[str] | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The parameters as they arrive, after a way through JSON. Raises TypeError."""
    if not isinstance(request, Asked | Mapping | None):
        raise TypeError(f"{request!r} are no parameters: expected report(), elements() or a dict")
    given = request.parameters if isinstance(request, Asked) else dict(request or {})
    if twice := sorted(given.keys() & more.keys()):
        raise TypeError(f"the parameter {twice[0]!r} is given twice")
    if columns is not None:
        if isinstance(columns, str):
            raise TypeError(f"columns is {columns!r}, expected a list of texts")
        given["columns"] = list(columns)
    arrived: dict[str, Any] = msgspec.json.decode(msgspec.json.encode({**given, **more}))
    return arrived


def hint_of(sent: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The column hint in the parameters. Raises BadCall."""
    if (columns := sent.get("columns")) is None:
        return None
    if isinstance(columns, list) and all(isinstance(one, str) for one in columns):
        return tuple(columns)
    raise BadCall(f"the command's parameters.columns: expected a list of texts, got {columns!r}")


def headers_of(given: Mapping[str, str | list[str]] | None) -> Headers:
    """As a function gets them."""
    return {
        name.lower(): [values] if isinstance(values, str) else list(values)
        for name, values in (given or {}).items()
    }


def caller_of(given: Caller | str) -> Caller:
    return Caller(given) if isinstance(given, str) else given


def _context(settings: Settings, resources: Resources, location: Any) -> LoadContext:
    # what takes time to import, for functions alone that want something of it
    from flexhost.configuration.setting_sources import Value, for_functions

    if location is None:
        import pyarrow.flight as fl

        location = fl.Location.for_grpc_tcp("127.0.0.1", 0)  # nobody reaches it
    sections = {
        name.lower(): {key.lower(): Value(value, "the test", name) for key, value in keys.items()}
        for name, keys in settings.items()
    }
    return LoadContext(for_functions(sections, {}), location, Health(), resources)
