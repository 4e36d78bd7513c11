"""How a worker process begins and ends."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from flexhost import logs
from flexhost.settings import Server
from flexhost.system import affinity
from flexhost.workers.channel import Channel
from flexhost.workers.worker import Worker

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Setup:
    """What a worker is made with.

    modules, udfs: to load the functions from; see `registry.load`.
    functions:    those whose calls it runs, by name.
    from_source:  the code of modules is not taken from compiled files.
    everything:   all settings, for `on_load`.
    location:     where clients reach the host.
    levels:       of its loggers, by name.
    memory_bytes: that the process may have for itself; None for any number.
    server:       the host's own settings, without its key, for what is traced.
    """

    modules: tuple[str, ...]
    udfs: tuple[str, ...]
    functions: frozenset[str]
    fiscal_year_start_month: int
    from_source: bool
    everything: Any
    location: str
    levels: dict[str, int]
    memory_bytes: int | None
    server: Server


def main(link: socket.socket, setup: Setup) -> None:
    """The life of a worker process, until the host closes its end of the link."""
    affinity.on_every_core()
    os.setpgid(0, 0)  # what functions start ends with this one
    link.set_inheritable(False)
    os.register_at_fork(after_in_child=lambda: _let_go(link))
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the host; programs that a
        signal.signal(number, lambda *_: None)  # function starts get them as ever
    _end_with_host()
    _limit(setup.memory_bytes)
    worker = Worker(Channel(link), setup)
    threading.Thread(target=worker.receive, name="receiver", daemon=True).start()
    worker.work()


def start(setup: Setup, link: socket.socket) -> BaseProcess:
    """A worker process at the other end of this link."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["flexhost.workers.preloaded"])
    process = processes.Process(target=main, args=(link, setup), name="worker")
    process.start()
    return process


def _let_go(link: socket.socket) -> None:
    """In a process that a function forks: the host would take it for this one, which it may
    outlive, and its log lines would go between the halves of messages."""
    link.close()
    lines = logging.StreamHandler(sys.__stderr__)
    lines.setFormatter(logs.JsonLines())
    logging.root.handlers = [lines]


def _limit(memory_bytes: int | None) -> None:
    """Of memory that is this process' own: what it makes for the host does not count."""
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with contextlib.suppress(OSError):  # where memory runs out, rather this than the host
        Path("/proc/self/oom_score_adj").write_text("500")


def _end_with_host() -> None:
    """However the host ends, also while a function holds the interpreter: the process that this
    one is forked from ends with it, once no worker has this pipe, and takes this one along."""
    server: Any = forkserver._forkserver
    if (pipe := getattr(server, "_forkserver_alive_fd", None)) is not None:
        os.close(pipe)
        server._forkserver_alive_fd = None
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
