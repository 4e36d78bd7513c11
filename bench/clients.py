"""The client processes, and what a job came to on a server."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from measuring import cpu_seconds
from servers import TOKEN, Server

# What a server does after it has answered counts too: lines are written, threads end.
_SETTLING = 0.3


@dataclass(frozen=True)
class Job:
    """What all clients do together: `each` calls a thread, or as many as `seconds` take.

    warm:    seconds before that are not counted, so that work put off from then is.
    refused: the calls have to fail.
    """

    function: str
    parameters: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    threads: int = 1  # in each process
    connections: int = 1  # of each process
    each: int = 0
    seconds: float = 0.0
    warm: float = 0.0
    refused: bool = False


@dataclass(frozen=True)
class Outcome:
    """seconds: counted. server_cpu, client_cpu: seconds of CPU in them. took: seconds a call."""

    seconds: float
    server_cpu: float
    client_cpu: float
    took: list[float]
    bytes: int


class Clients:
    """script: takes jobs as client.py does."""

    def __init__(self, most: int, script: str = "client.py") -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, Path(__file__).with_name(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(most)
        ]

    def run(self, server: Server, job: Job) -> Outcome:
        """Raises SystemExit when a call came out otherwise than the job says."""
        clients = self._processes[: job.processes]
        given = {
            **vars(job),
            "each": job.each or 1 << 60,
            "seconds": job.seconds or 1e6,
            "location": server.location,
            "root": server.root,
            "token": TOKEN,
        }
        for client in clients:
            _say(client, json.dumps(given))
        for client in clients:
            _hear(client, server)
        began = time.monotonic()
        if not job.warm:
            cpu = cpu_seconds(server.pid)
        for client in clients:
            _say(client, "begin")
        if job.warm:
            time.sleep(job.warm)
            began, cpu = time.monotonic(), cpu_seconds(server.pid)
        if job.seconds:
            time.sleep(job.seconds)
            used, seconds = cpu_seconds(server.pid) - cpu, time.monotonic() - began
        answers = [_hear(client, server) for client in clients]
        ended = [one for answer in answers for one in answer["ended"]]
        for answer in answers:
            if answer["problem"]:
                raise SystemExit(f"{server.name}, {job.function}: {answer['problem']}")
        if not job.seconds:
            seconds = max(one[0] for one in ended) - began
            time.sleep(_SETTLING)
            used = cpu_seconds(server.pid) - cpu
        client_cpu = sum(answer["cpu"] for answer in answers)
        took = [one[1] for one in ended]
        return Outcome(seconds, used, client_cpu, took, sum(one[2] for one in ended))

    def close(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait(10)


@contextmanager
def clients(most: int, script: str = "client.py") -> Iterator[Clients]:
    made = Clients(most, script)
    try:
        yield made
    finally:
        made.close()


def _say(client: subprocess.Popen[str], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line + "\n")
    client.stdin.flush()


def _hear(client: subprocess.Popen[str], server: Server) -> Any:
    assert client.stdout is not None
    line = client.stdout.readline()
    if not line:
        raise SystemExit(f"a client of {server.name} ended")
    return json.loads(line)
