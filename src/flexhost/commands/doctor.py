"""`flexhost doctor`: try a running host from here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flexhost.commands.options import HERE, access_to, add_access, add_config, config_here

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor", help="try a running host from here; 1 if it is not well"
    )
    command.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="grpc://HOST:PORT or grpc+tls://HOST:PORT; else as the settings advertise it",
    )
    add_access(command)
    command.add_argument("--function", metavar="NAME", help="to call; else the first one listed")
    command.add_argument("--parameters", metavar="JSON", default="{}", help="for that call")
    add_config(command, otherwise=HERE)
    command.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from flexhost.command_line import data_source, doctor

    url = options.url or data_source.url_of(config_here(options.config))
    well, access = True, access_to(url, options)
    patient = doctor.Patient(access, options.function, options.parameters)
    for finding in doctor.examine(patient):
        print(f"{'ok   ' if finding.well else 'WRONG'} {finding.text}", flush=True)
        well &= finding.well
    return 0 if well else 1
