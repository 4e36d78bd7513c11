"""What a function class declares beside its name, schema and `call`: parameters and limits."""

from __future__ import annotations

import math
from typing import Any

from flexhost.arguments import TOLD
from flexhost.errors import StartError
from flexhost.function import FlexFun
from flexhost.parameters import Parameters


def parameters_of(cls: type[Any], where: str) -> Parameters | None:
    """Of a FlexFun: to another class `Parameters` may be anything. Raises StartError."""
    declared = getattr(cls, "Parameters", None) if issubclass(cls, FlexFun) else None
    return None if declared is None else Parameters(declared, where)


def with_parameters(
    metadata: dict[str, Any] | None, parameters: Parameters | None, where: str
) -> dict[str, Any] | None:
    """The author's metadata and the JSON Schema of the parameters. Raises StartError."""
    if parameters is None:
        return metadata
    if "parameters" in (metadata or {}):
        raise StartError(
            f"{where}: Metadata has 'parameters', where the schema of its Parameters goes"
        )
    return {**(metadata or {}), "parameters": parameters.schema}


def deadline_of(cls: type[Any], where: str) -> float | None:
    """Seconds. Raises StartError."""
    seconds = getattr(cls, "DeadlineSec", None)
    if seconds is None:
        return None
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not number or not 0 < seconds < math.inf:
        raise StartError(f"{where}: DeadlineSec is {seconds!r}, expected seconds, more than 0")
    return float(seconds)


def max_running_of(cls: type[Any], where: str) -> int | None:
    """Raises StartError."""
    most = getattr(cls, "MaxRunning", None)
    if most is not None and (type(most) is not int or most < 1):
        raise StartError(f"{where}: MaxRunning is {most!r}, expected a whole number from 1")
    return most


def told_of(cls: type[Any], parameters: Parameters | None) -> tuple[str, ...]:
    """The attributes that its objects are given: none that the class uses for something else."""
    if not issubclass(cls, FlexFun):
        return ()
    typed = parameters is not None
    return tuple(name for name in TOLD if not hasattr(cls, name) or (typed and name == "params"))
