"""The yardstick: the least that pyarrow needs to do the same work. No queue, no token, no log.

python bare_server.py PORT MODULE,... [--pool N] [--tls CERTIFICATE KEY]
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl


class Bare(fl.FlightServerBase):  # type: ignore[misc]  # pyarrow has no types
    """Keeps what a function returned until somebody reads it, which is once."""

    def __init__(self, location: str, functions: dict[str, Any], pool: int, **tls: Any) -> None:
        self._functions = functions
        self._pool = ThreadPoolExecutor(pool) if pool else None
        self._kept: dict[bytes, Any] = {}
        self._numbers = itertools.count()
        super().__init__(location, **tls)

    def get_flight_info(self, context: Any, descriptor: fl.FlightDescriptor) -> fl.FlightInfo:
        command = json.loads(descriptor.command)
        function = self._functions[command["functionName"]]()
        given = command.get("parameters") or {}, command.get("columns"), {}
        if self._pool is None:
            data = function.call(*given)
        else:
            data = self._pool.submit(function.call, *given).result()
        ticket = str(next(self._numbers)).encode()
        self._kept[ticket] = data
        endpoint = fl.FlightEndpoint(fl.Ticket(ticket), [])
        rows, size = (data.num_rows, data.nbytes) if isinstance(data, pa.Table) else (-1, -1)
        return fl.FlightInfo(data.schema, descriptor, [endpoint], rows, size)

    def do_get(self, context: Any, ticket: fl.Ticket) -> fl.FlightDataStream:
        return fl.RecordBatchStream(self._kept.pop(ticket.ticket))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("modules")
    parser.add_argument("--pool", type=int, default=0, help="threads that run functions")
    parser.add_argument("--tls", nargs=2, type=Path)
    options = parser.parse_args()
    modules = [importlib.import_module(name) for name in options.modules.split(",")]
    found = [one for module in modules for one in vars(module).values()]
    functions = {one.Name: one for one in found if isinstance(one, type) and hasattr(one, "Name")}
    scheme, tls = "grpc", {}
    if options.tls:
        scheme = "grpc+tls"
        tls = {"tls_certificates": [tuple(file.read_text() for file in options.tls)]}
    Bare(f"{scheme}://127.0.0.1:{options.port}", functions, options.pool, **tls)
    threading.Event().wait()


if __name__ == "__main__":
    main()
