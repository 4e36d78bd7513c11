"""The commands of `flexhost`, each in a process of its own, in a folder like a user's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from support import LONG, ROOT

# Longer than the start of a process takes on a machine with much else to do.
_LONGEST = 3 * LONG


class Done(NamedTuple):
    status: int
    out: str
    err: str


class Shell:
    """A folder with `config` and the package `flexfun`, and these modules in it."""

    def __init__(self, folder: Path, **modules: str) -> None:
        self.folder = folder
        self.config = folder / "config" / "flexfun.config.toml"
        self.package = folder / "src" / "flexfun"
        self.package.mkdir(parents=True)
        self.config.parent.mkdir()
        (self.package / "__init__.py").touch()
        for name, source in modules.items():
            (self.package / f"{name}.py").write_text(source)
        listed = ", ".join(f'"flexfun.{name}"' for name in modules)
        self.config.write_text(f"[flexfun]\nfunctions = [{listed}]\n")

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("GOODDATA_FLIGHT")}
        environ["PYTHONPATH"] = os.pathsep.join([str(self.folder / "src"), str(ROOT / "src")])
        environ["COLUMNS"] = "100"
        return subprocess.Popen(
            [sys.executable, "-m", "flexhost", *arguments],
            **{
                "cwd": self.folder,
                "env": environ | options.pop("env", {}),
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def bytes(self, *arguments: str, **options: Any) -> tuple[int, bytes, str]:
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(timeout=_LONGEST)
        return process.returncode, out, err.decode()

    def __call__(self, *arguments: str, **options: Any) -> Done:
        status, out, err = self.bytes(*arguments, **options)
        return Done(status, out.decode(), err)
