"""A client process: jobs come in on stdin, a line of JSON each, and what came of them goes out.

A job is answered twice: once when it is connected, and, told to begin, once when it is over.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import threading
import time
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

# or all connections of a process to a server are one
_OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]


class Job:
    """One function, called by `threads` threads over `connections` connections, by each as often as
    `each` says, and for `seconds` after the first `warm` at the longest."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        command = json.dumps({"functionName": given["function"], "parameters": given["parameters"]})
        self.descriptor = fl.FlightDescriptor.for_command(command)
        token = f"Bearer {given['token']}".encode()
        self.options = fl.FlightCallOptions(timeout=120, headers=[(b"authorization", token)])
        self.connections = [self.connect() for _ in range(given["connections"])]
        self.ended: list[tuple[float, float, int]] = []  # when, after how long, bytes
        self.problem = ""

    def connect(self) -> fl.FlightClient:
        root = self.given["root"]
        tls = {"tls_root_certs": root.encode()} if root else {}
        client = fl.connect(self.given["location"], generic_options=_OWN_CONNECTION, **tls)
        with contextlib.suppress(pa.ArrowException):  # whatever it answers: it is connected then
            list(client.list_flights(options=self.options))
        return client

    def call(self, client: fl.FlightClient) -> int:
        """Bytes of Arrow data that came."""
        try:
            info = client.get_flight_info(self.descriptor, self.options)
        except fl.FlightError:
            if self.given["refused"]:
                return 0
            raise
        if self.given["refused"]:
            raise ValueError("a call that should have been refused was served")
        size: int = client.do_get(info.endpoints[0].ticket, self.options).read_all().nbytes
        return size

    def repeat(self, client: fl.FlightClient, until: float) -> None:
        for _ in range(self.given["each"]):
            began = time.monotonic()
            if began > until or self.problem:
                return
            try:
                size = self.call(client)
            except Exception as error:
                self.problem = f"{type(error).__name__}: {error}"
                return
            now = time.monotonic()
            self.ended.append((now, now - began, size))

    def run(self) -> dict[str, Any]:
        """Times are seconds of the system's monotonic clock, that all processes share."""
        began = time.monotonic()
        counted = began + self.given["warm"]
        until = counted + self.given["seconds"]
        threads = [
            threading.Thread(
                target=self.repeat, args=[self.connections[i % len(self.connections)], until]
            )
            for i in range(self.given["threads"])
        ]
        for thread in threads:
            thread.start()
        time.sleep(self.given["warm"])
        cpu = _cpu()
        for thread in threads:
            thread.join()
        return {
            "cpu": _cpu() - cpu,
            "ended": [one for one in self.ended if counted <= one[0] <= until],
            "problem": self.problem,
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    threading.stack_size(256 << 10)
    for line in sys.stdin:
        job = Job(json.loads(line))
        print(json.dumps("connected"), flush=True)
        sys.stdin.readline()
        print(json.dumps(job.run()), flush=True)


if __name__ == "__main__":
    main()
