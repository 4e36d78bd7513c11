"""`python -m flexhost.invoke`: describes or executes functions over gRPC, without a Flight server.

It serves whatever is on its import path, the current folder included, to whoever reaches it: it
listens on this machine alone unless it is told otherwise.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from flexhost.errors import SettingsError, StartError
from flexhost.grpc_udf import grpc_packages

EXTRACTION, EXECUTION = "extraction", "execution"
# How the names of handlers end that are longer ones for the same.
_ALIASES = {"extractor.ExtractionHandler": EXTRACTION, "executor.ExecutionHandler": EXECUTION}


def main(arguments: list[str] | None = None) -> NoReturn:
    options = _parser().parse_args(arguments)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own lines would stand between ours
    from flexhost.serving.signals import leave

    try:
        grpc_packages.check("the service")
        leave(_check(options.proto_path) if options.check_proto else _serve(options))
    except StartError as error:
        if error.trace:
            print(error.trace, file=sys.stderr)
        print(f"flexhost.invoke: {error}", file=sys.stderr)
        leave(2 if isinstance(error, SettingsError) else 1)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m flexhost.invoke", description=__doc__)
    made.add_argument(
        "--handler_name",
        type=_handler,
        default=EXTRACTION,
        metavar="HANDLER",
        help=f"{EXTRACTION}: describes functions; {EXECUTION}: calls the one of the spec",
    )
    made.add_argument(
        "--config_override_dir",
        type=Path,
        metavar="DIR",
        help="folder with the file spec_base64, which names the function to execute",
    )
    made.add_argument("--listen_host", default="localhost", help="default: %(default)s")
    made.add_argument("--listen_port", type=_port, default=50051, help="default: %(default)s")
    made.add_argument(
        "--check-proto",
        action="store_true",
        help="only say whether the service uses the messages that stand in .proto files",
    )
    made.add_argument("--proto_path", type=Path, default=Path("proto"), help=argparse.SUPPRESS)
    return made


def _handler(name: str) -> str:
    for ending, meant in _ALIASES.items():
        if name == meant or name.endswith(ending):
            return meant
    raise argparse.ArgumentTypeError(f"{name!r} is neither {EXTRACTION} nor {EXECUTION}")


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is no port, expected 0 to 65535")
    return int(text)


def _check(folder: Path) -> int:
    from flexhost.grpc_udf.proto_files import differences

    found = list(differences(folder))
    print("\n".join(found) or f"the service uses what stands in {folder}")
    return 1 if found else 0


def _serve(options: argparse.Namespace) -> int:
    """Raises StartError."""
    from flexhost import logs
    from flexhost.serving import standalone  # with gRPC, which a check does not need

    logs.configure(readable=True)
    return standalone.serve(
        (options.listen_host, options.listen_port),
        options.handler_name,
        options.config_override_dir,
    )


if __name__ == "__main__":
    main()
