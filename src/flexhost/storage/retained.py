"""The tables of calls that ended, within a budget of memory; past it they go to the spool."""

from __future__ import annotations

import functools
import itertools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import pyarrow as pa

from flexhost.arrow.batches import size_of
from flexhost.errors import Busy, FunctionFailed, HostError, NoResult
from flexhost.storage.footprint import Ledger, compacted, footprint, pins_too_much
from flexhost.storage.kept import Copy, Kept, Lent, Opened
from flexhost.storage.source import Source
from flexhost.storage.spool import File, Spool
from flexhost.telemetry.events import Emit, Evicted

# Seconds that calls are refused after a result had no room, unless some is made before.
_FULL_FOR = 1.0


class Retained:
    """budget: bytes of memory that all tables together may take; see `footprint`.

    Past it the least recently read table, those already read first, is written to the spool. When
    that is full, tables that are only cached go. When there are none, the call fails as Busy.
    What a function keeps for itself is not charged: see `Lent`.

    clock: monotonic seconds.
    """

    def __init__(
        self,
        budget: float = math.inf,
        spool: Spool | None = None,
        emit: Emit | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.budget = budget
        self._spool = spool
        self._emit = emit
        self._ledger = Ledger()
        self._freed = 0
        self._full: Busy | None = None
        self._full_until = 0.0
        self._clock = clock
        self._holders: dict[Kept, int] = {}
        self._copies: dict[Kept, Copy] = {}
        # each the least recently read first
        self._unread: OrderedDict[Kept, None] = OrderedDict()
        self._read: OrderedDict[Kept, None] = OrderedDict()
        self._spilled: OrderedDict[Kept, None] = OrderedDict()
        self._lent: dict[Kept, Lent] = {}
        self._trouble = ""
        self._lock = threading.Lock()
        self._making_room = threading.Lock()  # one at a time, so that only one is over the budget

    @property
    def bytes(self) -> int:
        """In memory, buffers that several tables use counted once."""
        return self._ledger.bytes

    @property
    def spilled(self) -> int:
        """Bytes of files."""
        return self._spool.used if self._spool is not None else 0

    @property
    def shared(self) -> int:
        """Bytes in memory that more than one result uses."""
        with self._lock:
            several = [kept for kept, n in self._holders.items() if n - kept.cached > 1]
            taken = [self._copies[kept].footprint for kept in several]
            return self._ledger.shared + sum(self._ledger.alone(t) for t in taken if t is not None)

    def refusal(self) -> Busy | None:
        """Why the result of a call that begins now would have no room; None when it may have."""
        full = self._full
        if full is None or self._clock() >= self._full_until:
            return None
        return full.copy()

    def has_room(self, size: int) -> bool:
        """Whether so many bytes more would be kept in memory, and nothing written for them."""
        return self._ledger.bytes + size <= self.budget

    def take_freed(self) -> int:
        """Bytes of memory that were freed since this was asked last."""
        freed, self._freed = self._freed, 0
        return freed

    def keep(self, table: pa.Table, source: Source | None = None, function: str = "") -> Kept:
        """source: the table of the function that this one was made of.

        Raises Busy when neither memory nor the spool has room, FunctionFailed when they could not
        have, and ArrowException for a table that can be written no more than sent.
        """
        taken, lent = footprint(table) if source is None else source.footprint(table), None
        if source is not None and (its := source.lends(table)) is not None:
            lent = Lent(source, taken)
            taken = taken.without(source.footprint(its))
        if (size := taken.sent) is None:
            size = size_of(table)
            if pins_too_much(size, self._ledger.cost(taken)):
                table, lent = compacted(table), None
                taken, size = footprint(table), size_of(table)
        kept, copy = Kept(table, function, self, size), Copy(table, taken)
        del table
        if lent is not None:
            self._lent[kept] = lent
        with self._lock:
            if self._ledger.bytes + self._ledger.cost(taken) <= self.budget:
                self._add(kept, copy)
                return kept
        with self._making_room:
            with self._lock:
                self._add(kept, copy)
            try:
                self._make_room(kept)
            except BaseException as error:
                self.release(kept)
                if isinstance(error, Busy):
                    self._full, self._full_until = error.copy(), self._clock() + _FULL_FOR
                raise
        return kept

    def take_over(self) -> None:
        """Charge what functions kept for themselves and do not any more."""
        for kept, lent in list(self._lent.items()):
            if lent.source.kept_by_function is not None:
                continue
            with self._lock:
                copy = self._copies.get(kept)
                if copy is not None and copy.footprint is not None:
                    self._ledger.remove(copy.footprint)
                    self._ledger.add(lent.whole)
                    copy.footprint = lent.whole
                self._lent.pop(kept, None)

    def has(self, kept: Kept) -> bool:
        return kept in self._holders

    def hold(self, kept: Kept) -> bool:
        with self._lock:
            if kept not in self._holders:
                return False
            self._holders[kept] += 1
            return True

    def release(self, kept: Kept) -> None:
        with self._lock:
            holders = self._holders.get(kept, 0)  # none: it was evicted
            if holders > 1:
                self._holders[kept] = holders - 1
            if holders != 1:
                return
            copy = self._remove(kept)
        self._leave(copy)

    def open(self, kept: Kept) -> Opened:
        with self._lock:
            if (copy := self._copies.get(kept)) is None:
                raise NoResult("the result has expired")
            copy.users += 1
            order = self._spilled if kept in self._spilled else self._read
            self._unread.pop(kept, None)
            order[kept] = None
            order.move_to_end(kept)
        try:
            return Opened(copy.table, kept.size, functools.partial(self._leave, copy))
        except (OSError, pa.ArrowException) as error:
            self._leave(copy)
            trace = f"{type(error).__name__}: {error}"
            raise NoResult("the result was lost from the spool", trace=trace) from None

    def close(self) -> None:
        """Remove the spool. Nothing is kept or read after this."""
        if self._spool is not None:
            self._spool.close()

    def _add(self, kept: Kept, copy: Copy) -> None:
        assert copy.footprint is not None
        self._ledger.add(copy.footprint)
        self._holders[kept] = 1
        self._copies[kept] = copy
        self._unread[kept] = None

    def _remove(self, kept: Kept) -> Copy:
        """Forget a table; with the lock held, and `_leave` without it has to follow."""
        del self._holders[kept]
        for known in (self._unread, self._read, self._spilled, self._lent):
            known.pop(kept, None)
        return self._copies.pop(kept)

    def _leave(self, copy: Copy) -> None:
        """One who used a copy does so no more."""
        with self._lock:
            copy.users -= 1
            if copy.users:
                return
            if copy.footprint is not None:
                before = self._ledger.bytes
                self._ledger.remove(copy.footprint)
                self._freed += before - self._ledger.bytes
            self._full = None
        if self._spool is not None and isinstance(copy.data, File):
            self._spool.release(copy.data)

    def _make_room(self, new: Kept) -> None:
        """Until all is within the budget again. Raises Busy, and FunctionFailed for a table that
        can never be."""
        tried: set[Kept] = set()  # for which the spool has no room
        while self._ledger.bytes > self.budget:
            victim = self._victim(new, tried)
            if victim is not None:
                if not self._spill(victim, new):
                    tried.add(victim)
            elif new in self._spilled:
                return  # the rest is not of this one
            elif self._evict():
                tried.clear()
            else:
                raise self._no_room(new)

    def _no_room(self, new: Kept) -> HostError:
        if new.size > max(self.budget, self._spool.limit if self._spool is not None else 0):
            return FunctionFailed(
                f"function {new.function!r}: the result takes {new.size} bytes, and neither "
                "result_memory_bytes nor result_spool_bytes are as much: return a stream"
            )
        if self._trouble:
            return Busy(f"the spool cannot be written: {self._trouble}", bound="result_spool_dir")
        return Busy(
            f"result_memory_bytes ({self.budget:.0f}) and result_spool_bytes "
            f"({self._spool.limit if self._spool is not None else 0}) are taken",
            bound="result_spool_bytes",
        )

    def _victim(self, new: Kept, tried: set[Kept]) -> Kept | None:
        """The next table that goes to the spool, so that memory is freed."""
        with self._lock:
            if self._frees(new) > self.budget and new not in tried:
                return new
            for kept in itertools.chain(self._read, self._unread):
                # to write much more than is freed is no gain: most of it stays, others share it
                if kept is not new and kept not in tried and 2 * self._frees(kept) >= kept.size:
                    return kept
            return new if self._frees(new) and new not in tried else None

    def _frees(self, kept: Kept) -> int:
        """Bytes of memory that writing a table to the spool would free, now."""
        copy = self._copies[kept]
        if copy.footprint is None or copy.users > 1 or not kept.writable:
            return 0
        return self._ledger.alone(copy.footprint)

    def _spill(self, kept: Kept, new: Kept) -> bool:
        """False when the spool has no room, or cannot be written: `_trouble` is why."""
        self._trouble = ""
        with self._lock:
            copy = self._copies.get(kept)
            if copy is None:  # released meanwhile
                return True
            copy.users += 1
        try:
            if self._spool is None or (file := self._spool.write(copy.data)) is None:
                return False
        except OSError as error:
            self._trouble = error.strerror or "no reason is known"
            return False
        except pa.ArrowException:
            if kept is new:
                raise
            kept.writable = False
            return True
        finally:
            self._leave(copy)
        with self._lock:
            there = kept in self._copies
            if there:
                self._copies[kept] = Copy(file)
                self._unread.pop(kept, None)
                self._read.pop(kept, None)
                self._spilled[kept] = None
                self._lent.pop(kept, None)
        if there:
            self._leave(copy)
        else:
            self._spool.release(file)
        return True

    def _evict(self) -> bool:
        """Let go of the table that is only cached and was least recently read."""
        with self._lock:
            for kept in itertools.chain(self._spilled, self._read, self._unread):
                if kept.cached and self._holders[kept] == 1 and self._copies[kept].users == 1:
                    copy = self._remove(kept)
                    break
            else:
                return False
        self._leave(copy)
        if self._emit is not None:
            self._emit(Evicted(kept.function))
        return True
