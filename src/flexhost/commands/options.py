"""Options that several commands have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from flexhost.files import content

if TYPE_CHECKING:
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
    """The files given, else those of the folder `config` here."""
    return given or [str(file) for file in sorted(Path("config").glob("*.toml"))]


HERE = "config/*.toml of this folder"


def secret(given: str | None) -> str | None:
    """`@/path` stands for what is in a file: arguments are shown to whoever lists processes."""
    if given is None or not given.startswith("@/"):
        return given
    return content(given[1:], "the token").decode("utf-8", "replace").strip()
