"""What a BI backend tells of a call: who asks, when, for which report, with which filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from flexhost.filters.context_filters import (
    AbsoluteDateFilter,
    BoundedFilter,
    Filter,
    MatchAttributeFilter,
    NegativeAttributeFilter,
    PositiveAttributeFilter,
    RelativeDateFilter,
    UnknownFilter,
    read_filter,
)
from flexhost.filters.context_requests import (
    FilterBy,
    LabelElementsExecutionRequest,
    ReportAttribute,
    ReportExecutionRequest,
    ReportMeasure,
    ValidateBy,
    read_elements,
    read_report,
)
from flexhost.filters.fields import Fields

__all__ = [
    "AbsoluteDateFilter",
    "Attribute",
    "BoundedFilter",
    "ExecutionContext",
    "ExecutionInitiator",
    "ExecutionType",
    "Filter",
    "FilterBy",
    "LabelElementsExecutionRequest",
    "MatchAttributeFilter",
    "NegativeAttributeFilter",
    "PositiveAttributeFilter",
    "RelativeDateFilter",
    "ReportAttribute",
    "ReportExecutionRequest",
    "ReportMeasure",
    "SortDirection",
    "Sorting",
    "UnknownFilter",
    "ValidateBy",
    "WeekStart",
]


class ExecutionType(StrEnum):
    REPORT = "REPORT"
    LABEL_ELEMENTS = "LABEL_ELEMENTS"


class WeekStart(StrEnum):
    MONDAY = "monday"
    SUNDAY = "sunday"


class SortDirection(StrEnum):
    ASC = "ASC"
    DESC = "DESC"


@dataclass(frozen=True)
class Sorting:
    sort_column: str
    sort_direction: SortDirection


@dataclass(frozen=True)
class Attribute:
    """date_granularity: of a date attribute, MONTH and so on."""

    attribute_identifier: str
    attribute_title: str
    label_identifier: str
    label_title: str
    date_granularity: str | None
    sorting: Sorting | None


@dataclass(frozen=True)
class ExecutionInitiator:
    """What made the backend ask.

    type: display, adhocExport, automation, alert, or one that a newer backend has.
    """

    type: str
    dashboard_id: str | None
    visualization_id: str | None
    widget_id: str | None
    export_type: str | None
    automation_id: str | None


@dataclass(frozen=True)
class ExecutionContext:
    """timestamp: "now" for relative dates, in `timezone`.
    timezone: UTC when the backend names none.
    """

    execution_type: ExecutionType
    organization_id: str
    workspace_id: str
    user_id: str
    timestamp: datetime | None
    timezone: ZoneInfo
    week_start: WeekStart
    attributes: tuple[Attribute, ...]
    filters: tuple[Filter, ...]
    report_execution_request: ReportExecutionRequest | None
    label_elements_execution_request: LabelElementsExecutionRequest | None
    execution_initiator: ExecutionInitiator | None

    @staticmethod
    def from_parameters(parameters: Mapping[str, Any]) -> ExecutionContext | None:
        """The context that came with a call; None when none did. Raises BadCall."""
        raw = parameters.get("executionContext")
        return None if raw is None else _read_context(Fields(raw, "executionContext"))


def _read_context(fields: Fields) -> ExecutionContext:
    zone = _read_zone(fields)
    return ExecutionContext(
        execution_type=fields.one_of("executionType", ExecutionType),
        organization_id=fields.text("organizationId"),
        workspace_id=fields.text("workspaceId"),
        user_id=fields.text("userId"),
        timestamp=_read_timestamp(fields, zone) if fields.has("timestamp") else None,
        timezone=zone,
        week_start=fields.one_of("weekStart", WeekStart)
        if fields.has("weekStart")
        else WeekStart.MONDAY,
        attributes=fields.each("attributes", _read_attribute),
        filters=fields.each("filters", read_filter),
        report_execution_request=fields.optional("reportExecutionRequest", read_report),
        label_elements_execution_request=fields.optional(
            "labelElementsExecutionRequest", read_elements
        ),
        execution_initiator=fields.optional("executionInitiator", _read_initiator),
    )


def _read_zone(fields: Fields) -> ZoneInfo:
    name = fields.optional_text("timezone")
    try:
        return ZoneInfo("UTC" if name is None else name)
    except (ValueError, OSError, LookupError):  # a folder, a file that is none, no such file
        raise fields.wrong("timezone", "the IANA name of a time zone that is known here") from None


# RFC 3339; seconds may be missing, since Java leaves out those that are zero.
_TIMESTAMP = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)


def _read_timestamp(fields: Fields, zone: ZoneInfo) -> datetime:
    text = fields.text("timestamp")
    try:
        if _TIMESTAMP.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(zone)
    except (ValueError, OverflowError):
        pass
    raise fields.wrong("timestamp", 'a time such as "2026-11-20T09:30:00+01:00"')


def _read_attribute(fields: Fields) -> Attribute:
    return Attribute(
        fields.text("attributeIdentifier"),
        fields.text("attributeTitle"),
        fields.text("labelIdentifier"),
        fields.text("labelTitle"),
        fields.optional_text("dateGranularity"),
        fields.optional("sorting", _read_sorting),
    )


def _read_sorting(fields: Fields) -> Sorting:
    return Sorting(fields.text("sortColumn"), fields.one_of("sortDirection", SortDirection))


def _read_initiator(fields: Fields) -> ExecutionInitiator:
    return ExecutionInitiator(
        fields.text("type"),
        fields.optional_text("dashboardId"),
        fields.optional_text("visualizationId"),
        fields.optional_text("widgetId"),
        fields.optional_text("exportType"),
        fields.optional_text("automationId"),
    )
