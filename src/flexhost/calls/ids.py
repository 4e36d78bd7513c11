"""Names of calls: 128 random bits in hexadecimal. They are tickets, so nobody must guess them."""

from __future__ import annotations

import os

_pool: list[str] = []


def new_id() -> str:
    """Drawn from a stock: asking the system for random bytes lets go of the interpreter, which in a
    burst of thousands costs a request more than everything else that it does (measured)."""
    try:
        return _pool.pop()
    except IndexError:
        drawn = os.urandom(16 * 256).hex()
        _pool.extend(drawn[at : at + 32] for at in range(32, len(drawn), 32))
        return drawn[:32]
