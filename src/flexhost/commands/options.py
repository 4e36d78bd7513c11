"""Options that several commands have."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flexhost.configuration.files import content
from flexhost.errors import SettingsError

if TYPE_CHECKING:
    from flexhost.command_line.access import Access
    from flexhost.command_line.local import Local
    from flexhost.command_line.remote import Remote

    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def add_config(command: argparse.ArgumentParser, *, otherwise: str) -> None:
    """otherwise: what is read without it, for the help."""
    command.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="settings files in TOML; later ones win, GOODDATA_FLIGHT_* variables over all; "
        f"without it {otherwise}",
    )


def config_here(given: list[str]) -> list[str]:
    """The files given, else those of the folder `config` here. Raises SettingsError."""
    files = given or [str(file) for file in sorted(Path("config").glob("*.toml"))]
    if not files and not _any_variable():
        raise SettingsError(
            f"there is no config/*.toml in {Path.cwd()}: go to the folder of the project, or name "
            "files with --config"
        )
    return files


def _any_variable() -> bool:
    """Whether settings come from variables alone, as in a container."""
    from flexhost.configuration.setting_sources import PREFIX  # takes dynaconf

    return any(name.startswith(PREFIX) for name in os.environ)


HERE = "config/*.toml of this folder"


def secret(given: str | None) -> str | None:
    """`@/path` stands for what is in a file: arguments are shown to whoever lists processes."""
    if given is None or not given.startswith("@/"):
        return given
    return content(given[1:], "the token").decode("utf-8", "replace").strip()


def add_access(command: argparse.ArgumentParser) -> None:
    command.add_argument("--token", help="bearer token, or @/path of a file that holds it")
    command.add_argument("--tls-root", metavar="FILE", help="authorities to trust, in PEM")
    command.add_argument("--tls-certificate", metavar="FILE", help="to show, when the host asks")
    command.add_argument("--tls-key", metavar="FILE", help="its private key")


def access_to(url: str, options: argparse.Namespace) -> Access:
    """With the options of `add_access`. Raises SettingsError."""
    from flexhost.command_line.access import Access  # takes pyarrow.flight

    given = options.tls_certificate, options.tls_key
    if any(given) and not all(given):
        raise SettingsError("--tls-certificate and --tls-key go together")
    return Access(url, secret(options.token), options.tls_root, given if all(given) else None)


def add_host(command: argparse.ArgumentParser) -> None:
    """Of a command about functions, here or elsewhere."""
    command.add_argument(
        "--host", metavar="URL", help="of a running host, grpc://HOST:PORT or grpc+tls://HOST:PORT"
    )
    add_access(command)
    add_config(command, otherwise=HERE)


def host_of(options: argparse.Namespace) -> Local | Remote:
    """With the options of `add_host`. Raises StartError."""
    if options.host is not None:
        from flexhost.command_line.remote import Remote  # takes pyarrow.flight

        return Remote(access_to(options.host, options))
    from flexhost.command_line.local import Local

    return Local(config_here(options.config))
