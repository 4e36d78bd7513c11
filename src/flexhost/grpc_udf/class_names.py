"""A function by its `class_name`, which is `module.name`."""

from __future__ import annotations

import threading
from typing import Any, Protocol

from flexhost import registry
from flexhost.caller import Caller
from flexhost.errors import StartError, Unauthorized, UnknownFunction, meant, name_of, text_of
from flexhost.function import Function
from flexhost.functions import modules
from flexhost.functions.describe import describe, is_function, is_plain
from flexhost.functions.eval_objects import NotMade
from flexhost.functions.flex_fun import LoadContext
from flexhost.functions.flink_wrappers import Aggregate
from flexhost.grpc_udf.extraction import NotExtracted
from flexhost.host import Host
from flexhost.registry import Registry


class Functions(Protocol):
    def find(self, class_name: str, caller: Caller) -> Function:
        """Raises NotExtracted, BadCall, Unauthorized, NotReady."""


class Listed:
    """The functions that a host serves, by that or by the name that they are served under."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._indexed: Registry | None = None
        self._names: dict[str, str] = {}

    def find(self, class_name: str, caller: Caller) -> Function:
        """Raises UnknownFunction, Unauthorized, NotReady."""
        functions = self._host.functions
        if functions is not self._indexed:  # a development server serves others later on
            self._names = {_class_name(one): one.name for one in functions}
            self._names |= {one.name: one.name for one in functions}
            self._indexed = functions
        name = self._names.get(class_name)
        # in the same words whether there is such a function or not
        if not caller.may_call(name or class_name.rpartition(".")[2]):
            raise Unauthorized(f"caller {caller.name!r} may not call function {class_name!r}")
        if name is None:
            raise UnknownFunction(f"no function is named {class_name!r}")
        return functions[name]


def _class_name(function: Function) -> str:
    name = getattr(function.source, "__name__", function.name)
    return f"{function.module}.{name}"


class Importable:
    """Whatever is on the import path of this process, described when it is first asked for.

    It is then served by the host, under its `class_name`: two modules may have a function of one
    name.
    """

    def __init__(self, host: Host, context: LoadContext) -> None:
        self._host = host
        self._context = context
        self._found: dict[str, Function] = {}
        self._looking = threading.Lock()
        host.open(Registry([]))

    def find(self, class_name: str, caller: Caller) -> Function:
        """Raises NotExtracted."""
        if (known := self._found.get(class_name)) is not None:
            return known  # whatever another thread imports meanwhile
        with self._looking:
            if (known := self._found.get(class_name)) is None:
                known = self._described(class_name)
                self._found[class_name] = known
                self._host.open(Registry(self._found.values()))
        return known

    def _described(self, class_name: str) -> Function:
        source = _source(class_name)
        try:
            function = describe(source, variable=class_name.rpartition(".")[2])
            function = function.but(name=class_name)
            registry.on_load(function, self._context)
        except StartError as error:
            raise NotExtracted(_code(error), str(error)) from None
        except Exception as error:  # of a class that lets nobody look at it
            why = f"{class_name!r} cannot be described: {text_of(error)}"
            raise NotExtracted("GENERAL_FAILED_EXTRACTION", why) from None
        return function


def _source(class_name: str) -> Any:
    """Raises NotExtracted."""
    module, _, name = class_name.rpartition(".")
    if not all(part.isidentifier() for part in class_name.split(".")) or not module:
        raise NotExtracted(_NOT_FOUND, f"class_name is {class_name!r}, expected module.name")
    try:
        loaded = modules.load(module, "function")
    except StartError as error:
        # one that is there and fails has a trace
        code = "GENERAL_FAILED_EXTRACTION" if error.trace else _NOT_FOUND
        raise NotExtracted(code, str(error)) from None
    try:
        found = getattr(loaded, name)
    except AttributeError:
        public = [one for one in vars(loaded) if not one.startswith("_")]
        raise NotExtracted(
            _NOT_FOUND, f"module {module!r} has no {name!r}, {meant(name, public)}"
        ) from None
    if not (is_plain(found) or is_function(found)):
        raise NotExtracted(
            "NOT_SUPPORTED_FUNCTION", f"{class_name!r} is {name_of(found)}, expected a function"
        )
    return found


_NOT_FOUND = "USER_CODE_NOT_FOUND"


def _code(error: StartError) -> str:
    """For what is wrong with a function that was found."""
    if isinstance(error, Aggregate):
        return "NOT_SCALAR_FUNCTION"
    if isinstance(error, NotMade):
        return "NO_PUBLIC_NO_ARG_CONSTRUCTOR"
    # with a trace it is about code that failed, without about what the code says
    return "GENERAL_FAILED_EXTRACTION" if error.trace else "TYPE_EXTRACTION_ERROR"
