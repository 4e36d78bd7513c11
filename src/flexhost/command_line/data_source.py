"""A host as a FLIGHTRPC data source of a BI backend, registered through the backend's REST API
(JSON:API, `/api/v1/entities/dataSources`)."""

from __future__ import annotations

import base64
import json
import re
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

from flexhost import settings
from flexhost.command_line.reach import Address, is_own_machine
from flexhost.configuration.downloads import NoRedirect, shown
from flexhost.configuration.files import content
from flexhost.errors import SettingsError, StartError, text_of
from flexhost.frontends.address import uri
from flexhost.telemetry.masks import MASK, masked

_MEDIA_TYPE = "application/vnd.gooddata.api+json"
_PATH = "/api/v1/entities/dataSources"
# Seconds for an answer; bytes of it that are read.
_SECONDS = 30.0
_MOST = 1 << 20


@dataclass(frozen=True)
class DataSource:
    """url:    under which the backend reaches the host, `grpc://...` or `grpc+tls://...`.
    token:  bearer token for the host.
    ca:     file of the authority that the backend is to trust, in PEM.
    cached: the backend keeps results until it is told of new data.

    Raises SettingsError.
    """

    id: str
    name: str
    url: str
    token: str | None = None
    ca: str | None = None
    cached: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"(?!\.)[.A-Za-z0-9_-]{1,255}", self.id):
            raise SettingsError(f"--id is {self.id!r}, expected letters, digits, '.', '_' and '-'")
        try:
            tls = Address.of(self.url).tls
        except ValueError:
            raise SettingsError(
                f"--url is {self.url!r}, expected grpc://HOST:PORT or grpc+tls://HOST:PORT"
            ) from None
        if self.ca is not None and not tls:
            raise SettingsError(f"--ca goes with a URL of TLS, grpc+tls://..., not {self.url}")

    def body(self, *, hidden: bool = False) -> dict[str, Any]:
        """Of the request. hidden: the token is not shown. Raises SettingsError."""
        attributes: dict[str, Any] = {
            "name": self.name,
            "type": "FLIGHTRPC",
            "url": self.url,
            "schema": "",
            "cacheStrategy": "ALWAYS" if self.cached else "NEVER",
        }
        if self.token:
            attributes["token"] = MASK if hidden else self.token
        if self.ca is not None:
            pem = content(self.ca, "the host's authority")
            if b"-----BEGIN CERTIFICATE-----" not in pem:
                raise SettingsError(f"the file {self.ca} has no certificate in PEM")
            value = base64.b64encode(pem).decode()
            attributes["parameters"] = [{"name": "tlsRootCertificate", "value": value}]
        return {"data": {"id": self.id, "type": "dataSource", "attributes": attributes}}


def url_of(files: Iterable[str]) -> str:
    """Under which a host with these settings says that it is reached. Raises SettingsError."""
    server = settings.load(files).settings.server
    port = server.advertise_port or server.listen_port
    return uri("grpc+tls" if server.use_tls else "grpc", server.advertise_host, port)


class Backend:
    """token: of its API, for whoever may manage data sources. Raises SettingsError."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise SettingsError(f"--backend is {shown(url)!r}, expected https://HOST")
        self.url = url.rstrip("/") + _PATH
        self.unprotected = parts.scheme == "http" and not is_own_machine(parts.hostname)
        self._token = token
        # a token goes where it was meant to go, and nowhere else
        self._opener = urllib.request.build_opener(NoRedirect)

    def put(self, made: DataSource) -> str:
        """Make the data source, or replace the one with its id: "made" or "replaced".

        Raises StartError with what the backend said.
        """
        body = made.body()
        itself = f"{self.url}/{quote(made.id, safe='')}"
        if self._ask("GET", itself, missing=True):
            self._ask("PUT", itself, body)
            return "replaced"
        self._ask("POST", self.url, body)
        return "made"

    def _ask(
        self, method: str, url: str, body: dict[str, Any] | None = None, *, missing: bool = False
    ) -> bool:
        """Whether it is there. missing: it need not be."""
        request = urllib.request.Request(  # noqa: S310  # http or https, see above
            url,
            None if body is None else json.dumps(body).encode(),
            {
                "Authorization": f"Bearer {self._token}",
                "Content-Type": _MEDIA_TYPE,
                "Accept": _MEDIA_TYPE,
            },
            method=method,
        )
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                answer.read(_MOST)
            return True
        except HTTPError as error:
            with error:
                if missing and error.code == 404:
                    return False
                said = _said(error.read(_MOST))
            raise StartError(f"{method} {url}: {error.code} {error.reason}{said}") from None
        except (OSError, HTTPException, ValueError) as error:
            raise StartError(f"{method} {url}: {text_of(error)}") from None


def _said(answer: bytes) -> str:
    """What an answer says of an error, on one line."""
    try:
        said = json.loads(answer)
        text = str(said.get("detail") or said.get("title") or "")
    except (ValueError, AttributeError):
        text = answer.decode("utf-8", "replace")
    text = " ".join(str(masked(text)).split())
    return f": {text[:500]}" if text else ""
