"""Basic checks of text files, for the pre-commit hook and for a test: the files as arguments."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

LARGEST = 500_000


def problems(path: Path) -> Iterator[str]:
    """What is wrong with a file, in a few words each."""
    data = path.read_bytes()
    if len(data) > LARGEST:
        yield f"is over {LARGEST} bytes"
    if data and not data.endswith(b"\n"):
        yield "does not end with a newline"
    if b"\r\n" in data:
        yield "has Windows line ends"
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.endswith((b" ", b"\t")):
            yield f"has blanks at the end of line {number}"
        if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
            yield f"has a merge conflict in line {number}"
    if path.suffix == ".toml":
        try:
            tomllib.loads(data.decode())
        except ValueError as error:
            yield f"is not TOML: {error}"


if __name__ == "__main__":
    found = [f"{name} {problem}" for name in sys.argv[1:] for problem in problems(Path(name))]
    sys.exit("\n".join(found) or 0)
