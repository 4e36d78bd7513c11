"""The names authors import."""

from flexhost.function import FlexFun, LoadContext, ModuleHealthStatus

__all__ = ["FlexFun", "LoadContext", "ModuleHealthStatus"]
