"""`flexhost functions`: which there are."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from flexhost.commands.options import add_host, host_of

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser("functions", help="list the functions, here or of a running host")
    add_host(command)
    command.set_defaults(run=_functions)


def _functions(options: argparse.Namespace) -> int:
    from flexhost.command_line.aligned import aligned

    found = host_of(options).functions()
    if not found:
        print("there is no function", file=sys.stderr)
        return 0
    rows: list[tuple[str, ...]] = [("NAME", "COLUMNS", "MODULE")]
    for one in found:
        rows.append((one.name, ", ".join(one.schema.names), getattr(one, "module", "")))
    for line in aligned(rows if options.host is None else [row[:2] for row in rows]):
        print(line)
    return 0
