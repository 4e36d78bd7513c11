"""Whatever happens to results, in any order: never over the budget, never a wrong or a half result,
no file and no buffer left at the end. The clock is the test's own."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support import function, total

from flexhost import CachePolicy
from flexhost.call import Call, State
from flexhost.errors import Busy, Cancelled, NoResult, ResultConsumed
from flexhost.functions.describe import describe
from flexhost.results import Results
from flexhost.storage.cache import key_of
from flexhost.storage.retained import Retained
from flexhost.storage.spool import Spool
from flexhost.system.closers import Closers

TTL, CACHE_TTL, AFTER_READ = 60.0, 100.0, 10.0
BASE = pa.array(range(70_000), pa.int64())  # leaves in two pieces
SEEDS = st.integers(0, 2)
PICK = st.integers(0, 1_000)


def numbers(seed):
    return pa.table({"n": pc.add(BASE, seed)})


SIZE = total(numbers(0))
MODULES = numbers(7)  # a table that its module keeps
NARROW = MODULES.cast(pa.schema([("n", pa.int32())]))
KINDS = ["fresh", "module", "select", "cast", "slice"]
BUDGET = int(2.5 * SIZE)


def expected(kind, seed):
    match kind:
        case "module" | "select" | "cast":
            return MODULES
        case "slice":
            return numbers(seed).slice(5, 100)
        case _:
            return numbers(seed)


def answer(parameters, columns, headers):
    kind, seed = parameters["kind"], parameters["seed"]
    if kind == "fails":
        raise ValueError("as asked")
    if kind == "stream":
        return numbers(seed).to_reader()
    if kind == "select":
        return MODULES.select(["n"])
    if kind == "cast":
        return NARROW
    return expected(kind, seed)


def described(cached):
    made = function(answer)
    made.Cache = CachePolicy(ttl_sec=CACHE_TTL) if cached else None
    return describe(made)


PLAIN, CACHED = described(cached=False), described(cached=True)


class Noted(Call):
    """With what it was asked for."""


class AtOnce(Closers):
    def submit(self, job):
        job()


class ResultsMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        gc.collect()
        self.before = pa.total_allocated_bytes()
        self.now = 0.0
        self.parent = tempfile.TemporaryDirectory()
        self.spool = Spool(4 * SIZE, Path(self.parent.name))
        self.told = []
        self.retained = Retained(BUDGET, self.spool, clock=self.clock)
        self.results = Results(
            TTL,
            AtOnce(1),
            lambda event: None,
            retained=self.retained,
            after_read=AFTER_READ,
            clock=self.clock,
        )
        self.calls = []
        self.waiting = []  # calls and executions that somebody has to run
        self.readings = []
        self.promised = {}

    def clock(self):
        return self.now

    def make(self, made, parameters, emit):
        keep = self.retained.keep
        return Noted(
            made, parameters, None, {}, deadline=1e9, emit=emit, keep=keep, clock=self.clock
        )

    @rule(cached=st.booleans(), seed=SEEDS, kind=st.sampled_from(KINDS))
    def submit(self, cached, seed, kind):
        self.accept(CACHED if cached else PLAIN, {"kind": kind, "seed": seed})

    @rule(seed=SEEDS, kind=st.sampled_from(["stream", "fails"]), cached=st.booleans())
    def submit_what_is_not_kept(self, seed, kind, cached):
        made = CACHED if cached and kind == "fails" else PLAIN
        self.accept(made, {"kind": kind, "seed": seed})

    def accept(self, made, parameters):
        call = self.make(made, parameters, lambda event: None)
        call.kind, call.seed = parameters["kind"], parameters["seed"]
        self.results.add(call)
        self.calls.append(call)
        if made is PLAIN:
            self.waiting.append(call)
            return
        key = key_of(made, parameters, None, {}, "")
        execution = self.results.cache.join(
            call, key, lambda emit: self.make(made, parameters, emit)
        )
        if execution is not None:
            self.waiting.append(execution)

    @rule(n=PICK)
    def finish(self, n):
        if self.waiting:
            self.waiting.pop(n % len(self.waiting)).run()

    @rule(n=PICK)
    def cancel(self, n):
        if not self.calls:
            return
        call = self.calls.pop(n % len(self.calls))
        if not call.stop(Cancelled("cancelled")):
            self.results.drop(call)
        elif call.cache is not None and (execution := self.results.cache.leave(call)) is not None:
            execution.stop(Cancelled("nobody is left"))

    @rule(n=PICK, whole=st.booleans())
    def read(self, n, whole):
        if not self.calls:
            return
        call = self.calls[n % len(self.calls)]
        try:
            reading = self.results.read(call.id)
        except (NoResult, ResultConsumed):
            self.check_gone(call)
            return
        except Exception:
            assert call.state is State.FAILED
            assert call.kind == "fails" or isinstance(call.error, Busy)
            return
        right = expected(call.kind, call.seed)
        if whole:
            assert pa.concat_tables(reading).equals(right)
            reading.close()
        else:
            self.readings.append((reading, [next(reading)], right))

    @rule(n=PICK, on=st.booleans())
    def end_a_read_halfway(self, n, on):
        if not self.readings:
            return
        reading, pieces, right = self.readings.pop(n % len(self.readings))
        if on:
            assert pa.concat_tables([*pieces, *reading]).equals(right)
        else:
            assert pieces[0].equals(right.slice(0, pieces[0].num_rows))
        reading.close()

    @rule(n=PICK)
    def tell_when_it_expires(self, n):
        ended = [c for c in self.calls if c.data is not None and self.results.find(c.id) is c]
        if ended:
            call = ended[n % len(ended)]
            expires_at = self.results.expires_at(call)
            assert expires_at >= self.promised.get(call.id, 0.0), "an expiry was shortened"
            self.promised[call.id] = expires_at

    @rule(seconds=st.sampled_from([0.5, 3.0, AFTER_READ, TTL / 2, TTL]))
    def pass_time(self, seconds):
        self.now += seconds
        self.results.expire(self.now)

    @rule(seed=st.none() | SEEDS)
    def invalidate(self, seed):
        self.results.cache.invalidate(CACHED, None if seed is None else {"seed": seed})

    @rule()
    def evict(self):
        self.retained._evict()

    @rule(n=PICK)
    def spill(self, n):
        kept = [*self.retained._unread, *self.retained._read]
        if kept:
            one = kept[n % len(kept)]
            self.retained._spill(one, one)

    @invariant()
    def within_the_budget(self):
        assert self.retained.bytes <= BUDGET
        assert self.retained.spilled <= self.spool.limit

    @invariant()
    def every_file_counts_and_none_is_missing(self):
        files = {file: file.stat().st_size for file in self.spool.folder.iterdir()}
        assert sum(files.values()) == self.retained.spilled
        assert {self.retained._copies[one].data.path for one in self.retained._spilled} <= {*files}

    def check_gone(self, call):
        """A call may be without a result when it has not ended, was read, or has expired."""
        if call.ended_at is None or (call.kind == "stream" and call.read):
            return
        gone = self.results.find(call.id) is None and self.now >= call.ended_at + AFTER_READ
        assert gone
        assert self.now >= self.promised.get(call.id, 0.0), "it went before it was said to"
        assert call.read_at is not None or self.now >= call.ended_at + TTL

    def teardown(self):
        for reading, pieces, right in self.readings:
            assert pieces[0].equals(right.slice(0, pieces[0].num_rows))
            reading.close()
        folder = self.spool.folder
        self.results.close()
        assert self.retained.bytes == self.retained.spilled == self.retained.shared == 0
        assert self.retained._ledger._held == {}
        assert not folder.exists()
        self.calls, self.waiting, self.readings = [], [], []
        reading = pieces = right = None  # they would hold buffers
        gc.collect()
        self.parent.cleanup()
        assert pa.total_allocated_bytes() == self.before, "a buffer was left"


ResultsMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestResults = ResultsMachine.TestCase
