"""The first rows of a table on a terminal or in a file, for people."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from typing import TextIO

import msgspec
import pyarrow as pa

from flexhost.command_line.aligned import aligned
from flexhost.command_line.plain_values import plain

# Characters of one cell.
_LONGEST = 60
_GAP = "  "


def show(table: pa.Table, file: TextIO, *, terminal: bool) -> list[str]:
    """Columns that a terminal has no room for are left out: their names are returned.

    With rich, where it is installed, on a terminal.
    """
    columns = [[field.name, *map(_cell, plain(table.column(n)))] for n, field in _fields(table)]
    shown = len(columns)
    if terminal:
        shown = _fitting(columns, shutil.get_terminal_size().columns)
    right = {n for n, field in _fields(table) if _is_number(field.type)}
    rows = list(zip(*columns[:shown], strict=True)) if columns else [("no column",)]
    if not (terminal and _with_rich(rows, right, file)):
        _plainly(rows, right, file)
    return [str(name) for name in table.column_names[shown:]]


def _plainly(rows: Sequence[Sequence[str]], right: set[int], file: TextIO) -> None:
    head, *rest = rows
    rule = ["-" * max(len(row[n]) for row in rows) for n in range(len(head))]
    for line in aligned([head, rule, *rest], right, _GAP):
        file.write(f"{line}\n")


def _with_rich(rows: Sequence[Sequence[str]], right: set[int], file: TextIO) -> bool:
    """Whether it is there."""
    try:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    for n, name in enumerate(rows[0]):
        made.add_column(Text(name), justify="right" if n in right else "left", no_wrap=True)
    for row in rows[1:]:
        made.add_row(*(Text(cell, "dim" if cell == _NULL else "") for cell in row))
    Console(file=file).print(made)
    return True


def _fields(table: pa.Table) -> Iterator[tuple[int, pa.Field]]:
    yield from enumerate(table.schema)


def _fitting(columns: list[list[str]], width: int) -> int:
    """How many of them there is room for, at least one."""
    taken = 0
    for n, column in enumerate(columns):
        taken += max(map(len, column)) + len(_GAP) + 1  # rich has a wider gap
        if n and taken > width:
            return n
    return len(columns)


_NULL = "null"


def _cell(value: object) -> str:
    """One line, with nothing in it that a terminal would obey."""
    if value is None:
        return _NULL
    if not isinstance(value, str):
        value = msgspec.json.encode(value, enc_hook=str).decode().strip('"')
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _is_number(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))
