"""`flexhost start`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import gc
from typing import TYPE_CHECKING, NoReturn

from flexhost.commands.options import add_config

if TYPE_CHECKING:
    from flexhost.commands.options import Commands


def add_to(commands: Commands) -> None:
    command = commands.add_parser("start", help="serve until SIGTERM or SIGINT")
    add_config(command, otherwise="only variables are")
    command.add_argument("--dev-log", action="store_true", help="readable log lines, not JSON")
    command.add_argument("--logging-config", metavar="FILE", help="levels and handlers of the logs")
    command.set_defaults(run=_start)


def _start(options: argparse.Namespace) -> NoReturn:
    gc.disable()  # nothing of what is imported is garbage: until that is there
    from flexhost import logs, settings
    from flexhost.serving import server

    loaded = settings.load(options.config)
    logs.configure(
        readable=options.dev_log,
        config=options.logging_config,
        event_key=loaded.settings.server.log_event_key_name,
    )
    server.serve(loaded)
