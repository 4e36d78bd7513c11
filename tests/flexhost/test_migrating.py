"""Functions written for the reference are hosted as they are, in an environment that has it; and
what the page on migrating says."""

from __future__ import annotations

import json
import re

import pyarrow.flight as fl
import pytest
from contexts import between, parameters
from support import ROOT, Client, process

from flexhost.testing import report

PYTHON = ROOT / ".venv-reference" / "bin" / "python"
PAGE = (ROOT / "docs" / "migrating.md").read_text()
OLD, NEW = (
    re.search(rf"{head}\n\n```python\n(.*?)```", PAGE, re.DOTALL)[1]
    for head in ("As it was:", "As it may be here:")
)


@pytest.fixture
def python():
    if not PYTHON.exists():
        pytest.skip("gooddata-flexconnect is not installed: `make reference`")
    return str(PYTHON)


@pytest.mark.parametrize(
    ("package", "base"),
    [("gooddata_flexconnect", "FlexConnectFunction"), ("gooddata_flexfun", "FlexFun")],
)
def test_a_class_of_the_reference_is_hosted_unmodified(tmp_path, python, package, base):
    source = OLD.replace("gooddata_flexconnect", package).replace("FlexConnectFunction", base)
    assert f"from {package} import ExecutionContext, {base}\n" in source

    with process(tmp_path, source, python=python) as host:
        client = Client(host.port())
        [listed] = client.flight.list_flights(options=client.options())
        table = client.call("Orders", **report("revenue").where(region="EU").parameters)

    assert json.loads(listed.descriptor.command)["functionName"] == "Orders"
    assert table.to_pydict() == {"revenue": [1.5, 3.5]}


def test_what_the_page_makes_of_it_gives_the_same(tmp_path):
    with process(tmp_path, NEW) as host:
        client = Client(host.port())
        table = client.call("Orders", **report("revenue").where(region="EU").parameters)

    assert table.to_pydict() == {"revenue": [1.5, 3.5]}
    assert len(NEW.splitlines()) < len(OLD.splitlines())


def test_the_section_of_the_reference_is_read(tmp_path, python):
    (tmp_path / "orders.py").write_text(OLD)
    (tmp_path / "more.toml").write_text(
        "[flexconnect]\nfunctions = ['orders']\ncall_deadline_ms = 5000\n"
    )
    with process(tmp_path, "", "", "--config", str(tmp_path / "more.toml"), python=python) as host:
        assert Client(host.port()).call("Orders").num_rows == 3


def test_what_the_reference_passed_over_is_refused(tmp_path):
    with process(tmp_path, NEW) as host:
        client = Client(host.port())
        for sent in ({"columns": ["nothing"]}, {"columns": ["revenue", "revenue"]}):
            with pytest.raises(fl.FlightServerError, match="column"):
                client.call("Orders", **sent)
        wrong_day = parameters(between("day", "soon", "2026-01-01"))
        with pytest.raises(fl.FlightServerError, match=r"filters\[0\].from"):
            client.call("Orders", **wrong_day)
