"""`flexhost new NAME`: a function to begin with."""

from __future__ import annotations

import argparse
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
    from flexhost import new_function  # takes tomlkit

    for file, why in new_function.create(options.name, config_here(options.config)):
        print(f"{file}  {why}")
    print(f"\nCall it: flexhost call {options.name}")
    return 0
