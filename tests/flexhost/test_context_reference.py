"""The execution context is read as the reference, `gooddata-flexconnect`, reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import pytest
from contexts import between, but, match, only, parameters, shifted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import ROOT

from flexhost.context import AbsoluteDateFilter, ExecutionContext, NegativeAttributeFilter

PYTHON = ROOT / ".venv-reference" / "bin" / "python"

names = st.text("abc.é_", min_size=1, max_size=8)
maybe = st.none() | names
values = st.lists(st.none() | st.text(max_size=5), max_size=3)
days = st.dates().map(str)
filters = st.one_of(
    st.builds(lambda label, of: only(label, *of), names, values),
    st.builds(lambda label, of: but(label, *of), names, values),
    st.builds(
        match, names, st.sampled_from(["CONTAINS", "ENDS_WITH"]), names, negate=st.booleans()
    ),
    st.builds(between, names, days, days),
    st.builds(shifted, names, st.sampled_from(["DAY", "MONTH"]), st.integers(), st.integers()),
)


def some(**fields):
    """An object with these fields, each of which may be missing or null."""
    return st.fixed_dictionaries({}, optional=fields)


def identified(id_, type_):
    return {"identifier": {"id": id_, "type": type_}}


NEEDED = ("attributeIdentifier", "attributeTitle", "labelIdentifier", "labelTitle")
NEEDED = ("attributeIdentifier", "attributeTitle", "labelIdentifier", "labelTitle")
attributes = st.builds(
    lambda needed, more: {**dict(zip(NEEDED, needed, strict=True)), **more},
    st.tuples(names, names, names, names),
    some(
        dateGranularity=maybe,
        sorting=st.none()
        | st.fixed_dictionaries(
            {"sortColumn": names, "sortDirection": st.sampled_from(["ASC", "DESC"])}
        ),
        later=st.integers(),
    ),
)
depends_on = st.one_of(
    st.builds(lambda label, of, more: {"label": label, "values": of, **more}, names, values,
              some(complementFilter=st.booleans())),
    st.builds(
        lambda id_, start, end: {
            "dateFilter": {"dataset": identified(id_, "dataset"), "from": start, "to": end}
        },
        names, days, days,
    ),
)  # fmt: skip
elements = st.builds(
    lambda label, more: {"label": label, **more},
    names,
    some(
        offset=st.none() | st.integers(0, 9),
        limit=st.none() | st.integers(0, 9),
        excludePrimaryLabel=st.none() | st.booleans(),
        exactFilter=st.none() | values,
        patternFilter=maybe,
        complementFilter=st.none() | st.booleans(),
        dependsOn=st.none() | st.lists(depends_on, max_size=2),
        filterBy=st.sampled_from([None, {"labelType": "PRIMARY"}, {"labelType": "REQUESTED"}]),
        validateBy=st.none() | st.lists(st.fixed_dictionaries({"id": names, "type": names})),
    ),
)
reports = some(
    attributes=st.lists(
        st.builds(
            lambda name, label, all_: {
                "localIdentifier": name,
                "label": identified(label, "label"),
                "showAllValues": all_,
            },
            names, names, st.booleans(),
        ),
        max_size=2,
    ),
    measures=st.lists(
        st.builds(
            lambda name, fact: {
                "localIdentifier": name,
                "definition": {"measure": {"item": identified(fact, "fact"), "filters": []}},
            },
            names, names,
        ),
        max_size=2,
    ),
    filters=st.just([{"relativeDateFilter": {
        "dataset": identified("d", "dataset"), "granularity": "DAY", "from": 0, "to": 0}}]),
)  # fmt: skip
INITIATORS = {
    "display": ["dashboardId", "visualizationId", "widgetId"],
    "adhocExport": ["dashboardId", "visualizationId", "widgetId", "exportType"],
    "automation": ["automationId"],
    "alert": ["dashboardId", "visualizationId", "widgetId"],
}
initiators = st.sampled_from(sorted(INITIATORS)).flatmap(
    lambda kind: st.builds(
        lambda more: {"type": kind, **more}, some(**dict.fromkeys(INITIATORS[kind], maybe))
    )
)
contexts = st.builds(
    lambda of, more: parameters(*of, **more),
    st.lists(filters, max_size=3),
    some(
        executionType=st.sampled_from(["REPORT", "LABEL_ELEMENTS"]),
        organizationId=names,
        userId=names,
        timestamp=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)).map(
            lambda moment: f"{moment.isoformat()}+02:00"
        ),
        timezone=st.sampled_from(["Europe/Prague", "UTC", "America/New_York"]),
        weekStart=st.sampled_from(["monday", "sunday"]),
        attributes=st.lists(attributes, max_size=2),
        reportExecutionRequest=st.none() | reports,
        labelElementsExecutionRequest=st.none() | elements,
        executionInitiator=st.none() | initiators,
        somethingNew=names,
    ),
)


@pytest.fixture(scope="module")
def reference():
    python = (
        PYTHON if PYTHON.exists() else sys.executable if find_spec("gooddata_flexconnect") else None
    )
    if python is None:
        pytest.skip("gooddata-flexconnect is not installed: `make reference`")
    script = Path(__file__).parent / "reference_context.py"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([python, script], **pipes) as process:
        yield lambda sent: read(process, sent)
        process.stdin.close()


def read(process, sent):
    process.stdin.write(json.dumps(sent) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=contexts)
def test_a_context_has_the_values_that_the_reference_gives_it(reference, sent):
    theirs, ours = reference(sent), ExecutionContext.from_parameters(sent)

    when = datetime.fromisoformat(theirs.pop("timestamp"))
    assert (ours.timestamp, ours.timestamp.tzinfo.key) == (when, theirs["timezone"])
    assert plain(ours) == theirs


def plain(ours):
    """Our context in the form of `reference_context.py`."""
    return {
        **{name: getattr(ours, name) for name in ("organization_id", "workspace_id", "user_id")},
        "execution_type": ours.execution_type,
        "timezone": ours.timezone.key,
        "week_start": ours.week_start,
        "attributes": [attribute(one) for one in ours.attributes],
        "filters": [a_filter(one) for one in ours.filters],
        "report_execution_request": report(ours.report_execution_request),
        "label_elements_execution_request": label(ours.label_elements_execution_request),
        "execution_initiator": initiator(ours.execution_initiator),
    }


def attribute(ours):
    how = ours.sorting
    sorting = how and {"sortColumn": how.sort_column, "sortDirection": how.sort_direction}
    return {**vars(ours), "sorting": sorting}


def a_filter(ours):
    theirs = {"kind": type(ours).__name__, **vars(ours)}
    for newer in ("bounded_filter", "empty_value_handling", "start", "end"):
        theirs.pop(newer, None)
    return {**theirs, "values": list(ours.values)} if "values" in theirs else theirs


def report(ours):
    return ours and {
        "attributes": [[one.local_identifier, one.label] for one in ours.attributes],
        "measures": [one.local_identifier for one in ours.measures],
        "filters": len(ours.filters),
    }


def label(ours):
    return ours and {
        **vars(ours),
        "exact_filter": None if ours.exact_filter is None else list(ours.exact_filter),
        "depends_on": [narrowing(one) for one in ours.depends_on],
        "filter_by": ours.filter_by and ours.filter_by.label_type,
        "validate_by": [[one.id, one.type] for one in ours.validate_by],
    }


def narrowing(ours):
    if isinstance(ours, AbsoluteDateFilter):
        return {
            "dataset": ours.dataset_identifier,
            "from": ours.from_date,
            "to": ours.to_date,
        }
    complement = isinstance(ours, NegativeAttributeFilter)
    values = list(ours.values)
    return {"label": ours.label_identifier, "values": values, "complement": complement}


def initiator(ours):
    return ours and {name: value for name, value in vars(ours).items() if value is not None}
