"""The kinds of values that settings have."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from flexhost.security.tokens import Token, Tokens

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
Month = Annotated[int, Meta(ge=1, le=12, description="a month from 1 to 12")]
LogKey = Annotated[
    str,
    Meta(
        pattern=r"^(?!(timestamp|level|logger)$)\S+$",
        description="a text without blanks, not timestamp, level or logger",
    ),
]
Names = Annotated[tuple[Text, ...], Meta(description="a list of texts, none of them blank")]
Executors = Annotated[
    dict[Text, Literal["threads", "processes", "coroutines"]],
    Meta(description='a table of patterns of names → "threads", "processes" or "coroutines"'),
]
TraceKeys = Annotated[
    dict[Literal["trace_id", "span_id", "parent_span_id"], LogKey],
    Meta(description="a table of names for trace_id, span_id and parent_span_id"),
]
Method = Annotated[Literal["none", "token"], Meta(description='"none" or "token"')]
Rule = Annotated[
    str,
    Meta(
        pattern=r"^(|header:[^\s:]+|parameters:[^.]+(\.[^.]+)*)$",
        description='"header:NAME" or "parameters:PATH.TO.VALUE", or empty',
    ),
]
HeaderName = Annotated[
    str,
    Meta(
        pattern=r"^(?!(?i:grpc-))[A-Za-z0-9_.-]+(?<!(?i:-bin))$",
        description="a header name of letters, digits and dashes, neither grpc-... nor ...-bin",
    ),
]
TokenList = Annotated[
    Tokens, Meta(description='a list of texts, each a token or sha256:<64 hex digits>, or "@/path"')
]
OneToken = Annotated[
    Token, Meta(description='one token, a text or sha256:<64 hex digits>, or "@/path"')
]
KeysAt = Annotated[
    str,
    Meta(
        # what comes over http could be anybody's keys, unless it comes from this machine
        pattern=r"^(@/|https://[^/@]+(/|$)"
        r"|http://(localhost|127(\.[0-9]{1,3}){3}|\[::1\])(:[0-9]+)?(/|$))",
        description='"@/path", or "https://..." without a password, "http://" of localhost alone',
    ),
]
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
Algorithms = Annotated[
    tuple[Algorithm, ...],
    Meta(min_length=1, description=f"a list of {', '.join(get_args(Algorithm))}"),
]
Exporter = Annotated[
    Literal["none", "otlp-grpc", "otlp-http", "zipkin", "console"],
    Meta(description='"none", "otlp-grpc", "otlp-http", "zipkin" or "console"'),
]
