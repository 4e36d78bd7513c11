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
        if isinstance(self.functions, str):  # each of its letters would be a pattern, `*` too
            raise TypeError("functions is a text, expected a tuple of patterns")

    def may_call(self, function: str) -> bool:
        return any(one == "*" or fnmatchcase(function, one) for one in self.functions)


# Whoever calls where no token is asked for.
ANYONE = Caller()
