"""What the host makes of what an author writes: a `Function`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import pyarrow as pa

from flexhost.errors import BadCall
from flexhost.functions.cache_policy import CachePolicy

if TYPE_CHECKING:
    from flexhost.calls.arguments import Arguments

# What a `call` may return: see `returned.arrow`. (pyarrow has no types.)
Data: TypeAlias = Any
Headers = dict[str, list[str]]


class Instance(Protocol):
    """One call's own object. `cancel` is optional: classes by shape may lack it."""

    def call(
        self, parameters: dict[str, Any], columns: tuple[str, ...] | None, headers: Headers
    ) -> Data: ...


class Reads(Protocol):
    """What a caller gave → what its function is given."""

    def read(self, given: Any, /) -> Any:
        """Raises BadCall."""


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
    loads:        to be called once with a `LoadContext`, where it runs, before its first call.
    counted_as:   what counts for `max_running`: the same for all forms of one function.
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
    parameters: Reads | None = None
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
    loads: Callable[[Any], object] | None = None
    counted_as: object = field(default_factory=object, repr=False)
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(self.schema.names))

    def but(self, **changes: Any) -> Function:
        """With these changes, of the form that is called with batches too."""
        over = self.over_batches
        if over is not None:
            over = replace(over, **changes)
        return replace(self, over_batches=over, **changes)

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
