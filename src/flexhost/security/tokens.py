"""The tokens that stand in the settings, or in files that they name."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from flexhost.caller import Caller
from flexhost.configuration.files import LOOK, content
from flexhost.errors import FileMissing, SettingsError
from flexhost.security.digests import Digest
from flexhost.system.ticker import Ticker

_logger = logging.getLogger("flexhost")


class Tokens:
    """Tokens as a setting gives them: a list, or the file they stand in."""

    def __init__(self, digests: tuple[Digest, ...] = (), file: str = "") -> None:
        self.digests = digests
        self.file = file

    @classmethod
    def given(cls, value: object) -> Tokens:
        """Of a list of tokens, or of `@/path`. Raises ValueError that does not show them."""
        if isinstance(value, str) and value.startswith("@/"):
            return cls(file=value[1:])
        if not isinstance(value, list):
            raise ValueError(f"is of type {type(value).__name__}, not a list")
        digests = []
        for number, one in enumerate(value, 1):
            try:
                digests.append(Digest.given(one))
            except ValueError as error:
                raise ValueError(f"has an item {number} that {error}") from None
        return cls(tuple(digests))

    def __bool__(self) -> bool:
        return bool(self.digests or self.file)


class Token(Tokens):
    """The same of a single one."""

    @classmethod
    def given(cls, value: object) -> Tokens:
        if isinstance(value, str) and value.startswith("@/"):
            return cls(file=value[1:])
        return cls((Digest.given(value),))


class Known(NamedTuple):
    """Whoever shows one of these tokens is this caller; without one, each token is its own."""

    tokens: Tokens
    caller: Caller | None = None


_Callers = list[tuple[Digest, Caller]]

AGAIN = 60.0  # seconds after which trouble that lasts is told again


class EnumeratedTokenVerification:
    """Tokens that are known one by one. Files are read again when they have changed, each for
    itself: of a bad new one, which is reported, what was read before stays."""

    def __init__(
        self,
        known: Sequence[Known],
        *,
        every: float = LOOK,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises SettingsError: a file that is no list of tokens, two of one name or one token."""
        self._known = [(one, _File(one) if one.tokens.file else None) for one in known]
        self._callers, twice = self._found()
        if twice:
            raise SettingsError(twice[0])
        self.seen: dict[bytes, Caller] = {}
        self._clock = clock
        self._told: dict[str, float] = {}  # trouble, and when
        some = any(file for _, file in self._known)
        self._ticker = Ticker("tokens", every, self.look) if some else None

    def verify(self, call_info: Any, token: str) -> Caller | None:
        shown = hashlib.sha256(token.encode()).digest()
        found = None
        for digest, caller in self._callers:  # all of them: the time it takes tells nothing
            if hmac.compare_digest(digest, shown):
                found = caller
        return found

    def look(self) -> None:
        """See whether the files have changed. Only one thread may."""
        trouble = []
        for _, file in self._known:
            try:
                if file is not None:
                    file.look()
            except SettingsError as error:
                trouble.append(f"{error}; those of before stay")
        callers, twice = self._found()
        if callers != self._callers:
            self._callers = callers
            self.seen = {}
            _logger.info("tokens were read again, %d are good", len(callers))
        self._tell([*trouble, *twice])

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.close()

    def _found(self) -> tuple[_Callers, list[str]]:
        """Those that are told apart, and what is wrong with the others."""
        callers: dict[Digest, list[Caller]] = {}
        tokens: dict[str, set[Digest]] = {}  # of a name
        for known, file in self._known:
            for digest in known.tokens.digests if file is None else file.digests:
                caller = known.caller or Caller(digest.name)
                callers.setdefault(digest, []).append(caller)
                tokens.setdefault(caller.name, set()).add(digest)
        twice = [
            f"one token is given twice, for {its[0].name!r} and {its[1].name!r}"
            for its in callers.values()
            if len(its) > 1
        ]
        twice += [
            f"two entries of tokens are named {name!r}"
            for name, its in tokens.items()
            if len(its) > 1
        ]
        good = [
            (digest, its[0])
            for digest, its in callers.items()
            if all(one == its[0] for one in its) and len(tokens[its[0].name]) == 1
        ]
        return good, twice

    def _tell(self, trouble: list[str]) -> None:
        """Once, and now and then while it lasts: a token may be good that should not be."""
        now = self._clock()
        self._told = {text: at for text, at in self._told.items() if text in trouble}
        for text in trouble:
            if text not in self._told or now - self._told[text] >= AGAIN:
                self._told[text] = now
                _logger.error("%s", text)


class _File:
    """A file of tokens. New content counts when two looks found the same."""

    def __init__(self, known: Known) -> None:
        """Raises SettingsError."""
        self._name = known.tokens.file
        self._of_one = known.caller is not None
        self.digests = self._read()
        self._seen: tuple[Digest, ...] | None = self.digests
        if not self.digests:
            raise SettingsError(f"the file {self._name} of tokens has none")

    def look(self) -> None:
        """Raises SettingsError for one that cannot be used: `digests` stay."""
        before, self._seen = self._seen, None
        try:
            found = self._read()
        except FileMissing:
            found = ()
        self._seen = found
        if found != before or found == self.digests:
            return
        self.digests = found
        if not found:
            _logger.error(
                "the file %s of tokens is empty or gone: its tokens are good no more", self._name
            )

    def _read(self) -> tuple[Digest, ...]:
        """A line each; blank lines and those that begin with # do not count."""
        digests = []
        text = content(self._name, "tokens").decode("utf-8-sig", "replace")
        for number, line in enumerate(text.split("\n"), 1):
            if not (token := line.strip()) or token.startswith("#"):
                continue
            try:
                digests.append(Digest.given(token))
            except ValueError as error:
                raise SettingsError(
                    f"the file {self._name} of tokens: line {number} {error}"
                ) from None
        if self._of_one and len(digests) > 1:
            raise SettingsError(f"the file {self._name} has {len(digests)} tokens, expected 1")
        return tuple(digests)
