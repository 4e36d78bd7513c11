"""A host in a process of its own, with what can be seen of it from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]

# no line for each call: trouble only
LOGGING = """
[loggers]
keys=root,calls
[handlers]
keys=err
[formatters]
keys=json
[logger_root]
level=INFO
handlers=err
[logger_calls]
level=CRITICAL
qualname=flexhost.calls
handlers=
[handler_err]
class=StreamHandler
args=(sys.stderr,)
formatter=json
[formatter_json]
class=flexhost.logs.JsonLines
"""


class Hosted:
    """The process, its Flight port, and its metrics."""

    def __init__(self, folder: Path, functions: str, settings: str) -> None:
        (folder / "measured_functions.py").write_text(functions)
        (folder / "host.toml").write_text(
            "[server]\nlisten_port = 0\nmetrics_host = '127.0.0.1'\nmetrics_port = 0\n" + settings
        )
        (folder / "logging.ini").write_text(LOGGING)
        options = ["--config", "host.toml", "--logging-config", "logging.ini"]
        path = os.pathsep.join([str(folder), str(ROOT / "src")])
        listed = {"GOODDATA_FLIGHT_FLEXFUN__FUNCTIONS": '["measured_functions"]'}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flexhost", "start", *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": path, **listed},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        ports = []
        while len(ports) < 2:
            line = json.loads(self.process.stderr.readline())["event"]
            head = line.split(": /metrics")[0].split(", advertised")[0]
            ports.append(int(head.rsplit(":", 1)[1]))
        self._metrics, self.port = ports
        threading.Thread(target=_pass_on, args=[self.process.stderr], daemon=True).start()

    def gauges(self) -> dict[str, float]:
        """Every line of its metrics, without the prefix."""
        url = f"http://127.0.0.1:{self._metrics}/metrics"
        page = urllib.request.urlopen(url).read().decode()
        lines = (line.rsplit(" ", 1) for line in page.splitlines() if line[:1] != "#")
        return {name.removeprefix("flexhost_"): float(value) for name, value in lines}

    def count(self, what: str) -> int:
        """The entries of /proc/PID/`what`."""
        return len(list(Path(f"/proc/{self.process.pid}/{what}").iterdir()))

    def memory(self) -> float:
        """Anonymous and shared memory, MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        kib = [int(line.split()[1]) for line in status if line.startswith(("RssAnon", "RssShmem"))]
        return sum(kib) * 1024 / 1e6


def _pass_on(lines: object) -> None:
    for line in lines:  # type: ignore[attr-defined]
        print(line, end="", file=sys.stderr)


@contextmanager
def hosted(folder: Path, functions: str, settings: str = "") -> Iterator[Hosted]:
    """The host, ended by a signal; it has to end well."""
    host = Hosted(folder, functions, settings)
    try:
        yield host
    finally:
        host.process.terminate()
        status = host.process.wait(60)
    if status != 0:
        raise SystemExit(f"the host ended with status {status}")
