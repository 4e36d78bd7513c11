"""A development server: after a save the functions are served anew, without a restart."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from flexhost import settings
from flexhost.errors import SettingsError, StartError
from flexhost.functions.fresh import Modules
from flexhost.registry import Registry
from flexhost.serving.served import Served

try:
    import watchfiles
except ImportError as error:
    raise SettingsError(
        f"`flexhost dev` needs watchfiles, which cannot be imported ({error}): install it, or the "
        "project's extra [dev]"
    ) from None

_logger = logging.getLogger("flexhost.dev")

# Milliseconds without a change after which what changed is looked at; editors write in steps.
_QUIET_MS = 50
_LONGEST_MS = 400


def watching(files: Iterable[str]) -> Callable[..., AbstractContextManager[None]]:
    """See `server.Watching`. files: of the settings; they may list other functions later.

    From now on the code of the author comes from its source alone.
    """
    wanted = settings.load(files).settings
    modules = Modules.around([*wanted.flexfun.functions, *wanted.udf.functions])
    modules.install()
    logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells each save

    @contextmanager
    def watch(functions: Registry, served: Served) -> Iterator[None]:
        reloader = Reloader(modules, files, functions, served)
        stop = threading.Event()
        thread = threading.Thread(target=reloader.watch, args=(stop,), name="reloader")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    return watch


class Reloader:
    """modules: the author's. now: what is served."""

    def __init__(
        self, modules: Modules, files: Iterable[str], now: Registry, served: Served
    ) -> None:
        self._modules = modules
        self._files = {Path(file).resolve(): file for file in files}
        self._now = now
        self._served = served
        # of the tries that failed: what mends them may be another file
        self._broken: set[Path] = set()

    def watch(self, stop: threading.Event) -> None:
        for paths in self._saves(stop):
            try:
                self.changed(paths)
            except Exception:
                _logger.exception("nothing was reloaded")

    def changed(self, paths: Iterable[Path]) -> None:
        """Serve what is there now. What is wrong with it is told, and what was served stays."""
        files = set(paths) | self._broken
        outdated = self._modules.outdated(files)
        begun = time.monotonic()
        try:
            with self._modules.without(outdated):
                wanted = settings.load(self._files.values()).settings
                built = self._served.load(wanted, before=self._now)
                self._served.serve(built)  # with worker processes, whose `on_load` may fail
        except StartError as error:
            self._broken = files
            _logger.error("%s; the code of before is served", error)
            if error.trace:
                _logger.error("%s", error.trace.rstrip())
            return
        self._broken = set()
        before, self._now = set(self._now), built
        fresh = [one.name for one in built if one not in before]
        gone = {one.name for one in before} - {one.name for one in built}
        if fresh or gone:
            told = f"serving {', '.join(fresh) or 'nothing'} anew"
            told += f", no more {', '.join(sorted(gone))}" if gone else ""
            _logger.info("%s, after %.2f s", told, time.monotonic() - begun)

    def _saves(self, stop: threading.Event) -> Iterator[set[Path]]:
        folders = {*self._modules.roots, *(file.parent for file in self._files)}
        for changes in watchfiles.watch(
            *folders,
            watch_filter=self._matters,
            debounce=_LONGEST_MS,
            step=_QUIET_MS,
            stop_event=stop,
            rust_timeout=200,
            raise_interrupt=False,
        ):
            yield {Path(path) for _, path in changes}

    def _matters(self, _: watchfiles.Change, path: str) -> bool:
        return Path(path) in self._files or (path.endswith(".py") and self._modules.has(path))
