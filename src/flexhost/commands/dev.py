"""`flexhost dev`: serve, and serve functions anew after each save."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from flexhost.commands.options import HERE, add_config, config_here

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser("dev", help="serve, and serve functions anew after each save")
    add_config(command, otherwise=HERE)
    command.set_defaults(run=_dev)


def _dev(options: argparse.Namespace) -> NoReturn:
    from flexhost import logs, settings
    from flexhost.serving import reloading, server  # reloading takes watchfiles

    files = config_here(options.config)
    loaded = settings.load(files)
    logs.configure(readable=True, event_key=loaded.settings.server.log_event_key_name)
    server.serve(loaded, reloading.watching(files))
