"""`flexhost register`: make a host known to a BI backend as a data source."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from flexhost.commands.options import HERE, add_config, config_here, secret

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "register", help="make or replace the data source of a host in a BI backend"
    )
    command.add_argument("--backend", metavar="URL", required=True, help="https://HOST of its API")
    command.add_argument(
        "--token", required=True, help="of the backend's API, or @/path of a file that holds it"
    )
    command.add_argument("--host-token", metavar="TOKEN", help="for the host, likewise")
    command.add_argument("--id", default="flexfun", help="of the data source: flexfun")
    command.add_argument("--name", help="shown to people; else the id")
    command.add_argument(
        "--url", help="under which the backend reaches the host; else as the settings advertise it"
    )
    command.add_argument(
        "--cache", action="store_true", help="let the backend keep results until it is told"
    )
    command.add_argument(
        "--ca", metavar="FILE", help="the authority of the host's certificate, in PEM"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="print the request, secrets masked, and send nothing"
    )
    add_config(command, otherwise=HERE)
    command.set_defaults(run=_register)


def _register(options: argparse.Namespace) -> int:
    from flexhost.command_line import data_source

    made = data_source.DataSource(
        id=options.id,
        name=options.name or options.id,
        url=options.url or data_source.url_of(config_here(options.config)),
        token=secret(options.host_token),
        ca=options.ca,
        cached=options.cache,
    )
    backend = data_source.Backend(options.backend, secret(options.token) or "")
    if options.dry_run:
        print(f"POST {backend.url}    (PUT .../{made.id} when it is there)")
        print(json.dumps(made.body(hidden=True), indent=2))
        return 0
    if backend.unprotected:
        print(f"flexhost: tokens go to {options.backend} unencrypted", file=sys.stderr)
    print(f"{backend.put(made)} data source {made.id!r}: {made.url}")
    return 0
