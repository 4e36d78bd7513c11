"""The tokens that stand in the settings, or in files that they name."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from flexhost.caller import Caller
from flexhost.digests import Digest
from flexhost.errors import SettingsError
from flexhost.files import LOOK, content
from flexhost.ticker import Ticker

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


_Digests = dict[str, tuple[Digest, ...]]  # of each file


class EnumeratedTokenVerification:
    """Tokens that are known one by one. Files are read again when they have changed: a bad new one
    is reported, and what was read before stays."""

    def __init__(self, known: Sequence[Known], *, every: float = LOOK) -> None:
        """Raises SettingsError: a file that is no list of tokens, two of one name or one token."""
        self._known = known
        self._files = {one.tokens.file for one in known if one.tokens.file}
        self._read = self._seen = self._read_files()
        self._callers = self._callers_of(self._read)
        self._trouble = ""
        self._ticker = Ticker("tokens", every, self.look) if self._files else None

    def verify(self, call_info: Any, token: str) -> Caller | None:
        shown = Digest.of(token)
        found = None
        for digest, caller in self._callers:  # all of them: the time it takes tells nothing
            if hmac.compare_digest(digest, shown):
                found = caller
        return found

    def look(self) -> None:
        """See whether the files have changed. Only one thread may."""
        try:
            read = self._read_files()
            settled, self._seen = read == self._seen, read  # else perhaps it is being written
            if read != self._read and settled:
                self._callers, self._read = self._callers_of(read), read
                _logger.info("tokens were read again, %d are good", len(self._callers))
            if read == self._read:
                self._trouble = ""
        except SettingsError as error:
            if str(error) != self._trouble:
                self._trouble = str(error)
                _logger.error("%s; those of before stay", error)

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.close()

    def _read_files(self) -> _Digests:
        return {file: _read(file) for file in self._files}

    def _callers_of(self, read: _Digests) -> list[tuple[Digest, Caller]]:
        callers: dict[Digest, Caller] = {}
        names: set[str] = set()
        for tokens, caller in self._known:
            digests = read[tokens.file] if tokens.file else tokens.digests
            if caller is not None and len(digests) != 1:
                raise SettingsError(f"the file {tokens.file} has {len(digests)} tokens, expected 1")
            for digest in digests:
                its = caller or Caller(digest.name)
                if digest in callers:
                    one, other = callers[digest].name, its.name
                    raise SettingsError(f"one token is given twice, for {one!r} and {other!r}")
                if its.name in names:
                    raise SettingsError(f"two entries of tokens are named {its.name!r}")
                callers[digest] = its
                names.add(its.name)
        return list(callers.items())


def _read(file: str) -> tuple[Digest, ...]:
    """A line each; blank lines and those that begin with # do not count. Raises SettingsError."""
    digests = []
    text = content(file, "tokens").decode("utf-8-sig", "replace")
    for number, line in enumerate(text.split("\n"), 1):
        if not (token := line.strip()) or token.startswith("#"):
            continue
        try:
            digests.append(Digest.given(token))
        except ValueError as error:
            raise SettingsError(f"the file {file} of tokens: line {number} {error}") from None
    if not digests:
        raise SettingsError(f"the file {file} of tokens has none")
    return tuple(digests)
