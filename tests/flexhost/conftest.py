"""What holds for all tests of the host."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in [name for name in os.environ if name.startswith("GOODDATA_FLIGHT_")]:
        monkeypatch.delenv(name)
