"""What an author writes (`FlexFun`) and what the host makes of it (`Function`)."""

from __future__ import annotations

import enum
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar, cast

import pyarrow as pa

from flexhost.caller import Caller
from flexhost.context import ExecutionContext
from flexhost.errors import BadCall
from flexhost.later import Later
from flexhost.parameters import Parameters
from flexhost.pushdown import Filters
from flexhost.resources import Resources

if TYPE_CHECKING:
    from flexhost.arguments import Arguments

# What a `call` may return: see `returned.arrow`. (pyarrow has no types.)
Data: TypeAlias = Any
Headers = dict[str, list[str]]


@dataclass(frozen=True)
class CachePolicy:
    """Equal calls share one run of the function, and its table for a while.

    Calls are equal when their parameters, column hint and caller are. `executionContext.timestamp`
    and `executionContext.executionInitiator` do not count, nor do headers, unless they are named.

    ttl_sec: seconds that the table is given to later calls; 0 for only those that come meanwhile.
    vary_by: what else has to be equal: "header:NAME" or "parameters:PATH.TO.VALUE".
    shared:  callers share with each other.

    Raises ValueError.
    """

    ttl_sec: float
    vary_by: tuple[str, ...] = ()
    shared: bool = False

    def __post_init__(self) -> None:
        ttl = self.ttl_sec
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 <= ttl < math.inf:
            raise ValueError(f"ttl_sec is {ttl!r}, expected a number of seconds from 0")
        if not isinstance(self.vary_by, tuple | list):
            raise ValueError(f"vary_by is {self.vary_by!r}, expected a tuple of texts")
        for rule in self.vary_by:
            if not isinstance(rule, str) or not _RULE.fullmatch(rule):
                raise ValueError(
                    f'vary_by has {rule!r}, expected "header:NAME" or "parameters:PATH.TO.VALUE"'
                )
        if not isinstance(self.shared, bool):
            raise ValueError(f"shared is {self.shared!r}, expected True or False")


_RULE = re.compile(r"header:[^\s:]+|parameters:[^.:]+(\.[^.:]+)*")


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


class Instance(Protocol):
    """One call's own object. `cancel` is optional: classes by shape may lack it."""

    def call(
        self, parameters: dict[str, Any], columns: tuple[str, ...] | None, headers: Headers
    ) -> Data: ...


# What a call is given: parameters by their names, or a batch with a row of arguments for each time
# that a function of rows is called.
Given: TypeAlias = "dict[str, Any] | pa.RecordBatch"
Elsewhere: TypeAlias = "Callable[[Arguments], Instance]"
# What a function gives for a row of arguments: one value, or any number of rows.
SCALAR, TABLE = KINDS = "scalar", "table"
# What a function of arguments takes: a row of Python values, or columns of Arrow or of pandas.
ROW, BATCH, PANDAS = STYLES = "row", "batch", "pandas"
# What may run the calls of a function, by the names that authors and settings use.
THREADS, PROCESSES, COROUTINES = EXECUTORS = "threads", "processes", "coroutines"


@dataclass(frozen=True, eq=False)
class Function:
    """A described callable.

    create:       makes the object whose `call` is run, one for each call.
    source:       the class, or the function, that it was made of.
    file:         where the author wrote it; only frames of this file are shown to a caller.
    by_name:      whether `call` takes its arguments by their names; otherwise by position.
    wants_caller: whether `call` takes a `caller` besides.
    cache:        whether and how equal calls share.
    parameters:   what reads and checks what the caller gave; None to leave it as it is.
    told:         attributes that its object is given before `call`.
    deadline:     seconds from acceptance, in place of the host's own.
    max_running:  calls that may run at once.
    asynchronous: whether `call` is async.
    executor:     the name of what runs its calls, see `EXECUTORS`.
    elsewhere:    makes the object that stands for one in another process, where its calls run.
    labels, fiscal_year_start_month: see `pushdown.Filters`.
    applies_filters, narrows_elements: what the host does to its rows.
    has_elements: whether it has a `label_elements`.
    reads_context: whether the execution context must be right before a call may wait.
    kind, style:  of `KINDS` and of `STYLES`.
    arguments:    of a function with type hints, in its own order; nullable where None may come.
    deterministic: whether equal arguments give equal results.
    over_batches: the same function, called with batches of its arguments. Its schema is that of an
                  answer: of a scalar one column, of a table `row`, which says for which row of the
                  batch (int32, from 0), and the value. None if it can only be called by parameters.
    """

    name: str
    schema: pa.Schema
    create: Callable[[], Instance]
    metadata: Mapping[str, Any] | None = None
    module: str = ""
    source: Any = None
    file: str = ""
    by_name: bool = True
    wants_caller: bool = False
    cache: CachePolicy | None = None
    parameters: Parameters | None = None
    told: tuple[str, ...] = ()
    deadline: float | None = None
    max_running: int | None = None
    asynchronous: bool = False
    executor: str = THREADS
    elsewhere: Elsewhere | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    fiscal_year_start_month: int = 1
    applies_filters: bool = False
    narrows_elements: bool = False
    has_elements: bool = False
    reads_context: bool = False
    kind: str = TABLE
    style: str = ROW
    arguments: pa.Schema | None = None
    deterministic: bool = True
    over_batches: Function | None = None
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(self.schema.names))

    def called_with(self, given: Given) -> Function:
        """The one that is called with this: itself or, with a batch, `over_batches`.

        Raises BadCall when there is none.
        """
        if not isinstance(given, pa.RecordBatch):
            return self
        if self.over_batches is None:
            raise BadCall(f"function {self.name!r} takes parameters, it cannot be given batches")
        return self.over_batches

    def select(self, hint: tuple[str, ...] | None) -> pa.Schema:
        """The schema that a call with this column hint answers with, in the hint's order.

        None and an empty hint mean every column. Raises BadCall for an unknown or a repeated name.
        """
        if not hint:
            return self.schema
        for name in hint:
            if name not in self._names:
                raise BadCall(f"function {self.name!r} has no column {name!r}")
        if len(set(hint)) != len(hint):
            [(twice, _)] = Counter(hint).most_common(1)
            raise BadCall(f"column {twice!r} is asked for twice")
        return pa.schema([self.schema.field(name) for name in hint], self.schema.metadata)
