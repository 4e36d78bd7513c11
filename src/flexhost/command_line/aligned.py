"""Rows of text in columns, for people."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence


def aligned(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), gap: str = "  "
) -> Iterator[str]:
    """right: columns whose texts end in line, such as numbers."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if n in right else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield gap.join(cells).rstrip()
