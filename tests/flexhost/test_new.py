"""`flexhost new`: a function that works at once, or nothing."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from shell import Shell
from support import NUMBERS, ROOT

from flexhost.command_line.new_function import with_function
from flexhost.errors import SettingsError


@pytest.fixture
def shell(tmp_path):
    return Shell(tmp_path, numbers=NUMBERS)


def everything(folder):
    """Path → content, but for what importing leaves."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() else b"a folder"
        for file in folder.rglob("*")
        if "__pycache__" not in file.parts
    }


def test_a_new_function_is_listed_and_its_test_passes(shell):
    made = shell("new", "weather")
    called = shell("call", "weather", "-p", "at_least=12")
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "tests"],
        cwd=shell.folder,
        env={**os.environ, "PYTHONPATH": f"{shell.folder / 'src'}{os.pathsep}{ROOT / 'src'}"},
        capture_output=True,
        text=True,
    )

    assert made.status == 0, made.err
    assert made.out.splitlines() == [
        "src/flexfun/weather.py  the function",
        "tests/flexfun/test_weather.py  its test",
        "config/flexfun.config.toml  lists flexfun.weather",
        "",
        "Call it: flexhost call weather",
        "Test it: pytest tests/flexfun/test_weather.py",
    ]
    assert called.out == "city   degrees\n-----  -------\nPraha     12.5\n", called.err
    assert re.search(r"\d passed", tested.stdout), tested.stdout
    assert tested.returncode == 0


def test_what_is_written_passes_the_checks_of_the_template(shell):
    shell("new", "weather")
    (shell.package / "numbers.py").unlink()
    settings = ["--config", str(ROOT / "pyproject.toml")]
    checks = [
        ["ruff", "check", *settings, "src", "tests"],
        ["ruff", "format", "--check", *settings, "src", "tests"],
        ["mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "flexfun"],
    ]

    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", *check],
            cwd=shell.folder,
            env={**os.environ, "MYPYPATH": f"{shell.folder / 'src'}{os.pathsep}{ROOT / 'src'}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert len((shell.package / "weather.py").read_text().splitlines()) < 25


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("functions = []", 'functions = ["new"]'),
        ('functions = ["a"]  # mine', 'functions = ["a", "new"]  # mine'),
        ('functions = ["a",]', 'functions = ["a", "new"]'),
        ("functions = [ 'a' ] # x\r\n", "functions = [ 'a', \"new\" ] # x\r\n"),
        ('functions = [\n  "a"\n]', 'functions = [\n  "a",\n  "new"\n]'),
        (
            'functions = [\n    "b",  # one\n    "a",\n    # end\n]\nz = 1\n# last',
            'functions = [\n    "b",  # one\n    "a",\n    # end\n    "new"\n]\nz = 1\n# last',
        ),
        ("# functions = []\nz = 1", 'functions = ["new"]\n# functions = []\nz = 1'),
    ],
)
@pytest.mark.parametrize("section", ["[flexfun]", "# why\n[flexconnect]  # later name"])
def test_the_list_grows_by_one_and_all_else_stays(section, before, after):
    other = '\n\n# the server\n[server]\nlisten_port = 1 # "x"\n'

    made = with_function(f"{section}\n{before}{other}", "new", "here")

    assert made == f"{section}\n{after}{other}"


def test_settings_without_a_list_get_one():
    made = with_function("# only\n[server]\nlisten_port = 1\n", "new", "here")

    assert made == '# only\n[server]\nlisten_port = 1\n\n[flexfun]\nfunctions = ["new"]\n'


def test_a_list_that_is_none_or_has_it_already_is_told():
    with pytest.raises(SettingsError, match=r"here: \[flexfun\] functions is 'a', expected a list"):
        with_function('[flexfun]\nfunctions = "a"', "a", "here")
    with pytest.raises(SettingsError, match="lists a already"):
        with_function('[flexfun]\nfunctions = ["a"]', "a", "here")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my-weather", "'my-weather' cannot name a module: .*, for example my_weather"),
        ("MyWeather", "for example my_weather"),
        ("2fast", "cannot name a module: expected small letters, digits and _$"),
        ("počasí", "cannot name a module"),
        ("../x", "cannot name a module"),
        ("", "cannot name a module"),
        ("class", "'class' means something else in Python"),
        ("list", "'list' means something else in Python"),
        ("pa", "'pa' means something else"),
        ("numbers", "src/flexfun/numbers.py is there already"),
    ],
)
def test_a_name_that_cannot_be_is_refused_and_nothing_is_written(shell, name, told):
    before = everything(shell.folder)

    done = shell("new", "--", name)

    assert done.status in (1, 2)
    assert re.search(told, done.err.strip()), done.err
    assert everything(shell.folder) == before


def test_a_function_of_that_name_in_another_module_is_named(shell):
    (shell.package / "other.py").write_text(NUMBERS.replace('"numbers"', '"weather"'))
    shell.config.write_text('[flexfun]\nfunctions = ["flexfun.other"]\n')

    done = shell("new", "weather")

    assert done.status == 1
    assert "a function is named 'weather' already, in " in done.err
    assert "other.py" in done.err
    assert not (shell.package / "weather.py").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_nothing_stays_behind_when_the_settings_cannot_be_written(shell):
    before = everything(shell.folder)
    shell.config.parent.chmod(0o500)

    done = shell("new", "weather")

    shell.config.parent.chmod(0o700)
    assert done.status == 1
    assert "nothing was made: Permission denied" in done.err
    assert everything(shell.folder) == before


def test_nothing_stays_behind_when_a_step_fails(shell):
    (shell.folder / "tests").write_text("a file where the folder belongs")
    before = everything(shell.folder)

    done = shell("new", "weather")

    assert done.status == 1
    assert "nothing was made: " in done.err
    assert everything(shell.folder) == before


def test_a_link_to_the_settings_stays_one_and_so_does_the_mode(shell):
    real = shell.folder / "real.toml"
    shell.config.rename(real)
    real.chmod(0o640)
    shell.config.symlink_to(real)

    assert shell("new", "weather").status == 0
    assert shell.config.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert "flexfun.weather" in real.read_text()


def test_the_file_whose_list_counts_is_the_one_that_grows(shell):
    later = shell.config.parent / "zz.toml"
    later.write_text("[flexconnect]\nfunctions = []\n")
    before = shell.config.read_text()

    shell("new", "weather")

    assert shell.config.read_text() == before
    assert later.read_text() == '[flexconnect]\nfunctions = ["flexfun.weather"]\n'


def test_a_variable_that_wins_over_the_list_is_told(shell):
    done = shell("new", "weather", env={"GOODDATA_FLIGHT_FLEXFUN__FUNCTIONS": "[]"})

    assert done.status == 2
    assert "FUNCTIONS is set and wins over the list" in done.err


def test_a_folder_that_is_no_project_is_told(shell, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    without_config = shell("new", "weather", cwd=elsewhere)
    without_source = shell("new", "weather", "--config", str(shell.config), cwd=elsewhere)

    assert without_config.status == without_source.status == 2
    assert f"there is no config/*.toml in {elsewhere}" in without_config.err
    assert f"there is no src/flexfun in {elsewhere}" in without_source.err
    assert everything(elsewhere) == {}


def test_what_to_do_next_is_told_as_a_shell_here_would_call_it(shell):
    folder = Path(sys.executable).parent
    paths = os.pathsep.join([str(shell.folder / "src"), str(ROOT / "src")])
    done = subprocess.run(
        [folder / "flexhost", "new", "weather"],
        cwd=shell.folder,
        env={"PATH": "", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    beside = os.path.relpath(folder, shell.folder)

    assert done.stdout.splitlines()[-2:] == [
        f"Call it: {beside}/flexhost call weather",
        f"Test it: {beside}/pytest tests/flexfun/test_weather.py",
    ], done.stderr
