"""A new function of the author's: its module, its test, and its line in the settings."""

from __future__ import annotations

import builtins
import contextlib
import keyword
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from flexhost import registry, settings
from flexhost.errors import SettingsError, StartError

try:
    import tomlkit
except ImportError as error:
    raise SettingsError(
        f"`flexhost new` needs tomlkit, which cannot be imported ({error}): install it, or the "
        "project's extra [dev]"
    ) from None

_MODULE = '''\
"""The table function `{name}`: make its columns, its parameters and its rows your own."""

import pyarrow as pa

from flexhost import table_function

SCHEMA = pa.schema([("city", pa.string()), ("degrees", pa.float64())])

MEASURED = {{"Brno": 11.5, "Ostrava": 9.0, "Praha": 12.5}}


@table_function(SCHEMA)
def {name}(at_least: float = 0.0):
    """A row for each city with `at_least` so many degrees, which a caller may give."""
    return [
        {{"city": city, "degrees": degrees}}
        for city, degrees in MEASURED.items()
        if degrees >= at_least
    ]
'''
_TEST = """\
from flexfun.{name} import {name}
from flexhost.testing import conforms, run


def test_{name}_leaves_out_what_is_below():
    assert run({name}, at_least=12.0).to_pylist() == [{{"city": "Praha", "degrees": 12.5}}]


def test_{name}_is_a_good_function():
    conforms({name})
"""
# Names that stand for something else in the module of a function.
_TAKEN = {"pa", "table_function", *vars(builtins)}

_PACKAGE = "flexfun"
_FILE = "flexfun.config.toml"
# Section and its later name, as settings have them.
_SECTIONS = ("flexfun", "flexconnect")


def create(name: str, files: Iterable[str]) -> list[tuple[Path, str]]:
    """What was written, and what for: all of it, or nothing.

    files: of the settings, the last one wins. Raises StartError.
    """
    _check_name(name)
    files = [*files]
    source = Path("src", _PACKAGE)
    if not source.is_dir():
        raise SettingsError(f"there is no {source} in {Path.cwd()}: go to the project's folder")
    module = source / f"{name}.py"
    test = Path("tests", _PACKAGE, f"test_{name}.py")
    for there in (module, source / name, test):
        if there.exists():
            raise StartError(f"{there} is there already: take another name, or remove it")
    _check_function(name, files)
    file = _file_with_functions(files)
    dotted = f"{_PACKAGE}.{name}"
    listed = with_function(file.read_bytes().decode(), dotted, str(file))
    with _undone_on_failure() as undo:
        _write(module, _MODULE.format(name=name), undo)
        _make_folder(test.parent, undo)
        _write(test, _TEST.format(name=name), undo)
        _replace(file, listed)
    return [(module, "the function"), (test, "its test"), (file, f"lists {dotted}")]


def _check_name(name: str) -> None:
    """Raises SettingsError."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name, re.ASCII):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).strip("_").lower()
        near = f", for example {words}" if re.fullmatch(r"[a-z][a-z0-9_]*", words) else ""
        raise SettingsError(
            f"{name!r} cannot name a module: expected small letters, digits and _{near}"
        )
    if keyword.iskeyword(name) or name in _TAKEN:
        raise SettingsError(f"{name!r} means something else in Python: take another name")


def _check_function(name: str, files: list[str]) -> None:
    """Raises StartError."""
    wanted = settings.load(files).settings
    for one in registry.load(wanted.flexfun.functions, None, udfs=wanted.udf.functions):
        if one.name == name:
            raise StartError(f"a function is named {name!r} already, in {one.file or one.module}")
    if any(key.upper().endswith(("__FUNCTIONS",)) for key in _variables()):
        raise SettingsError(
            "a variable GOODDATA_FLIGHT_..__FUNCTIONS is set and wins over the list in the files: "
            "unset it, so that a new function is served"
        )


def _variables() -> Iterator[str]:
    return (name for name in os.environ if name.startswith("GOODDATA_FLIGHT_"))


def _file_with_functions(files: list[str]) -> Path:
    """The one whose list counts, else the one that is for it. Raises SettingsError."""
    for file in reversed(files):
        if _functions_in(tomllib.loads(Path(file).read_text("utf-8"))) is not None:
            return Path(file)
    for file in files:
        if Path(file).name == _FILE:
            return Path(file)
    raise SettingsError(f"none of {', '.join(files)} has a list of functions, nor is one {_FILE}")


def with_function(text: str, module: str, where: str) -> str:
    """These settings with one more module at the end of the list of functions, all else as it was.

    Raises SettingsError.
    """
    before = tomllib.loads(text)
    section, key = _functions_in(before) or (_section_in(before), "functions")
    keys = before.get(section, {})
    listed = keys.get(key, [])
    if not isinstance(listed, list):
        raise SettingsError(f"{where}: [{section}] {key} is {listed!r}, expected a list")
    if module in listed:
        raise SettingsError(f"{where}: [{section}] {key} lists {module} already")
    if key not in keys and section in before:  # first, since a comment at the end may be the next's
        after = _with_first_line(text, section, f'{key} = ["{module}"]')
    else:
        made: Any = tomlkit.parse(text)
        made.setdefault(section, tomlkit.table()).setdefault(key, []).append(module)
        after = tomlkit.dumps(made)
    wanted = {**before, section: {**keys, key: [*listed, module]}}
    if tomllib.loads(after) != wanted:  # better nothing than something else
        raise SettingsError(f"{where}: add {module!r} to the list of functions by hand, please")
    return after


def _with_first_line(text: str, section: str, line: str) -> str:
    head = re.compile(rf"^[ \t]*\[[ \t]*{section}[ \t]*\][^\r\n]*", re.MULTILINE)
    return head.sub(lambda found: f"{found[0]}\n{line}", text, count=1)


def _section_in(content: dict[str, Any]) -> str:
    return next((one for one in content if one.lower() in _SECTIONS), _SECTIONS[0])


def _functions_in(content: dict[str, Any]) -> tuple[str, str] | None:
    """The section and the key of the list, in whatever capitals."""
    for section, keys in content.items():
        if section.lower() in _SECTIONS and isinstance(keys, dict):
            for key in keys:
                if key.lower() == "functions":
                    return section, key
    return None


@contextlib.contextmanager
def _undone_on_failure() -> Iterator[list[Callable[[], object]]]:
    """Raises StartError."""
    undo: list[Callable[[], object]] = []
    try:
        yield undo
    except BaseException as error:
        for step in reversed(undo):
            step()
        if isinstance(error, OSError):
            name = error.filename
            raise StartError(f"cannot write {name}, nothing was made: {error.strerror}") from None
        raise


def _make_folder(path: Path, undo: list[Callable[[], object]]) -> None:
    """With those above it. Raises OSError."""
    for folder in reversed([path, *path.parents]):
        if not folder.is_dir():
            folder.mkdir()
            undo.append(folder.rmdir)


def _write(path: Path, text: str, undo: list[Callable[[], object]]) -> None:
    """A file that is not there yet. Raises OSError."""
    with path.open("x", encoding="utf-8", newline="\n") as file:
        undo.append(lambda: path.unlink(missing_ok=True))
        file.write(text)


def _replace(path: Path, text: str) -> None:
    """At once, whoever reads it meanwhile. Raises OSError."""
    path = path.resolve()  # a link stays one
    number, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(text.encode())
        shutil.copymode(path, temporary)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
