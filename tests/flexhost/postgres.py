"""A PostgreSQL server of its own for tests, behind a unix socket in a folder that goes with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from support import until

HOW = (
    "no PostgreSQL server here: install one (Debian: apt-get install postgresql), nothing to set up"
)


@contextmanager
def postgres() -> Iterator[str]:
    """What `psycopg.connect` takes. Skips the test where no server is installed."""
    programs = _programs()
    if programs is None:
        pytest.skip(HOW)
    with _folder() as (folder, user):
        data = folder / "data"
        made = [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run([*made, "--locale=C", "--no-sync"], check=True, capture_output=True, **user)
        settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
        command = [programs / "postgres", "-D", data, "-k", folder, *settings]
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, **user)
        try:
            url = f"host={folder} user=postgres dbname=postgres"
            until(lambda: _answers(url) or server.poll() is not None)
            assert server.poll() is None, (folder / "log").read_text()
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # what it calls fast: open connections are closed
            server.wait()


def _programs() -> Path | None:
    """The folder of the newest server; Debian has it on nobody's PATH."""
    debian = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(debian, key=lambda path: int(path.parts[-3]), default=None)
    found = shutil.which("postgres") or newest
    return Path(found).resolve().parent if found else None


@contextmanager
def _folder() -> Iterator[tuple[Path, dict[str, object]]]:
    """A folder, and for whom to run a server there: never for root, which it refuses."""
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        if user:
            os.chown(name, 65534, 65534)
        yield Path(name), {**user, "cwd": name}


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True
