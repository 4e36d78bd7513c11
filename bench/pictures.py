"""Pictures of a report, as SVG that needs nothing but a browser."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

from report import Report
from servers import ARROW_UDF, BARE, DATABEND_UDF, OURS, THEIRS
from workloads import Workload

_COLOURS = {
    BARE: "#9aa5b1",
    THEIRS: "#d9822b",
    OURS: "#137cbd",
    ARROW_UDF: "#d9822b",
    DATABEND_UDF: "#8f5db7",
}
_NAMES = {BARE: "bare pyarrow", THEIRS: "gooddata-flexconnect", OURS: "this host"}
_WIDTH, _BAR, _GAP, _LEFT, _TOP = 720, 16, 22, 230, 64


class Bars(NamedTuple):
    """One group of bars: a figure of one workload for each server, as a multiple of bare."""

    title: str
    workload: str
    key: str


_PICTURES = {
    "calls": (
        "Calls per second, bare pyarrow being 1 (longer is better)",
        [
            Bars("small calls, 32 at once", "c32", "rate"),
            Bars("small calls, 128 at once", "c128", "rate"),
            Bars("the same with TLS", "c128+tls", "rate"),
            Bars("30 ms of Python, 8 at once", "python", "rate"),
            Bars("2,000 outstanding calls", "outstanding", "share"),
        ],
    ),
    "streams": (
        "Throughput of results, bare pyarrow being 1 (longer is better)",
        [
            Bars("4 MiB batches", "batches-4m", "gb_s"),
            Bars("128 MiB chunks", "chunks-128m", "gb_s"),
            Bars("10,000 batches of 64 rows", "tiny-batches", "gb_s"),
            Bars("10,000 generated batches", "generator", "gb_s"),
        ],
    ),
    "cost": (
        "What it costs, bare pyarrow being 1 (shorter is better)",
        [
            Bars("CPU of a small call, alone", "alone", "cpu_us"),
            Bars("CPU of one of 32 at once", "c32", "cpu_us"),
            Bars("CPU of one of 2,000", "outstanding", "cpu_ms"),
            Bars("CPU of a refused call", "refused", "cpu_us"),
            Bars("time to the first answer", "start", "first_ms"),
            Bars("idle memory", "start", "idle_mib"),
        ],
    ),
    "exchange": (
        "Rows per second over DoExchange, bare pyarrow being 1 (longer is better)",
        [
            Bars("gcd, 8,192 rows a batch", "gcd-8192", "rows"),
            Bars("gcd, each batch waits", "gcd-8192-waiting", "rows"),
            Bars("gcd, 256 rows an exchange", "gcd-256-apart", "rows"),
            Bars("a table of 100 rows for each", "series-100", "rows"),
            Bars("whole columns as lists", "lists-8192", "rows"),
        ],
    ),
}


def all_of(report: Report) -> dict[str, str]:
    """By name. Without what was not measured."""
    workloads = {one.name: one for one in report.workloads}
    drawn = {}
    for name, (title, bars) in _PICTURES.items():
        if there := [one for one in bars if one.workload in workloads]:
            drawn[name] = _draw(report, title, [(one, workloads[one.workload]) for one in there])
    return drawn


def _draw(report: Report, title: str, groups: list[tuple[Bars, Workload]]) -> str:
    values = [
        [(s, report.ratio(workload, s, BARE, one.key)) for s in report.servers(workload)]
        for one, workload in groups
    ]
    most = max(value for group in values for _, value in group)
    height = _TOP + sum(len(group) * _BAR + _GAP for group in values)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 24, title, size=15),
    ]
    for i, server in enumerate(dict.fromkeys(server for group in values for server, _ in group)):
        x = 16 + i * 170
        parts.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{_COLOURS[server]}"/>')
        parts.append(_text(x + 18, 46, _NAMES.get(server, server)))
    y = _TOP
    for (one, _), group in zip(groups, values, strict=True):
        parts.append(_text(16, y + len(group) * _BAR / 2 + 4, one.title))
        for server, value in group:
            width = value / most * (_WIDTH - _LEFT - 60)
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR - 2}" '
                f'fill="{_COLOURS[server]}"/>'
            )
            parts.append(_text(_LEFT + width + 6, y + _BAR - 5, f"{value:.2f}"))
            y += _BAR
        y += _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _text(x: float, y: float, text: str, size: int = 12) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="#24292f">{escape(text)}</text>'
