"""A server of `FunctionRuntime` alone, for whatever is on the import path of this process."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path

import pyarrow.flight as fl

from flexhost import in_process
from flexhost.configuration.later import Later
from flexhost.errors import FileMissing
from flexhost.frontends.address import uri
from flexhost.frontends.flight_streams import Slots
from flexhost.frontends.invoke import InvokeFrontend
from flexhost.frontends.invoke_handlers import EXECUTION, InvokeHandlers
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.resources import Resources
from flexhost.grpc_udf import overrides
from flexhost.grpc_udf.class_names import Functions, Importable
from flexhost.grpc_udf.execution import Execution
from flexhost.grpc_udf.udf_spec import KEY
from flexhost.observability import Telemetry
from flexhost.serving.signals import LAST, Signals
from flexhost.telemetry import put_off
from flexhost.telemetry.health import Health

# Seconds that a call may take, and that a stopping server waits for calls.
_DEADLINE, _DRAIN = 60.0, 30.0
# Requests that may be under way at once.
_MOST = 256
_logger = logging.getLogger("flexhost")


def serve(listen: tuple[str, int], handler: str, folder: Path | None) -> int:
    """Serve until SIGTERM or SIGINT, then drain. The exit status.

    folder: see `overrides`. Raises StartError.
    """
    telemetry = Telemetry()
    stopping = Signals(_DRAIN, telemetry)
    resources = Resources()  # closed after everything that may use them
    with closing(resources), in_process.hosting(deadline=_DEADLINE, emit=telemetry) as host:
        location = fl.Location(uri("grpc", listen[0], listen[1] or 1))
        context = LoadContext(Later(dict), location, Health(), resources)
        functions = Importable(host, context)
        handlers = InvokeHandlers(
            host,
            functions,
            rpcs=Slots(_MOST),
            handler=handler,
        )
        spec = _spec(handler, folder, functions)
        frontend = InvokeFrontend(handlers, listen, threads=_MOST)
        frontend.open(spec)
        stopping.loaded = True
        put_off.write_later(telemetry)
        _logger.info("the %s handler listens on %s:%s", handler, listen[0], frontend.port)
        stopping.wait()
        frontend.drain()
        host.drain(_DRAIN)
        frontend.stop(LAST)
    telemetry.say("stopped")
    telemetry.close(LAST)
    return 0


def _spec(handler: str, folder: Path | None, functions: Functions) -> Execution | None:
    """Raises SettingsError."""
    if handler != EXECUTION:
        if folder is not None and not folder.is_dir():
            raise FileMissing(f"the folder {folder} is not there")
        return None
    found = None if folder is None else overrides.execution(folder, functions)
    if found is None:
        where = "--config_override_dir is not given" if folder is None else f"{folder} has no {KEY}"
        raise FileMissing(
            f"the {EXECUTION} handler needs a spec, and {where}: make one with "
            f"python -m flexhost.spec MODULE.NAME gen-spec > {folder or 'DIR'}/{KEY}"
        )
    return found
