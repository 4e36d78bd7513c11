"""Imported once by the process that worker processes are forked from, which never runs a call: what
they all need is there when they begin. Only that process imports it."""

from __future__ import annotations

import signal

from flexhost import worker_start as worker_start

# A service manager signals every process: workers are needed until the host has drained. This one
# ends when the host does.
signal.signal(signal.SIGTERM, signal.SIG_IGN)
