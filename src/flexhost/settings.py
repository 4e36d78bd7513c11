"""Every setting of the host: one frozen value, checked at start. Where the values come from:
`configuration/setting_sources.py`."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

import msgspec

from flexhost.configuration import setting_sources
from flexhost.configuration.kinds import (
    Algorithms,
    Bytes,
    BytesOr0,
    Count,
    CountOr0,
    Executors,
    Exporter,
    Flag,
    HeaderName,
    HostName,
    KeysAt,
    LogKey,
    Method,
    Milliseconds,
    Month,
    Names,
    OneToken,
    Port,
    Rule,
    Seconds,
    Text,
    TokenList,
    TraceKeys,
)
from flexhost.configuration.later import Later
from flexhost.configuration.setting_sources import SECRETS, Value
from flexhost.errors import SettingsError, meant
from flexhost.security import exposure
from flexhost.security.tokens import Tokens

if TYPE_CHECKING:
    from dynaconf import Dynaconf

ENUMERATED, JWT = "EnumeratedTokenVerification", "JwtTokenVerification"


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
    tls_private_key: Text | None = field(default=None, repr=False)
    tls_root_certificate: Text | None = None
    authentication_method: Method = "none"
    token_header_name: HeaderName | None = None
    token_verification: Text = ENUMERATED
    allow_insecure: Flag = False
    task_threads: Count = 32
    task_coroutines: Count = 10_000
    task_queue_size: CountOr0 = 256
    task_close_threads: Count = 2
    task_result_ttl_sec: Seconds = 60.0
    release_after_read_sec: Seconds | None = None
    result_memory_bytes: Bytes | None = None
    result_spool_bytes: BytesOr0 = 16 << 30
    result_spool_dir: Text | None = None
    process_workers: Count | None = None
    process_streams: Count = 16
    process_recycle_calls: CountOr0 = 0
    process_recycle_bytes: BytesOr0 = 0
    process_memory_bytes: Bytes | None = None
    max_rpcs: Count = 1024
    max_streams: Count = 256
    max_command_bytes: Bytes = 1 << 20
    max_exchanges: Count = 256
    max_batch_bytes: Bytes = 64 << 20
    max_abandoned: Count = 16
    grpc_cores: CountOr0 = 1
    switch_interval_ms: Count = 5
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
    log_trace_keys: TraceKeys = field(default_factory=dict)
    otel_exporter_type: Exporter = "none"
    otel_service_name: Text | None = None
    otel_service_namespace: Text | None = None
    otel_service_instance_id: Text | None = None
    otel_extract_context: Flag = False

    @property
    def traces(self) -> bool:
        return self.otel_exporter_type != "none" and self.otel_service_name is not None

    @property
    def authenticates(self) -> bool:
        """Whether nobody gets in who does not show who they are."""
        return self.authentication_method == "token" or self.use_mtls


@dataclass(frozen=True)
class Flexfun:
    """Section [flexfun], or by its later name [flexconnect]."""

    functions: Names = ()
    call_deadline_ms: Milliseconds = 180_000
    polling_interval_ms: Milliseconds = 2_000
    fiscal_year_start_month: Month = 1
    executors: Executors = field(default_factory=dict)


@dataclass(frozen=True)
class Udf:
    """Section [udf]."""

    functions: Names = ()


@dataclass(frozen=True)
class Entry:
    """One of [[enumerated_tokens.entries]]."""

    name: Text
    token: OneToken
    functions: Names = ("*",)
    max_running: Count | None = None


_NO_TOKENS = Tokens()


@dataclass(frozen=True)
class EnumeratedTokens:
    """Section [enumerated_tokens]."""

    tokens: TokenList = _NO_TOKENS
    entries: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Jwt:
    """Section [jwt]."""

    jwks: KeysAt | None = None
    issuer: Text | None = None
    audience: Text | None = None
    leeway: Seconds = 0.0
    algorithms: Algorithms = ("RS256", "PS256", "ES256", "EdDSA")
    name_claim: Text = "sub"
    functions_claim: Text | None = None


@dataclass(frozen=True)
class Invoke:
    """Section [invoke]."""

    listen_host: Text | None = None
    listen_port: Port = 50051
    config_override_dir: Text | None = None


@dataclass(frozen=True)
class Settings:
    """docs/settings.md says what each one is for."""

    server: Server = Server()
    flexfun: Flexfun = Flexfun()
    udf: Udf = Udf()
    enumerated_tokens: EnumeratedTokens = EnumeratedTokens()
    jwt: Jwt = Jwt()
    invoke: Invoke = Invoke()


_SECTIONS: dict[str, type[Any]] = {
    "server": Server,
    "flexfun": Flexfun,
    "udf": Udf,
    "enumerated_tokens": EnumeratedTokens,
    "jwt": Jwt,
    "invoke": Invoke,
}


class Loaded(NamedTuple):
    """settings: the host's own. everything: all sections there are, for an author's `on_load`."""

    settings: Settings
    everything: Later[Dynaconf]


def load(files: Iterable[str] = ()) -> Loaded:
    """Settings from these TOML files, in this order, and from the environment, which wins.

    Raises SettingsError.
    """
    known = {name: get_type_hints(cls) for name, cls in _SECTIONS.items()}
    found = setting_sources.read(files, known)
    settings = Settings(
        **{name: _section(cls, found.get(name, {})) for name, cls in _SECTIONS.items()}
    )
    exposure.check_tls(settings.server, found.get("server", {}))
    exposure.check_closed(settings.server, found)
    return Loaded(settings, setting_sources.for_functions(found, known))


def _section(cls: type[Any], keys: dict[str, Value]) -> Any:
    hints = get_type_hints(cls, include_extras=True)
    checked = {}
    for key, given in keys.items():
        if key not in hints:
            raise SettingsError(
                f"{given.source}: [{given.section}] has no setting {key!r}; {meant(key, hints)}"
            )
        checked[key] = (_entries if key == "entries" else _checked)(key, given, hints[key])
    return cls(**checked)


def _entries(key: str, given: Value, hint: Any) -> tuple[Entry, ...]:
    tables = given.value
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"{given.source}: [{given.section}] {key} is no list of tables")
    entries = []
    for number, table in enumerate(tables, 1):
        of = f"{given.section}.{key}, {number}"
        setting_sources.check_once(table, f"[{of}]", given.source)
        keys = {name.lower(): Value(value, given.source, of) for name, value in table.items()}
        for needed in ("name", "token"):
            if needed not in keys:
                raise SettingsError(f"{given.source}: [{of}] has no {needed!r}")
        entries.append(_section(Entry, keys))
    return tuple(entries)


def _checked(key: str, given: Value, hint: Any) -> Any:
    """The value as its type. Raises SettingsError."""
    value, expected = given.value, _expected(hint)
    if type(None) in get_args(hint) and value in ("", None):
        return None
    if expected.startswith(("a text", "a host", "a header")) and isinstance(value, (int, float)):
        # dynaconf reads a variable's 0123 as a number: its own text counts
        own = given.source.endswith(f"__{key.upper()}")
        value = os.environ.get(given.source if own else "", str(value))
    try:
        value = msgspec.convert(value, hint, strict=False, dec_hook=_tokens)
    except msgspec.ValidationError as error:
        told = error.__cause__ or "is something else"  # by `_tokens`, without the value
        problem = told if key in SECRETS else f"is {given.value!r}"
        raise SettingsError(
            f"{given.source}: [{given.section}] {key} {problem}, expected {expected}"
        ) from None
    return value


def _tokens(kind: type[Tokens], value: object) -> Tokens:
    return kind.given(value)


def _expected(hint: Any) -> str:
    """The description of a hint, of the part that is not None."""
    for part in (hint, *get_args(hint)):
        for meta in getattr(part, "__metadata__", ()):
            return str(meta.description)
    raise TypeError(f"{hint} has no description")
