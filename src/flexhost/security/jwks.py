"""The keys of a JSON Web Key Set (RFC 7517), kept and renewed."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import cryptography  # noqa: F401  # without it PyJWT verifies nothing asymmetric
import jwt

from flexhost.configuration.downloads import ANSWER, download, shown
from flexhost.configuration.files import LOOK, MOST_BYTES, content
from flexhost.errors import SettingsError, StartError
from flexhost.system.ticker import Ticker

# Seconds: between two times that a URL is asked; the same when a token names a key that is not
# known; and for which such a token waits, of which so many may.
EVERY, AT_LEAST = 60.0, 10.0
PATIENCE, WAITING = 3.0, 8
_SHORT = 2048  # bits of an RSA key that are too few, if fewer
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})

_logger = logging.getLogger("flexhost")


class Key(NamedTuple):
    key: Any
    algorithms: frozenset[str]  # that it is for


_Keys = dict[str | None, Key]


class Keys:
    """A key that is known is found at once, whatever has become of where it was read."""

    def __init__(
        self,
        where: str,
        *,
        every: float | None = None,
        at_least: float = AT_LEAST,
        answer: float = ANSWER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """where:  `@/path`, or a URL.
        answer: seconds within which a URL must have answered.

        Raises StartError when there are no keys.
        """
        self._file = where[1:] if where.startswith("@") else ""
        self._url = "" if self._file else where
        self._at_least = at_least
        self._answer = answer
        self._clock = clock
        self._ask_at = clock() + at_least
        self._data = self._seen = self._read()
        self._keys = self._parsed(self._data)
        self._trouble = ""
        self._renewed = threading.Condition()
        self._places = threading.BoundedSemaphore(WAITING)
        self._ticker = Ticker("keys", every or (LOOK if self._file else EVERY), self._renew)

    def find(self, kid: str | None) -> Key | None:
        """The key of this id; without an id the only one there is."""
        key = self._known(kid)
        if key is None and self._url and self._clock() >= self._ask_at:
            self._ask()
            key = self._known(kid)
        return key

    def close(self) -> None:
        self._ticker.close()

    def _known(self, kid: str | None) -> Key | None:
        keys = self._keys
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        return keys.get(kid)

    def _ask(self) -> None:
        """Wait until the URL was asked again; not for long, and not in great numbers."""
        if not self._places.acquire(blocking=False):
            return
        try:
            with self._renewed:
                self._ticker.wake()
                self._renewed.wait(PATIENCE)
        finally:
            self._places.release()

    def _renew(self) -> None:
        """Only one thread may."""
        self._ask_at = self._clock() + self._at_least
        try:
            data = self._read()
            settled, self._seen = bool(self._url) or data == self._seen, data
            if data != self._data and settled:
                self._keys, self._data = self._parsed(data), data
            if data == self._data:
                self._trouble = ""
        except StartError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _logger.error("%s; the keys of before stay", error)
        with self._renewed:
            self._renewed.notify_all()

    def _read(self) -> bytes:
        if self._file:
            return content(self._file, "keys")
        return download(self._url, "keys", MOST_BYTES, self._answer)

    def _parsed(self, data: bytes) -> _Keys:
        try:
            listed = json.loads(data)["keys"]
            keys = [key for one in listed if (key := _key(one))]
            found = dict(keys)
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
            raise SettingsError(f"{self._shown} is no JSON Web Key Set") from None
        if not found:
            raise SettingsError(f"{self._shown} has no key that can be used")
        if len(found) < len(keys):
            kids = [kid for kid, _ in keys]
            twice = next(kid for kid in kids if kids.count(kid) > 1)
            named = "without a kid" if twice is None else f"with the kid {str(twice)[:100]!r}"
            raise SettingsError(f"{self._shown} has two keys {named}: they cannot be told apart")
        return found

    @property
    def _shown(self) -> str:
        return self._file or shown(self._url)


def _key(of: dict[str, Any]) -> tuple[str | None, Key] | None:
    """None for one that verifies no signature, that should not be there, or that is too short."""
    if of.get("use", "sig") != "sig" or of.get("kty") not in ("RSA", "EC", "OKP") or "d" in of:
        return None
    operations = of.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        parsed = jwt.PyJWK(of)
    except Exception:  # an odd one does not take the others along
        return None
    if of["kty"] == "RSA" and parsed.key.key_size < _SHORT:
        return None
    any_rsa = of["kty"] == "RSA" and "alg" not in of
    algorithms = _RSA if any_rsa else frozenset({str(parsed.algorithm_name)})
    return of.get("kid"), Key(parsed.key, algorithms)
