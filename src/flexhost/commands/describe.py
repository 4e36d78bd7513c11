"""`flexhost describe NAME`: everything that can be said of a function."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from flexhost.commands.options import add_host, host_of

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "describe", help="columns, parameters and limits of a function, here or of a running host"
    )
    command.add_argument("name", metavar="NAME", help="of the function")
    command.add_argument("--json", action="store_true", help="as a JSON object")
    add_host(command)
    command.set_defaults(run=_describe)


def _describe(options: argparse.Namespace) -> int:
    from flexhost.command_line import described

    function = host_of(options).function(options.name)
    if options.json:
        print(json.dumps(described.as_json(function), indent=2, ensure_ascii=False))
        return 0
    for line in described.lines(function):
        print(line)
    return 0
