"""The functions that a host serves: loaded, given to its worker processes, opened to callers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flexhost import registry
from flexhost.executors.coroutines import Coroutines
from flexhost.executors.processes import elsewhere
from flexhost.executors.routed import Routed
from flexhost.function import COROUTINES, PROCESSES, THREADS, Function
from flexhost.functions.flex_fun import LoadContext
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.settings import Loaded, Settings
from flexhost.workers import forwarded
from flexhost.workers.worker_pool import WorkerPool

if TYPE_CHECKING:
    from flexhost.telemetry.metrics import Metrics


@dataclasses.dataclass(frozen=True)
class Served:
    """fresh: worker processes take the code of the author from its source alone."""

    loaded: Loaded
    context: LoadContext
    host: Host
    executor: Routed
    coroutines: Coroutines
    pool: WorkerPool
    metrics: Metrics | None
    fresh: bool

    def load(self, settings: Settings, before: Iterable[Function] = ()) -> Registry:
        """What these settings list. before: see `registry.load`. Raises StartError."""
        wanted = settings.flexfun
        return registry.load(
            wanted.functions,
            self.context,
            udfs=settings.udf.functions,
            fiscal_year_start_month=wanted.fiscal_year_start_month,
            executors=wanted.executors,
            elsewhere={PROCESSES: functools.partial(elsewhere, self.pool)},
            before=before,
        )

    def serve(self, functions: Registry) -> None:
        """From now on these. Raises StartError when a worker process cannot load them."""
        there = frozenset(one for one in functions if one.executor == PROCESSES)
        if there:
            self._start_workers(functions, there)
        if self.metrics is not None:
            self.metrics.expect(functions)
        self.executor.used = frozenset([one.executor for one in functions] or [THREADS])
        if COROUTINES in self.executor.used:
            self.coroutines.start()
        self.host.open(functions)

    def _start_workers(self, functions: Registry, there: frozenset[Function]) -> None:
        from flexhost.workers import worker_start  # with what else only workers need

        wanted = self.loaded.settings.server
        setup = worker_start.Setup(
            modules=functions.modules,
            udfs=functions.udfs,
            functions=frozenset(one.name for one in there),
            fiscal_year_start_month=self.loaded.settings.flexfun.fiscal_year_start_month,
            from_source=self.fresh,
            everything=self.loaded.everything.get(),
            location=self.context.location.uri.decode(),
            levels=forwarded.levels(),
            memory_bytes=wanted.process_memory_bytes,
            server=dataclasses.replace(wanted, tls_private_key=None),
        )
        self.pool.open(functools.partial(worker_start.start, setup), of=there)
