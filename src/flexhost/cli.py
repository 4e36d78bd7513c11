"""The command line. Prints for people; exit status 0, 1 (cannot) or 2 (wrong setting or option)."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import NoReturn

from flexhost import logs, server, settings
from flexhost.errors import SettingsError, StartError


def main(arguments: list[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    try:
        _start(options)
    except StartError as error:
        if error.trace:
            print(error.trace, file=sys.stderr)
        print(f"flexhost: {error}", file=sys.stderr)
        status = 2 if isinstance(error, SettingsError) else 1
    except Exception as error:  # with its frames, which sys.tracebacklimit would hide
        print("".join(traceback.format_exception(error, limit=100)), file=sys.stderr)
        print("flexhost: it failed in a way it should not, see above", file=sys.stderr)
        status = 1
    server.leave(status)


def _start(options: argparse.Namespace) -> NoReturn:
    loaded = settings.load(options.config)
    logs.configure(
        readable=options.dev_log,
        config=options.logging_config,
        event_key=loaded.settings.server.log_event_key_name,
    )
    server.serve(loaded)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flexhost", description="Serves Python table functions over Arrow Flight."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="serve until SIGTERM or SIGINT")
    start.add_argument(
        "--config",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="settings files in TOML; later ones win, GOODDATA_FLIGHT_* variables over all",
    )
    start.add_argument("--dev-log", action="store_true", help="readable log lines, not JSON")
    start.add_argument("--logging-config", metavar="FILE", help="levels and handlers of the logs")
    return parser
