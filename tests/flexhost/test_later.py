"""What is costly to load is loaded when it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import ROOT

from flexhost import LoadContext
from flexhost.configuration.later import Later
from flexhost.telemetry.health import Health


def test_settings_of_a_context_are_made_when_they_are_asked_for_and_once():
    made = []
    context = LoadContext(Later(lambda: made.append(1) or {"my": 1}), "location", Health())
    assert made == []

    assert context.settings == {"my": 1}
    assert context.settings is context.settings
    assert made == [1]


@pytest.mark.parametrize("module", ["dynaconf", "pyarrow.compute"])
def test_a_host_without_functions_that_need_it_does_not_load_what_is_costly(module):
    code = (
        "import sys; import flexhost.serving.server; from flexhost import settings; "
        "settings.load(); "
        f"sys.exit({module!r} in sys.modules)"
    )
    source = {"PYTHONPATH": str(ROOT / "src")}

    assert subprocess.run([sys.executable, "-c", code], env=source).returncode == 0
