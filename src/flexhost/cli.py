"""The command line. Prints for people; exit status 0, 1 (cannot) or 2 (wrong setting or option)."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import NoReturn

from flexhost.commands import (
    call,
    check,
    describe,
    dev,
    doctor,
    functions,
    new,
    register,
    start,
)
from flexhost.errors import HostError, SettingsError, StartError
from flexhost.serving.signals import leave

_COMMANDS = (new, dev, functions, describe, call, check, start, doctor, register)


def main(arguments: list[str] | None = None) -> NoReturn:
    ours = parser()
    options = ours.parse_args(arguments)
    if not hasattr(options, "run"):  # no command at all
        ours.print_help(sys.stderr)
        leave(2)
    try:
        status = options.run(options)
    except StartError as error:
        if error.trace:
            print(error.trace, file=sys.stderr)
        print(f"flexhost: {error}", file=sys.stderr)
        status = 2 if isinstance(error, SettingsError) else 1
    except HostError as error:
        print(f"flexhost: {error.code}: {error}", file=sys.stderr)
        status = 1
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        status = 1
    except Exception as error:  # with its frames, which sys.tracebacklimit would hide
        print("".join(traceback.format_exception(error, limit=100)), file=sys.stderr)
        print("flexhost: it failed in a way it should not, see above", file=sys.stderr)
        status = 1
    leave(status)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="flexhost", description="Serves Python table functions over Arrow Flight."
    )
    commands = made.add_subparsers(metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return made
