"""Name → Function. Filled at start-up from the modules of the configuration, then only read, so it
needs no lock."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

from flexhost.caller import Caller
from flexhost.errors import StartError, Unauthorized, UnknownFunction
from flexhost.function import Elsewhere, Function
from flexhost.functions import modules
from flexhost.functions.describe import describe, is_function, is_plain, module_of
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.flink_wrappers import Aggregate
from flexhost.functions.signature import NotPlain
from flexhost.functions.udf_options import is_marked

_logger = logging.getLogger("flexhost.registry")

_NONE: Mapping[str, Any] = MappingProxyType({})


class Registry:
    def __init__(
        self,
        functions: Iterable[Function],
        modules: Iterable[str] = (),
        udfs: Iterable[str] = (),
    ) -> None:
        """modules, udfs: that they were loaded from.

        Raises StartError when two functions have one name.
        """
        self.modules = tuple(modules)
        self.udfs = tuple(udfs)
        self._functions: dict[str, Function] = {}
        for function in functions:
            if (other := self._functions.get(function.name)) is not None:
                raise StartError(
                    f"two functions are named {function.name!r}: "
                    f"one in {other.module}, one in {function.module}"
                )
            self._functions[function.name] = function

    def __getitem__(self, name: str) -> Function:
        try:
            return self._functions[name]
        except KeyError:
            raise UnknownFunction(f"no function is named {name!r}") from None

    def get(self, name: str, caller: Caller) -> Function:
        """Raises UnknownFunction, and Unauthorized whether there is such a function or not."""
        if not caller.may_call(name):
            raise Unauthorized(f"caller {caller.name!r} may not call function {name!r}")
        return self[name]

    def of(self, caller: Caller) -> list[Function]:
        """Those that the caller may list and call."""
        return [one for one in self if caller.may_call(one.name)]

    def __iter__(self) -> Iterator[Function]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)


def load(
    names: Iterable[str],
    ctx: LoadContext | None,
    *,
    udfs: Iterable[str] = (),
    fiscal_year_start_month: int = 1,
    executors: Mapping[str, str] = _NONE,
    elsewhere: Mapping[str, Callable[[str], Elsewhere]] = _NONE,
    before: Iterable[Function] = (),
    skipped: Callable[[str], object] = _logger.warning,
) -> Registry:
    """Every function of these modules, each one's `on_load` called once, in the order listed.

    ctx:       for `on_load`; None to leave that out.
    udfs:      plain functions, and modules of them.
    executors: see `describe`.
    elsewhere: of executors that run calls in other processes: a function's name to its `elsewhere`.
               Its `on_load` is called there.
    before:    functions that were loaded before, and are kept where their code is the same object.
    skipped:   told of functions of a module of plain ones that cannot be served.

    A module stands for the classes and table functions defined in it, for a package also those of
    its submodules that it imports, and for whatever its `__all__` names; a module of plain
    functions for the public ones whose hints are complete and mean types. Raises StartError.
    """
    names, udfs = tuple(names), tuple(udfs)
    known = {id(one.source): one for one in before}  # not all of them can be hashed
    make = functools.partial(
        _described,
        fiscal_year_start_month=fiscal_year_start_month,
        executors=executors,
        elsewhere=elsewhere,
    )
    described: dict[int, Function] = {}
    for source in _sources(names):
        described[id(source)] = known.get(id(source)) or make(source)
    for source, variable, meant in _plain(udfs):
        if id(source) in described:
            continue
        try:
            described[id(source)] = known.get(id(source)) or make(source, variable=variable)
        except (NotPlain, Aggregate) as error:
            if meant:
                raise
            skipped(f"{error}: it is not served")
    registry = Registry(described.values(), names, udfs)
    if ctx is not None:
        for function in registry:
            if id(function.source) not in known and function.elsewhere is None:
                on_load(function, ctx)
    return registry


def _sources(names: Iterable[str]) -> Iterator[Any]:
    """Of modules of [flexfun]."""
    for name in names:
        module = modules.load(name, "function")
        found = [one for _, one in modules.members_of(module, "function", is_function)]
        if not found:
            raise StartError(
                f"module {name!r} defines no function: expected a class with Name, Schema and "
                f"call, or a @table_function{_elsewhere(module, is_plain, 'plain', 'udf')}"
            )
        yield from found


def _plain(names: Iterable[str]) -> Iterator[tuple[Any, str, bool]]:
    """Of [udf]: each with the variable that it stands in, and whether one is meant to be served, so
    that it ends the start when it cannot be."""
    for name in names:
        found = modules.named(name, "function")
        if not isinstance(found, ModuleType):
            yield found, name.rpartition(".")[2], True
            continue
        members = modules.members_of(found, "function", is_plain, module_of)
        public = [(one, called) for called, one in members if not called.startswith("_")]
        if not public:
            raise StartError(
                f"module {name!r} defines no function: expected one with type hints, whose name "
                f"begins with no underscore{_elsewhere(found, is_function, 'table', 'flexfun')}"
            )
        yield from ((one, called, is_marked(one)) for one, called in public)


def _elsewhere(module: ModuleType, wanted: Callable[[Any], bool], kind: str, section: str) -> str:
    """What else may be meant by a module with nothing that is looked for."""
    found = list(modules.members_of(module, "function", wanted, module_of))
    return f"; {kind} functions are listed in [{section}]" if found else ""


def on_load(function: Function, ctx: LoadContext) -> None:
    """Raises StartError."""
    if function.loads is None:
        return
    try:
        function.loads(ctx)
    except StartError:
        raise
    except BaseException as error:
        raise modules.failure(f"on_load of function {function.name!r} failed", error) from None


def _described(
    source: Any,
    elsewhere: Mapping[str, Callable[[str], Elsewhere]],
    **more: Any,
) -> Function:
    """`describe`, whatever a class does when it is looked at."""
    try:
        made = describe(source, **more)
        if (there := elsewhere.get(made.executor)) is None:
            return made
        return made.but(elsewhere=there(made.name))
    except StartError:
        raise
    except BaseException as error:
        raise modules.failure(f"{source!r} cannot be inspected", error) from None
