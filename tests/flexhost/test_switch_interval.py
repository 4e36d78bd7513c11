"""How long a function that computes keeps the interpreter from others."""

from __future__ import annotations

import pytest
from support import Client, process

TELLS = """
import sys
import pyarrow as pa
from flexhost import FlexFun

class Tells(FlexFun):
    Name = "tells"
    Schema = pa.schema([("seconds", pa.float64())])

    def call(self, parameters, columns, headers):
        return pa.table({"seconds": [sys.getswitchinterval()]})
"""


@pytest.mark.parametrize(("setting", "seconds"), [("", 0.005), ("switch_interval_ms = 250", 0.25)])
def test_the_interval_of_the_process_is_the_one_that_is_set(tmp_path, setting, seconds):
    with process(tmp_path, TELLS, setting) as host:
        told = Client(host.port()).call("tells")

    assert told.to_pydict() == {"seconds": [seconds]}
