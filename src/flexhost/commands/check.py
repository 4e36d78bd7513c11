"""`flexhost check`: what `start` would serve."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from flexhost.commands.options import HERE, add_config, config_here

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser("check", help="what `start` would serve; 2 if it would not")
    add_config(command, otherwise=HERE)
    command.add_argument(
        "--load", action="store_true", help="also call on_load of functions, create of a verifier"
    )
    command.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from flexhost.command_line import check

    status = 0
    for kind, text, trace in check.check(config_here(options.config), load=options.load):
        if trace:
            print(trace, file=sys.stderr)
        print(f"{kind.value:7} {text}", flush=True)
        status = 2 if kind is check.Kind.WRONG else status
    return status
