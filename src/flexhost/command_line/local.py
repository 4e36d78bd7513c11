"""The functions of the settings, listed and called in this process."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from flexhost import in_process, registry, settings
from flexhost.command_line.answer import Answer
from flexhost.command_line.check import location_of
from flexhost.errors import UnknownFunction, meant
from flexhost.frontends.flight_wire import decode_command
from flexhost.function import Function
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.modules import PACKAGE
from flexhost.host import Host
from flexhost.registry import Registry
from flexhost.telemetry.health import Health

_logger = logging.getLogger("flexhost.registry")
# Seconds that a cancelled call has to end, what `on_load` opened to be closed.
_LAST = 2.0


class Local:
    """Its methods raise StartError, when a host would not start, and HostError."""

    def __init__(self, files: Iterable[str]) -> None:
        self._files = [*files]
        self._loaded = settings.load(self._files)
        self._host: Host | None = None
        self._said: set[str] = set()
        self.cancelled = False
        self._ended = threading.Event()

    def functions(self) -> list[Function]:
        return list(self._registry())

    def function(self, name: str) -> Function:
        functions = self._registry()
        try:
            return functions[name]
        except UnknownFunction as error:  # a caller over the wire may not be told of the others
            known = [one.name for one in functions]
            raise UnknownFunction(f"{error}, {meant(name, known)}{self._unlisted(name)}") from None

    @contextmanager
    def call(self, name: str, parameters: dict[str, Any]) -> Iterator[Answer]:
        """Once: `on_load` of the functions is called before, and what it opened closed after."""
        command = json.dumps({"functionName": name, "parameters": parameters}).encode()
        _, parameters, columns = decode_command(command)
        location = location_of(self._loaded.settings.server)
        context = LoadContext(self._loaded.everything, location, Health())
        deadline = self._loaded.settings.flexfun.call_deadline_ms / 1000
        try:
            with closing(context.resources):
                functions = self._registry(context)
                with in_process.hosting(deadline=deadline) as self._host:
                    self._host.open(functions)
                    reading = in_process.call(self._host, name, parameters, columns)
                    rows = None if reading.table is None else reading.table.num_rows
                    with closing(reading):
                        yield Answer(reading.schema, rows, reading)
        finally:
            self._ended.set()

    def cancel(self) -> None:
        """From another thread: the call is stopped, as the host does it."""
        self.cancelled = True
        if self._host is not None:
            self._host.drain(0)
        self._ended.wait(_LAST)

    def close(self) -> None:
        """Nothing is open between calls."""

    def _unlisted(self, name: str) -> str:
        """What to do for a function that is written and not listed."""
        written = {path.stem: path for path in Path("src", PACKAGE).glob("*.py")}
        path, module = written.get(name.lower()), f"{PACKAGE}.{name.lower()}"
        wanted = self._loaded.settings
        if path is None or module in (*wanted.flexfun.functions, *wanted.udf.functions):
            return ""
        named = f"{PACKAGE}.config.toml"
        file = next((one for one in self._files if Path(one).name == named), "the settings")
        listed = f'add "{module}" to functions in {file}, a plain function to those of [udf]'
        return f"; {path} is not listed: {listed}"

    def _registry(self, context: LoadContext | None = None) -> Registry:
        wanted = self._loaded.settings.flexfun
        return registry.load(
            wanted.functions,
            context,
            udfs=self._loaded.settings.udf.functions,
            fiscal_year_start_month=wanted.fiscal_year_start_month,
            executors=wanted.executors,
            skipped=self._say,
        )

    def _say(self, skipped: str) -> None:
        """Once, of functions that are not served."""
        if skipped not in self._said:
            self._said.add(skipped)
            _logger.warning(skipped)
