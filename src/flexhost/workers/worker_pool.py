"""The worker processes there are: one for each call that may run, and a warm spare."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

from flexhost.errors import Busy, Cancelled, ShuttingDown, StartError
from flexhost.functions.flex_fun import HealthMonitor, ModuleHealthStatus
from flexhost.workers.worker_process import LEAVE, Relay, Start, Task, WorkerProcess

_logger = logging.getLogger("flexhost")

# Seconds until a worker that could not be started is tried again: doubled each time, at most the
# last.
_AGAIN, _AT_LAST = 1.0, 30.0
# Seconds that a worker is kept which is one too many.
_KEPT = 5.0


@dataclass(frozen=True)
class Recycling:
    """After so many calls, or with more than so many bytes of memory, a worker makes way for a new
    one. 0 for never."""

    calls: int = 0
    bytes: int = 0

    def due(self, worker: WorkerProcess) -> bool:
        return 0 < self.calls <= worker.calls or 0 < self.bytes < worker.resident


class MetricsOfWorkers(Protocol):
    def take(self, worker: WorkerProcess, families: list[Any]) -> None: ...

    def gone(self, worker: WorkerProcess) -> None: ...


class WorkerPool:
    """workers: calls that run at once, besides streams that are read. A spare worker is there in
             place of the first stream, or of a worker that ends; more are kept for a while.
    streams: streams that may be open.
    health:  told what functions say of themselves in their workers: the worst of all.
    metrics: told of metrics that functions make there.
    """

    def __init__(
        self,
        workers: int,
        *,
        streams: int,
        health: HealthMonitor,
        relay: Relay,
        recycling: Recycling = Recycling(),
        metrics: MetricsOfWorkers | None = None,
    ) -> None:
        self._workers = workers
        self._streams = streams
        self._health = health
        self._relay = relay
        self._recycling = recycling
        self._metrics = metrics
        self._start: Start | None = None
        self._of: Hashable = None
        self._all: set[WorkerProcess] = set()  # that have not ended
        self._leaving: set[WorkerProcess] = set()
        self._streaming: set[WorkerProcess] = set()
        self._idle: deque[WorkerProcess] = deque()
        self._reports: defaultdict[str, dict[WorkerProcess, ModuleHealthStatus]]
        self._reports = defaultdict(dict)
        self._failures = 0  # to start a worker, one after another
        self._thinning = False
        self._closed = False
        self._changed = threading.Condition()

    @property
    def alive(self) -> int:
        """Processes there are now."""
        return len(self._all)

    def open(self, start: Start, of: Hashable = None) -> None:
        """Start workers, in place of those that there are: these end what they are at.

        of: what they are for; nothing is done when they are for the same.

        Returns when the first is ready. Raises StartError, and leaves all as it was.
        """
        if self._start is not None and of == self._of:
            return
        with self._changed:
            first = self._begin(start)
        first.started.wait()
        if not first.was_ready:
            raise first.failure or StartError(f"a worker process {first.obituary} at its start")
        with self._changed:
            self._start, self._of = start, of
            before, self._idle = list(self._idle), deque([first])
            self._changed.notify()
        for worker in before:
            self._dismiss(worker)
        self.fill()

    def fill(self) -> None:
        """Start the workers that are missing. Never raises: it is tried again."""
        with self._changed:
            try:
                spare = not self._streaming
                while self._start and not self._closed and self._serving < self._workers + spare:
                    self._begin(self._start)
                return
            except (OSError, RuntimeError) as error:  # no process, or no thread, to spare
                why = error
        self._later(str(why))

    def take(self, cancelled: Callable[[], bool]) -> WorkerProcess:
        """A worker that is idle, waiting for it. Raises Cancelled and ShuttingDown."""
        with self._changed:
            while True:
                if self._closed:
                    raise ShuttingDown("this host is stopping")
                if cancelled():
                    raise Cancelled("nobody wants it any more")
                if self._idle:
                    return self._idle.pop()
                self._changed.wait()

    def wake(self) -> None:
        """Those who wait in `take` look whether they are cancelled."""
        with self._changed:
            self._changed.notify_all()

    def lend(self, worker: WorkerProcess, task: Task) -> None:
        """It keeps its call for as long as the stream is read. Raises Busy."""
        with self._changed:
            if (open_ := len(self._streaming)) >= self._streams:
                raise Busy(f"{open_} streams of processes are open", bound="process_streams")
            if worker in self._all and not task.over.is_set():  # or it may have another call
                self._streaming.add(worker)
        self.fill()

    def close(self) -> None:
        """End all, those at work at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            workers = list(self._all)
        for worker in workers:
            worker.leave()
        for worker in workers:
            worker.wait(LEAVE)

    # What a worker says of itself, in a thread of its own.

    def ready(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._failures = 0
        if worker.start is self._start:
            self.idle(worker)

    def idle(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._streaming.discard(worker)
            goes = worker.start is not self._start or self._recycling.due(worker)
            if not (goes or self._closed):
                self._idle.append(worker)
                self._changed.notify()
                if self._serving > self._workers + 1 and not self._thinning:
                    self._thinning = True
                    _after(_KEPT, self._thin)
        if goes:
            self._dismiss(worker)
            self.fill()

    def gone(self, worker: WorkerProcess) -> None:
        with self._changed:
            self._all.discard(worker)
            self._leaving.discard(worker)
            self._streaming.discard(worker)
            if worker in self._idle:
                self._idle.remove(worker)
            for name in [name for name, by in self._reports.items() if worker in by]:
                del self._reports[name][worker]
                self._tell(name)
        if self._metrics is not None:
            self._metrics.gone(worker)
        if worker.was_ready:
            if worker.ended_by_itself:
                fields = {"pid": worker.pid, "call_id": worker.last_call}
                _logger.error("a worker process %s", worker.obituary, extra={"fields": fields})
            self.fill()
        elif worker.start is self._start and not self._closed:
            self._later(str(worker.failure or f"it {worker.obituary}"))

    def report(self, worker: WorkerProcess, name: str, status: str) -> None:
        with self._changed:
            self._reports[name][worker] = ModuleHealthStatus(status)
            self._tell(name)

    def counted(self, worker: WorkerProcess, metrics: list[Any]) -> None:
        if self._metrics is not None:
            self._metrics.take(worker, metrics)

    @property
    def _serving(self) -> int:
        """Workers for calls, which stay."""
        return len(self._all - self._leaving - self._streaming)

    def _thin(self) -> None:
        """Let go of workers that streams of before had made necessary."""
        with self._changed:
            self._thinning = False
            count = min(len(self._idle), self._serving - self._workers - 1)
            too_many = [self._idle.popleft() for _ in range(count)]
        for worker in too_many:
            self._dismiss(worker)

    def _begin(self, start: Start) -> WorkerProcess:
        worker = WorkerProcess(start, self, self._relay)
        self._all.add(worker)
        return worker

    def _dismiss(self, worker: WorkerProcess) -> None:
        with self._changed:
            if worker in self._all:
                self._leaving.add(worker)
        worker.leave()

    def _later(self, why: str) -> None:
        with self._changed:
            delay = min(_AGAIN * 2**self._failures, _AT_LAST)
            self._failures += 1
        _logger.error("a worker process cannot be started, tried again in %g s: %s", delay, why)
        _after(delay, self.fill)

    def _tell(self, name: str) -> None:
        """The worst that is said of it."""
        said = self._reports[name].values()
        worst = ModuleHealthStatus.NOT_OK in said
        self._health.set_module_status(
            name, ModuleHealthStatus.NOT_OK if worst else ModuleHealthStatus.OK
        )


def _after(seconds: float, what: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()
