"""What an execution context may carry: a request for a report, or for a label's elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexhost.filters.context_filters import (
    Filter,
    NegativeAttributeFilter,
    PositiveAttributeFilter,
    UnknownFilter,
    read_absolute,
    read_relative,
)
from flexhost.filters.fields import Fields


@dataclass(frozen=True)
class ReportAttribute:
    local_identifier: str
    label: str
    show_all_values: bool


@dataclass(frozen=True)
class ReportMeasure:
    """definition: as it came; its filters are the measure's own."""

    local_identifier: str
    definition: Mapping[str, Any]


@dataclass(frozen=True)
class ReportExecutionRequest:
    """filters: as they came; they repeat those of the context."""

    attributes: tuple[ReportAttribute, ...]
    measures: tuple[ReportMeasure, ...]
    filters: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class FilterBy:
    """label_type: REQUESTED, PRIMARY, or one that a newer backend has."""

    label_type: str


@dataclass(frozen=True)
class ValidateBy:
    id: str
    type: str


@dataclass(frozen=True)
class LabelElementsExecutionRequest:
    """The elements of `label`.

    complement_filter: those that `exact_filter` and `pattern_filter` do not give.
    depends_on:        filters of other labels and of dates.
    """

    label: str
    offset: int | None = None
    limit: int | None = None
    exclude_primary_label: bool = False
    exact_filter: tuple[str | None, ...] | None = None
    pattern_filter: str | None = None
    complement_filter: bool = False
    depends_on: tuple[Filter, ...] = ()
    filter_by: FilterBy | None = None
    validate_by: tuple[ValidateBy, ...] = ()


def read_report(fields: Fields) -> ReportExecutionRequest:
    return ReportExecutionRequest(
        fields.each("attributes", _read_attribute),
        fields.each("measures", _read_measure),
        fields.each("filters", lambda one: one.raw),
    )


def read_elements(fields: Fields) -> LabelElementsExecutionRequest:
    return LabelElementsExecutionRequest(
        label=fields.text("label"),
        offset=fields.optional_number("offset"),
        limit=fields.optional_number("limit"),
        exclude_primary_label=fields.flag("excludePrimaryLabel"),
        exact_filter=fields.texts_and_nulls("exactFilter") if fields.has("exactFilter") else None,
        pattern_filter=fields.optional_text("patternFilter"),
        complement_filter=fields.flag("complementFilter"),
        depends_on=fields.each("dependsOn", _read_depends_on),
        filter_by=fields.optional("filterBy", lambda one: FilterBy(one.text("labelType"))),
        validate_by=fields.each(
            "validateBy", lambda one: ValidateBy(one.text("id"), one.text("type"))
        ),
    )


def _read_attribute(fields: Fields) -> ReportAttribute:
    return ReportAttribute(
        fields.text("localIdentifier"), _identifier(fields, "label"), fields.flag("showAllValues")
    )


def _read_measure(fields: Fields) -> ReportMeasure:
    return ReportMeasure(fields.text("localIdentifier"), fields.object("definition").raw)


def _read_depends_on(fields: Fields) -> Filter:
    if fields.has("label"):
        label, values = fields.text("label"), fields.texts_and_nulls("values")
        if fields.flag("complementFilter"):
            return NegativeAttributeFilter(label, values)
        return PositiveAttributeFilter(label, values)
    if fields.has("dateFilter"):
        return _read_date_filter(fields.object("dateFilter"))
    return UnknownFilter(next(iter(fields.raw), ""), fields.raw)


def _read_date_filter(fields: Fields) -> Filter:
    """Bare, as the backend sends it, or under the name of its kind, as its API has it."""
    for kind in ("absoluteDateFilter", "relativeDateFilter"):
        if fields.has(kind):
            fields = fields.object(kind)
    if not (fields.has("dataset") and fields.has("from")):
        return UnknownFilter("dateFilter", fields.raw)
    read = read_relative if fields.has("granularity") else read_absolute
    return read(fields, _identifier(fields, "dataset"))


def _identifier(fields: Fields, name: str) -> str:
    return fields.object(name).object("identifier").text("id")
