"""Looks whether the files of the certificates change while the host serves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from flexhost.errors import StartError
from flexhost.security import certificates
from flexhost.security.certificates import Certificates, TlsSettings
from flexhost.system.ticker import Ticker

_logger = logging.getLogger("flexhost")

# Seconds between two looks.
_EVERY = 0.5
# Seconds for which nothing more must change: certificate and key are seldom written at once.
GATHER = 1.0
# Seconds after which what could not be read or served is tried again: its day may have come.
RETRY = 60.0
_DAY = 86400.0

# Of each file: device, inode, time and size; None where there is none.
_State = tuple[tuple[int, ...] | None, ...]


class CertificateFiles:
    """Hands what is in the files to `renew` when it is new and right; else says what is wrong, and
    the old certificates stay. It warns each day of a certificate that is about to expire.

    served:   what `renew` need not be called for.
    renew:    serves other certificates from now on. Raises StartError, and serves the old ones.
    interval: seconds from one renewal to the next, at the least.
    """

    def __init__(
        self,
        settings: TlsSettings,
        served: Certificates,
        renew: Callable[[Certificates], None],
        *,
        interval: float = 30.0,
    ) -> None:
        self.served = served
        self._settings = settings
        self._renew = renew
        self._interval = interval
        # nothing seen yet: what changed since `served` was read is found as well
        self._seen: _State | None = None
        self._due: float | None = None
        self._renewed_at = float("-inf")
        self._trouble = ""
        self._warn_at = float("-inf")
        self._ticker: Ticker | None = None

    def start(self) -> None:
        look = lambda: self.look(time.monotonic(), time.time())  # noqa: E731  # one expression
        self._ticker = Ticker("certificates", _EVERY, look)

    def close(self) -> None:
        if self._ticker is not None:
            self._ticker.close()

    def look(self, now: float, today: float) -> None:
        """now: monotonic seconds. today: seconds since the epoch."""
        if self._settings.files and (seen := self._state()) != self._seen:
            self._seen = seen
            self._due = max(now + GATHER, self._renewed_at + self._interval)
        if self._due is not None and now >= self._due:
            self._due = None
            self._read(now, today)
        if today >= self._warn_at:
            self._warn_at = today + _DAY
            if warning := self.served.warning(today):
                _logger.warning("TLS: %s", warning)

    def _state(self) -> _State:
        """Through symbolic links, which is what Kubernetes changes."""
        states: list[tuple[int, ...] | None] = []
        for file in self._settings.files:
            try:
                found = file.stat()
                states.append((found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size))
            except (OSError, ValueError):
                states.append(None)
        return tuple(states)

    def _read(self, now: float, today: float) -> None:
        try:
            found = certificates.load(self._settings, today)
            if found != self.served:
                self._renew(found)
                self.served = found
                self._renewed_at = now
                self._warn_at = today
                _logger.info("TLS: a new certificate is served")
        except StartError as error:
            self._due = max(now + RETRY, self._renewed_at + self._interval)
            if str(error) != self._trouble:
                _logger.error("the new certificate is not served, the old one stays: %s", error)
            self._trouble = str(error)
        else:
            self._trouble = ""
