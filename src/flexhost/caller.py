"""Who makes a call."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Caller:
    """name:        by which it is known: on log lines, as the owner of its calls; "" when calls
                 need no token.
    functions:   patterns (as of `fnmatch`) of the functions it may list and call.
    max_running: calls of it that may be accepted and without their outcome at once; None for any.
    identity:    what a verifier of the user's own told of it, for functions.
    """

    name: str = ""
    functions: tuple[str, ...] = ("*",)
    max_running: int | None = None
    identity: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError: what is odd here would be a hole, or fail each request, later."""
        if not isinstance(self.name, str):
            raise ValueError(f"name is {self.name!r}, expected a text")
        patterns = self.functions  # of a text each letter would be one, `*` too
        if not isinstance(patterns, (tuple, list, set, frozenset)) or not all(
            isinstance(one, str) for one in patterns
        ):
            raise ValueError(f"functions is {patterns!r}, expected a tuple of patterns")
        object.__setattr__(self, "functions", tuple(patterns))
        most = self.max_running
        if most is not None and (type(most) is not int or most < 0):
            raise ValueError(f"max_running is {most!r}, expected a whole number or None")

    def may_call(self, function: str) -> bool:
        if self.functions == _ALL:
            return True
        return any(one == "*" or fnmatchcase(function, one) for one in self.functions)


_ALL = ("*",)


# Whoever calls where no token is asked for.
ANYONE = Caller()
