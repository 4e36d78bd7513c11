"""Whether and how equal calls of a function share."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class CachePolicy:
    """Equal calls share one run of the function, and its table for a while.

    Calls are equal when their parameters, column hint and caller are. `executionContext.timestamp`
    and `executionContext.executionInitiator` do not count, nor do headers, unless they are named.

    ttl_sec: seconds that the table is given to later calls; 0 for only those that come meanwhile.
    vary_by: what else has to be equal: "header:NAME" or "parameters:PATH.TO.VALUE".
    shared:  callers share with each other.

    Raises ValueError.
    """

    ttl_sec: float
    vary_by: tuple[str, ...] = ()
    shared: bool = False

    def __post_init__(self) -> None:
        ttl = self.ttl_sec
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 <= ttl < math.inf:
            raise ValueError(f"ttl_sec is {ttl!r}, expected a number of seconds from 0")
        if not isinstance(self.vary_by, tuple | list):
            raise ValueError(f"vary_by is {self.vary_by!r}, expected a tuple of texts")
        for rule in self.vary_by:
            if not isinstance(rule, str) or not _RULE.fullmatch(rule):
                raise ValueError(
                    f'vary_by has {rule!r}, expected "header:NAME" or "parameters:PATH.TO.VALUE"'
                )
        if not isinstance(self.shared, bool):
            raise ValueError(f"shared is {self.shared!r}, expected True or False")


_RULE = re.compile(r"header:[^\s:]+|parameters:[^.:]+(\.[^.:]+)*")
