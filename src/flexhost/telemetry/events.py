"""What the host tells of itself: plain values handed to one callable. Logs, metrics and traces are
made of them elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flexhost.call import Call
    from flexhost.calls.exchanges import Exchange
    from flexhost.errors import HostError


class Refused(NamedTuple):
    """A request that became no call, or asked for a result that is not there.

    id:       what the caller was told, to find this in the log.
    function: "" unless the request named a registered one.
    caller:   "" when it is not known.
    """

    id: str
    request: str
    function: str
    error: HostError
    caller: str = ""


class CallEnded(NamedTuple):
    """An accepted call has its outcome: data, or an error. A stream is still to be read.

    rows, bytes: of a table; None otherwise.
    """

    call: Call
    rows: int | None
    bytes: int | None


class ReadEnded(NamedTuple):
    """A result was given out, or a stream is closed unread.

    rows, bytes: handed to the transport. seconds: how long the result was open.
    complete:    every row was; `error` says why not, where that is known.
    stream:      it was no table.
    """

    call: Call
    rows: int
    bytes: int
    seconds: float
    complete: bool
    error: HostError | None
    stream: bool = True


class ExchangeEnded(NamedTuple):
    """All that its caller wanted was answered, or not: `error` says why. Its calls were told of
    before, each for itself."""

    exchange: Exchange
    seconds: float
    error: HostError | None


class WorkerAbandoned(NamedTuple):
    """A call does not let go of what runs it. `stack` is where, as text.

    call: None when it is not known.
    """

    call: Call | None
    stack: str
    why: str = "a thread is stuck in a call past its deadline"


class Evicted(NamedTuple):
    """A cached table of this function was dropped to make room."""

    function: str


Event = Evicted | Refused | CallEnded | ReadEnded | ExchangeEnded | WorkerAbandoned
Emit = Callable[[Event], None]
