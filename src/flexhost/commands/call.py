"""`flexhost call`: call a function, in this process or on a running host, and print its rows."""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from flexhost.commands.options import add_host, host_of
from flexhost.errors import HostError, SettingsError

if TYPE_CHECKING:
    from flexhost.command_line.call_output import Output
    from flexhost.command_line.local import Local
    from flexhost.command_line.progress import Progress
    from flexhost.command_line.remote import Remote
    from flexhost.commands.options import Commands

_WHERE = """\
conditions of --where, which must all hold:
  region = EU            region != EU           region = null
  region in (EU, US)     region not in (EU, 'a, b')
  name contains ab       name starts with ab    name ends with ab
  name not contains ab   (whatever the case)
  day >= 2026-01-01      day < 2026-01-01       day = 2026-01-01
  day between 2026-01-01 and 2026-03-31
"""


def add_to(commands: Commands) -> None:
    command = commands.add_parser(
        "call",
        help="call a function, here or on a running host, and print its rows",
        epilog=_WHERE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", metavar="NAME", help="of the function")
    command.add_argument(
        "-p",
        metavar="KEY=VALUE",
        dest="pairs",
        action="append",
        default=[],
        help="a parameter; the value as JSON where it is some, otherwise as text",
    )
    command.add_argument(
        "--parameters", metavar="JSON", help="all of them as an object, or @FILE that holds it"
    )
    command.add_argument("--columns", metavar="A,B", help="that are wanted, in this order")
    command.add_argument(
        "--where",
        metavar="CONDITION",
        action="append",
        default=[],
        help="a filter, sent to the function as a BI backend does; see below",
    )
    command.add_argument(
        "--timezone", metavar="ZONE", default="UTC", help="of the filters' dates: UTC"
    )
    command.add_argument(
        "--output",
        choices=("table", "csv", "json", "parquet", "arrow"),
        help="else by the ending of -o FILE, else table; json is an object a line",
    )
    command.add_argument("-o", metavar="FILE", dest="file", help="to write, in place of stdout")
    command.add_argument(
        "--rows", metavar="N", help="at most so many, or all; 50 for a table, else all"
    )
    add_host(command)
    command.set_defaults(run=_call)


def _call(options: argparse.Namespace) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(130))  # until there is something to end
    from flexhost import logs
    from flexhost.command_line.call_output import Output
    from flexhost.command_line.progress import Progress

    logs.configure(readable=True)
    host = host_of(options)  # before a file is begun: a signal leaves at once till here
    with Output(options.output, options.file, _rows(options.rows)) as output:
        with Progress(live=output.live) as progress:

            def cancel() -> None:
                progress.stop()
                print("flexhost: cancelled", file=sys.stderr)
                host.cancel()

            status = _until_interrupted(lambda: _answer(host, options, output, progress), cancel)
        if status == 0:
            output.keep()
        return status


def _answer(
    host: Local | Remote, options: argparse.Namespace, output: Output, progress: Progress
) -> int:
    try:
        parameters = _parameters(host, options)
        with host.call(options.name, parameters) as answer:
            notes = output.write(answer, progress)
    except HostError as error:
        if host.cancelled:
            return 130
        progress.stop()
        if told := error.trace or error.detail:
            print(told.rstrip(), file=sys.stderr)
        print(f"flexhost: {error.code}: {error}", file=sys.stderr)
        return 1
    progress.stop()
    for line in (*notes, progress):
        print(line, file=sys.stderr)
    return 0


def _parameters(host: Local | Remote, options: argparse.Namespace) -> dict[str, object]:
    """Raises SettingsError and HostError."""
    from flexhost.command_line import given, where

    function = host.function(options.name)
    schema = (function.metadata or {}).get("parameters")
    made = given.parameters(options.parameters, options.pairs, schema)
    if options.columns is not None:
        made["columns"] = [name.strip() for name in next(csv.reader([options.columns]), [])]
    if options.where:
        labels = getattr(function, "labels", None)
        filters = where.filters(options.where, function.schema, labels)
        made["executionContext"] = where.context(
            filters, options.timezone, made.get("executionContext")
        )
    return made


def _rows(text: str | None) -> int | None:
    """None where it is not said, -1 for all of them. Raises SettingsError."""
    if text is None or text == "all":
        return None if text is None else -1
    if not text.isdecimal():
        raise SettingsError(f"--rows is {text!r}, expected a number, or all")
    return int(text)


def _until_interrupted(work: Callable[[], int], cancel: Callable[[], None]) -> int:
    """In a thread of its own, so that a signal finds no function at work under it."""
    ended = threading.Event()
    outcome: list[int | BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)
        ended.set()

    thread = threading.Thread(target=run, name="call", daemon=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        thread.start()
        ended.wait()
    except KeyboardInterrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(130))
        cancel()
        return 130
    [found] = outcome
    if isinstance(found, BaseException):
        raise found
    return found
