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
from flexhost.errors import BadCall, Busy
from flexhost.function import Function, Headers
from flexhost.storage.kept import Kept
from flexhost.telemetry.events import CallEnded, Emit, Event, Evicted

# Bytes of the parameters that all entries together may have; past it the oldest go.
_MOST = 64 << 20
# Calls that may wait for runs of others: they take no room in the queue.
_MOST_AWAITING = 1024
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
    """Of a function that has a cache. Raises BadCall."""
    policy = function.cache
    assert policy is not None
    varies = [_at(rule, parameters, headers) for rule in policy.vary_by]
    owner = "" if policy.shared else caller
    return Key(function, owner, _text(_meant(parameters)), columns or None, _text(varies))


def _meant(parameters: dict[str, Any]) -> dict[str, Any]:
    """What of them counts, without the column hint."""
    meant = {name: value for name, value in parameters.items() if name != "columns"}
    if isinstance(context := meant.get("executionContext"), dict):
        meant["executionContext"] = {k: v for k, v in context.items() if k not in _PASSING}
    return meant


class _Entry:
    """execution: the call that runs for all of `members`, until it has its outcome.
    table:     what it made, after that.
    """

    def __init__(self, key: Key, execution: Call, first: Call) -> None:
        self.key = key
        self.open_until = first.deadline  # for others to join, so that a run that hangs has an end
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
        made: somebody has to run it. Raises Busy.
        """
        call.returned = True  # no thread works for it, only for the execution
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.execution and self._clock() < entry.open_until:
                self._add(call, entry, entry.execution)
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

    def _add(self, call: Call, entry: _Entry, execution: Call) -> None:
        """Raises Busy."""
        if len(self._awaiting) >= _MOST_AWAITING:
            text = f"{len(self._awaiting)} calls wait for runs that they share"
            raise Busy(text, bound="shared_calls")
        call.cache = "shared"
        call.forget_arguments()
        self._awaiting[call] = entry
        if call.ended.is_set():  # whoever ended it did not find it here
            del self._awaiting[call]
            return
        entry.members.add(call)
        execution.deadline = max(execution.deadline, call.deadline)

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

    def invalidate(
        self, function: Function, parameters: dict[str, Any] | None = None, caller: str = ""
    ) -> int:
        """Forget the tables of a function, whoever's, and those that are being made: those who wait
        for one still get it, nobody else does. How many there were of this caller, or for all: what
        others asked for is not its business.

        parameters: only of calls whose parameters have these in them. Raises BadCall.
        """
        with self._lock:
            found = [entry for key, entry in self._entries.items() if key.function is function]
        if parameters:  # without the lock: it reads the parameters of all
            wanted = _meant(parameters)
            found = [entry for entry in found if _matches(entry.key, wanted, parameters)]
        with self._lock:
            for entry in found:
                self._remove(entry)
        self._release()
        return sum(entry.key.caller in ("", caller) for entry in found)

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

    def _begin(self, call: Call, key: Key, make: Callable[[Emit], Call]) -> Call | None:
        execution = make(lambda event: self._ended(entry, event))
        execution.id = call.id  # by which the log lines of the author's code are found
        call.forget_arguments()
        call.execution = execution
        entry = self._awaiting[call] = _Entry(key, execution, call)
        if call.ended.is_set():  # as above
            del self._awaiting[call]
            return None
        self._entries[key] = entry
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


def _matches(key: Key, wanted: dict[str, Any], given: dict[str, Any]) -> bool:
    if "columns" in given and tuple(given["columns"] or ()) != (key.columns or ()):
        return False
    try:
        return _contains(json.loads(key.parameters), wanted)
    except RecursionError:
        raise BadCall("the parameters are nested too deep") from None


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
    """Raises BadCall."""
    try:
        # `-bin` headers are bytes
        return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr)
    except RecursionError:
        raise BadCall("the parameters are nested too deep") from None
