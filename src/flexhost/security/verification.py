"""Which verifier the settings name."""

from __future__ import annotations

import inspect
from typing import Any

from flexhost.auth import Verifier
from flexhost.caller import Caller
from flexhost.errors import SettingsError, StartError
from flexhost.functions import modules
from flexhost.functions.flex_fun import LoadContext
from flexhost.security.tokens import EnumeratedTokenVerification, Known
from flexhost.settings import ENUMERATED, JWT, EnumeratedTokens, Jwt, Settings


def verifier(settings: Settings, ctx: LoadContext) -> Verifier:
    """Raises StartError."""
    name = settings.server.token_verification
    if name == ENUMERATED:
        return _enumerated(settings.enumerated_tokens)
    if name == JWT:
        return _jwt(settings.jwt)
    return _authors(name, ctx)


def is_ours(settings: Settings) -> bool:
    return settings.server.token_verification in (ENUMERATED, JWT)


def _enumerated(section: EnumeratedTokens) -> Verifier:
    known = [Known(section.tokens)] if section.tokens else []
    known += [
        Known(entry.token, Caller(entry.name, entry.functions, entry.max_running))
        for entry in section.entries
    ]
    if not known:
        raise SettingsError(
            'authentication_method is "token", but [enumerated_tokens] has neither tokens nor '
            "entries: nobody could call"
        )
    return EnumeratedTokenVerification(known)


def _jwt(section: Jwt) -> Verifier:
    for needed in ("jwks", "issuer", "audience"):
        if getattr(section, needed) is None:
            raise SettingsError(f"token_verification is {JWT!r}, but [jwt] has no {needed}")
    try:
        from flexhost.security.jwks import Keys
        from flexhost.security.jwt_tokens import JwtTokenVerification
    except ImportError as error:
        raise SettingsError(
            f"token_verification is {JWT!r}, which needs a package that cannot be imported "
            f'({error}): pip install "{_PYJWT}"'
        ) from None
    return JwtTokenVerification(section, Keys(section.jwks or ""))


_PYJWT = "PyJWT[crypto]>=2.12.0,<3"


def _authors(name: str, ctx: LoadContext) -> Verifier:
    cls = class_of(name)
    what = f"{_WHAT} class {cls.__qualname__}"
    try:
        made: Verifier = cls.create(ctx)
        made.verify  # noqa: B018  # what has none would refuse everybody
    except BaseException as error:
        raise modules.failure(f"create of {what} failed", error) from None
    try:
        inspect.signature(made.verify).bind(call_info=None, token="")
    except TypeError as error:
        raise StartError(f"{what}: verify must take call_info and token: {error}") from None
    return made


def class_of(name: str) -> type[Any]:
    """The one class of an author's module that has `create` and `verify`. Raises StartError."""
    what = _WHAT
    try:
        module = modules.load(name, what)
    except StartError as error:
        ours = f"{error}; the host's own are {ENUMERATED} and {JWT}" if "." not in name else error
        raise StartError(str(ours), trace=error.trace) from None
    found = dict.fromkeys(modules.classes_of(module, what, _is_verifier))
    leaves = [cls for cls in found if not any(cls is not o and issubclass(o, cls) for o in found)]
    if len(leaves) != 1:
        listed = ", ".join(cls.__qualname__ for cls in leaves) or "none"
        raise StartError(
            f"{what} module {name!r}: expected one class with create(ctx) and "
            f"verify(call_info, token), found {listed}"
        )
    [cls] = leaves
    if any(kind(cls.verify) for kind in _NOT_PLAIN):
        raise StartError(f"{what} class {cls.__qualname__}: verify is async or a generator")
    return cls


_WHAT = "token_verification"
_NOT_PLAIN = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)


def _is_verifier(cls: type[Any]) -> bool:
    return (
        callable(getattr(cls, "create", None))
        and callable(getattr(cls, "verify", None))
        and not inspect.isabstract(cls)
    )
