"""docs/sql-engines.md: its commands, functions and lists; and the engine of Databend."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import sys
from decimal import Decimal
from importlib import metadata

import pyarrow as pa
import pytest
from batches_given import answer
from support import LONG, ROOT, free_port, serving
from test_first_steps import clone
from test_tutorial import Reader, blocks, masked

from flexhost.functions.describe import describe, is_plain
from flexhost.values.type_table import TABLE, Point

PAGE = ROOT / "docs" / "sql-engines.md"


def part(heading):
    """The blocks under a heading."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return blocks(dict(zip(parts[1::2], parts[2::2], strict=True))[heading])


def sources(heading):
    """The Python of a part, but for clients."""
    found = [one.text for one in part(heading) if one.language == "python"]
    return [one for one in found if "fl.connect" not in one]


def functions(heading):
    """What the Python of a part defines."""
    names = {"__name__": "the_page"}
    for source in sources(heading):
        exec(compile(source, "the page", "exec", dont_inherit=True), names)
    return {
        name: one
        for name, one in names.items()
        if is_plain(one) and one.__module__ == "the_page" and name != "udf"
    }


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this folder is no clone itself")
def test_a_function_of_the_page_is_served_as_the_page_says(tmp_path):
    clone(tmp_path / "clone")
    config = tmp_path / "clone" / "config" / "flexfun.config.toml"

    with Reader(tmp_path / "clone").reading() as reader:
        for block in part("A function, served"):
            if block.language == "toml":
                config.write_text(f"{config.read_text()}\n{block.text}")
            elif block.language == "text":
                assert reader.reads(block.text.count("\n")) == masked(block.text)
            else:
                reader.does(block)
                if "second terminal" in block.before:
                    assert "shout, series on" in reader.line()


class Runtime(Reader):
    """Who does what the page says with the servers of its part about gRPC. at: their port."""

    def __init__(self, folder):
        super().__init__(folder)
        self.at = str(free_port())
        self._environment["PYTHONPATH"] = str(ROOT / "src")

    def _start(self, commands):
        if "flexhost.invoke" in commands and self.dev is not None:
            self.stop()
        commands = commands.replace("flexhost.invoke", f"flexhost.invoke --listen_port {self.at}")
        at = f"localhost:{self.at}"
        commands = commands.replace("flexhost.spec", f"flexhost.spec --at {at}")
        return super()._start(commands.replace("localhost:50051", at))

    def shown(self, block):
        """What the commands with tools of gRPC print; protoc is that of grpcio-tools."""
        protoc = self.folder / "protoc"
        protoc.write_text(f'#!/bin/sh\nexec {sys.executable} -m grpc_tools.protoc "$@"\n')
        protoc.chmod(0o755)
        with self._start(f"CLONE={ROOT}; PATH=$PWD:$PATH\n{block.text}") as process:
            printed, _ = process.communicate(timeout=3 * LONG)
        return printed


@pytest.mark.parametrize("tools", [(), ("grpcurl", "jq")])
def test_the_commands_of_the_runtime_print_what_the_page_says(tmp_path, tools):
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"{' and '.join(missing)} not found, see the other commands")

    with Runtime(tmp_path).reading() as reader:
        for block in part("Flink-style commands over gRPC"):
            if block.language == "text":
                assert reader.reads(0) == masked(block.text)
            elif block.language != "sh":
                reader.does(block)
                if "second terminal" in block.before:
                    assert "handler listens on" in reader.line()
            elif tools:
                printed = reader.shown(block)
                assert 'argumentTypes: "BIGINT"' in printed
                assert 'is_deterministic: true\nfunction_kind: "SCALAR"\n3\n' in printed
                assert '"status": "SERVING"' in printed


def test_the_commands_that_stand_for_others_are_targets_of_the_makefile():
    made = re.findall(r"`make ([a-z- ]+)", PAGE.read_text())
    makefile = (ROOT / "Makefile").read_text()

    assert {"test-host", "check", "proto", "mypy"} <= {one for line in made for one in line.split()}
    for target in {one for line in made for one in line.split()}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_functions_of_the_page_are_described():
    found = {name: describe(one) for name, one in functions("What a function may be").items()}

    assert {name: (one.kind, one.style) for name, one in found.items()} == {
        "initials": ("scalar", "row"),
        "total": ("scalar", "row"),
        "with_tax": ("scalar", "row"),
        "next_day": ("scalar", "row"),
        "words": ("table", "row"),
        "doubled": ("scalar", "batch"),
        "lengths": ("scalar", "batch"),
        "ranks": ("scalar", "pandas"),
        "hypotenuse": ("scalar", "row"),
        "is_prime": ("scalar", "row"),
        "Numbered": ("scalar", "row"),
        "price": ("scalar", "row"),
    }
    assert found["is_prime"].name == "IS_PRIME"
    assert found["is_prime"].executor == "processes"
    assert found["price"].executor == "coroutines"


@pytest.mark.parametrize(
    ("name", "columns", "result"),
    [
        ("initials", [["Ada Lovelace"]], ["A.L."]),
        ("initials", [["Ada Lovelace"], [""]], ["AL"]),
        ("total", [[[1.5, None, 2.0]]], [3.5]),
        ("next_day", [[dt.date(2026, 1, 31)]], [dt.date(2026, 2, 1)]),
        ("doubled", [[1, None]], [2, None]),
        ("lengths", [[["a", "b"], []]], [2, 0]),
        ("ranks", [[0.5, 0.1]], [2.0, 1.0]),
        ("hypotenuse", [[3.0, None], [4.0, 1.0]], [5.0, None]),
        ("Numbered", [[7]], ["no. 7"]),
    ],
)
def test_the_functions_of_the_page_compute(name, columns, result):
    given = pa.RecordBatch.from_arrays(
        [pa.array(one) for one in columns], [str(n) for n in range(len(columns))]
    )

    table = answer(functions("What a function may be")[name], given)

    assert table["result"].to_pylist() == result


def test_the_functions_of_the_page_pass_the_checks_of_the_template(tmp_path):
    folder = tmp_path / "src" / "flexfun"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    for name, heading in (
        ("a", "What a function may be"),
        ("b", "A function, served"),
        ("c", "Databend"),
    ):
        (folder / f"{name}.py").write_text("\n\n".join(sources(heading)))

    for check in (
        ["ruff", "check", "--ignore", "E402", str(folder)],  # the imports of each block
        ["ruff", "format", "--check", str(folder)],
        ["mypy", "--config-file", str(ROOT / "pyproject.toml"), "flexfun"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *check],
            cwd=tmp_path / "src",
            env={**os.environ, "MYPYPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_table_of_types_is_the_one_that_the_host_has():
    page = PAGE.read_text().partition("## Types\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(.+?)`(?:, .+)? \| `(.+?)` \| `(.+?)` \|$", page, re.MULTILINE)

    assert [(hint.replace(r"\|", "|"), *more) for hint, *more in rows] == [
        (written(row.hint), str(row.type), row.sql) for row in TABLE
    ]
    assert "with `x: float` and `y: float \\| None`" in page
    assert Point.__annotations__ == {"x": "float", "y": "float | None"}


def written(hint):
    if isinstance(hint, type) and not hasattr(hint, "__args__"):
        return hint.__name__
    text = re.sub(r"\b(typing|decimal|datetime)\.(?=\w)", "", repr(hint))
    return text.replace("'", '"')


# One that is told by variables which servers it may call; later ones of PyPI are not.
_ENGINE = "1.2.453"
_ASK = """
import sys
from databend import SessionContext

context = SessionContext()
for statement in sys.stdin.read().split(";"):
    if statement.strip():
        table = context.sql(statement).to_py_arrow()
        print([row for batch in table for row in batch.to_pylist()])
"""


@pytest.fixture
def databend(tmp_path):
    """Runs statements in the engine of Databend, in a process of its own."""
    try:
        version = metadata.version("databend")
    except metadata.PackageNotFoundError:
        version = "none"
    if version != _ENGINE:
        pytest.skip(f"databend is {version}, needs {_ENGINE}: pip install databend=={_ENGINE}")

    def run(statements, port):
        given = statements.replace("17001", str(port))
        return subprocess.run(
            [sys.executable, "-c", _ASK],
            input=given,
            cwd=tmp_path,
            env={
                **os.environ,
                "DATABEND_DATA_PATH": str(tmp_path / "data"),
                "QUERY_ENABLE_UDF_SERVER": "true",
                "QUERY_UDF_SERVER_ALLOW_LIST": f"http://127.0.0.1:{port}",
            },
            capture_output=True,
            text=True,
            timeout=3 * LONG,
        )

    return run


def test_databend_creates_and_calls_the_functions_of_the_page(databend):
    statements = [one.text for one in part("Databend") if one.language == "sql"]
    found = {**functions("A function, served"), **functions("Databend")}

    with serving(found["gcd"], found["shout"], found["divisors"]) as host:
        done = databend("".join(statements), host.port)

    assert done.returncode == 0, done.stderr
    scalars, unnested = [
        [tuple(row.values()) for row in eval(line)]
        for line in done.stdout.splitlines()
        if line != "[]"
    ]
    assert scalars == [(6, "HELLO!")]
    assert unnested == [(1,), (2,), (3,), (4,), (6,), (12,)]


def test_databend_and_the_host_mean_the_same_by_their_types(databend):
    found = functions("What a function may be")
    served = ["hypotenuse", "total", "with_tax", "next_day", "doubled", "lengths", "initials"]

    with serving(*(found[name] for name in served)) as host:
        done = databend(
            _created("hypotenuse", "DOUBLE, DOUBLE", "DOUBLE")
            + _created("total", "ARRAY(DOUBLE NULL) NOT NULL", "DOUBLE NOT NULL")
            + _created("with_tax", "DECIMAL(10, 2) NOT NULL", "DECIMAL(10, 2) NOT NULL")
            + _created("next_day", "DATE NOT NULL", "DATE NOT NULL")
            + _created("doubled", "BIGINT", "BIGINT")
            + _created("lengths", "ARRAY(VARCHAR NOT NULL) NOT NULL", "INT")
            + _created("initials", "VARCHAR NOT NULL", "VARCHAR NOT NULL")
            + "SELECT hypotenuse(3, number::DOUBLE), hypotenuse(NULL, 4),"
            " total([1.5::DOUBLE, NULL]), with_tax(10::DECIMAL(10, 2)),"
            " next_day('2026-01-31'::DATE)::VARCHAR, doubled(number::BIGINT),"
            " lengths(['a', 'b']), initials('Ada Lovelace') FROM numbers(5);"
            " SELECT sum(doubled(number::BIGINT)) FROM numbers(200000)",
            host.port,
        )

    assert done.returncode == 0, done.stderr
    rows, [total] = [eval(line, {"Decimal": Decimal}) for line in done.stdout.splitlines()[-2:]]
    assert [*rows[4].values()] == [
        5.0,
        None,
        1.5,
        Decimal("12.10"),
        "2026-02-01",
        8,
        2,
        "A.L.",
    ]
    assert [*total.values()] == [2 * sum(range(200_000))]


def _created(name, takes, gives):
    address = "http://127.0.0.1:17001"
    return (
        f"CREATE FUNCTION {name} ({takes}) RETURNS {gives} "
        f"LANGUAGE python HANDLER = '{name}' ADDRESS = '{address}';"
    )
