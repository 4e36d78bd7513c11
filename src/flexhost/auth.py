"""The headers of a request → its caller. A `Verifier` says whose a token is."""

from __future__ import annotations

import hashlib
import inspect
import traceback
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NoReturn, Protocol, runtime_checkable

from flexhost.caller import Caller
from flexhost.errors import NotReady, Unauthenticated, name_of
from flexhost.function import Headers
from flexhost.security.digests import Digest

MASK = "***"


class Verifier(Protocol):
    def verify(self, call_info: Any, token: str) -> Any:
        """Who shows this token: a name, a Caller, or anything else, which functions then get.

        What is false (None, False, "") refuses, and so does any exception.
        """


@runtime_checkable
class Lasting(Verifier, Protocol):
    """What it says of a token stays true until it takes a new `seen`.

    seen: SHA-256 of headers whose tokens it has found good → their callers.
    """

    seen: dict[bytes, Caller]


class Authentication:
    """header: whose whole value is the token; "" for `authorization: Bearer <token>`."""

    def __init__(self, header: str = "") -> None:
        self._header = header.lower() or "authorization"
        self._binary = f"{self._header}-bin"
        self._bearer = not header
        self._verifier: Verifier | None = None
        self._lasting: Lasting | None = None
        self._ours = False

    def open(self, verifier: Verifier, *, ours: bool = False) -> None:
        """From now on tokens can be good.

        ours: the verifier is the host's own, which is quick, and what it tells shows no token.
        """
        self._ours = ours
        self._lasting = verifier if ours and isinstance(verifier, Lasting) else None
        self._verifier = verifier

    def caller(
        self, call_info: Any, headers: Headers, bound: AbstractContextManager[None]
    ) -> Caller:
        """Raises Unauthenticated, and NotReady before there is a verifier.

        bound: is entered while an author's verifier is at work, and may raise.
        """
        if self._lasting is not None:
            return self._seen(self._lasting, call_info, headers)
        token, verifier = self._token(headers), self._verifier
        if verifier is None:
            raise NotReady("the host is starting")
        if self._ours:
            return self._verified(verifier, call_info, token)
        with bound:
            return self._verified(verifier, call_info, token)

    def _seen(self, verifier: Lasting, call_info: Any, headers: Headers) -> Caller:
        seen = verifier.seen  # before it is asked: of what changes meanwhile nothing stays
        values = headers.get(self._header, ())
        shown = hashlib.sha256("\n".join(values).encode()).digest()
        if (caller := seen.get(shown)) is not None and self._binary not in headers:
            return caller
        caller = self._verified(verifier, call_info, self._token(headers))
        if len(seen) < _MOST_SEEN:
            seen[shown] = caller
        return caller

    def _verified(self, verifier: Verifier, call_info: Any, token: str) -> Caller:
        try:
            found = verifier.verify(call_info=call_info, token=token)
            if type(found) is not Caller or not found.name or _shows(found.name, token):
                found = _caller(found, token)
        except BaseException as error:  # of an author's verifier: a refusal, and never a hole
            if self._ours and isinstance(error, Unauthenticated):
                _refuse(error.why)
            _refuse("the verifier failed", _trace(error))
        if not isinstance(found, Caller):
            _refuse(found)
        return found

    def masked(self, headers: Headers) -> Headers:
        """For functions: without the token."""
        return {**headers, self._header: [MASK]}

    def _token(self, headers: Headers) -> str:
        values = headers.get(self._header)
        if values is None or len(values) != 1 or self._binary in headers:
            many = "no header" if not values else "more than one header"
            raise Unauthenticated(f"the request has {many} {self._header!r} with a token")
        value = values[0]
        if self._bearer:
            scheme, _, value = value.partition(" ")
            if scheme != "Bearer" and scheme.lower() != "bearer":
                raise Unauthenticated("the header 'authorization' is not: Bearer <token>")
        if not (token := value.strip(" \t")):
            raise Unauthenticated("the token is empty")
        return token


# Headers that are known, at most: of one token there may be several.
_MOST_SEEN = 1024


def _caller(found: Any, token: str) -> Caller | str:
    """What a verifier returned, as a caller with a name; or why it is none."""
    if isinstance(found, Caller):
        caller = found
    elif isinstance(found, type):
        return "the verifier returned a class"
    elif isinstance(found, _NO_ANSWERS) or any(is_one(found) for is_one in _WORK):
        return f"the verifier returned a {name_of(found)}"
    elif not found:
        return "the verifier does not know the token"
    elif isinstance(found, str):
        caller = Caller(found)
    else:
        name = getattr(found, "name", None)
        caller = Caller(name if isinstance(name, str) else "", identity=found)
    if not caller.name or _shows(caller.name, token):
        return replace(caller, name=Digest.of(token).name)
    return caller


# What somebody returns who forgot to raise, to call or to wait.
_NO_ANSWERS = (BaseException, Future, type(NotImplemented))
_WORK = (inspect.isawaitable, inspect.isgenerator, inspect.isasyncgen, inspect.isroutine)


def _shows(name: str, token: str) -> bool:
    """Whether a name, which is on log lines, has the token in it, and not by chance."""
    return name == token or (len(token) >= _BY_CHANCE and token in name)


_BY_CHANCE = 8  # characters from which on it is none


def _refuse(why: str, trace: str | None = None) -> NoReturn:
    """The caller is told the same, whatever is wrong with its token."""
    raise Unauthenticated("the token is not accepted", why=why, trace=trace) from None


def _trace(error: BaseException) -> str:
    """Where an author's exception comes from. Not its text, nor those of its causes: they may have
    the token, or a part of it."""
    try:
        frames = traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), limit=-_FRAMES, lookup_lines=False
        )
        lines = [f'  File "{at.filename}", line {at.lineno}, in {at.name}' for at in frames]
    except BaseException:  # of one that lets nobody ask
        lines = []
    return "\n".join([*lines, name_of(error)])


_FRAMES = 50  # the innermost, of a recursion without end
