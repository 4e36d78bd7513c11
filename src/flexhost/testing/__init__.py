"""The kit that functions are tested with. For pytest: `pytest_plugins = ["flexhost.testing"]`."""

from flexhost.testing.calls import run
from flexhost.testing.conformity import conforms
from flexhost.testing.label_elements import LabelElements, elements
from flexhost.testing.report import Report, report
from flexhost.testing.served import Serving, served, serving

__all__ = [
    "LabelElements",
    "Report",
    "Serving",
    "conforms",
    "elements",
    "report",
    "run",
    "served",
    "serving",
]

# for pytest: this module is a plugin by being loaded with that one, which alone imports pytest
pytest_plugins = ["flexhost.testing.plugin"]
