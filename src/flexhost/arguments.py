"""What a call is given: prepared when it is accepted, handed to its function when it runs."""

from __future__ import annotations

from typing import Any, NamedTuple

from flexhost.caller import Caller
from flexhost.coroutines import Awaited
from flexhost.errors import FunctionFailed, HostError
from flexhost.failures import failure
from flexhost.function import FlexFun, Function, Headers, Instance


class Arguments(NamedTuple):
    """params: of the function's own class, or the raw parameters."""

    parameters: dict[str, Any]
    columns: tuple[str, ...] | None
    headers: Headers
    caller: Caller
    params: Any
    context: Any = None
    filters: Any = None


def accept(
    function: Function,
    parameters: dict[str, Any],
    columns: tuple[str, ...] | None,
    headers: Headers,
    caller: Caller,
) -> Arguments:
    """All that has to be right before a call may wait: the one place where it is made.

    Raises BadCall, and FunctionFailed where the function's own class fails at it.
    """
    params: Any = parameters
    if function.parameters is not None:
        try:
            params = function.parameters.read(parameters)
        except HostError:
            raise
        except Exception as error:
            raise failure(error, function) from None
    return Arguments(parameters, columns or None, headers, caller, params)


def instance_for(function: Function, arguments: Arguments) -> Instance:
    """The object for one call, told what the call was accepted with. Raises FunctionFailed."""
    instance = function.create()
    if function.told and isinstance(instance, FlexFun):
        _tell(instance, function, arguments)
    return Awaited(instance) if function.asynchronous else instance


def _tell(instance: FlexFun, function: Function, arguments: Arguments) -> None:
    """Set its attributes, past whatever its class does when one is set."""
    own = vars(instance)
    if _TOLD in own:  # `create` gave the object of another call: nobody may see that one's caller
        for name in function.told:
            own.pop(name, None)
        if function.parameters is not None:
            raise FunctionFailed(
                f"function {function.name!r}: create returned the object of another call, "
                "expected a new one for each"
            )
        return
    own[_TOLD] = True
    for name in function.told:
        own.setdefault(name, getattr(arguments, name))
    if function.parameters is not None:
        own["params"] = arguments.params


_TOLD = "_flexhost_told"
# Attributes that an object may be given.
TOLD = ("params", "context", "filters", "caller")
