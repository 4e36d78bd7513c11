"""Names of calls."""

from __future__ import annotations

import concurrent.futures
import os
import re

from flexhost.calls import ids


def test_ids_are_random_and_cannot_be_guessed_from_one_another(monkeypatch):
    drawn = []

    def urandom(size):
        drawn.append(real(size))
        return drawn[-1]

    real = os.urandom
    monkeypatch.setattr(os, "urandom", urandom)
    monkeypatch.setattr(ids, "_pool", [])
    made = [ids.new_id() for _ in range(1_000)]

    bits = b"".join(drawn).hex()
    pieces = {bits[at : at + 32] for at in range(0, len(bits), 32)}
    assert set(made) <= pieces  # the system's own random bits, 128 for each
    assert len(set(made)) == 1_000
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


def test_threads_that_draw_at_once_get_ids_of_their_own():
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ids.new_id(), range(20_000)))

    assert len(set(made)) == 20_000
