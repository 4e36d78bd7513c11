"""What the reference makes of execution contexts: one in a line of JSON, out likewise.

It runs where `gooddata-flexconnect` is installed, and imports nothing of ours.
"""

import dataclasses
import json
import sys

from gooddata_flexconnect.function.execution_context import ExecutionContext
from gooddata_sdk import CatalogDependsOn


def plain(value):
    return {"kind": type(value).__name__.removeprefix("ExecutionContext"), **vars(value)}


def initiator(made):
    kinds = {
        "Display": "display",
        "AdHocExport": "adhocExport",
        "Automation": "automation",
        "Alert": "alert",
    }
    kind = kinds[type(made).__name__.removeprefix("ExecutionInitiator")]
    return {"type": kind} | {name: value for name, value in vars(made).items() if value is not None}


def depends_on(one):
    if isinstance(one, CatalogDependsOn):
        return {"label": one.label, "values": one.values, "complement": one.complement_filter}
    made = one.date_filter
    dataset = made.dataset["identifier"]["id"]
    return {"dataset": dataset, "from": made.from_date, "to": made.to_date}


def report(made):
    return made and {
        "attributes": [[one.local_id, one.label.id] for one in made.attributes],
        "measures": [one.local_id for one in made.metrics],
        "filters": len(made.filters),
    }


def elements(made):
    return made and {
        **vars(made),
        **{
            name: bool(getattr(made, name))
            for name in ("exclude_primary_label", "complement_filter")
        },
        "depends_on": [depends_on(one) for one in made.depends_on or []],
        "filter_by": made.filter_by and made.filter_by.label_type,
        "validate_by": [[one.id, one.type] for one in made.validate_by or []],
    }


for line in sys.stdin:
    context = ExecutionContext.from_parameters(json.loads(line))
    result = {
        **{field.name: getattr(context, field.name) for field in dataclasses.fields(context)},
        "execution_type": context.execution_type.value,
        "attributes": [vars(one) for one in context.attributes],
        "filters": [plain(one) for one in context.filters],
        "report_execution_request": report(context.report_execution_request),
        "label_elements_execution_request": elements(context.label_elements_execution_request),
        "execution_initiator": context.execution_initiator
        and initiator(context.execution_initiator),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
