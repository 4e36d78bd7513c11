"""Where the rows of a call go: stdout or a file, in one of the formats."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import pyarrow as pa

from flexhost.command_line.answer import Answer
from flexhost.command_line.formats import BINARY, FORMATS, Sink
from flexhost.command_line.progress import Progress
from flexhost.command_line.shown_table import show
from flexhost.errors import SettingsError, StartError

# Rows of a table for people.
_FIRST = 50
_ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
}


class Output:
    """kind: a format, None for that of the file's ending, else a table.
    file: to write, whole or not at all; None for stdout.
    rows: at most; None for what suits the format, -1 for all.

    Inside, all else that is written to stdout goes to stderr. Raises SettingsError, StartError.
    """

    def __init__(self, kind: str | None, file: str | None, rows: int | None) -> None:
        self._kind = kind or _ENDINGS.get(Path(file or "").suffix.lower(), "table")
        self._final = None if file is None else Path(file).resolve()  # a link stays one
        self._name = file or "stdout"
        self._most = (_FIRST if self._kind == "table" else -1) if rows is None else rows
        self._sink: BinaryIO
        self._begun: Path | None = None
        self._terminal = False

    def __enter__(self) -> Self:
        sys.stdout.flush()
        self._sink = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # also what native code and other processes print
        if self._final is None:
            self._terminal = self._sink.isatty()
            if self._terminal and self._kind in BINARY:
                raise SettingsError(
                    f"--output {self._kind} is nothing for a terminal: redirect it, or take -o FILE"
                )
            return self
        with self._as_start_errors():
            if self._final.exists() and not self._final.is_file():  # such as /dev/null
                self._sink = self._final.open("wb")
                return self
            number, name = tempfile.mkstemp(prefix=f".{self._final.name}.", dir=self._final.parent)
        self._sink, self._begun = os.fdopen(number, "wb"), Path(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun is not None:
            self._begun.unlink(missing_ok=True)

    def keep(self) -> None:
        """All of it is there. Raises StartError."""
        if self._begun is None or self._final is None:
            return
        with self._as_start_errors():
            umask = os.umask(0)
            os.umask(umask)
            self._begun.chmod(0o666 & ~umask)
            self._begun.replace(self._final)

    @property
    def live(self) -> bool:
        """Whether something else may be shown on the terminal while the rows come."""
        return not self._terminal or self._kind == "table"

    def write(self, answer: Answer, progress: Progress) -> list[str]:
        """What is to be told of what is left out. Raises HostError, BrokenPipeError, StartError."""
        first = _Limited(answer.tables, self._most)
        tables = _counted(first, progress)
        with self._as_start_errors():
            if self._kind == "table":
                table = pa.concat_tables([answer.schema.empty_table(), *tables])
                notes = self._show(table, progress)
            else:
                notes = self._stream(tables, answer.schema)
            self._sink.flush()
        if first.more and self._kind == "table":
            of = ", there are more" if answer.rows is None else f" of {answer.rows:,}"
            notes.append(f"the first {self._most} rows{of}: --rows all shows them all")
        return notes

    def _show(self, table: pa.Table, progress: Progress) -> list[str]:
        progress.stop()
        text = TextIOWrapper(self._sink, "utf-8", write_through=True)
        left = show(table, text, terminal=self._terminal)
        text.detach()
        return [f"no room for {', '.join(left)}: name them with --columns"] if left else []

    def _stream(self, tables: Iterator[pa.Table], schema: pa.Schema) -> list[str]:
        writer = FORMATS[self._kind](Sink(self._sink), schema)
        for table in tables:
            writer.write(table)
            self._sink.flush()
        writer.close()
        return []

    @contextlib.contextmanager
    def _as_start_errors(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StartError(f"cannot write {self._name}: {error.strerror}") from None
        except pa.ArrowException as error:
            raise StartError(f"--output {self._kind} cannot have this: {error}") from None


class _Limited:
    """The first rows of tables. most: how many, -1 for all. more: whether there are others."""

    def __init__(self, tables: Iterator[pa.Table], most: int) -> None:
        self._tables = tables
        self._most = most
        self.more = False

    def __iter__(self) -> Iterator[pa.Table]:
        taken = 0
        for table in self._tables:
            room = table.num_rows if self._most < 0 else self._most - taken
            self.more = table.num_rows > room
            if room or not self._most:
                yield table.slice(0, room)
            taken += min(room, table.num_rows)
            if self.more:
                return


def _counted(tables: Iterable[pa.Table], progress: Progress) -> Iterator[pa.Table]:
    for table in tables:
        progress.add(table)
        yield table
