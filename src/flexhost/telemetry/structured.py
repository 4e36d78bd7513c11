"""Loggers of structlog, which authors use: what they log comes out with the lines of the standard
library's. The host itself does without, for structlog takes a third of the time that it needs to
import what it is made of: it is set up when somebody imports it."""

from __future__ import annotations

import itertools
import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_NAME = "structlog"


def configure_once_imported() -> None:
    """Whoever imports structlog, now or later, has loggers that are set up."""
    if _NAME in sys.modules:
        configure()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def configure(*, cache: bool = True) -> None:
    """Have loggers of structlog log with those of the standard library.

    cache: they stay as they are from their first line on.
    """
    import structlog

    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _to_record],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=cache,
    )


def _to_record(
    logger: Any, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """The last structlog processor: its key-values as one attribute, where none can collide."""
    import structlog

    call: dict[str, Any] = {"msg": str(event.pop("event", ""))}
    for key in ("exc_info", "stack_info"):
        if key in event:
            call[key] = event.pop(key)
    # the message is not a %-format: no args are passed
    return {**call, "extra": {"fields": dict(structlog.contextvars.get_contextvars(), **event)}}


class _Finder:
    """Has others find structlog."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _NAME:
            return None
        # those before have been asked; Python passes over one that has no `find_spec`, too
        after = itertools.dropwhile(lambda finder: finder is not self, list(sys.meta_path))
        others = [one for one in after if one is not self and hasattr(one, "find_spec")]
        specs = (one.find_spec(name, path, target) for one in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Loader", _Loader(spec.loader))
        return spec


class _Loader:
    """Steps aside when it has loaded the module."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        """Whatever else is asked of a loader, as by those who only look where a module is."""
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        configure()
