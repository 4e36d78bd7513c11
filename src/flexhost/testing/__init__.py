"""The kit that functions are tested with. For pytest: `pytest_plugins = ["flexhost.testing"]`."""

from flexhost.testing.calls import run
from flexhost.testing.label_elements import LabelElements, elements
from flexhost.testing.report import Report, report

__all__ = ["LabelElements", "Report", "elements", "report", "run"]
