"""Every failure a caller or an operator can see.

HostError
├── BadCall             change the request
│   ├── UnknownFunction
│   └── BadArgument     a function says so
├── Unauthenticated     no token, or none that is good; or no name in a certificate
├── BadRequest          this kind of request is not served, and never will be
├── NotOffered          this kind of request is not served yet
├── NoResult            the result is not there: it never was, or it expired
├── ResultConsumed      a stream that was already read
├── Unauthorized        the caller may not do this
├── FunctionFailed      the function raised, or its result is not what it declared
├── Cancelled           somebody cancelled the call, or nobody waits for it
├── TimedOut            the deadline passed before a result existed
├── Unavailable         send the same request again, later or elsewhere
│   ├── Busy
│   ├── NotReady
│   └── ShuttingDown
└── Internal            a bug of the host

StartError              the host cannot start (exit status 1)
├── PortTaken           somebody else listens there
└── SettingsError       because of a setting (exit status 2)
    └── FileMissing     that names a file which is not there
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, Self, TypeVar

_E = TypeVar("_E", bound="HostError")


class HostError(Exception):
    """A failure of one request.

    code:     the stable name that a caller can act on.
    detail:   a second, longer text for the caller.
    trace:    a whole traceback, for the log only.
    reason:   what metrics count it under.
    id:       what to look for in the log: the id of the call once there is one.
    function: the registered function it was about.
    """

    code = "UNKNOWN"

    def __init__(
        self, message: str, *, detail: str | None = None, trace: str | None = None
    ) -> None:
        super().__init__(message)
        self.detail = detail
        self.trace = trace
        self.reason = self.code.lower()
        self.id = ""
        self.function = ""

    def copy(self) -> Self:
        """The same failure, for another call."""
        return _again(type(self), self.args, self.__dict__)

    def __reduce__(self) -> Any:  # not through `__init__`, whose arguments are others
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[_E], args: Any, values: dict[str, Any]) -> _E:
    same = kind.__new__(kind)
    same.args = args
    same.__dict__.update(values)
    return same


class BadCall(HostError):
    code = "BAD_ARGUMENT"


class UnknownFunction(BadCall):
    pass


class BadArgument(BadCall):
    """What a function raises when an argument of its caller's is wrong: which one, and why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")


class BadRequest(HostError):
    code = "BAD_REQUEST"


class NotOffered(HostError):
    code = "NOT_IMPLEMENTED"


class NoResult(HostError):
    code = "INVALID_TICKET"


class ResultConsumed(HostError):
    code = "COMMAND_RESULT_CONSUMED"


class Unauthenticated(HostError):
    """why: for the log alone; the caller is not told."""

    code = "UNAUTHENTICATED"

    def __init__(self, message: str, *, why: str = "", trace: str | None = None) -> None:
        super().__init__(message, trace=trace)
        self.why = why


class Unauthorized(HostError):
    code = "UNAUTHORIZED"


class FunctionFailed(HostError):
    """cause: the function's exception, without its frames (they would pin the call's memory).

    said:         its name and text, also where the exception itself stayed in another process; ""
                  when there was none.
    no_result:    without an exception: there is no result that could be wrong.
    bad_argument: it said that the caller's arguments are wrong.
    """

    code = "COMMAND_FAILED"

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        trace: str | None = None,
        cause: BaseException | None = None,
        said: str = "",
        no_result: bool = False,
        bad_argument: bool = False,
    ) -> None:
        super().__init__(message, detail=detail, trace=trace)
        self.cause = cause
        self.said = said
        self.no_result = no_result
        if bad_argument:
            self.code = BadCall.code
            self.reason = self.code.lower()


class Cancelled(HostError):
    code = "COMMAND_CANCELLED"


class TimedOut(HostError):
    code = "TIMEOUT"


class Unavailable(HostError):
    """Raised as one of its kinds."""


class Busy(Unavailable):
    """A bound is reached.

    bound:       which one, by the name of its setting.
    retry_after: seconds after which it is worth while to ask again.
    """

    code = "BACKPRESSURE"

    def __init__(self, message: str, *, bound: str, retry_after: float = 1.0) -> None:
        super().__init__(f"{message}; try again in {retry_after:.2g} s")
        self.reason = bound
        self.retry_after = retry_after


class NotReady(Unavailable):
    code = "NOT_READY"


class ShuttingDown(Unavailable):
    code = "SHUTTING_DOWN"


class Internal(HostError):
    code = "INTERNAL_ERROR"


class StartError(Exception):
    """One readable sentence; `trace` is the author's own traceback when it is their code."""

    def __init__(self, message: str, *, trace: str | None = None) -> None:
        super().__init__(message)
        self.trace = trace


class PortTaken(StartError):
    pass


class SettingsError(StartError):
    pass


class FileMissing(SettingsError):
    pass


def name_of(error: object) -> str:
    """The name of the class of an exception or any other object, whatever its metaclass says."""
    return str(type.__dict__["__name__"].__get__(type(error)))


def text_of(error: BaseException) -> str:
    """What an exception of somebody else's code says of itself; some fail at that."""
    try:
        return str(error) or name_of(error)
    except BaseException as broken:
        return f"{name_of(error)}, whose text cannot be had: {name_of(broken)}"


def meant(name: object, known: Iterable[str]) -> str:
    """What somebody may have meant who gave a name that is not there."""
    known = [*known]
    near = difflib.get_close_matches(str(name)[:100], known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(known) or 'nothing'}"
