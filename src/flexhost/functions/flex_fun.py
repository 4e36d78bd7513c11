"""What an author writes: a `FlexFun`, and what its `on_load` gets."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol, TypeVar, cast

import pyarrow as pa

from flexhost.caller import Caller
from flexhost.configuration.later import Later
from flexhost.context import ExecutionContext
from flexhost.function import Data, Headers
from flexhost.functions.cache_policy import CachePolicy
from flexhost.functions.resources import Resources
from flexhost.pushdown import Filters


class FlexFun:
    """A table function: a name, a schema and a `call`. Made anew for every call by `create`.

    Parameters:  a msgspec.Struct or a dataclass that the caller's parameters have to fit.
    DeadlineSec: seconds from acceptance that a call may take; None for the host's own deadline.
    MaxRunning:  calls of it that may run at once; None for any number.
    Executor:    what runs its calls: "threads", "processes" or, if it is async, "coroutines"; None
                 for what the settings say, else "coroutines" for what is async, else "threads".

    Labels:        identifiers of labels and date data sets whose column has another name.
    ApplyFilters:  the host applies the filters that `call` has not taken.
    LabelElements: "host" has it narrow the rows of a call for the elements of a label. Or write a
                   method `label_elements`, called then in place of `call`.

    In `call`:

    params:  the parameters as an object of `Parameters`; without it the raw dict.
    context: the `ExecutionContext`, or None.
    filters: its filters, see `flexhost.pushdown.Filters`.
    caller:  who calls.
    """

    Name: ClassVar[str]
    Schema: ClassVar[pa.Schema]
    Metadata: ClassVar[dict[str, Any] | None] = None
    Cache: ClassVar[CachePolicy | None] = None
    Parameters: ClassVar[type[Any] | None] = None
    DeadlineSec: ClassVar[float | None] = None
    MaxRunning: ClassVar[int | None] = None
    Executor: ClassVar[str | None] = None
    Labels: ClassVar[dict[str, str]] = {}
    ApplyFilters: ClassVar[bool] = False
    LabelElements: ClassVar[str | None] = None

    params: Any
    caller: Caller

    @cached_property
    def context(self) -> ExecutionContext | None:
        """Raises BadCall."""
        return cast("ExecutionContext | None", _accepted(self).context)

    @cached_property
    def filters(self) -> Filters:
        """Raises BadCall."""
        return cast("Filters", _accepted(self).filters)

    @classmethod
    def create(cls) -> FlexFun:
        """The instance for one call. The thread that makes it need not be the one that calls."""
        return cls()

    def call(
        self,
        parameters: dict[str, Any],
        columns: tuple[str, ...] | None,
        headers: Headers,
    ) -> Data:
        """The data, as a table (read as often as asked) or a stream (read once). May be a generator
        of record batches or tables, and may be `async`.

        parameters: as they were sent, typed or not.
        columns:    the columns the caller wants, None for all. Only a hint: the host cuts the rest.
        headers:    lower-case names, each with a list of values.

        BadArgument and ValueError tell the caller that the arguments are wrong; any other exception
        that the function failed.
        """
        raise NotImplementedError

    def cancel(self) -> bool:
        """Asked for at most once, from another thread, when nobody wants the result any more."""
        return False

    @staticmethod
    def on_load(ctx: LoadContext) -> None:
        """Called once at start-up, before the first call. An exception ends the start."""


# Attributes that an object is given, and the one that has all of them.
CALL_ATTRIBUTES = ("params", "caller")
TOLD = "_flexhost_told"


def _accepted(instance: FlexFun) -> Any:
    """What the call was accepted with."""
    if (accepted := vars(instance).get(TOLD)) is None:
        raise AttributeError("context and filters are there in `call`, of an object of its own")
    return accepted


class ModuleHealthStatus(enum.Enum):
    OK = "ok"
    NOT_OK = "not_ok"


class HealthMonitor(Protocol):
    """What `ctx.health` offers: a part of a function that is not well makes /live answer 500."""

    def set_module_status(self, name: str, status: ModuleHealthStatus) -> None: ...


@dataclass(frozen=True, init=False)
class LoadContext:
    """What `on_load` gets.

    settings: every section of the files and variables, the author's own ones too (Dynaconf).
    location: where clients reach this host (`pyarrow.flight.Location`).
    health:   see HealthMonitor.
    """

    location: Any
    health: HealthMonitor
    resources: Resources = field(repr=False)

    def __init__(
        self,
        settings: Any,
        location: Any,
        health: HealthMonitor,
        resources: Resources | None = None,
    ) -> None:
        """settings: they, or a `Later`."""
        given = settings if isinstance(settings, Later) else Later(lambda: settings)
        values = {"location": location, "health": health, "resources": resources or Resources()}
        vars(self).update(values, _settings=given)

    @property
    def settings(self) -> Any:
        return vars(self)["_settings"].get()

    def on_close(self, close: Callable[[], object]) -> None:
        """Call this once when the host ends, before what was named earlier."""
        self.resources.add(close)

    def enter(self, manager: AbstractContextManager[_T]) -> _T:
        """What entering it gives. It is left when the host ends."""
        entered = manager.__enter__()
        self.resources.add(functools.partial(manager.__exit__, None, None, None))
        return entered


_T = TypeVar("_T")
