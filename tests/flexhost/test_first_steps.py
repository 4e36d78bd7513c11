"""What somebody does who has just heard of the project, from an empty folder on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

# Seconds for what downloads and unpacks packages, where no cache has them.
_LONG = 600


def clone(folder):
    """A clone, with what is changed here and not committed yet."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def clean_environment():
    """Of a shell that knows nothing of this run; packages are not compiled ahead, which is slow."""
    ours = ("GOODDATA_FLIGHT", "PYTEST", "PYTHON", "VIRTUAL_ENV", "MAKE", "MFLAGS", "GIT_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PIP_NO_COMPILE": "1"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this folder is no clone itself")
def test_a_clone_serves_a_new_function_after_five_commands(tmp_path):
    folder = tmp_path / "clone"
    python = f"PYTHON={Path(sys.base_prefix, 'bin', 'python3')}"

    def run(*command):
        return subprocess.run(
            command,
            cwd=folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=_LONG,
        )

    clone(folder)
    made = run("make", "dev", python)
    new = run(".venv/bin/flexhost", "new", "weather")
    (folder / "requirements.txt").touch()  # as who adds a package does
    tested = run("make", "test", python)
    called = run(".venv/bin/flexhost", "call", "weather")

    assert made.returncode == 0, made.stderr
    assert new.returncode == 0, new.stderr
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert made.stdout == "making .venv: a minute, the first time\n"
    assert tested.stdout.startswith("bringing .venv up to date\n")
    assert called.stdout.splitlines() == [
        "city     degrees",
        "-------  -------",
        "Brno        11.5",
        "Ostrava      9.0",
        "Praha       12.5",
    ], called.stderr
