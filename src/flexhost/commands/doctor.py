"""`flexhost doctor`: try a running host from here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flexhost.commands.options import access_to, add_access

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor", help="try a running host from here; 1 if it is not well"
    )
    command.add_argument("url", metavar="URL", help="grpc://HOST:PORT or grpc+tls://HOST:PORT")
    add_access(command)
    command.add_argument("--function", metavar="NAME", help="to call; else the first one listed")
    command.add_argument("--parameters", metavar="JSON", default="{}", help="for that call")
    command.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from flexhost import doctor

    well, access = True, access_to(options.url, options)
    patient = doctor.Patient(access, options.function, options.parameters)
    for finding in doctor.examine(patient):
        print(f"{'ok   ' if finding.well else 'WRONG'} {finding.text}", flush=True)
        well &= finding.well
    return 0 if well else 1
