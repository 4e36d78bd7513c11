"""`elements(...)`: what a BI backend sends for the values of a label, in a filter's list."""

from __future__ import annotations

from dataclasses import dataclass

from flexhost.testing import filters
from flexhost.testing.asked import Asked
from flexhost.testing.filters import ByLabel, Raw, Value, Values


@dataclass(frozen=True)
class LabelElements(Asked):
    """Made by `elements`. Its dates (`between`, `relative`, `last`) are of what it depends on."""

    label: str = ""
    pattern: str | None = None
    exact: tuple[str | None, ...] | None = None
    complemented: bool = False
    offset: int | None = None
    limit: int | None = None
    validated: tuple[str, ...] = ()

    def containing(self, text: str) -> LabelElements:
        """Only elements with this text in them; A to Z count as a to z."""
        if not isinstance(text, str):
            raise TypeError(f"{text!r} is no text")
        return self._chosen(pattern=text)

    def only(self, *values: Value) -> LabelElements:
        """Only these elements; None is NULL."""
        return self._chosen(exact=tuple(filters.texts(values, self.label)))

    def excluding(self, *values: Value) -> LabelElements:
        """All elements but these. It turns round what `containing` says, too, so not both."""
        if self.pattern is not None:
            raise ValueError("excluding() would turn containing() round, too: see complement()")
        return self._chosen(exact=tuple(filters.texts(values, self.label)), complemented=True)

    def complement(self) -> LabelElements:
        """All elements but those that `only` and `containing` give together."""
        return self._with(complemented=True)

    def depends_on(self, by_label: ByLabel | None = None, /, **values: Values) -> LabelElements:
        """Only elements of rows with one of these values in another column."""
        return self._depends("positive", by_label, values)

    def depends_on_not(self, by_label: ByLabel | None = None, /, **values: Values) -> LabelElements:
        """Only elements of rows with none of these values in another column."""
        return self._depends("negative", by_label, values)

    def page(self, offset: int, limit: int) -> LabelElements:
        """What the backend shows of them; it cuts by itself."""
        return self._with(offset=offset, limit=limit)

    def validated_by(self, *facts: str) -> LabelElements:
        return self._with(validated=(*self.validated, *facts))

    def _chosen(self, **changes: object) -> LabelElements:
        if self.complemented:
            raise ValueError("the request is a complement already, which turns all of it round")
        return self._with(**changes)

    def _depends(self, kind: str, given: ByLabel | None, named: ByLabel) -> LabelElements:
        both = filters.by_label(given, named).items()
        return self._filtered(*(filters.members(kind, label, values) for label, values in both))

    def _request(self) -> Raw:
        return {
            "executionType": "LABEL_ELEMENTS",
            "attributes": [],
            "filters": [],
            "labelElementsExecutionRequest": {
                "label": self.label,
                "offset": self.offset,
                "limit": self.limit,
                "excludePrimaryLabel": False,
                "exactFilter": None if self.exact is None else list(self.exact),
                "patternFilter": self.pattern,
                "complementFilter": self.complemented,
                "dependsOn": [filters.as_a_dependency(one) for one in self.filters],
                "filterBy": {"labelType": "REQUESTED"},
                "validateBy": [{"id": fact, "type": "fact"} for fact in self.validated],
            },
        }


def elements(label: str, *columns: str) -> LabelElements:
    """A request for the elements of a label.

    columns: that are asked for, if it is not the one with the label's own name.

    elements("region").containing("eu").depends_on(city="Brno")
    """
    return LabelElements(columns or (label,), label=filters.named(label, "a label"))
