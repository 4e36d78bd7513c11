"""Whether a function applies the filters that it says to apply, and no more than that.

What can be told from outside: rows that a filter drops, and that are there although it was taken;
rows that all filters keep, and that are gone; rows that are gone without a receipt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date, datetime, timezone
from typing import Any

from flexhost.errors import BadCall, HostError
from flexhost.filters.literals import plain, reader
from flexhost.testing import filters
from flexhost.testing.differences import Row, listed, lost
from flexhost.testing.report import report
from flexhost.testing.trial import Answer, Sample, Trial


def violations(trial: Trial, sample: Sample, *, deterministic: bool) -> Iterator[str]:
    """Of the sample's own filters, then of some that its rows suggest."""
    if sample.for_elements:
        return
    if sample.parameters.get("executionContext") is None:
        context = report().parameters["executionContext"]
        sample = Sample(sample.name, {**sample.parameters, "executionContext": context})
    unfiltered = trial.ask(sample.filtered(sample.name), alone=True)
    if unfiltered.table is None:
        if not _refused(unfiltered.error):
            yield f"{sample.name}, without filters: {told(unfiltered.error)}"
        rows = None
    else:
        rows = unfiltered.table.to_pylist()
    own = sample.parameters["executionContext"].get("filters")
    for one in [*([sample] if own else []), *_suggested(trial, sample, rows or [])]:
        yield from _of_one(trial, one, rows if deterministic else None, own=one is sample)


def told(error: HostError | None) -> str:
    return f"{error.code}: {error}" if error is not None else ""


def _of_one(trial: Trial, sample: Sample, rows: list[Row] | None, *, own: bool) -> Iterator[str]:
    """rows: without filters; None where they cannot be compared."""
    answer = trial.ask(sample, alone=True)
    if answer.table is None:
        if own or not _refused(answer.error):
            yield f"{sample.name}: {told(answer.error)}"
        return
    if trial.function.applies_filters and (whole := trial.ask(sample)).error is not None:
        yield f"{sample.name}: {told(whole.error)}"
    there = answer.table.to_pylist()
    keeps = trial.filters(sample).take(*answer.taken).predicate()
    if passed := [row for row in there if not keeps(row)]:
        names = ", ".join(map(repr, answer.taken))
        yield (
            f"{sample.name}: it takes the filters of {names} and does not apply them: "
            f"{listed(passed)}"
        )
    asked = trial.filters(sample)
    if rows is None or asked.elsewhere or asked.not_taken:
        return  # it may know more of them than we do
    stays = asked.predicate()
    if gone := lost([row for row in rows if stays(row)], there):
        yield f"{sample.name}: rows are missing that the filters keep: {listed(gone)}"
    elif answer.receipts:
        yield from _without_receipt(trial, sample, answer, rows, there)


def _without_receipt(
    trial: Trial, sample: Sample, answer: Answer, rows: list[Row], there: list[Row]
) -> Iterator[str]:
    asked = trial.filters(sample)
    taken = asked.take(*answer.taken).predicate()
    if dropped := lost([row for row in rows if taken(row)], there):
        names = ", ".join(map(repr, asked.rest.columns))
        yield (
            f"{sample.name}: it filters without a receipt, which is filters.take({names}): "
            f"{listed(dropped)} is gone"
        )


def _refused(error: HostError | None) -> bool:
    """Whether the function, or the host, finds the request wrong: with a word for it."""
    return isinstance(error, BadCall)


def _suggested(trial: Trial, sample: Sample, rows: list[Row]) -> Iterator[Sample]:
    """For each column a value that is there, all but that, NULL; and filters that keep nothing."""
    nothing: list[Any] = []
    labels = {column: label for label, column in trial.function.labels.items()}
    for field in trial.function.schema:
        if reader(plain(field.type), timezone.utc) is None:
            continue
        label, values = labels.get(field.name, field.name), [row[field.name] for row in rows]
        value = next(filter(_can_be_written, values), None)
        where = f"{sample.name}, where {field.name}"
        for kind, how in (("positive", "is"), ("negative", "is not")) if value is not None else ():
            one = filters.members(kind, label, value)
            yield sample.filtered(f"{where} {how} {value!r}", one)
        if None in values:
            yield sample.filtered(f"{where} is NULL", filters.members("positive", label, [None]))
        if isinstance(value, date):
            day = (value.date() if isinstance(value, datetime) else value).isoformat()
            yield sample.filtered(f"{where} is on {day}", filters.absolute(label, day, day))
        nothing.append(filters.members("positive", label, []))
    if nothing:
        yield sample.filtered(f"{sample.name}, with filters that keep no row", *nothing)


def _can_be_written(value: Any) -> bool:
    return value is not None and not (isinstance(value, float) and not math.isfinite(value))
