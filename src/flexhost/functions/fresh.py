"""The author's modules built anew from their source, as fresh module objects, while those that were
built before stay as they are: calls that run go on in them."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_OURS = __name__.partition(".")[0]


class Modules:
    """roots: folders of `sys.path` whose modules are the author's."""

    def __init__(self, roots: Iterable[Path]) -> None:
        self.roots = [root.resolve() for root in roots]

    @classmethod
    def around(cls, names: Iterable[str]) -> Modules:
        """Those in the folders where these modules are found."""
        found: dict[Path, None] = {}
        for name in names:
            top = name.partition(".")[0]
            spec = None if top in sys.builtin_module_names else importlib.util.find_spec(top)
            if spec is not None and spec.origin and top != _OURS:
                file = Path(spec.origin)
                found[file.parent.parent if file.name == "__init__.py" else file.parent] = None
        return cls(found)

    def install(self) -> None:
        """From now on their code comes from source alone: compiled files are recognised by their
        time in whole seconds and their size, so that one may be of another text."""
        sys.meta_path.insert(0, _FromSource(self))

    def has(self, file: str | None) -> bool:
        path = Path(file).resolve() if file else None
        return path is not None and any(
            path.is_relative_to(root)
            and not path.is_relative_to(root / _OURS)
            and not _INSTALLED & set(path.relative_to(root).parts)
            for root in self.roots
        )

    def outdated(self, changed: Iterable[Path]) -> set[str]:
        """The names of the loaded modules of these files, and of all that import them."""
        files = {path.resolve() for path in changed}
        loaded = self._loaded()
        found = {name for name, file in loaded.items() if file in files}
        imports = {name: set(_imports(name, file)) for name, file in loaded.items()}
        while more := {n for n, imported in imports.items() if imported & found} - found:
            found |= more
        return found

    @contextmanager
    def without(self, names: Iterable[str]) -> Iterator[None]:
        """Inside, these modules are as if they had never been imported, so that who imports them
        gets new ones. An exception brings the old ones back."""
        before = self._loaded()
        gone = {name: sys.modules.pop(name) for name in names if name in sys.modules}
        for name, module in gone.items():
            _hide(name, module)
        importlib.invalidate_caches()
        try:
            yield
        except BaseException:
            for name in self._loaded().keys() - (before.keys() - gone.keys()):
                del sys.modules[name]
            sys.modules.update(gone)
            for name, module in gone.items():
                _show(name, module)
            raise

    def _loaded(self) -> dict[str, Path]:
        found = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and self.has(file):
                found[name] = Path(file).resolve()
        return found


_INSTALLED = {"site-packages", "dist-packages"}


class _FromSource(importlib.abc.MetaPathFinder):
    def __init__(self, modules: Modules) -> None:
        self._modules = modules

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return None
        if not self._modules.has(spec.origin):
            return None
        spec.loader = _Loader(name, str(spec.origin))
        spec.cached = None
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        file = self.get_filename(fullname)
        return self.source_to_code(self.get_data(file), file)


def _imports(name: str, file: Path) -> Iterator[str]:
    """The names of modules that a module may import; its packages, and those it names."""
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(1, len(parts)))
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # one that changed as well
        return
    package = parts if file.name == "__init__.py" else parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from _with_packages(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_packages(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _hide(name: str, module: ModuleType) -> None:
    """A module is an attribute of its package too: `from package import name` would find it."""
    package, _, last = name.rpartition(".")
    parent = sys.modules.get(package)
    if parent is not None and vars(parent).get(last) is module:
        delattr(parent, last)


def _show(name: str, module: ModuleType) -> None:
    package, _, last = name.rpartition(".")
    if package in sys.modules:
        setattr(sys.modules[package], last, module)
