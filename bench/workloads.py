"""What is measured: workloads, the figures that are told of them, and what those ought to be."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from clients import Job, Outcome
from measuring import percentile
from servers import BARE, OURS, THEIRS, Setup


@dataclass(frozen=True)
class Measure:
    """A figure of a round. `key` names it in the JSON."""

    key: str
    title: str
    digits: int


@dataclass(frozen=True)
class Target:
    """What ours ought to reach, against another server or, without one, by itself."""

    key: str
    bound: float
    against: str = ""
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass(frozen=True)
class Workload:
    """job:     the same for all servers; `jobs` are those of some.
    rounds:  at least so many.
    """

    name: str
    title: str
    setup: Setup
    measures: tuple[Measure, ...]
    targets: tuple[Target, ...]
    job: Job | None = None
    jobs: dict[str, Job] = dataclasses.field(default_factory=dict)
    rounds: int = 1

    def job_for(self, server: str, size: float) -> Job | None:
        """None: what is measured is the start of the server. size: 1 is all of it."""
        job = self.jobs.get(server, self.job)
        if job is None or size == 1:
            return job
        given = dict(job.parameters)
        if "bytes" in given:
            given["bytes"] = max(given["chunk"], given["bytes"] * size)
        if "batches" in given:
            given["batches"] *= size
        return dataclasses.replace(
            job,
            parameters=given,
            threads=max(1, math.ceil(job.threads * size)),
            seconds=job.seconds and max(job.seconds * size, 0.2),
            warm=job.warm and max(job.warm * size, 0.1),
        )


_CPU = Measure("cpu_us", "server CPU, µs/call", 0)
_RATE = Measure("rate", "calls/s", 0)
_P50 = Measure("p50_ms", "p50, ms", 2)
_P99 = Measure("p99_ms", "p99, ms", 2)
_SPEED = Measure("gb_s", "GB/s", 2)
_CPU_GB = Measure("cpu_gb", "server CPU, s/GB", 3)
_CLIENT = Measure("client_cores", "cores that the clients use", 2)
_CALLS = (_CPU, _RATE, _P50, _P99, _CLIENT)
_STREAMS = (_SPEED, _CPU_GB, _CLIENT)

_USUAL = Setup(("small", "streamed", "burning"))
_WAITERS, _SECONDS, _THREADS = 2000, 0.05, 32
_MANY = Setup(
    ("small", "waiting"),
    _THREADS,
    ("task_queue_size = 4096", "max_rpcs = 8192", "switch_interval_ms = 250"),
)
# one call runs and one waits, so that a third is refused
_FULL = Setup(("small", "waiting"), 1, ("task_queue_size = 1",), blocked=3)
_MIB = 1 << 20
_SMALL = Job("small", seconds=1.5, warm=1.0)


def figures(outcome: Outcome) -> dict[str, float]:
    """Of one server in one round."""
    calls, gigabytes = len(outcome.took) or math.nan, outcome.bytes / 1e9 or math.nan
    took = outcome.took or [math.nan]
    share = calls * _SECONDS / _THREADS / outcome.seconds
    return {
        "cpu_us": outcome.server_cpu / calls * 1e6,
        "cpu_ms": outcome.server_cpu / calls * 1e3,
        "rate": calls / outcome.seconds,
        "share": share,
        "p50_ms": percentile(took, 0.5) * 1e3,
        "p99_ms": percentile(took, 0.99) * 1e3,
        "gb_s": gigabytes / outcome.seconds,
        "cpu_gb": outcome.server_cpu / gigabytes,
        "client_cores": outcome.client_cpu / outcome.seconds,
    }


def _streamed(name: str, title: str, job: Job, *targets: Target) -> Workload:
    return Workload(name, title, _USUAL, _STREAMS, targets, job, rounds=5)


def _chunks(total: int, chunk: int, each: int) -> Job:
    return Job("chunks", {"bytes": total, "chunk": chunk}, each=each)


_AS_FAST = Target("gb_s", 0.9, BARE, at_least=True), Target("cpu_gb", 1.1, BARE)

WORKLOADS = (
    Workload(
        "alone",
        "Small calls, one after the other",
        _USUAL,
        _CALLS,
        (Target("cpu_us", 1.5, BARE),),
        _SMALL,
    ),
    Workload(
        "c32",
        "Small calls, 32 at once",
        _USUAL,
        _CALLS,
        (Target("rate", 1.2, BARE, at_least=True),),
        dataclasses.replace(_SMALL, processes=2, threads=16, connections=4),
    ),
    Workload(
        "c128",
        "Small calls, 128 at once",
        _USUAL,
        _CALLS,
        (Target("rate", 2.4, THEIRS, at_least=True), Target("p99_ms", 0.7, THEIRS)),
        dataclasses.replace(_SMALL, processes=2, threads=64, connections=4),
    ),
    Workload(
        "outstanding",
        f"{_WAITERS} outstanding calls of {_SECONDS * 1e3:g} ms on {_THREADS} threads",
        _MANY,
        (
            Measure("share", "share of the ideal", 2),
            Measure("cpu_ms", "server CPU, ms/call", 2),
            _CLIENT,
        ),
        (Target("share", 0.85, at_least=True), Target("cpu_ms", 1.2)),
        Job("waiting", {"seconds": _SECONDS}, 4, _WAITERS // 4, connections=8, each=1),
    ),
    Workload(
        "refused",
        "A refused call (bare: a served one; reference: one that fails)",
        _FULL,
        _CALLS,
        (Target("cpu_us", 0.6, BARE),),
        _SMALL,
        {
            OURS: dataclasses.replace(_SMALL, refused=True),
            THEIRS: dataclasses.replace(_SMALL, function="nothing", refused=True),
        },
    ),
    _streamed(
        "batches-4m", "A table in batches of 4 MiB", _chunks(256 * _MIB, 4 * _MIB, 6), *_AS_FAST
    ),
    _streamed("batches-1m", "A table in batches of 1 MiB", _chunks(256 * _MIB, _MIB, 6), *_AS_FAST),
    _streamed(
        "chunks-128m",
        "A table in chunks of 128 MiB",
        _chunks(512 * _MIB, 128 * _MIB, 3),
        Target("gb_s", 1.6, BARE, at_least=True),
    ),
    _streamed(
        "tiny-batches",
        "A table in 10,000 batches of 64 rows",
        _chunks(10_000 * 64 * 32, 64 * 32, 3),
        Target("gb_s", 5, BARE, at_least=True),
    ),
    _streamed(
        "generator",
        "A stream of 10,000 batches of 1,000 rows",
        Job("generated", {"batches": 10_000, "rows": 1000}, each=1),
        Target("gb_s", 1.4, BARE, at_least=True),
    ),
    Workload(
        "python",
        "30 ms of pure Python, 8 at once",
        _USUAL,
        (_RATE, _CPU, _P50, _P99, _CLIENT),
        (Target("rate", 1.8, BARE, at_least=True),),
        Job("burning", {"seconds": 0.03}, 2, 4, seconds=2.0, warm=0.5),
    ),
    Workload(
        "start",
        "From the start of the process to the first answer",
        Setup(("small",)),
        (Measure("first_ms", "first answer, ms", 0), Measure("idle_mib", "memory then, MiB", 1)),
        (Target("first_ms", 2.8, BARE), Target("idle_mib", 1.35, BARE)),
        rounds=9,  # each is a single start, where others are hundreds of calls
    ),
)


def wanted(names: list[str], tls: list[bool]) -> list[Workload]:
    """Those of these names, or all; plain, with TLS, or both. Raises SystemExit."""
    known = [one.name for one in WORKLOADS]
    if unknown := set(names) - set(known):
        raise SystemExit(f"no workload is named {sorted(unknown)}; there are {', '.join(known)}")
    chosen = [one for one in WORKLOADS if not names or one.name in names]
    return [_with_tls(one) if with_tls else one for with_tls in tls for one in chosen]


def _with_tls(workload: Workload) -> Workload:
    return dataclasses.replace(
        workload,
        name=f"{workload.name}+tls",
        title=f"{workload.title}, TLS",
        setup=dataclasses.replace(workload.setup, tls=True),
    )
