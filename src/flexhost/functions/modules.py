"""Modules of the author that the settings name: what is in them, and what goes wrong there."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from flexhost.errors import StartError, meant, name_of, text_of

PACKAGE = "flexfun"  # where the template has the author's functions
_HOST = str(Path(__file__).parents[1]) + os.sep  # in which all files of the host are


def load(name: str, what: str) -> ModuleType:
    """what: the module is for, for the error. Raises StartError."""
    try:
        return importlib.import_module(name)
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and _is_parent(error.name, name):
            raise StartError(f"{what} module {name!r} cannot be found{_meant(name)}") from None
        raise failure(f"{what} module {name!r} cannot be imported", error) from None


def named(name: str, what: str) -> Any:
    """A module, or what is named in one. Raises StartError."""
    parent, _, last = name.rpartition(".")
    if not parent:
        return load(name, what)
    module = load(parent, what)
    try:
        found = getattr(module, last, None)
    except BaseException as error:
        raise failure(f"{what} module {parent!r} cannot be inspected", error) from None
    if found is not None and not isinstance(found, ModuleType):
        return found
    if hasattr(module, "__path__") and importlib.util.find_spec(name) is not None:
        return load(name, what)
    near = meant(last, [one for one in vars(module) if not one.startswith("_")])
    raise StartError(f"{what} {name!r}: module {parent!r} has no {last!r}, {near}")


def classes_of(
    module: ModuleType, what: str, wanted: Callable[[type[Any]], bool]
) -> Iterator[type[Any]]:
    """Those of `members_of` that are classes. Raises StartError."""
    members = members_of(module, what, lambda one: issubclass(type(one), type) and wanted(one))
    return (one for _, one in members)


def members_of(
    module: ModuleType,
    what: str,
    wanted: Callable[[Any], bool],
    home: Callable[[Any], str] = lambda one: str(one.__module__),
) -> Iterator[tuple[str, Any]]:
    """What is defined in a module, for a package also in its submodules that it imports, and
    whatever its `__all__` names; by the names that they have there.

    home: the module where one was written.

    Raises StartError.
    """
    try:
        listed = list(getattr(module, "__all__", ()))
        # through getattr, for names that the module makes when they are asked for
        members = vars(module) | {name: getattr(module, name) for name in listed}
        for name, member in members.items():
            if wanted(member) and (name in listed or _is_below(home(member), module)):
                yield name, member
    except BaseException as error:
        text = f"{what} module {module.__name__!r} cannot be inspected"
        raise failure(text, error) from None


def _is_below(home: str, module: ModuleType) -> bool:
    return f"{home}.".startswith(f"{module.__name__}.")


def failure(what: str, error: BaseException) -> StartError:
    """An exception of the author's code as one sentence, with the author's own traceback."""
    text = " ".join(text_of(error).split())
    return StartError(f"{what}: {name_of(error)}: {text}", trace=_trace(error))


def authors_frames(error: BaseException) -> TracebackType | None:
    """Its traceback without the frames that led from here into the author's code."""
    frames = error.__traceback__
    while frames is not None and _leads_there(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _meant(name: str) -> str:
    """Looked for without an import, which would run the code of the package."""
    package = importlib.util.find_spec(PACKAGE) if name.isidentifier() else None
    folders = None if package is None else package.submodule_search_locations
    full = f"{PACKAGE}.{name}"
    found = folders and importlib.machinery.PathFinder.find_spec(full, folders)
    return f", did you mean {full!r}?" if found else ""


def _is_parent(missing: str | None, name: str) -> bool:
    return missing is not None and f"{name}.".startswith(f"{missing}.")


def _trace(error: BaseException) -> str:
    frames = authors_frames(error)
    try:
        return "".join(traceback.format_exception(type(error), error, frames, limit=50))
    except BaseException:  # of an exception that cannot be written
        return "".join(traceback.format_tb(frames, limit=50))


def _leads_there(file: str) -> bool:
    return file.startswith(_HOST) or "importlib" in file
