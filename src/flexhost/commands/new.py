"""`flexhost new NAME`: a function to begin with."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flexhost.commands.options import HERE, add_config, config_here

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "new", help="write a function to begin with, its test, and its line in the settings"
    )
    command.add_argument("name", metavar="NAME", help="of its module, and what callers say")
    add_config(command, otherwise=HERE)
    command.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> int:
    from flexhost.command_line import new_function  # takes tomlkit

    written = new_function.create(options.name, config_here(options.config))
    for file, why in written:
        print(f"{file}  {why}")
    print(f"\nCall it: {_beside('flexhost')} call {options.name}")
    print(f"Test it: {_beside('pytest')} {written[1][0]}")
    return 0


def _beside(command: str) -> str:
    """How a shell here calls what stands in the folder that this command came from."""
    folder = Path(sys.argv[0]).parent
    if shutil.which(command) or not (folder / command).exists():
        return command
    return os.path.relpath(folder / command)
