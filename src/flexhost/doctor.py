"""Tries a running host from outside, as a BI backend would come to it, and says what is wrong."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.flight as fl

from flexhost.errors import SettingsError
from flexhost.reach import Address, Unreachable, is_own_machine, tls_of, touch

# Seconds that list and schema may take, and the call of a function with its first rows.
_SHORT, _LONG = 10.0, 60.0


class Finding(NamedTuple):
    """One sentence; with its remedy when something is not well."""

    well: bool
    text: str


@dataclass(frozen=True)
class Patient:
    """What to try, and as whom.

    url:        `grpc://host:port` or `grpc+tls://host:port`.
    root:       file with the authorities to trust; None for those of the system.
    presented:  files of a certificate of the caller's own and its key.
    function:   None for the first one listed.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    root: str | None = None
    presented: tuple[str, str] | None = None
    function: str | None = None
    parameters: str = "{}"


def examine(patient: Patient) -> Iterator[Finding]:
    """Findings, as they are made; none any more when going on makes no sense.

    Raises SettingsError: an option is wrong.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between ours
    address = _address(patient.url)
    command = _command_without_name(patient)
    options = _connection(patient) if address.tls else {}
    reached, findings = _reach(address, patient)
    yield from findings
    if not reached:
        return
    with fl.connect(address.uri, **options) as client:
        try:
            names = [_name(info) for info in client.list_flights(b"", _options(patient, _SHORT))]
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
        schema = client.get_schema(descriptor, _options(patient, _SHORT)).schema
        yield Finding(True, f"the columns of {name!r} are {_some(schema.names)}")
    except Exception as error:
        yield _refused(f"get the schema of {name!r}", error, address)
    try:
        begun = time.monotonic()
        info = client.get_flight_info(descriptor, _options(patient, _LONG))
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
        text = f"the host advertises {_plain(uri)}, which is no address"
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
        if patient.token:
            return  # it is a secret, and that address was not the one it was given for
    if advertised != address:
        reached, findings = _reach(advertised, patient, advertised=True)
        yield from findings
        if not reached:
            return
    options = _connection(patient) if advertised.tls else {}
    with fl.connect(advertised.uri, **options) as client:
        try:
            reader = client.do_get(ticket, _options(patient, _LONG))
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
        certificate = tls_of(address, _context(patient))
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
    return ", ".join(map(_plain, names[:10])) + (", ..." if len(names) > 10 else "")


def _refused(what: str, error: Exception, address: Address) -> Finding:
    told = _told(error)
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
        case fl.FlightServerError() if "has no result here" in told:
            remedy = "another host answers there: give each an advertise_host of its own"
        case fl.FlightServerError() | fl.FlightInternalError():
            remedy = "see the host's log; what the function needs is given with --parameters"
        case _:
            remedy = f"see whether it is a FlexFun host that listens on port {address.port}"
    return Finding(False, f"cannot {what}: {told}: {remedy}")


def _told(error: Exception) -> str:
    """What the host said; pyarrow adds its own view of the connection, at length."""
    try:
        text = json.loads(getattr(error, "extra_info", b""))["msg"]
    except (ValueError, TypeError, LookupError):
        text = re.split(r"\. gRPC client debug context|\. Client context", str(error))[0]
        text = text.partition("with message: ")[2] or text
    return _plain(str(text)).rstrip(".")


def _plain(text: str) -> str:
    """One line, with nothing in it that a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in text[:400])


def _name(info: fl.FlightInfo) -> str:
    return str(json.loads(info.descriptor.command)["functionName"])


def _address(url: str) -> Address:
    try:
        return Address.of(url)
    except ValueError:
        raise SettingsError(
            f"{url!r} is no address of a host, expected grpc://HOST:PORT or grpc+tls://HOST:PORT"
        ) from None


def _command_without_name(patient: Patient) -> dict[str, Any]:
    try:
        parameters = json.loads(patient.parameters)
    except ValueError as error:
        raise SettingsError(f"--parameters is no JSON: {error}") from None
    if not isinstance(parameters, dict):
        raise SettingsError("--parameters is no JSON object")
    return {"parameters": parameters}


def _connection(patient: Patient) -> dict[str, Any]:
    files = {"tls_root_certs": patient.root}
    if patient.presented:
        files |= dict(zip(("cert_chain", "private_key"), patient.presented, strict=True))
    try:
        return {name: Path(file).read_bytes() for name, file in files.items() if file}
    except OSError as error:
        raise SettingsError(f"cannot read {error.filename}: {error.strerror}") from None


def _context(patient: Patient) -> ssl.SSLContext:
    option = "--tls-root"
    try:
        context = ssl.create_default_context(cafile=patient.root)
        if patient.presented:
            option = "--tls-certificate with --tls-key"
            context.load_cert_chain(*patient.presented, password="")  # and never ask for one
    except (OSError, ValueError):
        raise SettingsError(f"{option} cannot be used: it is not what it should be") from None
    return context


def _options(patient: Patient, seconds: float) -> fl.FlightCallOptions:
    headers = [(b"authorization", f"Bearer {patient.token}".encode())] if patient.token else []
    return fl.FlightCallOptions(timeout=seconds, headers=headers)
