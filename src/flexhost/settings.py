"""Every setting of the host: one frozen value, checked at start. `sources.py` finds the values."""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_type_hints

import msgspec
from dynaconf import Dynaconf
from msgspec import Meta

from flexhost import sources
from flexhost.errors import SettingsError
from flexhost.sources import Sources, Value

# A description says what is expected; an error shows it to whoever wrote something else.
Text = Annotated[str, Meta(min_length=1, pattern=r"\S", description="a text that is not blank")]
HostName = Annotated[
    str, Meta(pattern=r"^[^\s/?#@\[\]%]+$", description="a host name or an address, no URL")
]
Flag = Annotated[bool, Meta(description="true or false")]
Port = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535")]
Count = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1")]
CountOr0 = Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number from 0")]
Seconds = Annotated[float, Meta(ge=0, le=1e9, description="a number of seconds from 0")]
Bytes = Annotated[int, Meta(ge=1, le=1 << 50, description="a number of bytes from 1")]
BytesOr0 = Annotated[int, Meta(ge=0, le=1 << 50, description="a number of bytes from 0")]
Milliseconds = Annotated[int, Meta(ge=1, le=10**12, description="a whole number from 1")]
LogKey = Annotated[
    str,
    Meta(
        pattern=r"^(?!(timestamp|level|logger)$)\S+$",
        description="a text without blanks, not timestamp, level or logger",
    ),
]
Names = Annotated[tuple[Text, ...], Meta(description="a list of texts, none of them blank")]
Mapping = Annotated[dict[str, Text], Meta(description="a table of texts")]
Method = Annotated[Literal["none", "token"], Meta(description='"none" or "token"')]
Rule = Annotated[
    str,
    Meta(
        pattern=r"^(|header:[^\s:]+|parameters:[^.]+(\.[^.]+)*)$",
        description='"header:NAME" or "parameters:PATH.TO.VALUE", or empty',
    ),
]
Exporter = Annotated[
    Literal["none", "otlp-grpc", "otlp-http", "zipkin", "console"],
    Meta(description='"none", "otlp-grpc", "otlp-http", "zipkin" or "console"'),
]


_USUAL = "EnumeratedTokenVerification"


@dataclass(frozen=True)
class Server:
    """Section [server]."""

    listen_host: Text = "127.0.0.1"
    listen_port: Port = 17001
    advertise_host: HostName = field(default_factory=socket.gethostname)
    advertise_port: Port | None = None
    use_tls: Flag = False
    use_mtls: Flag = False
    tls_certificate: Text | None = None
    tls_private_key: Text | None = None
    tls_root_certificate: Text | None = None
    authentication_method: Method = "none"
    token_header_name: Text | None = None
    token_verification: Text = _USUAL
    task_threads: Count = 32
    task_queue_size: CountOr0 = 256
    task_close_threads: Count = 2
    task_result_ttl_sec: Seconds = 60.0
    release_after_read_sec: Seconds | None = None
    result_memory_bytes: Bytes | None = None
    result_spool_bytes: BytesOr0 = 16 << 30
    result_spool_dir: Text | None = None
    max_rpcs: Count = 1024
    max_streams: Count = 256
    max_command_bytes: Bytes = 1 << 20
    max_abandoned: Count = 16
    stream_stall_sec: Seconds = 0.0
    fair_queue_by: Rule = ""
    drain_sec: Seconds = 30.0
    error_detail: Flag = True
    health_check_host: Text | None = None
    health_check_port: Port = 8877
    metrics_host: Text | None = None
    metrics_port: Port = 17101
    malloc_trim_interval_sec: Seconds = 30.0
    log_event_key_name: LogKey = "event"
    log_trace_keys: Mapping = field(default_factory=dict)
    otel_exporter_type: Exporter = "none"
    otel_service_name: Text | None = None
    otel_service_namespace: Text | None = None
    otel_service_instance_id: Text | None = None
    otel_extract_context: Flag = False


@dataclass(frozen=True)
class Flexfun:
    """Section [flexfun], or by its later name [flexconnect]."""

    functions: Names = ()
    call_deadline_ms: Milliseconds = 180_000
    polling_interval_ms: Milliseconds = 2_000


@dataclass(frozen=True)
class Settings:
    """docs/settings.md says what each one is for."""

    server: Server = Server()
    flexfun: Flexfun = Flexfun()


_SECTIONS: dict[str, type[Any]] = {"server": Server, "flexfun": Flexfun}
_KNOWN: dict[str, type[Any]] = {**_SECTIONS, "enumerated_tokens": object}

# A setting that asks for what is not there ends the start: the host would be open that was told to
# be closed, or mute that was told to speak.
_NOT_SERVED = {
    "use_tls": "TLS",
    "use_mtls": "TLS",
    "tls_certificate": "TLS",
    "tls_private_key": "TLS",
    "tls_root_certificate": "TLS",
    "authentication_method": "authentication",
    "token_header_name": "authentication",
    "token_verification": "authentication",
    "otel_exporter_type": "tracing",
    "otel_service_name": "tracing",
    "otel_service_namespace": "tracing",
    "otel_service_instance_id": "tracing",
    "otel_extract_context": "tracing",
    "log_trace_keys": "tracing",
}


class Loaded(NamedTuple):
    """settings: the host's own. everything: all sections there are, for an author's `on_load`."""

    settings: Settings
    everything: Dynaconf


def load(files: Iterable[str] = ()) -> Loaded:
    """Settings from these TOML files, in this order, and from the environment, which wins.

    Raises SettingsError.
    """
    found = sources.read(files, {name: get_type_hints(cls) for name, cls in _KNOWN.items()})
    for key, given in found.get("enumerated_tokens", {}).items():
        raise _not_served(key, given, "authentication")
    return Loaded(_settings(found), sources.for_functions(found))


def _settings(found: Sources) -> Settings:
    values: dict[str, Any] = {}
    for section, cls in _SECTIONS.items():
        hints = get_type_hints(cls, include_extras=True)
        checked = {}
        for key, given in found.get(section, {}).items():
            if key not in hints:
                near = difflib.get_close_matches(key, hints, n=1)
                known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(hints)}"
                raise SettingsError(
                    f"{given.source}: [{given.section}] has no setting {key!r}; {known}"
                )
            checked[key] = _checked(key, given, hints[key])
        values[section] = cls(**checked)
    return Settings(**values)


def _checked(key: str, given: Value, hint: Any) -> Any:
    """The value as its type. Raises SettingsError."""
    value, expected = given.value, _expected(hint)
    if type(None) in get_args(hint) and value in ("", None):
        return None
    if expected.startswith(("a text", "a host")) and isinstance(value, (int, float)):
        # dynaconf reads a variable's 0123 as a number: its own text counts
        value = os.environ.get(given.source, str(value))
    try:
        value = msgspec.convert(value, hint, strict=False)
    except msgspec.ValidationError:
        raise SettingsError(
            f"{given.source}: [{given.section}] {key} is {given.value!r}, expected {expected}"
        ) from None
    if key in _NOT_SERVED and value not in (None, False, "none", {}, _USUAL):
        raise _not_served(key, given, _NOT_SERVED[key])
    return value


def _expected(hint: Any) -> str:
    """The description of a hint, of the part that is not None."""
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            return str(meta.description)
    raise TypeError(f"{hint} has no description")


def _not_served(key: str, given: Value, what: str) -> SettingsError:
    return SettingsError(
        f"{given.source}: [{given.section}] {key} asks for {what}, "
        "which this version does not serve yet"
    )
