"""Conditions as an expression of pyarrow."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import and_
from typing import Any

import pyarrow as pa

from flexhost.arrow import compute as pc
from flexhost.filters.conditions import Condition, Match, Members, Within

_MATCHES = {
    "STARTS_WITH": "starts_with",
    "ENDS_WITH": "ends_with",
    "CONTAINS": "match_substring",
}


def expression(conditions: Iterable[tuple[Condition, pa.DataType]]) -> pc.Expression | None:
    """All conditions at once, each with the type that the column has in the data; None for none.

    It is never NULL, so it can be turned round.
    """
    parts = [_rendered(condition, type_) for condition, type_ in conditions]
    return reduce(and_, parts) if parts else None


def kept(table: pa.Table, rows: pc.Expression | None) -> pa.Table:
    """The rows of a table for which an expression is true. (Arrow itself filters no views.)"""
    return table if rows is None else as_before(viewless(table).filter(rows), table.schema)


def viewless(table: pa.Table) -> pa.Table:
    """With ordinary text and bytes in place of views, for which Arrow lacks most kernels."""
    for i, field in enumerate(table.schema):
        if (ordinary := _VIEWS.get(field.type)) is not None:
            table = table.set_column(i, field.with_type(ordinary), table[i].cast(ordinary))
    return table


def as_before(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With views again where `schema` has them."""
    return table if table.schema == schema else table.cast(schema)


_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def _rendered(condition: Condition, type_: pa.DataType) -> pc.Expression:
    field = pc.field(condition.column)
    values = field if type_ == condition.type else _cast(field, type_, condition.type)
    match condition:
        case Members():
            return _members(condition, values)
        case Match():
            return _match(condition, values)
        case Within():
            return _within(condition, values)


def _cast(field: pc.Expression, came: pa.DataType, type_: pa.DataType) -> pc.Expression:
    if pa.types.is_decimal(type_) and pa.types.is_integer(came):
        # straight, pyarrow wants room for the largest integer of the type
        field = field.cast(pa.decimal256(76, type_.scale))
    return field.cast(type_)


def _members(condition: Members, values: pc.Expression) -> pc.Expression:
    found = _is_in(values, condition)
    if not condition.negative:
        return found | values.is_null() if condition.null else found
    return ~found & values.is_valid() if condition.null else ~found


def _is_in(values: pc.Expression, condition: Members) -> pc.Expression:
    """False for NULL."""
    type_: pa.DataType = condition.type
    wanted: list[Any] = list(condition.values)
    if pa.types.is_floating(type_):
        wanted += [-value for value in wanted if value == 0]  # 0.0 and -0.0 are two to `is_in`
    if pa.types.is_decimal(type_) and type_.bit_width < 128:  # for which it has no kernel
        type_ = pa.decimal128(type_.precision, type_.scale)
        values = values.cast(type_)
    if type_ == pa.float16():
        type_ = pa.float32()
        values = values.cast(type_)
    return values.isin(pa.array(wanted, type_))


def _match(condition: Match, values: pc.Expression) -> pc.Expression:
    if not condition.case_sensitive:
        values = pc.ascii_lower(values)
    found = getattr(pc, _MATCHES[condition.match_type])(values, condition.literal)
    return pc.coalesce(~found if condition.negate else found, condition.negate)


def _within(condition: Within, values: pc.Expression) -> pc.Expression:
    bounds: list[Any] = [values.is_valid()]
    if condition.start is not None:
        bounds.append(values >= pa.scalar(condition.start, condition.type))
    if condition.end is not None:
        bounds.append(values < pa.scalar(condition.end, condition.type))
    return reduce(and_, bounds)
