"""Tries a running host from outside, as a BI backend would come to it, and says what is wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow.flight as fl

from flexhost.command_line.access import Access, name_of, plain, told
from flexhost.command_line.reach import Address, Unreachable, is_own_machine, tls_of, touch
from flexhost.errors import SettingsError

# Seconds that list and schema may take, and the call of a function with its first rows.
_SHORT, _LONG = 10.0, 60.0


class Finding(NamedTuple):
    """One sentence; with its remedy when something is not well."""

    well: bool
    text: str


@dataclass(frozen=True)
class Patient:
    """What to try: a host, and one of its functions, None for the first one listed."""

    access: Access
    function: str | None = None
    parameters: str = "{}"


def examine(patient: Patient) -> Iterator[Finding]:
    """Findings, as they are made; none any more when going on makes no sense.

    Raises SettingsError: an option is wrong.
    """
    address = patient.access.address
    command = _command_without_name(patient)
    options = patient.access.connection() if address.tls else {}
    reached, findings = _reach(address, patient)
    yield from findings
    if not reached:
        return
    with fl.connect(address.uri, **options) as client:
        try:
            listed = client.list_flights(b"", patient.access.options(_SHORT))
            names = [name_of(info) for info in listed]
        except Exception as error:
            yield _refused("list functions", error, address)
            return
        yield _listed(names)
        name = patient.function or next(iter(names), None)
        if name is None:
            return
        if name not in names:
            yield Finding(False, f"no function {name!r} is listed: give one that is to --function")
            return
        yield from _try(client, name, command, address, patient)


def _try(
    client: fl.FlightClient, name: str, command: dict[str, Any], address: Address, patient: Patient
) -> Iterator[Finding]:
    """One function: its schema, a call of it, and its rows from where they are said to be."""
    descriptor = fl.FlightDescriptor.for_command(
        json.dumps({"functionName": name, **command}).encode()
    )
    try:
        schema = client.get_schema(descriptor, patient.access.options(_SHORT)).schema
        yield Finding(True, f"the columns of {name!r} are {_some(schema.names)}")
    except Exception as error:
        yield _refused(f"get the schema of {name!r}", error, address)
    try:
        begun = time.monotonic()
        info = client.get_flight_info(descriptor, patient.access.options(_LONG))
    except Exception as error:
        yield _refused(f"call {name!r}", error, address)
        return
    yield Finding(True, f"a call of {name!r} was answered in {time.monotonic() - begun:.2f} s")
    for endpoint in info.endpoints:
        for location in endpoint.locations:
            yield from _fetch(location.uri.decode(), endpoint.ticket, address, patient)


def _fetch(uri: str, ticket: fl.Ticket, address: Address, patient: Patient) -> Iterator[Finding]:
    """The first rows, from the address that the host advertises."""
    try:
        advertised = Address.of(uri)
    except ValueError:
        text = f"the host advertises {plain(uri)}, which is no address"
        yield Finding(False, f"{text}: {_ADVERTISE}")
        return
    if is_own_machine(advertised.host) and not is_own_machine(address.host):
        text = f"the host advertises {advertised.uri}, which is each caller's own machine"
        yield Finding(False, f"{text}: {_ADVERTISE}")
        return
    if address.tls and not advertised.tls:
        yield Finding(
            False,
            f"the host advertises {advertised.uri}, where the rows travel without TLS: let the host"
            " serve TLS itself (use_tls), not a proxy before it",
        )
        if patient.access.token:
            return  # it is a secret, and that address was not the one it was given for
    if advertised != address:
        reached, findings = _reach(advertised, patient, advertised=True)
        yield from findings
        if not reached:
            return
    options = patient.access.connection() if advertised.tls else {}
    with fl.connect(advertised.uri, **options) as client:
        try:
            reader = client.do_get(ticket, patient.access.options(_LONG))
            rows = next((chunk.data.num_rows for chunk in reader), 0)
            reader.cancel()
        except Exception as error:
            yield _refused(f"fetch rows from {advertised.uri}", error, advertised)
            return
    yield Finding(True, f"rows come from {advertised.uri}, the first batch has {rows}")


_ADVERTISE = "set advertise_host, and advertise_port, to what callers can reach"


def _reach(
    address: Address, patient: Patient, *, advertised: bool = False
) -> tuple[bool, list[Finding]]:
    """Whether a request can be sent there, and what was found out about it."""
    who = f"the host advertises {address.uri}, but " if advertised else ""
    try:
        touch(address)
    except Unreachable as error:
        remedy = _ADVERTISE if advertised else error.remedy
        return False, [Finding(False, f"{who}{error.problem}: {remedy}")]
    found = [Finding(True, f"{address.host}:{address.port} can be reached from here")]
    try:
        certificate = tls_of(address, patient.access.context())
    except Unreachable as error:
        return False, [*found, Finding(False, f"{who}{error.problem}: {error.remedy}")]
    return True, found + ([Finding(True, certificate)] if certificate else [])


def _listed(names: list[str]) -> Finding:
    if not names:
        return Finding(
            False,
            "no function is listed: name its module in [flexfun] functions, or let the token "
            "call one",
        )
    return Finding(True, f"it lists {_some(names)}")


def _some(names: list[str]) -> str:
    return ", ".join(map(plain, names[:10])) + (", ..." if len(names) > 10 else "")


def _refused(what: str, error: Exception, address: Address) -> Finding:
    text = told(error)
    match error:
        case fl.FlightUnauthenticatedError():
            remedy = "give a token that the host knows with --token"
        case fl.FlightUnauthorizedError():
            remedy = "take another token, or let this one call the function"
        case fl.FlightTimedOutError() if what == "list functions":
            remedy = f"see whether it is a FlexFun host that listens on port {address.port}"
        case fl.FlightTimedOutError():
            remedy = "see in the host's log what the function waits for"
        case fl.FlightUnavailableError() if error.extra_info:  # else gRPC says it, of itself
            remedy = "see whether the host starts, stops or is overloaded, and try again"
        case fl.FlightServerError() if "has no result here" in text:
            remedy = "another host answers there: give each an advertise_host of its own"
        case fl.FlightServerError() | fl.FlightInternalError():
            remedy = "see the host's log; what the function needs is given with --parameters"
        case _:
            remedy = f"see whether it is a FlexFun host that listens on port {address.port}"
    return Finding(False, f"cannot {what}: {text}: {remedy}")


def _command_without_name(patient: Patient) -> dict[str, Any]:
    try:
        parameters = json.loads(patient.parameters)
    except ValueError as error:
        raise SettingsError(f"--parameters is no JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise SettingsError("--parameters is no JSON object")
    return {"parameters": parameters}
