"""An example of how to test a function: run it, look at the table. See docs/testing.md."""

from flexfun.sample_function import SampleFlexFunction
from flexhost.testing import conforms, report, run


def test_the_sample_keeps_to_what_every_function_has_to():
    conforms(SampleFlexFunction, report("fact1", "attribute1").where(attribute1="id1"))


def test_a_report_gets_the_columns_that_it_asks_for():
    assert run(SampleFlexFunction, report("fact3"))["fact3"].to_pylist()[:2] == [100, 200]


def test_the_sample_logs_what_it_was_asked_and_never_headers(logged):
    run(SampleFlexFunction, report("fact3"), headers={"x-note": "private"})
    assert logged[0]["columns"] == ["fact3"]
    assert "private" not in str(logged)
