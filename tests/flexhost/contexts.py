"""Execution contexts for tests, as a backend sends them."""

from __future__ import annotations

from flexhost.context import ExecutionContext


def parameters(*filters, **fields):
    """The parameters of a report call, with these filters."""
    context = {
        "executionType": "REPORT",
        "organizationId": "default",
        "workspaceId": "sales",
        "userId": "analyst",
        "timestamp": "2026-11-20T09:30:00+01:00",
        "timezone": "Europe/Prague",
        "weekStart": "monday",
        "attributes": [],
        "filters": list(filters),
    }
    return {"executionContext": {**context, **fields}}


def context(*filters, **fields):
    return ExecutionContext.from_parameters(parameters(*filters, **fields))


def elements(label, **request):
    """The context of a call for the elements of a label."""
    return context(
        executionType="LABEL_ELEMENTS", labelElementsExecutionRequest={"label": label, **request}
    )


def only(label, *values):
    return {"filterType": "positiveAttributeFilter", "labelIdentifier": label, "values": [*values]}


def but(label, *values):
    return {**only(label, *values), "filterType": "negativeAttributeFilter"}


def match(label, match_type, literal, **more):
    return {
        "filterType": "matchAttributeFilter",
        "labelIdentifier": label,
        "literal": literal,
        "matchType": match_type,
        **more,
    }


def between(dataset, start, end, **more):
    return {
        "filterType": "absoluteDateFilter",
        "datasetIdentifier": dataset,
        "from": start,
        "to": end,
        **more,
    }


def shifted(dataset, granularity, start, end, **more):
    return {
        **between(dataset, start, end),
        "filterType": "relativeDateFilter",
        "granularity": granularity,
        **more,
    }
