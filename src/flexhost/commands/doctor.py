"""`flexhost doctor`: try a running host from here."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from flexhost.commands.options import secret
from flexhost.errors import SettingsError

if TYPE_CHECKING:
    from flexhost.commands.options import Commands
    from flexhost.doctor import Patient


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor", help="try a running host from here; 1 if it is not well"
    )
    command.add_argument("url", metavar="URL", help="grpc://HOST:PORT or grpc+tls://HOST:PORT")
    command.add_argument("--token", help="bearer token, or @/path of a file that holds it")
    command.add_argument("--tls-root", metavar="FILE", help="authorities to trust, in PEM")
    command.add_argument("--tls-certificate", metavar="FILE", help="to show, when the host asks")
    command.add_argument("--tls-key", metavar="FILE", help="its private key")
    command.add_argument("--function", metavar="NAME", help="to call; else the first one listed")
    command.add_argument("--parameters", metavar="JSON", default="{}", help="for that call")
    command.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from flexhost import doctor

    well = True
    for finding in doctor.examine(_patient(options)):
        print(f"{'ok   ' if finding.well else 'WRONG'} {finding.text}", flush=True)
        well &= finding.well
    return 0 if well else 1


def _patient(options: argparse.Namespace) -> Patient:
    from flexhost.doctor import Patient

    given = options.tls_certificate, options.tls_key
    if any(given) and not all(given):
        raise SettingsError("--tls-certificate and --tls-key go together")
    return Patient(
        options.url,
        secret(options.token),
        options.tls_root,
        given if all(given) else None,
        options.function,
        options.parameters,
    )
