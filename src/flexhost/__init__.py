"""The names authors import. Each is loaded when it is asked for: what is behind them takes long,
and `__main__` says before it begins what a signal does meanwhile."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flexhost.caller import Caller
    from flexhost.context import ExecutionContext
    from flexhost.errors import BadArgument
    from flexhost.functions.cache_policy import CachePolicy
    from flexhost.functions.flex_fun import FlexFun, LoadContext, ModuleHealthStatus
    from flexhost.functions.messages import DataSourceMessage, with_messages
    from flexhost.functions.table_functions import table_function
    from flexhost.functions.udf_options import udf
else:
    import importlib

    _HOME = {
        "BadArgument": "errors",
        "CachePolicy": "functions.cache_policy",
        "Caller": "caller",
        "DataSourceMessage": "functions.messages",
        "ExecutionContext": "context",
        "FlexFun": "functions.flex_fun",
        "LoadContext": "functions.flex_fun",
        "ModuleHealthStatus": "functions.flex_fun",
        "table_function": "functions.table_functions",
        "udf": "functions.udf_options",
        "with_messages": "functions.messages",
    }

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(
            importlib.import_module(f"{__name__}.{_HOME[name]}"), name
        )
        return value

    def __dir__():
        """With those that nobody has asked for, for `help` and completion."""
        return sorted({*globals(), *_HOME})


__all__ = [
    "BadArgument",
    "CachePolicy",
    "Caller",
    "DataSourceMessage",
    "ExecutionContext",
    "FlexFun",
    "LoadContext",
    "ModuleHealthStatus",
    "table_function",
    "udf",
    "with_messages",
]
