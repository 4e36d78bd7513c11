"""What an author writes (`FlexFun`) and what the host makes of it (`Function`)."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import pyarrow as pa

from flexhost.errors import BadCall

# What a `call` may return.
Data: TypeAlias = "pa.Table | pa.RecordBatchReader"
Headers = dict[str, list[str]]


class FlexFun:
    """A table function: a name, a schema and a `call`. Made anew for every call by `create`."""

    Name: ClassVar[str]
    Schema: ClassVar[pa.Schema]
    Metadata: ClassVar[dict[str, Any] | None] = None

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
        """The data, as a table (read as often as asked) or a reader (read once).

        columns: the columns the caller wants, None for all. Only a hint: the host cuts the rest.
        headers: lower-case names, each with a list of values.

        A ValueError tells the caller that the arguments are wrong; any other exception that the
        function failed.
        """
        raise NotImplementedError

    def cancel(self) -> bool:
        """Asked for at most once, from another thread, when nobody wants the result any more."""
        return False

    @staticmethod
    def on_load(ctx: LoadContext) -> None:
        """Called once at start-up, before the first call. An exception ends the start."""


class ModuleHealthStatus(enum.Enum):
    OK = "ok"
    NOT_OK = "not_ok"


class HealthMonitor(Protocol):
    """What `ctx.health` offers: a part of a function that is not well makes /live answer 500."""

    def set_module_status(self, name: str, status: ModuleHealthStatus) -> None: ...


@dataclass(frozen=True)
class LoadContext:
    """What `on_load` gets.

    settings: every section of the files and variables, the author's own ones too (Dynaconf).
    location: where clients reach this host (`pyarrow.flight.Location`).
    health:   see HealthMonitor.
    """

    settings: Any
    location: Any
    health: HealthMonitor


class Instance(Protocol):
    """One call's own object. `cancel` is optional: classes by shape may lack it."""

    def call(
        self, parameters: dict[str, Any], columns: tuple[str, ...] | None, headers: Headers
    ) -> Data: ...


@dataclass(frozen=True, eq=False)
class Function:
    """A described callable.

    create:   makes the object whose `call` is run, one for each call.
    file:     where the author wrote it; only frames of this file are shown to a caller.
    by_name:  whether `call` takes its arguments by their names; otherwise by position.
    """

    name: str
    schema: pa.Schema
    create: Callable[[], Instance]
    metadata: Mapping[str, Any] | None = None
    module: str = ""
    file: str = ""
    by_name: bool = True
    _names: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(self.schema.names))

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
