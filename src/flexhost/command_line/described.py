"""What can be said of a function, as JSON and for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flexhost.command_line.aligned import aligned
from flexhost.function import BATCH, PANDAS, ROW, Function
from flexhost.values import types

if TYPE_CHECKING:
    from flexhost.command_line.remote import Listed

# Of a JSON Schema: what limits a value, as it is said.
_LIMITS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "minLength": "length >=",
    "maxLength": "length <=",
    "minItems": "items >=",
    "maxItems": "items <=",
    "pattern": "matches",
    "multipleOf": "multiple of",
}

_OF = {ROW: "single values", BATCH: "pyarrow.Array", PANDAS: "pandas.Series"}


def as_json(function: Function | Listed) -> dict[str, Any]:
    """What only the host itself knows is there for a `Function` alone."""
    metadata = dict(function.metadata or {})
    made: dict[str, Any] = {"name": function.name}
    if isinstance(function, Function):
        made["module"] = function.module
    made["columns"] = [{"name": one.name, "type": str(one.type)} for one in function.schema]
    if isinstance(function, Function) and function.arguments is not None:
        made["kind"], made["style"] = function.kind, function.style
        made["deterministic"] = function.deterministic
        made["arguments"] = [
            {"name": one.name, "type": types.of_field(one).sql} for one in function.arguments
        ]
    made["parameters"] = metadata.pop("parameters", None)
    made["metadata"] = metadata
    if isinstance(function, Function):
        made["executor"] = function.executor
        made["deadline_sec"] = function.deadline
        made["max_running"] = function.max_running
        cache = function.cache
        made["cache"] = cache and {
            "ttl_sec": cache.ttl_sec,
            "vary_by": list(cache.vary_by),
            "shared": cache.shared,
        }
    return made


def lines(function: Function | Listed) -> Iterator[str]:
    """For people."""
    told = as_json(function)
    yield f"{told['name']}  {told.get('module', '')}".rstrip()
    if "kind" in told:
        does = "" if told["deterministic"] else ", not deterministic"
        yield f"{told['kind']} function of {_OF[told['style']]}{does}"
        yield from _part("arguments", [(one["name"], one["type"]) for one in told["arguments"]])
    yield from _part("columns", [(one["name"], one["type"]) for one in told["columns"]])
    schema = told["parameters"]
    if schema is None:
        yield from _part("parameters", [("any: it has no types for them",)])
    else:
        yield from _part("parameters", list(_parameters(schema)) or [("none",)])
    metadata = [(str(name), _shown(value)) for name, value in told["metadata"].items()]
    yield from _part("metadata", metadata)
    yield from _part("limits", list(_limits(told)))
    if (cache := told.get("cache")) is not None:
        vary = f", by {', '.join(cache['vary_by'])}" if cache["vary_by"] else ""
        whose = "shared by callers" if cache["shared"] else "each caller's own"
        yield from _part("cache", [(f"{cache['ttl_sec']:g} s, {whose}{vary}",)])


def _part(title: str, rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if rows:
        yield ""
        yield title
        yield from (f"  {line}" for line in aligned(rows))


def _limits(told: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    if "executor" in told:
        yield "runs on", told["executor"]
    if told.get("deadline_sec") is not None:
        yield "deadline", f"{told['deadline_sec']:g} s"
    if told.get("max_running") is not None:
        yield "at once", str(told["max_running"])


def _parameters(schema: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    required = schema.get("required", [])
    for name, part in schema.get("properties", {}).items():
        if name in required:
            default = "needed"
        else:
            default = f"default {_shown(part['default'])}" if "default" in part else "optional"
        said = [f"{word} {_shown(part[key])}" for key, word in _LIMITS.items() if key in part]
        more = ", ".join(said)
        if part.get("description"):
            more = f"{more}; {part['description']}" if more else part["description"]
        yield name, _type(part), default, more


def _type(part: Mapping[str, Any]) -> str:
    if "$ref" in part:
        return str(part["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in part:
        kinds = [_type(one) for one in part["anyOf"]]
        return " or ".join(sorted(kinds, key=lambda kind: kind == "null"))
    if "enum" in part:
        return " or ".join(map(_shown, part["enum"]))
    if part.get("type") == "array":
        return f"list of {_type(part.get('items') or {})}"
    return str(part.get("format") or part.get("type") or "anything")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
