"""The names authors import."""

from flexhost.caller import Caller
from flexhost.context import ExecutionContext
from flexhost.errors import BadArgument
from flexhost.functions.cache_policy import CachePolicy
from flexhost.functions.flex_fun import FlexFun, LoadContext, ModuleHealthStatus
from flexhost.functions.messages import DataSourceMessage, with_messages
from flexhost.functions.table_functions import table_function
from flexhost.functions.udf_options import udf

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
