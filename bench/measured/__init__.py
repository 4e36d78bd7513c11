"""The functions that are measured: the same code on the host, on the reference and on bare pyarrow.

MEASURED_ON says on which: "ours", "reference" or "bare".
"""

from __future__ import annotations

import os
from typing import Any

_ON = os.environ.get("MEASURED_ON", "ours")

Base: Any = object
if _ON == "ours":
    from flexhost import FlexFun

    Base = FlexFun
elif _ON == "reference":
    from gooddata_flexconnect import FlexConnectFunction

    Base = FlexConnectFunction
