"""`conforms(Function)`: whether a function keeps to what every function must keep to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from flexhost.caller import ANYONE, Caller
from flexhost.errors import BadCall, StartError
from flexhost.function import Function
from flexhost.testing import calls, cancelling, filter_honesty
from flexhost.testing.asked import Asked
from flexhost.testing.calls import Settings
from flexhost.testing.differences import Row, listed, lost
from flexhost.testing.filter_honesty import told
from flexhost.testing.trial import Sample, Trial


def conforms(
    function: Any,
    /,
    *samples: Asked | Mapping[str, Any],
    deterministic: bool = True,
    within: float = 5.0,
    headers: Mapping[str, str | list[str]] | None = None,
    caller: Caller | str = ANYONE,
    settings: Settings | None = None,
) -> None:
    """Raises AssertionError that lists all that is wrong with a function.

    samples:       parameters to try: `report()`, `elements()`, dicts; without any, no parameters.
    deterministic: False for a function that gives other rows each time; those are not compared.
    within:        seconds in which a call that nobody wants must have ended.
    headers, caller, settings: see `run`.
    """
    __tracebackhide__ = True  # pytest shows the line of the test
    given = calls.headers_of(headers), calls.caller_of(caller)
    try:
        made = calls.described(function, settings)
        tried = [_sample(number, one) for number, one in enumerate(samples, 1)]
        found = [*_of_schema(made)]
        with calls.hosting() as (host, resources):
            calls.load(made, settings, host, resources)
            trial = Trial(host, made, *given)
            for sample in tried or [Sample("without parameters", {})]:
                found += _of_sample(trial, sample, deterministic)
        for sample in (tried or [Sample("without parameters", {})])[:1]:
            found += cancelling.violations(made, sample, settings, *given, within)
    except StartError as error:
        found = [str(error)]
        name = getattr(function, "__qualname__", repr(function))
    else:
        name = made.name
    if found:
        lines = "\n".join(f"- {one}" for one in dict.fromkeys(found))
        raise AssertionError(f"{name} does not conform:\n{lines}")


def _sample(number: int, given: Asked | Mapping[str, Any]) -> Sample:
    """Raises TypeError and ValueError."""
    sent = calls.sent_as(given, None, {})
    try:
        sample = Sample(f"sample {number}", sent, calls.hint_of(sent))
        _ = sample.context
    except BadCall as error:
        raise ValueError(f"sample {number}: {error}") from None
    sent.pop("columns", None)
    return sample


def _of_schema(function: Function) -> Iterator[str]:
    arrives = pa.ipc.read_schema(function.schema.serialize())
    for declared, other in zip(function.schema, arrives, strict=True):
        if not declared.equals(other, check_metadata=True):
            name, type_ = declared.name, declared.type
            yield f"column {name!r} is declared {type_}, and arrives as {other.type}"


def _of_sample(trial: Trial, sample: Sample, deterministic: bool) -> Iterator[str]:
    whole, again = trial.ask(sample), trial.ask(sample)
    if whole.table is None or again.table is None:
        error = whole.error or again.error
        more = "" if sample.parameters else " (give conforms() a sample of what callers send)"
        yield f"{sample.name}: {told(error)}{more}"
        return
    rows = whole.table.to_pylist()
    if deterministic and (gone := lost(rows, again.table.to_pylist())):
        yield (
            f"{sample.name}: a second call does not give the same rows, {listed(gone)} is gone; "
            "if that is meant: deterministic=False"
        )
        deterministic = False
    for hint in _hints(trial.function, sample):
        yield from _of_hint(trial, sample, hint, rows if deterministic else None)
    yield from filter_honesty.violations(trial, sample, deterministic=deterministic)


def _hints(function: Function, sample: Sample) -> Iterator[tuple[str, ...]]:
    """The sample's own, each column alone, all of them, and all of them the other way round."""
    names = tuple(function.schema.names)
    own = [sample.hint] if sample.hint else []
    yield from dict.fromkeys([*own, *((name,) for name in names), names, names[::-1]])


def _of_hint(
    trial: Trial, sample: Sample, hint: tuple[str, ...], rows: list[Row] | None
) -> Iterator[str]:
    """rows: the whole result; None where it cannot be compared."""
    where, answer = f"{sample.name}, columns {list(hint)}", trial.ask(sample, hint)
    if answer.table is None:
        yield f"{where}: {told(answer.error)}"
        return
    if rows is None:
        return
    expected: list[Row] = [{name: row[name] for name in hint} for row in rows]
    came: list[Row] = answer.table.to_pylist()
    if sample.for_elements:  # each once: in these columns, not in all
        expected, came = _once(expected), _once(came)
    if gone := lost(expected, came):
        yield f"{where}: rows of the whole result are missing: {listed(gone)}"
    if new := lost(came, expected):
        yield f"{where}: rows came that the whole result does not have: {listed(new)}"


def _once(rows: list[Row]) -> list[Row]:
    return list({repr(row): row for row in rows}.values())
