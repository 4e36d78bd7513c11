"""A function on trial: called with what a host would give it, and looked at."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flexhost.caller import Caller
from flexhost.context import ExecutionContext, ExecutionType
from flexhost.errors import HostError
from flexhost.function import Function, Headers, Instance
from flexhost.functions.flex_fun import TOLD, FlexFun
from flexhost.host import Host
from flexhost.pushdown import Filters
from flexhost.registry import Registry
from flexhost.testing import calls


@dataclass(frozen=True)
class Sample:
    """Parameters to try, without a column hint. hint: the one that they had."""

    name: str
    parameters: Mapping[str, Any]
    hint: tuple[str, ...] | None = None

    def sent(self) -> dict[str, Any]:
        """The parameters, which a function may change as it likes."""
        return copy.deepcopy(dict(self.parameters))

    @property
    def context(self) -> ExecutionContext | None:
        return ExecutionContext.from_parameters(self.parameters)

    @property
    def for_elements(self) -> bool:
        context = self.context
        return context is not None and context.execution_type is ExecutionType.LABEL_ELEMENTS

    def filtered(self, name: str, *filters: Mapping[str, Any]) -> Sample:
        """The same report with these filters instead of its own."""
        context = {**self.parameters["executionContext"], "filters": list(filters)}
        if request := context.get("reportExecutionRequest"):
            context["reportExecutionRequest"] = {**request, "filters": []}
        return Sample(name, {**self.parameters, "executionContext": context}, self.hint)


@dataclass(frozen=True)
class Answer:
    """table:    what came; None when it was `error`.
    taken:    columns whose filters the function says to have applied.
    receipts: it could say so.
    """

    table: pa.Table | None
    error: HostError | None = None
    taken: tuple[str, ...] = ()
    receipts: bool = False


class Trial:
    """Calls a function the way that a host does, but never shares a run."""

    def __init__(self, host: Host, function: Function, headers: Headers, caller: Caller) -> None:
        self.function = function
        self._host = host
        self._headers = headers
        self._caller = caller
        self._instance: Instance | None = None
        watched = dataclasses.replace(function, create=self._create, cache=None)
        self._as_served = Registry([watched])
        # what is left to the host is left undone
        self._alone = Registry([dataclasses.replace(watched, applies_filters=False)])

    def ask(
        self, sample: Sample, columns: tuple[str, ...] | None = None, *, alone: bool = False
    ) -> Answer:
        """alone: without the filters that the host applies."""
        self._host.open(self._alone if alone else self._as_served)
        sent = sample.sent()
        if columns is not None:
            sent["columns"] = list(columns)
        self._instance = None
        try:
            name, headers = self.function.name, dict(self._headers)
            table = calls.called(self._host, name, sent, headers, self._caller)
        except HostError as error:
            return Answer(None, error)
        filters = self._filters()
        return Answer(table, None, filters.taken if filters else (), filters is not None)

    def filters(self, sample: Sample) -> Filters:
        """Those of a sample, of which nobody has taken any. Raises BadCall."""
        of = self.function
        return Filters.of(sample.context, of.schema, of.labels, of.fiscal_year_start_month)

    def _create(self) -> Instance:
        self._instance = self.function.create()
        return self._instance

    def _filters(self) -> Filters | None:
        """Those that the function was given."""
        if not isinstance(self._instance, FlexFun):
            return None
        accepted = vars(self._instance).get(TOLD)
        return None if accepted is None else accepted.filters
