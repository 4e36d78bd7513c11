"""One address that is served by one Flight server after another, each with newer certificates."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pyarrow.flight as fl

from flexhost.errors import SettingsError, StartError
from flexhost.frontends import tls
from flexhost.frontends.flight import FlightFrontend
from flexhost.functions.flex_fun import ModuleHealthStatus
from flexhost.security import certificates
from flexhost.security.certificate_files import CertificateFiles
from flexhost.security.certificates import Certificates, TlsSettings
from flexhost.system.affinity import at_home
from flexhost.telemetry.health import Health

_logger = logging.getLogger("flexhost")

# Seconds between two attempts to listen where the server before listened until now.
_SOON = 0.001
# Seconds after which it is no hand-over any more but an outage; attempts are as far apart then as:
_PATIENCE = 5.0
_PAUSE = 0.5

# `make(address, certificates=...)` is a server that listens there. Raises StartError.
Make = Callable[..., FlightFrontend]


class Listener:
    """Serves TLS from the moment it is made, and changed certificates soon after they change.

    pyarrow cannot give a running server another certificate. But `shutdown` frees the port at once
    and lets requests go on: a second server listens there some milliseconds later (measured), while
    the first still ends what it began. All of them share one host and one count of requests.

    interval: see CertificateFiles.
    """

    def __init__(
        self,
        make: Make,
        listen: tuple[str, int],
        settings: TlsSettings,
        health: Health,
        *,
        interval: float = 30.0,
    ) -> None:
        """Raises StartError."""
        self._make = make
        self._health = health
        first = certificates.load(settings, time.time())
        _rehearse(first)
        self._frontend = make(listen, certificates=first)
        self.location = self._frontend.location
        self.port: int = self._frontend.port
        self._address = (listen[0], self.port)
        self._shutdowns: list[threading.Thread] = []
        self._changing = threading.Lock()
        self._stopping = threading.Event()
        self._files = CertificateFiles(settings, first, self.renew, interval=interval)
        self._files.start()

    @property
    def under_way(self) -> int:
        """Requests that are answered now, by whichever server."""
        return self._frontend.under_way

    @property
    def certificates(self) -> Certificates:
        """Those in use."""
        return self._files.served

    @property
    def expires_at(self) -> float:
        """When the certificate in use does, in seconds since the epoch."""
        return self._files.served.expires_at

    def renew(self, found: Certificates) -> None:
        """Serve new connections with these; requests under way go on as they are.

        Raises StartError when they cannot be served: then nothing has changed.
        """
        _rehearse(found)
        with self._changing:
            if self._stopping.is_set():
                raise StartError(_STOPPING)
            self._shut_down()
            self._frontend = self._next(found)

    def stop(self, seconds: float) -> bool:
        """Close the listener and wait for what still runs. Whether all of it ended in time."""
        end = time.monotonic() + seconds
        self._files.close()
        self._stopping.set()  # ends a change that cannot succeed
        if not self._changing.acquire(timeout=seconds):
            return False
        try:
            self._shut_down()
        finally:
            self._changing.release()
        for thread in self._shutdowns:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in self._shutdowns)

    def _shut_down(self) -> None:
        """Aside, since it waits for all requests without a limit. The thread also keeps the server,
        which pyarrow would shut down, and wait, wherever the last reference to it is dropped."""
        thread = threading.Thread(target=self._frontend.shutdown, name="shutdown", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            raise StartError(f"the server before cannot be shut down: {error}") from None
        self._shutdowns = [old for old in self._shutdowns if old.is_alive()] + [thread]

    def _next(self, found: Certificates) -> FlightFrontend:
        """The server that listens from now on. Whatever it takes: until then nobody does."""
        outage_from = time.monotonic() + _PATIENCE
        told = False
        while True:
            try:
                frontend = self._make(self._address, certificates=found)
            except Exception as error:  # of any kind: to give up would be to serve no more
                if not told and time.monotonic() > outage_from:
                    told = True
                    self._health.set_module_status(_PART, ModuleHealthStatus.NOT_OK)
                    _logger.error("nothing listens, it is tried again and again: %s", error)
            else:
                if told:
                    self._health.set_module_status(_PART, ModuleHealthStatus.OK)
                return frontend
            if self._stopping.wait(_PAUSE if told else _SOON):
                raise StartError(_STOPPING)


_STOPPING = "this host is stopping"
_PART = "TLS listener"


def _rehearse(found: Certificates) -> None:
    """Whether gRPC takes them, found out beside the server in use. Raises SettingsError."""
    try:
        with at_home():
            trial = fl.FlightServerBase("grpc+tls://127.0.0.1:0", **tls.server_options(found))
    except Exception as error:
        raise SettingsError(f"gRPC does not take the certificate with its key: {error}") from None
    # aside: whoever found its port could hold it up
    threading.Thread(target=trial.shutdown, name="rehearsal", daemon=True).start()
