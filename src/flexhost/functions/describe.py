"""What an author wrote → a Function. The only place where that happens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flexhost.errors import StartError, name_of
from flexhost.function import Function
from flexhost.functions import (
    eval_objects,
    flink_wrappers,
    plain,
    signature,
    table_functions,
    udf_options,
)
from flexhost.functions.eval_objects import Objects
from flexhost.functions.flex_fun import FlexFun
from flexhost.functions.function_class import of_class
from flexhost.functions.plain import Plain

_NONE: Mapping[str, Any] = MappingProxyType({})


def describe(
    source: Any,
    *,
    variable: str = "",
    fiscal_year_start_month: int = 1,
    executors: Mapping[str, str] = _NONE,
) -> Function:
    """The Function that something stands for: a FlexFun or a class of that shape, a
    `@table_function`, a plain function with type hints, a class with `eval`, or what PyFlink makes
    of one.

    variable:  that it stands in, for what has no name of its own.
    executors: patterns of names, as of files → the executor of functions that name none.

    Raises StartError that says what is wrong with it.
    """
    if flink_wrappers.is_wrapper(source):
        made = _of_flink(source, variable).function(executors)
    elif eval_objects.is_eval_class(source):
        made = _of_eval(source).function(executors)
    elif table_functions.is_declared(source):
        where = f"table function {_place(source)}"
        made = of_class(table_functions.flex_fun(source, where), where, source, executors)
    elif udf_options.is_function(source):
        made = _of_function(source).function(executors)
    elif not issubclass(type(source), type):
        raise StartError(
            f"{variable or repr(source)} is a {name_of(source)}, expected a function with type "
            "hints, or a class"
        )
    else:
        code = getattr(source, "call", None)
        made = of_class(source, f"function class {_place(source)}", code, executors)
    return made.but(source=source, fiscal_year_start_month=fiscal_year_start_month)


def module_of(source: Any) -> str:
    """Where it was written."""
    if flink_wrappers.is_wrapper(source):
        return flink_wrappers.module_of(source)
    return str(source.__module__)


def _place(source: Any) -> str:
    return f"{source.__module__}.{source.__qualname__}"


def _of_function(function: Any) -> Plain:
    where, options = f"function {_place(function)}", udf_options.options_of(function)
    if options.name is None and not function.__name__.isidentifier():
        raise signature.NotPlain(f"{where} has no name of its own: give it one, @udf(name=...)")
    return Plain(
        function.__name__ if options.name is None else options.name,
        where,
        function,
        signature.read(function, where),
        plain.always(function),
        options,
        deterministic=options.deterministic is not False,
    )


def _of_eval(cls: Any) -> Plain:
    where, options = f"function class {_place(cls)}", udf_options.options_of(cls)
    code, of_object = eval_objects.eval_of(cls)
    found = signature.read(code, where, of_object=of_object)
    eval_objects.check(cls, where)
    one = eval_objects.made(cls, where)
    said = eval_objects.says_deterministic(one, where)
    if options.deterministic is not None:
        said = options.deterministic
    objects = Objects(cls, where)
    return Plain(
        cls.__name__ if options.name is None else options.name,
        where,
        code,
        found,
        objects.lent,
        options,
        deterministic=said is not False,
        loads=objects.load,
    )


def _of_flink(wrapper: Any, variable: str) -> Plain:
    name = flink_wrappers.name_of(wrapper, variable)
    where = f"PyFlink function {flink_wrappers.module_of(wrapper)}.{variable or name}"
    found = flink_wrappers.read(wrapper, where)
    code = flink_wrappers.code_of(wrapper)
    said = flink_wrappers.says_deterministic(wrapper)
    lent, loads = plain.always(flink_wrappers.adapted(code, found)), None
    if flink_wrappers.is_object(wrapper):
        eval_objects.check(wrapper._func, where)
        if said is None:
            said = eval_objects.says_deterministic(wrapper._func, where)
        objects = Objects(
            flink_wrappers.copier(wrapper, where),
            where,
            lambda code: flink_wrappers.adapted(code, found),
        )
        lent, loads = objects.lent, objects.load
    return Plain(
        name,
        where,
        code,
        found,
        lent,
        udf_options.NONE,
        deterministic=said is not False,
        loads=loads,
    )


def is_function(member: Any) -> bool:
    """Whether what a module has means to be a function."""
    if issubclass(type(member), type):
        return _is_function_class(member)
    return table_functions.is_declared(member)


def is_plain(member: Any) -> bool:
    """Whether what a module has may be a plain function."""
    if flink_wrappers.is_wrapper(member) or eval_objects.is_eval_class(member):
        return not inspect.isabstract(member)
    return udf_options.is_function(member) and not table_functions.is_declared(member)


def _is_function_class(cls: type[Any]) -> bool:
    """One without a Name that others derive from, or whose own name begins with an underscore, is a
    base class."""
    if cls is FlexFun:
        return False
    named = isinstance(getattr(cls, "Name", None), str)
    if issubclass(cls, FlexFun):
        return named or not (cls.__subclasses__() or cls.__name__.startswith("_"))
    by_shape = all(hasattr(cls, attribute) for attribute in ("Name", "Schema", "call"))
    return by_shape and (named or not (cls.__subclasses__() or inspect.isabstract(cls)))
