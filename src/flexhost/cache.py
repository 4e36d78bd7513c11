"""Equal calls of a function that says so share one execution, and for a while its table."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from flexhost.call import Call
from flexhost.events import CallEnded, Emit, Event, Evicted
from flexhost.function import Function, Headers
from flexhost.kept import Kept

# Bytes of the parameters that all entries together may have; past it the oldest go.
_MOST = 64 << 20
# Of the execution context, what differs between calls that mean the same.
_PASSING = ("timestamp", "executionInitiator")


class Key(NamedTuple):
    """What calls have in common that may share a table. The Function itself stands for its version:
    another one of the same name has entries of its own.

    parameters: as JSON in one form, without the column hint.
    varies:     what the policy's `vary_by` names.
    """

    function: Function
    caller: str
    parameters: str
    columns: tuple[str, ...] | None
    varies: str


def key_of(
    function: Function,
    parameters: dict[str, Any],
    columns: tuple[str, ...] | None,
    headers: Headers,
    caller: str,
) -> Key:
    """Of a function that has a cache."""
    policy = function.cache
    assert policy is not None
    meant = {name: value for name, value in parameters.items() if name != "columns"}
    if isinstance(context := meant.get("executionContext"), dict):
        meant["executionContext"] = {k: v for k, v in context.items() if k not in _PASSING}
    varies = [_at(rule, parameters, headers) for rule in policy.vary_by]
    owner = "" if policy.shared else caller
    return Key(function, owner, _text(meant), columns or None, _text(varies))


class _Entry:
    """execution: the call that runs for all of `members`, until it has its outcome.
    table:     what it made, after that.
    """

    def __init__(self, key: Key, execution: Call, first: Call) -> None:
        self.key = key
        self.execution: Call | None = execution
        self.members = {first}
        self.table: Kept | None = None
        self.ended_at = 0.0


class Cache:
    """clock: monotonic seconds."""

    def __init__(self, emit: Emit, clock: Callable[[], float] = time.monotonic) -> None:
        self._emit = emit
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()
        self._awaiting: dict[Call, _Entry] = {}
        self._loose: list[Kept] = []
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def join(self, call: Call, key: Key, make: Callable[[Emit], Call]) -> Call | None:
        """Give the call the table of its key: now, or when the execution ends that it shares.

        make: a call that runs for this one and for those that come. It is returned when it was
        made: somebody has to run it.
        """
        call.returned = True  # no thread works for it, only for the execution
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.execution is not None:
                call.cache = "shared"
                entry.members.add(call)
                entry.execution.deadline = max(entry.execution.deadline, call.deadline)
                self._awaiting[call] = entry
                return None
            fresh = entry is not None and not self._outdated(entry)
            table = entry.table if entry is not None and fresh else None
            if table is None or not table.hold():
                call.cache = "miss"
                if entry is not None:
                    self._remove(entry)
                return self._begin(call, key, make)
            call.cache = "hit"
        call.finish(table)
        return None

    def leave(self, call: Call) -> Call | None:
        """The call needs its table no more. Returns the execution when nobody else needs it."""
        with self._lock:
            entry = self._awaiting.pop(call, None)
            if entry is None:
                return None
            entry.members.discard(call)
            if entry.members:
                return None
            self._remove(entry)
            return entry.execution

    def invalidate(self, function: Function, parameters: dict[str, Any] | None = None) -> int:
        """Forget the tables of a function, and those that are being made: those who wait for one
        still get it, nobody else does. How many there were.

        parameters: only of calls whose parameters have these in them.
        """
        with self._lock:
            entries = [entry for key, entry in self._entries.items() if key.function is function]
            if parameters:
                entries = [entry for entry in entries if _matches(entry.key, parameters)]
            for entry in entries:
                self._remove(entry)
        self._release()
        return len(entries)

    def expire(self) -> None:
        """Let go of what is older than its policy allows, and of what was evicted."""
        with self._lock:
            for entry in list(self._entries.values()):
                if entry.execution is None and self._outdated(entry):
                    self._remove(entry)
        self._release()

    def close(self) -> None:
        with self._lock:
            for entry in list(self._entries.values()):
                self._remove(entry)
        self._release()

    def _outdated(self, entry: _Entry) -> bool:
        policy = entry.key.function.cache
        assert policy is not None
        gone = entry.table is None or entry.table.gone
        return gone or self._clock() - entry.ended_at >= policy.ttl_sec

    def _begin(self, call: Call, key: Key, make: Callable[[Emit], Call]) -> Call:
        execution = make(lambda event: self._ended(entry, event))
        execution.id = call.id  # by which the log lines of the author's code are found
        entry = self._entries[key] = self._awaiting[call] = _Entry(key, execution, call)
        self._bytes += len(key.parameters)
        return execution

    def _ended(self, entry: _Entry, event: Event) -> None:
        """The execution has its outcome: so have all who share it."""
        assert isinstance(event, CallEnded)
        execution = event.call
        table, execution.data = execution.data, None
        assert table is None or isinstance(table, Kept)
        with self._lock:
            members, entry.members, entry.execution = entry.members, set(), None
            for call in members:
                del self._awaiting[call]
                if table is not None:
                    table.hold()
            wanted = self._entries.get(entry.key) is entry
            if table is not None:
                table.cached = wanted
            if wanted and table is not None:
                entry.table, entry.ended_at = table, self._clock()
                self._limit()
            elif wanted:
                self._remove(entry)
        if table is not None and not wanted:
            table.release()
        self._release()
        for call in members:
            if call.cache == "miss":
                call.started_at = execution.started_at
            if table is not None:
                call.finish(table)
            elif execution.error is not None:
                call.fail(execution.state, execution.error)

    def _limit(self) -> None:
        while self._bytes > _MOST:
            oldest = next((e for e in self._entries.values() if e.table is not None), None)
            if oldest is None:
                return
            self._remove(oldest)
            self._emit(Evicted(oldest.key.function.name))

    def _remove(self, entry: _Entry) -> None:
        """Forget an entry; `_release` without the lock has to follow."""
        if self._entries.get(entry.key) is not entry:
            return
        del self._entries[entry.key]
        self._bytes -= len(entry.key.parameters)
        if entry.table is not None:
            entry.table.cached = False  # those who still hold it need it
            self._loose.append(entry.table)

    def _release(self) -> None:
        """Without the lock, since it may remove files."""
        while self._loose:
            with contextlib.suppress(IndexError):  # another thread was quicker
                self._loose.pop().release()


def _matches(key: Key, wanted: dict[str, Any]) -> bool:
    parameters = {name: value for name, value in wanted.items() if name != "columns"}
    if "columns" in wanted and tuple(wanted["columns"] or ()) != (key.columns or ()):
        return False
    return _contains(json.loads(key.parameters), parameters)


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(name in whole and _contains(whole[name], part[name]) for name in part)
    return bool(whole == part)


def _at(rule: str, parameters: dict[str, Any], headers: Headers) -> Any:
    """What a rule of `vary_by` names: the values of a header, or what stands at a path."""
    kind, _, where = rule.rpartition(":")
    if kind == "header":
        return headers.get(where.lower())
    value: Any = parameters
    for name in where.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
