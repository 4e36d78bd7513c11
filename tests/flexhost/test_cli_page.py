"""docs/cli.md against what the commands say of themselves."""

from __future__ import annotations

import argparse
import re
import sys

import pytest
from support import ROOT

from flexhost import cli, invoke, spec
from flexhost.cli import parser

PAGE = (ROOT / "docs" / "cli.md").read_text()
[_COMMANDS] = [
    action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
]


def part(name):
    """What the page says of a command: under the heading that has its name."""
    parts = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    [found] = [one for one in parts if f"`flexhost {name}`" in one.splitlines()[0]]
    return found


def arguments(command):
    """Name → action of everything that it takes, each by its longest name."""
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            yield max(action.option_strings, key=len, default=action.metavar), action


def test_the_page_lists_the_commands_with_their_help():
    rows = re.findall(r"^\| `flexhost (\w+)[^`]*` \| (.+) \|$", PAGE, re.MULTILINE)

    assert rows == [(one.dest, one.help) for one in _COMMANDS._choices_actions]


@pytest.mark.parametrize("name", _COMMANDS.choices)
def test_every_option_stands_on_the_page_and_no_other(name):
    text = part(name)
    listed = "\n".join(re.findall(r"^- .*(?:\n  .*)*", text, re.MULTILINE))

    for option, _ in arguments(_COMMANDS.choices[name]):
        assert re.search(rf"`{option}[ `]", listed), f"{name} {option}"
    assert set(re.findall(r"`(-{1,2}[a-z][a-z-]*)", listed)) <= known_of(text)


def known_of(text):
    """All options of the commands that this part is about."""
    names = re.findall(r"`flexhost (\w+)`", text.splitlines()[0])
    return {option for name in names for option, _ in arguments(_COMMANDS.choices[name])}


@pytest.mark.parametrize(("name", "option"), [("call", "--output")])
def test_the_choices_of_an_option_stand_on_the_page(name, option):
    action = dict(arguments(_COMMANDS.choices[name]))[option]

    for choice in action.choices:
        assert f"`{choice}`" in part(name)


def test_what_the_modules_for_grpc_take_stands_on_the_page():
    serving, asking = PAGE.partition("## `python -m flexhost.invoke`")[2].split("\n## ")
    options = {option for option, one in arguments(invoke._parser()) if one.help != "==SUPPRESS=="}

    assert set(re.findall(r"`(--[a-z_-]+)`", serving)) == options
    assert set(re.findall(r"`([a-z]+-?[a-z]*)(?: [A-Z0-9.]+)?`: ", asking)) == set(spec._VERBS)


def test_without_a_command_all_of_them_are_shown(capsys, monkeypatch):
    monkeypatch.setattr(cli, "leave", sys.exit)
    with pytest.raises(SystemExit) as left:
        cli.main([])

    told = capsys.readouterr().err
    assert left.value.code == 2
    assert all(f"    {name}" in told for name in _COMMANDS.choices)
