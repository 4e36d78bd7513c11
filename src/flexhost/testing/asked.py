"""What every request of a BI backend tells: who asks, when, from where."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Self
from zoneinfo import ZoneInfo

from flexhost.context import ExecutionContext, WeekStart
from flexhost.errors import BadCall
from flexhost.testing import filters
from flexhost.testing.filters import Moment, Raw

# "Now" where a test does not say: fixed, so that it is the same tomorrow. A Thursday.
NOW = "2026-01-15T12:00:00+00:00"


@dataclass(frozen=True)
class Asked:
    """A request, step by step; each step returns a new one. `parameters` is what a function gets.

    extra: fields of the execution context as they are sent.
    """

    columns: tuple[str, ...] = ()
    filters: tuple[Raw, ...] = ()
    timestamp: str = NOW
    timezone: str = "UTC"
    week_start: str = "monday"
    organization: str = "default"
    workspace: str = "workspace"
    user: str = "user"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column in self.columns:
            filters.named(column, "a column")
        for name in ("organization", "workspace", "user"):
            filters.named(getattr(self, name), f"the {name}")

    @property
    def parameters(self) -> dict[str, Any]:
        """A dict of its own each time, as it is sent.

        Raises ValueError where it says what no backend could mean.
        """
        context = {
            "organizationId": self.organization,
            "workspaceId": self.workspace,
            "userId": self.user,
            "timestamp": self.timestamp,
            "timezone": self.timezone,
            "weekStart": self.week_start,
            **self._request(),
            **self.extra,
        }
        made = copy.deepcopy({"columns": list(self.columns), "executionContext": context})
        if not self.columns:
            del made["columns"]
        return made

    def at(
        self,
        timestamp: str | datetime,
        timezone: str | None = None,
        week_start: str | None = None,
    ) -> Self:
        """ "Now", which relative dates count from, in this zone.

        timestamp:  without an offset it is a local time of the zone.
        timezone:   an IANA name.
        week_start: "monday" or "sunday".

        Raises ValueError.
        """
        name = self.timezone if timezone is None else timezone
        starts = self.week_start if week_start is None else week_start
        return self._with(
            timestamp=_rfc3339(timestamp, name), timezone=name, week_start=WeekStart(starts).value
        )

    def asked_by(
        self,
        *,
        user: str | None = None,
        workspace: str | None = None,
        organization: str | None = None,
    ) -> Self:
        who = {"user": user, "workspace": workspace, "organization": organization}
        return self._with(**{name: value for name, value in who.items() if value is not None})

    def initiated_by(self, kind: str, **ids: str) -> Self:
        """kind: display, adhocExport, automation or alert. ids: dashboardId="..." and its like."""
        return self.with_context(executionInitiator={"type": kind, **ids})

    def between(self, dataset: str, start: Moment, end: Moment) -> Self:
        """Only dates from `start` to `end`, both included: "2026-01-31", or a minute of it."""
        return self._filtered(filters.absolute(dataset, start, end))

    def relative(self, dataset: str, granularity: str, first: int, last: int) -> Self:
        """Only dates of the `first` to the `last` period, counted from the current one, which is 0:
        relative("day", "MONTH", -1, -1) is last month."""
        return self._filtered(filters.relative(dataset, granularity, first, last))

    def last(self, dataset: str, periods: int, granularity: str) -> Self:
        """Only dates of the last `periods` (from 1), with the current one."""
        if type(periods) is not int or periods < 1:
            raise ValueError(f"date data set {dataset!r}: the last {periods!r} periods")
        return self.relative(dataset, granularity, 1 - periods, 0)

    def with_context(self, **fields: Any) -> Self:
        """Fields of the execution context as they are sent, in place of what would stand there."""
        return self._with(extra={**self.extra, **copy.deepcopy(fields)})

    def _request(self) -> Raw:
        """The part of the context that says what is asked for."""
        raise NotImplementedError

    def _filtered(self, *more: Raw) -> Self:
        return self._with(filters=(*self.filters, *more))

    def _with(self, **changes: Any) -> Self:
        made = replace(self, **changes)
        try:  # what the host could not read is a mistake here, not there
            ExecutionContext.from_parameters(made.parameters)
        except BadCall as error:
            raise ValueError(str(error)) from None
        return made


def _rfc3339(moment: str | datetime, zone: str) -> str:
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if not isinstance(moment, datetime):
        raise TypeError(f"{moment!r} is no time")
    try:
        there = (
            moment.astimezone(ZoneInfo(zone))
            if moment.tzinfo
            else moment.replace(tzinfo=ZoneInfo(zone))
        )
    except (ValueError, OSError, LookupError):
        raise ValueError(f"{zone!r} is no time zone that is known here") from None
    if (there.utcoffset() or timedelta()) % timedelta(minutes=1):  # of the 19th century
        there = there.astimezone(timezone.utc)
    return there.isoformat()
