"""What a URL of the settings answers."""

from __future__ import annotations

import functools
import io
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import socket
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from flexhost.errors import StartError, text_of

# Seconds: until a server must say something; and for its whole answer, which may come in drops.
SILENT = 5.0
ANSWER = 10.0


def download(url: str, what: str, most: int, seconds: float = ANSWER) -> bytes:
    """what: the answer is, for the error. most: bytes of it. Raises StartError."""
    try:
        with _opener(seconds).open(url, timeout=min(SILENT, seconds)) as response:
            data: bytes = response.read(most + 1)
    except (OSError, HTTPException, ValueError) as error:
        if isinstance(error, HTTPError):
            error.close()
        raise StartError(f"cannot fetch the {what} of {shown(url)}: {text_of(error)}") from None
    if len(data) > most:
        raise StartError(f"the {what} of {shown(url)} have over {most} bytes")
    return data


def shown(url: str) -> str:
    """Without what a query may tell."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def _opener(seconds: float) -> urllib.request.OpenerDirector:
    class Http(urllib.request.HTTPHandler):
        def http_open(self, request: urllib.request.Request) -> HTTPResponse:
            return self.do_open(_timely(HTTPConnection, seconds), request)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, request: urllib.request.Request) -> HTTPResponse:
            return self.do_open(_timely(HTTPSConnection, seconds), request)

    # http is for what this machine itself answers
    proxies = {of: url for of, url in urllib.request.getproxies().items() if of != "http"}
    proxy = urllib.request.ProxyHandler(proxies)
    return urllib.request.build_opener(proxy, Http, Https, NoRedirect)


def _timely(kind: type[HTTPConnection], seconds: float) -> Callable[..., HTTPConnection]:
    def connection(*args: Any, **options: Any) -> HTTPConnection:
        made = kind(*args, **options)
        # urllib knows no limit for an answer: the timeout of a socket begins anew with each byte
        made.response_class = functools.partial(_Response, seconds)  # type: ignore[assignment]
        return made

    return connection


class _Response(HTTPResponse):
    def __init__(self, seconds: float, sock: socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        # of the reader that http.client made
        self.fp = io.BufferedReader(_Timely(sock, self.fp.detach(), seconds))


class _Timely(io.RawIOBase):
    """What comes from a socket within so many seconds from now."""

    def __init__(self, sock: socket, raw: io.RawIOBase, seconds: float) -> None:
        self._sock = sock
        self._raw = raw
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"the answer was not whole within {self._seconds:g} s")
        self._sock.settimeout(min(SILENT, left))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """From where the settings name, and from nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None
