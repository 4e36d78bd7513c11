"""`report(...)`: what a BI backend sends for a report."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexhost.context import SortDirection
from flexhost.testing import filters
from flexhost.testing.asked import Asked
from flexhost.testing.filters import ByLabel, Raw, Values


@dataclass(frozen=True)
class Report(Asked):
    """Made by `report`."""

    attributes: tuple[Raw, ...] = ()
    measures: tuple[tuple[str, str], ...] = ()

    def where(self, by_label: ByLabel | None = None, /, **values: Values) -> Report:
        """Only rows with one of these values: where(region="EU", city=["Brno", None]), or
        where({"customer.region": "EU"}). None is NULL; an empty list keeps nothing."""
        return self._members("positive", by_label, values)

    def where_not(self, by_label: ByLabel | None = None, /, **values: Values) -> Report:
        """Only rows with none of these values; NULL stays, unless None is listed."""
        return self._members("negative", by_label, values)

    def like(
        self,
        label: str,
        *,
        starts_with: str | None = None,
        ends_with: str | None = None,
        contains: str | None = None,
        negate: bool = False,
        case_sensitive: bool = False,
    ) -> Report:
        """Only rows whose text is such, or with `negate` is not. One of the three is given."""
        given = {"STARTS_WITH": starts_with, "ENDS_WITH": ends_with, "CONTAINS": contains}
        chosen = [(kind, text) for kind, text in given.items() if text is not None]
        if len(chosen) != 1:
            raise TypeError(f"label {label!r}: give one of starts_with, ends_with and contains")
        [(kind, text)] = chosen
        return self._filtered(
            filters.match(label, kind, text, negate=negate, case_sensitive=case_sensitive)
        )

    def with_filter(self, raw: Mapping[str, Any]) -> Report:
        """A filter as it is sent, for what there is no step for."""
        return self._filtered(copy.deepcopy(dict(raw)))

    def attribute(
        self,
        label: str,
        *,
        title: str | None = None,
        granularity: str | None = None,
        sort: str | None = None,
    ) -> Report:
        """Say that a column is an attribute of the report. It is asked for, if it is not yet.

        granularity: of a date. sort: "ASC" or "DESC".
        """
        direction = None if sort is None else SortDirection(sort).value
        made = {
            "attributeIdentifier": label,
            "attributeTitle": title or label,
            "labelIdentifier": label,
            "labelTitle": title or label,
            "dateGranularity": granularity,
            "sorting": direction and {"sortColumn": label, "sortDirection": direction},
        }
        return self._with(columns=self._asking(label), attributes=(*self.attributes, made))

    def measure(self, fact: str, aggregation: str = "SUM") -> Report:
        """Say that a column is a measure of the report. It is asked for, if it is not yet."""
        measures = (*self.measures, (fact, aggregation))
        return self._with(columns=self._asking(fact), measures=measures)

    def _asking(self, column: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys([*self.columns, column]))

    def _members(self, kind: str, given: ByLabel | None, named: ByLabel) -> Report:
        both = filters.by_label(given, named).items()
        return self._filtered(*(filters.members(kind, label, values) for label, values in both))

    def _request(self) -> Raw:
        return {
            "executionType": "REPORT",
            "attributes": list(self.attributes),
            "filters": list(self.filters),
            "reportExecutionRequest": {
                "attributes": [
                    {
                        "localIdentifier": f"a{number}",
                        "label": filters.reference(one["labelIdentifier"], "label"),
                        "showAllValues": False,
                    }
                    for number, one in enumerate(self.attributes, 1)
                ],
                "filters": [filters.as_of_a_request(one) for one in self.filters],
                "measures": [_measure(n, *one) for n, one in enumerate(self.measures, 1)],
                "auxMeasures": [],
            },
        }


def report(*columns: str) -> Report:
    """A request for a report with these columns, all of them if none is named.

    Its steps add filters, and who asks and when:
    report("region", "revenue").where(region="EU").between("day", "2026-01-01", "2026-03-31")
    """
    return Report(columns)


def _measure(number: int, fact: str, aggregation: str) -> Raw:
    return {
        "localIdentifier": f"m{number}",
        "definition": {
            "measure": {
                "item": filters.reference(fact, "fact"),
                "aggregation": aggregation,
                "computeRatio": False,
                "filters": [],
            }
        },
    }
