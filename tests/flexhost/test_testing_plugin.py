"""What pytest gets of the kit, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pyarrow as pa
import pytest
from support import ROOT

from flexhost.testing.differences import differences

FUNCTION = """
import logging
import pyarrow as pa
import structlog
from flexhost import FlexFun

class Numbers(FlexFun):
    Name = "Numbers"
    Schema = pa.schema([("n", pa.int64())])
    closed = 0

    @staticmethod
    def on_load(ctx):
        ctx.on_close(Numbers.close)

    @classmethod
    def close(cls):
        cls.closed += 1

    def call(self, parameters, columns, headers):
        logging.getLogger("author").debug("asked for %s", parameters["n"])
        structlog.get_logger("author").info("structured", n=parameters["n"], password="x")
        print("printed")
        return [{"n": parameters["n"]}]
"""


def run_pytest(folder, tests, *options):
    (folder / "conftest.py").write_text('pytest_plugins = ["flexhost.testing"]\n')
    (folder / "numbers_function.py").write_text(FUNCTION)
    (folder / "test_it.py").write_text(f"from numbers_function import Numbers\n{tests}")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{folder}"},
        capture_output=True,
        text=True,
    )


def test_a_fixture_serves_until_the_end_of_the_test(tmp_path):
    done = run_pytest(
        tmp_path,
        """
def test_first(serve):
    call = serve(Numbers)
    assert call(n=1).to_pydict() == {"n": [1]}
    assert call.location.startswith("grpc://127.0.0.1:")
    assert call(n=2).to_pydict() == {"n": [2]}
    assert Numbers.closed == 0

def test_second():
    assert Numbers.closed == 1
""",
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_fixture_has_the_lines_of_calls_as_the_host_writes_them(tmp_path):
    done = run_pytest(
        tmp_path,
        """
import logging
import structlog
from flexhost.testing import run

def test_logged(logged):
    logging.getLogger("test").error("of the test itself")
    run(Numbers, n=5, caller="ann")
    told = [(one["level"], one["logger"], one["event"]) for one in logged]
    assert told == [
        ("debug", "author", "asked for 5"),
        ("info", "author", "structured"),
        ("info", "stdout", "printed"),
    ]
    assert logged[1]["n"] == 5 and logged[1]["password"] == "***"
    assert len({one["call_id"] for one in logged}) == 1
    assert {(one["function"], one["caller"]) for one in logged} == {("Numbers", "ann")}

def test_afterwards_all_is_as_it_was(capsys):
    assert not structlog.is_configured()
    assert logging.getLogger().level == logging.WARNING
    run(Numbers, n=5)
    assert "printed" in capsys.readouterr().out
""",
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_an_assertion_says_how_two_tables_differ(tmp_path):
    done = run_pytest(
        tmp_path,
        """
import pyarrow as pa

def test_different():
    assert pa.table({"n": [1, 2], "m": ["a", "b"]}) == pa.table({"n": [1, 3], "m": ["a", "b"]})

def test_others_are_compared_as_ever():
    assert {"n": 1} == {"n": 2}
""",
    )

    assert "two tables:" in done.stdout
    assert "row 1, n: 2 != 3" in done.stdout
    assert "{'n': 1} != {'n': 2}" in done.stdout
    assert "2 failed" in done.stdout


def test_importing_the_kit_before_pytest_does_is_no_mistake(tmp_path):
    done = run_pytest(tmp_path, "def test_it():\n    pass\n", "-p", "flexhost.testing")

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_what_fails_in_the_kit_is_shown_at_the_line_of_the_test(tmp_path):
    done = run_pytest(
        tmp_path,
        """from flexhost.testing import conforms, run, served

def test_run():
    run(Numbers, n="no number")

def test_served():
    served(Numbers, n="no number")

def test_conforms():
    conforms(Numbers, {"n": "no number"})
""",
    )

    places = re.findall(r"^(\S+\.py):(\d+): \w+$", done.stdout, re.MULTILINE)
    assert places == [("test_it.py", "5"), ("test_it.py", "8"), ("test_it.py", "11")], done.stdout


@pytest.mark.parametrize("where", [".", "tests", "tests/flexfun"])
def test_the_tests_of_the_template_find_the_kit_from_every_folder(where):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--fixtures", "-q"]
        + ([] if where == "tests/flexfun" else [str(ROOT / "tests" / "flexfun")]),
        cwd=ROOT / where,
        capture_output=True,
        text=True,
    )

    assert re.search(r"^serve -- ", done.stdout, re.MULTILINE), done.stdout + done.stderr


TABLE = pa.table({"n": [1, 2, 3], "m": ["a", None, "c"]})


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (TABLE, []),
        (pa.table({"n": [1.0], "m": ["a"]}), ["column 'n': int64 != double", "3 rows != 1 rows"]),
        (TABLE.select(["n"]), ["column 'm' is missing on the right"]),
        (TABLE.select(["m", "n"]), ["columns ['n', 'm'] != ['m', 'n']"]),
        (
            TABLE.slice(0, 2),
            ["3 rows != 2 rows", "row 2, left alone: {'n': 3, 'm': 'c'}"],
        ),
        (
            pa.table({"n": [1, 5, 6], "m": ["a", "x", "c"]}),
            ["row 1, n: 2 != 5", "row 1, m: None != 'x'", "row 2, n: 3 != 6"],
        ),
    ],
)
def test_differences_are_told_line_by_line(other, told):
    assert differences(TABLE, other)[: len(told)] == told
    assert bool(differences(TABLE, other)) is bool(told)


def test_differences_have_an_end():
    many = differences(pa.table({"n": range(1000)}), pa.table({"n": range(1, 1002)}))

    assert len(many) <= 10
    assert "and 995 more rows" in many
    assert differences(pa.table({"n": [float("nan")]}), pa.table({"n": [float("nan")]})) == []
