"""The functions of a running host, listed and called over the wire."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.flight as fl

from flexhost.command_line.access import Access, name_of, told
from flexhost.command_line.answer import Answer
from flexhost.command_line.reach import Address, Unreachable, is_own_machine, tls_of, touch
from flexhost.errors import HostError, StartError, UnknownFunction, meant
from flexhost.frontends.flight_wire import CODES

# Seconds that a list of functions may take.
_SHORT = 10.0


@dataclass(frozen=True)
class Listed:
    """What a host tells of a function."""

    name: str
    schema: pa.Schema
    metadata: Mapping[str, Any] | None


class Remote:
    """Its methods raise HostError with what the host said, StartError when it is not reached."""

    def __init__(self, access: Access) -> None:
        """Raises SettingsError."""
        self.cancelled = False
        self._access = access
        self._address = access.address
        self._client = self._connect(self._address)

    def functions(self) -> list[Listed]:
        with _as_host_errors():
            infos = list(self._client.list_flights(b"", self._access.options(_SHORT)))
        return [_listed(info) for info in infos]

    def function(self, name: str) -> Listed:
        listed = {one.name: one for one in self.functions()}
        if name in listed:
            return listed[name]
        raise UnknownFunction(f"no function is named {name!r}, {meant(name, listed)}")

    @contextmanager
    def call(self, name: str, parameters: dict[str, Any]) -> Iterator[Answer]:
        """A call whose caller goes before its end is stopped by the host."""
        command = json.dumps({"functionName": name, "parameters": parameters}).encode()
        descriptor = fl.FlightDescriptor.for_command(command)
        with _as_host_errors():
            info = self._client.get_flight_info(descriptor, self._access.options())
            [endpoint] = info.endpoints
            client = self._client_for([at.uri.decode() for at in endpoint.locations])
            reader = client.do_get(endpoint.ticket, self._access.options())
            try:
                rows = None if info.total_records < 0 else info.total_records
                yield Answer(info.schema, rows, _tables(reader))
            finally:
                reader.cancel()

    def cancel(self) -> None:
        """The host notices by itself, within half a second, that its caller has gone."""
        self.cancelled = True

    def close(self) -> None:
        self._client.close()

    def _client_for(self, locations: list[str]) -> fl.FlightClient:
        """Where the rows are, which may be another host of several."""
        advertised = Address.of(locations[0]) if locations else self._address
        if advertised == self._address or is_own_machine(advertised.host):
            return self._client  # a name that means this machine to each caller says nothing
        if self._address.tls and not advertised.tls:
            raise StartError(
                f"the host advertises {advertised.uri}, where the rows travel without TLS"
            )
        return self._connect(advertised, f"the host advertises {advertised.uri}, but ")

    def _connect(self, address: Address, why: str = "") -> fl.FlightClient:
        files = self._access.connection() if address.tls else {}
        try:
            touch(address)
            tls_of(address, self._access.context())
        except Unreachable as error:
            raise StartError(f"{why}{error.problem}: {error.remedy}") from None
        return fl.connect(address.uri, **files)


def _tables(reader: fl.FlightStreamReader) -> Iterator[pa.Table]:
    """Raises HostError."""
    while True:
        with _as_host_errors():
            try:
                chunk = reader.read_chunk()
            except StopIteration:
                return
        if chunk.data is not None:
            yield pa.Table.from_batches([chunk.data])


def _listed(info: fl.FlightInfo) -> Listed:
    return Listed(name_of(info), info.schema, json.loads(info.descriptor.command)["metadata"])


_NAMES = {number & 0xFFFF: name for name, (number, _) in CODES.items()}


@contextmanager
def _as_host_errors() -> Iterator[None]:
    """What came over the wire as what it was before; see `frontends.flight.FlightFrontend`."""
    try:
        yield
    except (fl.FlightError, pa.ArrowException) as error:
        extra = getattr(error, "extra_info", b"")
        try:
            info = json.loads(extra)
            code, detail = _NAMES.get(info["code"] & 0xFFFF, "UNKNOWN"), info["detail"]
        except (ValueError, TypeError, LookupError):
            code, detail = "UNKNOWN", None
        made = HostError(told(error), detail=detail)
        made.code = code
        raise made from None
