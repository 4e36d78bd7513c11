"""The names authors import."""

from flexhost.caller import Caller
from flexhost.function import CachePolicy, FlexFun, LoadContext, ModuleHealthStatus
from flexhost.messages import DataSourceMessage, with_messages

__all__ = [
    "CachePolicy",
    "Caller",
    "DataSourceMessage",
    "FlexFun",
    "LoadContext",
    "ModuleHealthStatus",
    "with_messages",
]
