"""JSON Web Tokens (RFC 7519). Imported only where they are asked for: PyJWT is an extra."""

from __future__ import annotations

from typing import Any

import jwt

from flexhost.caller import Caller
from flexhost.errors import Unauthenticated, name_of
from flexhost.security.jwks import Keys
from flexhost.settings import Jwt


class JwtTokenVerification:
    def __init__(self, section: Jwt, keys: Keys) -> None:
        """section: with issuer and audience."""
        self._section = section
        self._keys = keys

    def verify(self, call_info: Any, token: str) -> Caller:
        """Raises Unauthenticated."""
        try:
            return self._caller(self._claims(token))
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            # no more than its name: its text may have parts of the token
            raise Unauthenticated("", why=name_of(error)) from None

    def _claims(self, token: str) -> dict[str, Any]:
        """Of a token whose signature, times, issuer and audience are right."""
        header = jwt.get_unverified_header(token)
        algorithm = header.get("alg")
        if algorithm not in self._section.algorithms:
            raise Unauthenticated("", why="its algorithm is not one of [jwt] algorithms")
        key = self._keys.find(header.get("kid"))
        if key is None:
            raise Unauthenticated("", why="its key is not known")
        if algorithm not in key.algorithms:
            raise Unauthenticated("", why="its key is for another algorithm")
        return jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=self._section.issuer,
            audience=self._section.audience,
            leeway=self._section.leeway,
            options={"require": ["exp", "iss", "aud"]},
        )

    def _caller(self, claims: dict[str, Any]) -> Caller:
        wanted = self._section
        name = claims.get(wanted.name_claim)
        if not isinstance(name, str) or not name.strip():
            raise Unauthenticated("", why=f"its claim {wanted.name_claim!r} is no name")
        if wanted.functions_claim is None:
            return Caller(name, identity=claims)
        patterns = claims.get(wanted.functions_claim, [])
        if isinstance(patterns, str):
            patterns = patterns.split()
        if not isinstance(patterns, list) or not all(isinstance(one, str) for one in patterns):
            raise Unauthenticated("", why=f"its claim {wanted.functions_claim!r} is no list")
        return Caller(name, tuple(patterns), identity=claims)
