"""The names authors import."""

from flexhost.cache_policy import CachePolicy
from flexhost.caller import Caller
from flexhost.context import ExecutionContext
from flexhost.errors import BadArgument
from flexhost.flex_fun import FlexFun, LoadContext, ModuleHealthStatus
from flexhost.messages import DataSourceMessage, with_messages
from flexhost.table_functions import table_function
from flexhost.udf_options import udf

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
