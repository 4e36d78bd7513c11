"""What was found, as Markdown and as values for JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from flexhost.version import VERSION
from measuring import ratios
from servers import BARE, OURS, PYTHON, ROOT, THEIRS
from workloads import Measure, Target, Workload

# By workload and server: the figures of each round.
Found = dict[str, dict[str, list[dict[str, float]]]]


class Layout(NamedTuple):
    """columns: servers. pairs: of servers, whose ratios are told. versions: of what they run."""

    title: str
    head: str
    columns: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]
    versions: Callable[[], dict[str, str]]


class Report:
    """seconds: that it took to find this."""

    def __init__(
        self,
        found: Found,
        workloads: list[Workload],
        seconds: float,
        layout: Layout | None = None,
    ) -> None:
        self._found = found
        self._layout = layout or _COMPARED
        self.workloads = workloads
        self._machine = machine(self._layout.versions) | {"benchmark seconds": round(seconds)}

    def servers(self, workload: Workload) -> list[str]:
        """Those that it was measured with."""
        return [one for one in self._layout.columns if one in self._found[workload.name]]

    def median(self, workload: Workload, server: str, key: str) -> float:
        return statistics.median(self._rounds(workload, server, key))

    def ratio(self, workload: Workload, server: str, to: str, key: str) -> float:
        ones, others = (self._rounds(workload, one, key) for one in (server, to))
        return ratios(ones, others)

    def reached(self, workload: Workload, target: Target) -> float | None:
        """None when what it is compared with was not measured."""
        if not target.against:
            return self.median(workload, OURS, target.key)
        if target.against not in self.servers(workload):
            return None
        return self.ratio(workload, OURS, target.against, target.key)

    def summary(self) -> str:
        """The table of targets."""
        heads = ["workload", "figure", *self._layout.columns, "reached", "target", "met"]
        shown = [_row(heads), "| --- " * len(heads) + "|"]
        for workload in self.workloads:
            for target in workload.targets:
                measure = next(one for one in workload.measures if one.key == target.key)
                cells = [workload.title, measure.title, *self._medians(workload, measure)]
                shown.append(_row([*cells, *self._judged(workload, target)]))
        return "\n".join(shown)

    def markdown(self) -> str:
        parts = [f"# {self._layout.title}", self._layout.head]
        parts.append("\n".join(f"- {key}: {value}" for key, value in self._machine.items()))
        parts += ["## Targets", self.summary()]
        parts += [self._table(workload) for workload in self.workloads]
        return "\n\n".join(parts) + "\n"

    def values(self) -> dict[str, Any]:
        return {
            "machine": self._machine,
            "targets": [
                {
                    "workload": workload.name,
                    **vars(target),
                    "reached": self.reached(workload, target),
                }
                for workload in self.workloads
                for target in workload.targets
            ],
            "rounds": self._found,
        }

    def _table(self, workload: Workload) -> str:
        pairs, there = self._layout.pairs, self.servers(workload)
        heads = ["", *self._layout.columns, *(f"{one} / {other}" for one, other in pairs)]
        rows = [_row(heads), "| --- " * len(heads) + "|"]
        for measure in workload.measures:
            found = [
                f"{self.ratio(workload, one, other, measure.key):.2f}"
                if {one, other} <= set(there)
                else "-"
                for one, other in pairs
            ]
            rows.append(_row([measure.title, *self._medians(workload, measure), *found]))
        number = len(self._found[workload.name][OURS])
        return f"## {workload.title}\n\n`{workload.name}`, {number} rounds\n\n" + "\n".join(rows)

    def _rounds(self, workload: Workload, server: str, key: str) -> list[float]:
        return [one[key] for one in self._found[workload.name][server]]

    def _medians(self, workload: Workload, measure: Measure) -> list[str]:
        return [
            f"{self.median(workload, server, measure.key):.{measure.digits}f}"
            if server in self.servers(workload)
            else "-"
            for server in self._layout.columns
        ]

    def _judged(self, workload: Workload, target: Target) -> list[str]:
        reached = self.reached(workload, target)
        bound = f"{'at least' if target.at_least else 'at most'} {target.bound:g}"
        against = f" of {target.against}" if target.against else ""
        if reached is None:
            return ["-", bound + against, "-"]
        return [f"{reached:.2f}", bound + against, "yes" if target.met(reached) else "**no**"]


_HEAD = """\
Medians of the rounds; ratios are medians of the ratios within a round. Server CPU is that of the
process and of all that it started, as the system counts it. Ours runs with a token, metrics and a
line of JSON for each call, the reference with its defaults, bare pyarrow with nothing. One machine
carries the servers and the clients: where both together use all of its cores, a server that costs
less leaves more to the clients."""


def machine(versions: Callable[[], dict[str, str]]) -> dict[str, Any]:
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
        **versions(),
        "flexhost": f"{VERSION} ({_revision()})",
        "load before": f"{os.getloadavg()[2]:.1f} (fifteen minutes)",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _revision() -> str:
    told = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    return subprocess.run(told, capture_output=True, text=True).stdout.strip() or "no revision"


def _versions() -> dict[str, str]:
    """Of what the servers run with."""
    names = ("pyarrow", "gooddata-flexconnect", "gooddata-flight-server")
    return installed(PYTHON, *names)


def installed(executable: str, *packages: str) -> dict[str, str]:
    """The versions of an environment: of Python, and of packages."""
    code = (
        "import json, platform, importlib.metadata as m;"
        "got = {d.name: d.version for d in m.distributions()};"
        "print(json.dumps([platform.python_version(), got]))"
    )
    told = subprocess.run([executable, "-c", code], capture_output=True, text=True, check=True)
    python, there = json.loads(told.stdout)
    return {"Python": python} | {name: there.get(name, "not installed") for name in packages}


_COMPARED = Layout(
    "The host, bare pyarrow and the reference",
    _HEAD,
    (BARE, THEIRS, OURS),
    ((THEIRS, BARE), (OURS, BARE), (OURS, THEIRS)),
    _versions,
)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
