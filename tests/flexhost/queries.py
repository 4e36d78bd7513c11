"""The queries of deploy/observability: where they are, and what they use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from support import ROOT

FOLDER = ROOT / "deploy" / "observability"
DASHBOARD = FOLDER / "grafana" / "dashboards" / "flexhost.json"
ALERTS = FOLDER / "alerts.yml"
# What Grafana puts in, and what it stands for when everything is selected.
_VARIABLES = {"$__rate_interval": "1m", "$instance": ".*", "$function": ".*"}
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless"}
# Labels that a scrape adds, and names that Prometheus makes itself.
ADDED = {"job", "instance"}
OWN = {"up": set[str]()}


def panels() -> dict[str, list[str]]:
    """The queries of each panel of the dashboard, variables filled in."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] != "row":
            found[panel["title"]] = [_filled(target["expr"]) for target in panel["targets"]]
    return found


def variables() -> Iterator[tuple[str, str]]:
    """The metric and the label that each choice of the dashboard is made of."""
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            (found,) = re.findall(r"^label_values\((\w+), (\w+)\)$", variable["query"]["query"])
            yield found


def alerts() -> dict[str, str]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}


def everything() -> list[str]:
    return [*(query for panel in panels().values() for query in panel), *alerts().values()]


def scraped() -> Any:
    """What Prometheus is told."""
    return yaml.safe_load((FOLDER / "prometheus.yml").read_text())


def used(query: str) -> tuple[set[str], set[str]]:
    """Names of metrics and names of labels."""
    labels = set()
    for inside in re.findall(r"\{(.*?)\}", query):
        labels |= set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inside))
    for inside in re.findall(r"\b(?:by|without|on|ignoring|group_left)\s*\(([^)]*)\)", query):
        labels |= set(re.findall(r"\w+", inside))
    rest = re.sub(r'"[^"]*"|\{.*?\}|\[.*?\]', "", query)
    rest = re.sub(r"\b(?:by|without|on|ignoring|group_left)\s*\([^)]*\)", "", rest)
    names = set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", rest)) - _WORDS
    return names, labels


def values(query: str) -> Iterator[tuple[str, str]]:
    """Labels and the values they are compared with, one by one."""
    for label, value in re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', query):
        for one in value.split("|"):
            yield label, one


def _filled(query: str) -> str:
    for name, value in _VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query
