"""The tutorial, done word for word: every block, in its order, in a clone of the project."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from support import LONG, ROOT, free_port
from test_first_steps import clean_environment, clone

PAGE = ROOT / "docs" / "tutorial.md"
# What this test leaves out, since test_first_steps.py does it: it has an environment already.
_MADE = ("make dev\n", ". .venv/bin/activate\n")


class Block(NamedTuple):
    before: str  # the text since the block before
    language: str
    text: str


def blocks(page):
    parts = re.split(r"^```(\w+)\n(.*?)^```\n", page, flags=re.MULTILINE | re.DOTALL)
    return [Block(*parts[at : at + 3]) for at in range(0, len(parts) - 1, 3)]


def without_what_is_made(commands):
    for done in _MADE:
        commands = commands.replace(done, "")
    return commands


def masked(text):
    """Without what differs from run to run: times, ids and widths that depend on them."""
    for pattern, mask in (
        (r"\d\d:\d\d:\d\d\.\d+", "TIME"),
        (r"\d+\.\d+ ?s\b", "SECONDS"),
        (r"[0-9a-f]{32}", "ID"),
        (r"\x1b\[[\d;]*m", ""),
        (r"[ \t]+$", ""),
    ):
        text = re.sub(pattern, mask, text, flags=re.MULTILINE)
    return text


class Reader:
    """Who does what the page says, in a clone. printed: by the last command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self.port = str(free_port())
        self.dev: subprocess.Popen[str] | None = None
        binaries = Path(sys.executable).parent
        self._environment = {
            **clean_environment(),
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GOODDATA_FLIGHT_SERVER__LISTEN_PORT": self.port,
            "COLUMNS": "80",
        }

    def does(self, block: Block) -> None:
        match block.language:
            case "bash" if "second terminal" in block.before:
                self.dev = self._start(f"exec {without_what_is_made(block.text)}")
            case "bash":
                with self._start(without_what_is_made(block.text)) as process:
                    self.printed, _ = process.communicate(timeout=3 * LONG)
            case "python":
                self._named(block).write_text(block.text.replace("17001", self.port))
            case "diff":
                self._change(self._named(block), block.text)

    def reads(self, lines: int) -> str:
        """What was printed, or the next lines of the server, when nothing else ran since."""
        printed, self.printed = self.printed, ""
        if not printed:
            printed = "".join(self.line() for _ in range(lines))
        return masked(printed).replace(self.port, "17001")

    def line(self) -> str:
        """Of the server, one that is not about a call."""
        too_late = threading.Timer(LONG, self.dev.kill)
        too_late.start()
        try:
            return next(line for line in self.dev.stdout if "[flexhost.calls]" not in line)
        finally:
            too_late.cancel()

    def _start(self, commands: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-c", commands.replace("127.0.0.1:17001", f"127.0.0.1:{self.port}")],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _named(self, block: Block) -> Path:
        """The last file that the text before the block names."""
        return self.folder / re.findall(r"`([\w/.-]+\.py)`", block.before)[-1]

    @contextlib.contextmanager
    def reading(self) -> Iterator[Self]:
        try:
            yield self
        finally:
            self.stop()

    def stop(self) -> None:
        """The server, if it runs."""
        if self.dev is not None:
            self.dev.terminate()
            self.dev.communicate(timeout=LONG)

    @staticmethod
    def _change(path: Path, diff: str) -> None:
        lines = diff.splitlines(keepends=True)
        old, new = ("".join(x[1:] for x in lines if x[0] == sign) for sign in "-+")
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this folder is no clone itself")
def test_every_block_of_the_tutorial_prints_what_it_says(tmp_path):
    clone(tmp_path / "clone")

    with Reader(tmp_path / "clone").reading() as reader:
        for block in blocks(PAGE.read_text()):
            if block.language == "text":
                assert reader.reads(block.text.count("\n")) == masked(block.text)
            else:
                reader.does(block)
