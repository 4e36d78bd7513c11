"""The headers of a request → its caller. A `Verifier` says whose a token is."""

from __future__ import annotations

import inspect
import traceback
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from flexhost.caller import Caller
from flexhost.digests import Digest
from flexhost.errors import NotReady, Unauthenticated, name_of
from flexhost.function import Headers

MASK = "***"


class Verifier(Protocol):
    def verify(self, call_info: Any, token: str) -> Any:
        """Who shows this token: a name, a Caller, or anything else, which functions then get.

        What is false (None, False, "") refuses, and so does any exception.
        """


class Authentication:
    """header: whose whole value is the token; "" for `authorization: Bearer <token>`."""

    def __init__(self, header: str = "") -> None:
        self._header = header.lower() or "authorization"
        self._bearer = not header
        self._verifier: Verifier | None = None

    def open(self, verifier: Verifier) -> None:
        """From now on tokens can be good."""
        self._verifier = verifier

    def caller(self, call_info: Any, headers: Headers) -> Caller:
        """Raises Unauthenticated, and NotReady before there is a verifier."""
        token = self._token(headers)
        if self._verifier is None:
            raise NotReady("the host is starting")
        try:
            caller = _caller(self._verifier.verify(call_info=call_info, token=token), token)
        except Unauthenticated as error:
            _refuse(error.why)
        except BaseException as error:  # of an author's verifier: a refusal, and never a hole
            _refuse("the verifier failed", _trace(error, token))
        return caller

    def masked(self, headers: Headers) -> Headers:
        """For functions: without the token."""
        return {**headers, self._header: [MASK]}

    def _token(self, headers: Headers) -> str:
        values = headers.get(self._header, [])
        if len(values) != 1 or f"{self._header}-bin" in headers:
            many = "no header" if not values else "more than one header"
            raise Unauthenticated(f"the request has {many} {self._header!r} with a token")
        value = values[0]
        if self._bearer:
            scheme, _, value = value.partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthenticated("the header 'authorization' is not: Bearer <token>")
        if not (token := value.strip(" \t")):
            raise Unauthenticated("the token is empty")
        return token


def _caller(found: Any, token: str) -> Caller:
    """What a verifier returned, as a caller with a name. Raises Unauthenticated."""
    if isinstance(found, Caller):
        caller = found
    elif inspect.isawaitable(found) or inspect.isgenerator(found) or found is NotImplemented:
        raise Unauthenticated("", why=f"the verifier returned a {type(found).__name__}")
    elif not found:
        raise Unauthenticated("", why="the verifier does not know the token")
    elif isinstance(found, str):
        caller = Caller(found)
    else:
        name = getattr(found, "name", None)
        caller = Caller(name if isinstance(name, str) else "", identity=found)
    if not caller.name or _shows(caller.name, token):
        return replace(caller, name=Digest.of(token).name)
    return caller


def _shows(name: str, token: str) -> bool:
    """Whether a name, which is on log lines, has the token in it, and not by chance."""
    return name == token or (len(token) >= _BY_CHANCE and token in name)


_BY_CHANCE = 8  # characters from which on it is none


def _refuse(why: str, trace: str | None = None) -> NoReturn:
    """The caller is told the same, whatever is wrong with its token."""
    raise Unauthenticated("the token is not accepted", why=why, trace=trace) from None


def _trace(error: BaseException, token: str) -> str:
    """A traceback without the token, which an author's exception may have in its text."""
    try:
        text = "".join(traceback.format_exception(error, limit=100))
    except BaseException:  # of an exception that cannot be written
        text = name_of(error)
    return text.replace(token, MASK).replace(repr(token)[1:-1], MASK)
