"""The pages: their code runs, and what they list is what there is."""

from __future__ import annotations

import hmac
import json
import os
import re
import subprocess
import sys
from dataclasses import MISSING, fields

import pyarrow as pa
import pyarrow.flight as fl
import pyarrow.parquet as pq
import pytest
from contexts import but, parameters
from shell import Shell
from support import NUMBERS, ROOT, process, serving

from flexfun.sample_function import SampleFlexFunction
from flexhost import LoadContext
from flexhost.caller import Caller
from flexhost.filters.periods import GRANULARITIES
from flexhost.frontends.flight_wire import CODES, RETRY_ANY, RETRY_HERE, RETRY_OTHER
from flexhost.functions.describe import describe
from flexhost.functions.messages import KEY
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.settings import Entry, EnumeratedTokens, Flexfun, Invoke, Jwt, Server, Udf
from flexhost.telemetry.health import Health
from flexhost.testing import LabelElements, Report, conforms, report
from flexhost.testing.asked import Asked

README = (ROOT / "README.md").read_text()


WRITING = (ROOT / "docs" / "writing-functions.md").read_text()
IMPORTS = "import pyarrow as pa\n\nfrom flexhost import FlexFun\n\n\n"


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_first_example_of_the_readme_prints_what_the_readme_says(tmp_path):
    source, call = blocks(README, "python")
    (listed,) = blocks(README, "toml")
    assert '"flexfun.cities"' in listed

    with process(tmp_path, source) as host:
        here = call.replace("17001", str(host.port()))
        printed = subprocess.run(
            [sys.executable, "-c", here], capture_output=True, text=True, check=True
        )

    assert printed.stdout == blocks(README, "text")[1]
    assert len([line for line in source.splitlines() if line.strip()]) <= 12


def test_the_call_of_the_readme_prints_what_the_readme_says(tmp_path):
    shell = Shell(tmp_path, cities=blocks(README, "python")[0])
    [command] = re.findall(r"`.venv/bin/flexhost (call .*)`", README)

    assert shell(*command.split()).out == blocks(README, "text")[0]


def test_the_plain_function_of_the_readme_can_be_called():
    names = {"__name__": "udfs"}
    exec(blocks(README, "py")[0], names)

    with serving(names["gcd"]) as client:
        assert client.call("gcd", a=12, b=18).to_pydict() == {"result": [6]}


def test_functions_copied_from_the_docs_pass_the_checks_of_the_template(tmp_path):
    folder = tmp_path / "src" / "flexfun"
    folder.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for number, source in enumerate([blocks(README, "python")[0], *blocks(WRITING, "python")]):
        text = source if re.search("^(import|from) ", source, re.MULTILINE) else IMPORTS + source
        (folder / f"copied{number}.py").write_text(text)
    (folder / "__init__.py").touch()  # or mypy looked at the functions of the template

    for check in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy", "flexfun"]):
        done = subprocess.run(
            [sys.executable, "-m", *check, "--config-file", str(ROOT / "pyproject.toml")]
            if check[0] == "mypy"
            else [sys.executable, "-m", *check, str(folder)],
            cwd=tmp_path / "src" if check[0] == "mypy" else tmp_path,
            env={**os.environ, "MYPYPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150


def test_the_commands_of_the_readme_are_targets_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", "".join(blocks(README, "bash")), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_the_errors_page_lists_every_error_with_its_number_and_class():
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| ([A-Z_]+) \| (\d+) \| (\w*) ?\| (\w+)", page, re.MULTILINE)
    again = {"": 0, "here": RETRY_HERE, "another": RETRY_OTHER, "either": RETRY_ANY}

    assert {name: (int(number) | again[when], kind) for name, number, when, kind in rows} == {
        name: (number, kind.__name__) for name, (number, kind) in CODES.items()
    }


def test_each_attack_of_the_security_page_has_the_test_that_it_names():
    page = (ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| [^|]+ \| `(\w+)` \|$", page, re.MULTILINE)
    tests = "".join(file.read_text() for file in (ROOT / "tests" / "flexhost").glob("test_*.py"))

    assert len(rows) == page.count("\n| ") - 2  # but for the head
    for name in rows:
        assert f"def {name}(" in tests, name


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page):
    path = ROOT / page
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / link).exists(), link


# Settings whose page tells what is taken when they are not set.
_MADE_AT_START = (
    "advertise_host",
    "advertise_port",
    "log_trace_keys",
    "process_workers",
    "result_memory_bytes",
    "result_spool_dir",
    "token_header_name",
)


@pytest.mark.parametrize(
    ("heading", "section"),
    [
        ("## `[server]`", Server),
        ("## `[flexfun]`", Flexfun),
        ("## `[enumerated_tokens]`", EnumeratedTokens),
        ("### `[[enumerated_tokens.entries]]`", Entry),
        ("## `[jwt]`", Jwt),
        ("## `[udf]`", Udf),
        ("## `[invoke]`", Invoke),
    ],
)
def test_every_setting_stands_on_its_page_with_its_default(heading, section):
    page = (ROOT / "docs" / "settings.md").read_text()
    (part,) = re.findall(rf"^{re.escape(heading)}\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", part, re.MULTILINE))
    settings = {field.name: field for field in fields(section)}

    assert sorted(rows) == sorted(settings)
    for name, shown in rows.items():
        default = settings[name].default
        if name not in _MADE_AT_START:
            assert shown in shown_as(default), name


def test_every_granularity_that_filters_know_stands_on_the_writing_page():
    [row] = re.findall(r"^\| relative date filter \| (.+)$", WRITING, re.MULTILINE)

    assert set(re.findall(r"[A-Z_]{3,}", row)) == GRANULARITIES


def shown_as(default):
    if default in (None, (), "", MISSING) or isinstance(default, Tokens):
        return {"none", "off", "needed"}
    if isinstance(default, tuple):
        return {", ".join(f"`{one}`" for one in default)}
    if isinstance(default, bool):
        return {f"`{str(default).lower()}`"}
    return {f"`{default}`", f"`{default:g}`"} if isinstance(default, float) else {f"`{default}`"}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """What the writing page defines, in a folder with the data that it speaks of."""
    names = {}
    monkeypatch.chdir(tmp_path)
    orders = {"region": ["EU", "US", "EU"], "amount": [1, 2, 3], "year": [2019, 2020, 2021]}
    for folder in ("visits", "orders"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        pq.write_table(pa.table(orders), tmp_path / "data" / folder / "1.parquet")
    payments = "region,day,amount\nNA,2026-01-01,1.5\nEU,2026-01-02,2\n,2026-01-03,\n"
    (tmp_path / "data" / "payments-EUR.csv").write_text(payments)
    for block in blocks(WRITING, "python"):
        exec(compile(block, "the page", "exec", dont_inherit=True), names)
    return names


def test_the_functions_of_the_writing_page_can_be_called(capsys, written):
    page, names = WRITING, written
    names["FromDatabase"].url = "db:1"
    listed = (
        "Orders",
        "Numbers",
        "FromDatabase",
        "Recent",
        "Daily",
        "OwnOrders",
        "Sales",
        "Stocks",
        "Visits",
    )
    [(sent, told)] = re.findall(r"^`(.*)` is answered with `([^`]+)`", page, re.MULTILINE)
    told = " ".join(told.split())
    context = LoadContext({}, "", Health())
    names["Stocks"].on_load(context)
    functions = ("squares", "visits", "revenue", "payments", "distance")
    classes = [names[name] for name in (*listed, *functions)]

    with serving(*classes) as client:
        assert client.call("Orders").to_pydict() == {"region": ["EU"], "revenue": [1.5]}
        assert client.call("Numbers").num_rows == 1_000_000
        assert client.call("FromDatabase").to_pydict() == {"url": ["db:1"]}
        assert b"no day is complete yet" in client.call("Recent").schema.metadata[KEY]
        client.call("Daily", region="EU")
        assert client.call("OwnOrders").to_pydict() == {"owner": [""]}
        assert client.call("Sales", limit=2.0).num_rows == 2
        with pytest.raises(fl.FlightServerError, match=re.escape(told)):
            client.call("Sales", **json.loads(sent))
        assert client.call("squares", upto=3).to_pylist()[2] == {"n": 2, "square": 4}
        assert client.call("distance", x=3, y=4).to_pydict() == {"result": [5.0]}
        assert client.call("Stocks").to_pylist() == [{"item": "bolt", "pieces": 7}]
        filtered = report().where_not(city="Brno").parameters
        assert client.call("Visits", **filtered).to_pydict() == {"city": ["Praha"], "people": [12]}
        assert client.call("visits", columns=["year"]).num_rows == 3
        europe = parameters(but("region", "US"))
        assert client.call("revenue", **europe).to_pylist() == [{"region": "EU", "revenue": 3.0}]
        named = client.call("payments", **parameters(but("region", "EU"))).to_pydict()
        assert named["region"] == ["NA", None]
        assert [str(day) for day in named["day"]] == ["2026-01-01", "2026-01-03"]
        with pytest.raises(fl.FlightServerError, match="currency is 'CZK', expected one of 'EUR'"):
            client.call("payments", currency="CZK")
        for source in blocks(page, "py"):
            exec(source.replace("17001", str(client.frontend.port)))
    context.resources.close()
    assert capsys.readouterr().out == "[b'{\"invalidated\":1}']\n"


def test_the_functions_of_the_writing_page_conform(written):
    names = written
    for name in ("Orders", "Recent", "Daily", "Stocks", "Visits", "Primes", "visits", "revenue"):
        conforms(names[name])
    conforms(names["payments"])
    conforms(names["Sales"], {"limit": 3})
    conforms(names["squares"], {"upto": 3})
    conforms(names["OwnOrders"], caller="ann")
    conforms(names["FromDatabase"], settings={"my": {"url": "db:1"}})


def test_the_tests_of_the_testing_page_pass(tmp_path):
    page = (ROOT / "docs" / "testing.md").read_text()
    source = "\n\n".join(blocks(page, "python"))
    (tmp_path / "test_page.py").write_text(source)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["flexhost.testing"]\n')

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )

    tests = source.count("\ndef test_") + 1  # one is run with both
    assert f"{tests} passed" in done.stdout, done.stdout + done.stderr
    for check in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *check, "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*ruff, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_step_of_a_request_stands_on_the_testing_page():
    page = (ROOT / "docs" / "testing.md").read_text()
    steps = {
        name
        for kind in (Report, LabelElements)
        for name, member in {**vars(kind), **vars(Asked)}.items()
        if callable(member) and not name.startswith("_")
    }

    assert {name for name in steps if f"`{name}(" not in page and f" `{name}(" not in page} == set()


def test_the_example_test_is_short():
    example = (ROOT / "tests" / "flexfun" / "test_sample_function.py").read_text()

    assert len(example.splitlines()) < 20


def test_the_client_of_the_deployment_page_shows_its_token(capsys):
    page = (ROOT / "docs" / "deployment.md").read_text()
    [source] = blocks(page, "py")
    names = {}
    exec(next(block for block in blocks(WRITING, "python") if "class Orders(" in block), names)
    known = [Known(Tokens((Digest.of("the-token"),)), Caller("ann"))]

    with serving(names["Orders"], verifier=EnumeratedTokenVerification(known)) as client:
        exec(source.replace("17001", str(client.frontend.port)))

    assert capsys.readouterr().out == "1\n"


def test_the_verifier_of_the_writing_page_lets_signed_teams_in():
    (source,) = [block for block in blocks(WRITING, "python") if "SignedTeams" in block]
    names = {}
    exec(source, names)
    made = names["SignedTeams"]("a key")
    good = hmac.new(b"a key", b"sales", "sha256").hexdigest()

    assert made.verify(None, f"sales.{good}").name == "sales"
    assert made.verify(None, f"other.{good}") is None


def test_the_dev_servers_own_client_lists_and_calls(tmp_path):
    with process(tmp_path, NUMBERS) as host:
        printed = subprocess.run(
            [
                sys.executable,
                str(ROOT / "tests" / "flexfun" / "try_dev_server.py"),
                "numbers",
                f"grpc://127.0.0.1:{host.port()}",
            ],
            capture_output=True,
            text=True,
            check=True,
        )

    assert printed.stdout == "numbers: n int64\n\nnumbers answered 3 rows:\nn\n0\n1\n2\n"


def test_the_sample_is_served_under_its_name():
    assert describe(SampleFlexFunction).name == "SampleFlexFunction"
    assert SampleFlexFunction.Schema.names == [
        "attribute1",
        "attribute2",
        "attribute3",
        "fact1",
        "fact2",
        "fact3",
    ]
