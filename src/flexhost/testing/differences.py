"""How two tables differ, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import pyarrow as pa

Row: TypeAlias = Mapping[str, Any]

_SHOWN = 5  # rows
_LONGEST = 200  # characters of one


def differences(left: pa.Table, right: pa.Table) -> list[str]:
    """Line by line, the rows in their order; none for tables that are equal. NaN is NaN."""
    told = _of_schemas(left.schema, right.schema)
    common = [name for name in left.column_names if name in right.column_names]
    if left.num_rows != right.num_rows:
        told.append(f"{left.num_rows} rows != {right.num_rows} rows")
    pairs = zip(left.select(common).to_pylist(), right.select(common).to_pylist(), strict=False)
    different = [
        (number, *pair) for number, pair in enumerate(pairs) if repr(pair[0]) != repr(pair[1])
    ]
    for number, one, other in different[:_SHOWN]:
        cells = [name for name in common if repr(one[name]) != repr(other[name])]
        told += [f"row {number}, {name}: {one[name]!r} != {other[name]!r}" for name in cells]
    if len(different) > _SHOWN:
        told.append(f"and {len(different) - _SHOWN} more rows")
    longer, sign = (left, "left") if left.num_rows > right.num_rows else (right, "right")
    rest = longer.slice(min(left.num_rows, right.num_rows)).slice(0, _SHOWN).to_pylist()
    told += [
        f"row {longer.num_rows - len(rest) + n}, {sign} alone: {shown(row)}"
        for n, row in enumerate(rest)
    ]
    return told


def lost(before: Iterable[Row], after: Iterable[Row]) -> list[Row]:
    """Rows that are not there any more, in any order; each as often as it is gone."""
    there = Counter(map(_key, after))
    gone = []
    for row in before:
        if there[key := _key(row)]:
            there[key] -= 1
        else:
            gone.append(row)
    return gone


def listed(rows: list[Row]) -> str:
    """`3 rows, first {...}`"""
    count = "1 row" if len(rows) == 1 else f"{len(rows)} rows, first"
    return f"{count} {shown(rows[0])}"


def shown(row: Row) -> str:
    text = repr(dict(row))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _key(row: Row) -> str:
    return repr(list(row.values()))


def _of_schemas(left: pa.Schema, right: pa.Schema) -> list[str]:
    told = [
        f"column {name!r} is missing on the right" for name in left.names if name not in right.names
    ]
    told += [
        f"column {name!r} is missing on the left" for name in right.names if name not in left.names
    ]
    for name in left.names:
        if name in right.names and left.field(name) != right.field(name):
            told.append(f"column {name!r}: {left.field(name).type} != {right.field(name).type}")
    if not told and left.names != right.names:
        told.append(f"columns {left.names} != {right.names}")
    return told
