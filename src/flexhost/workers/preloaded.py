"""Imported once by the process that worker processes are forked from, which never runs a call: what
they all need is there when they begin. Only that process imports it."""

from __future__ import annotations

import signal

import pyarrow as pa

from flexhost.workers import worker_start as worker_start

# Makes pyarrow import pandas, where there is one. It would do so in the first call of each worker
# that turns Python values into Arrow, which takes longer than such a call has to be cancelled.
pa.array([])

# A service manager signals every process: workers are needed until the host has drained. This one
# ends when the host does.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
