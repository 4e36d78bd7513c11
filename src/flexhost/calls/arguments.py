"""What a call is given: prepared when it is accepted, handed to its function when it runs."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flexhost.caller import Caller
from flexhost.calls.coroutines import Awaited
from flexhost.context import ExecutionContext, ExecutionType
from flexhost.elements import Elements
from flexhost.errors import FunctionFailed, HostError
from flexhost.function import Function, Given, Headers, Instance
from flexhost.functions.failures import failure
from flexhost.functions.flex_fun import TOLD, FlexFun
from flexhost.pushdown import Filters


class Arguments:
    """parameters: what the caller gave, be it a batch.
    params:  of the function's own class, or `parameters`.
    columns: the hint for `call`; `hint` is the caller's own.
    """

    def __init__(
        self,
        function: Function,
        parameters: Given,
        hint: tuple[str, ...] | None,
        headers: Headers,
        caller: Caller,
        params: Any,
    ) -> None:
        self._function = function
        self.parameters = parameters
        self.columns = self.hint = hint
        self.headers = headers
        self.caller = caller
        self.params = params

    @cached_property
    def context(self) -> ExecutionContext | None:
        """Raises BadCall."""
        if not isinstance(self.parameters, dict):
            return None
        return ExecutionContext.from_parameters(self.parameters)

    @cached_property
    def filters(self) -> Filters:
        """Raises BadCall."""
        of = self._function
        return Filters.of(self.context, of.schema, of.labels, of.fiscal_year_start_month)

    @cached_property
    def elements(self) -> Elements | None:
        """What the host narrows the rows to. Raises BadCall."""
        of = self._function
        if not of.narrows_elements:
            return None
        return Elements.of(self.context, of.schema, of.labels, of.fiscal_year_start_month)

    @property
    def for_elements(self) -> bool:
        """Whether the call asks for the elements of a label."""
        context = self.context
        return context is not None and context.execution_type is ExecutionType.LABEL_ELEMENTS

    @property
    def for_call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What its `call` is given, by place and by name: the way that it takes them."""
        more: dict[str, Any] = {"caller": self.caller} if self._function.wants_caller else {}
        if not self._function.by_name:
            return (self.parameters, self.columns, self.headers), more
        more |= {"parameters": self.parameters, "columns": self.columns, "headers": self.headers}
        return (), more

    def prepare(self) -> None:
        """Read the context, for a function that needs it. Raises BadCall."""
        needed = list(self.hint or ())
        filters, elements = self.filters, self.elements
        if self._function.applies_filters:
            filters.check()
            needed += filters.columns
        if elements is not None:
            elements.check()
            needed += elements.columns
        if self.hint:
            self.columns = tuple(dict.fromkeys(needed))


def accept(
    function: Function,
    given: Given,
    columns: tuple[str, ...] | None,
    headers: Headers,
    caller: Caller,
) -> Arguments:
    """All that has to be right before a call may wait: the one place where it is made.

    Raises BadCall, and FunctionFailed where the function's own class fails at it.
    """
    params: Any = given
    if function.parameters is not None:
        try:
            params = function.parameters.read(given)
        except HostError:
            raise
        except Exception as error:
            raise failure(error, function) from None
    accepted = Arguments(function, given, columns or None, headers, caller, params)
    if function.reads_context:
        accepted.prepare()
    return accepted


def instance_for(function: Function, arguments: Arguments, *, in_a_loop: bool = False) -> Instance:
    """The object for one call, told what the call was accepted with. Raises FunctionFailed.

    in_a_loop: whoever calls it awaits what an async function returns; else it is `Awaited` there.
    """
    if function.elsewhere is not None:
        return function.elsewhere(arguments)
    instance = function.create()
    if function.told and isinstance(instance, FlexFun):
        _tell(instance, function, arguments)
    if function.has_elements and arguments.for_elements:
        instance = _ForElements(instance)
    return Awaited(instance) if function.asynchronous and not in_a_loop else instance


class _ForElements:
    """An object whose `label_elements` is called in place of its `call`."""

    def __init__(self, instance: Any) -> None:
        self.call = instance.label_elements
        self.cancel = instance.cancel


def _tell(instance: FlexFun, function: Function, arguments: Arguments) -> None:
    """Set its attributes, past whatever its class does when one is set."""
    own = vars(instance)
    if TOLD in own:  # `create` gave the object of another call: nobody may see that one's caller
        own[TOLD] = None
        for name in (*function.told, "context", "filters"):
            own.pop(name, None)
        if function.parameters is not None:
            raise FunctionFailed(
                f"function {function.name!r}: create returned the object of another call, "
                "expected a new one for each",
                no_result=True,
            )
        return
    own[TOLD] = arguments
    for name in function.told:
        own.setdefault(name, getattr(arguments, name))
    if function.parameters is not None:
        own["params"] = arguments.params
