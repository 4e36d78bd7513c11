"""A host with everything switched on that exports metrics, and what it exports."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.flight as fl
import pytest
from authority import Authority
from exchanging import answers, of
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from support import LONG, NUMBERS, Client, command, process, until

# Of every kind: a table, a cached one, a stream, a failure; and one that is called with batches.
PLAIN = "def add(a: int, b: int) -> int:\n    return a + b\n"
FUNCTIONS = (
    NUMBERS
    + """
from flexhost import CachePolicy

class Cached(Numbers):
    Name = "cached"
    Cache = CachePolicy(ttl_sec=60)

class Streamed(Numbers):
    Name = "streamed"

    def call(self, parameters, columns, headers):
        return super().call(parameters, columns, headers).to_reader()

class Fails(Numbers):
    Name = "fails"

    def call(self, parameters, columns, headers):
        raise OSError("no database")
"""
)


class Exporting:
    """A client of the host, and the port of its `/metrics`."""

    def __init__(self, client: Client, port: int) -> None:
        self.port = port
        self.client = client

    def page(self) -> str:
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=LONG) as answer:
            text: str = answer.read().decode()
        return text

    def families(self) -> list[Metric]:
        return list(text_string_to_metric_families(self.page()))

    def labels(self) -> dict[str, set[str]]:
        """Those of each name that a query can use."""
        found: dict[str, set[str]] = {}
        for family in self.families():
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        return found

    def traffic(self) -> None:
        """Calls of every function, one of them refused."""
        answers(self.client, [of([1], [1])])
        for name in ("numbers", "cached", "cached", "streamed"):
            self.client.call(name)
        for name in ("fails", "nobody"):
            with pytest.raises(fl.FlightServerError):
                self.client.info(command(name))


@contextlib.contextmanager
def exporting(folder: Path) -> Iterator[Exporting]:
    """Such a host in a process of its own, with TLS, after some traffic."""
    authority = Authority()
    certificate, key = authority.pair()
    (folder / "cert.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    settings = "metrics_host = '127.0.0.1'\nmetrics_port = 0\nuse_tls = true\n"
    settings += "tls_certificate = '@cert.pem'\ntls_private_key = '@key.pem'"
    with process(folder, FUNCTIONS, settings, udfs=PLAIN) as host:
        port = int(host.line(r"HTTP on [^ ]+:(\d+): /metrics")[1])
        exported = Exporting(Client(host.port(), **authority.trusting()), port)
        exported.traffic()
        last = 'flexhost_refusals_total{reason="bad_argument"} 1'
        until(lambda: last in exported.page())
        yield exported
