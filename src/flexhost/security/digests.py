"""What is kept of a token."""

from __future__ import annotations

import hashlib
import re

_GIVEN = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Digest(bytes):
    """The SHA-256 of a token. It shows nothing of itself: a short token can be guessed from it."""

    __slots__ = ()

    @classmethod
    def of(cls, token: str) -> Digest:
        return cls(hashlib.sha256(token.encode()).digest())

    @classmethod
    def given(cls, value: object) -> Digest:
        """Of a token as a setting gives it: itself, or `sha256:` and the digest in hex.

        Raises ValueError that does not show it.
        """
        if not isinstance(value, str):
            raise ValueError(f"is of type {type(value).__name__}, not a text")
        if not value.strip():
            raise ValueError("is empty")
        if value.startswith("sha256:"):
            if (found := _GIVEN.fullmatch(value)) is None:
                raise ValueError("begins with sha256: and has not 64 hex digits after it")
            return cls(bytes.fromhex(found[1]))
        if value.startswith("@"):
            raise ValueError("begins with @, which is no token")
        if value != value.strip() or not (value.isascii() and value.isprintable()):
            raise ValueError("has characters that no header carries")
        return cls.of(value)

    @property
    def name(self) -> str:
        """A name for a caller that has none: always the same for a token, and does not tell it."""
        return f"token-{hashlib.sha256(self).hexdigest()[:16]}"

    def __repr__(self) -> str:
        return "Digest(***)"

    __str__ = __repr__
