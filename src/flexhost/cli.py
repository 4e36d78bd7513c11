"""The command line. Prints for people; exit status 0, 1 (cannot) or 2 (wrong setting or option)."""

from __future__ import annotations

import argparse
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from flexhost import logs, server, settings
from flexhost.errors import SettingsError, StartError
from flexhost.files import content

if TYPE_CHECKING:
    from flexhost.doctor import Patient


def main(arguments: list[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
    except StartError as error:
        if error.trace:
            print(error.trace, file=sys.stderr)
        print(f"flexhost: {error}", file=sys.stderr)
        status = 2 if isinstance(error, SettingsError) else 1
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        status = 1
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


def _check(options: argparse.Namespace) -> int:
    from flexhost import check

    status = 0
    for kind, text, trace in check.check(options.config, load=options.load):
        if trace:
            print(trace, file=sys.stderr)
        print(f"{kind.value:7} {text}", flush=True)
        status = 2 if kind is check.Kind.WRONG else status
    return status


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
        _secret(options.token),
        options.tls_root,
        given if all(given) else None,
        options.function,
        options.parameters,
    )


def _secret(given: str | None) -> str | None:
    """`@/path` stands for what is in a file: arguments are shown to whoever lists processes."""
    if given is None or not given.startswith("@/"):
        return given
    return content(given[1:], "the token").decode("utf-8", "replace").strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="flexhost", description="Serves Python table functions over Arrow Flight."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="serve until SIGTERM or SIGINT")
    check = commands.add_parser("check", help="what `start` would serve; 2 if it would not")
    for command in (start, check):
        command.add_argument(
            "--config",
            nargs="+",
            action="extend",
            default=[],
            metavar="FILE",
            help="settings files in TOML; later ones win, GOODDATA_FLIGHT_* variables over all",
        )
    check.add_argument(
        "--load", action="store_true", help="also call on_load of functions, create of a verifier"
    )
    check.set_defaults(run=_check)
    start.add_argument("--dev-log", action="store_true", help="readable log lines, not JSON")
    start.add_argument("--logging-config", metavar="FILE", help="levels and handlers of the logs")
    start.set_defaults(run=_start)
    doctor = commands.add_parser("doctor", help="try a running host from here; 1 if it is not well")
    doctor.add_argument("url", metavar="URL", help="grpc://HOST:PORT or grpc+tls://HOST:PORT")
    doctor.add_argument("--token", help="bearer token, or @/path of a file that holds it")
    doctor.add_argument("--tls-root", metavar="FILE", help="authorities to trust, in PEM")
    doctor.add_argument("--tls-certificate", metavar="FILE", help="to show, when the host asks")
    doctor.add_argument("--tls-key", metavar="FILE", help="its private key")
    doctor.add_argument("--function", metavar="NAME", help="to call; else the first one listed")
    doctor.add_argument("--parameters", metavar="JSON", default="{}", help="for that call")
    doctor.set_defaults(run=_doctor)
    return parser
