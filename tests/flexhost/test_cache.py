"""Equal calls share one execution, and for a while its table."""

from __future__ import annotations

import pyarrow as pa
import pytest
from support import KEEP, SCHEMA, function

from flexhost import CachePolicy
from flexhost.call import Call, State
from flexhost.errors import BadCall, Busy, Cancelled, FunctionFailed
from flexhost.functions.describe import describe
from flexhost.storage.cache import Cache, key_of
from flexhost.storage.retained import Retained
from flexhost.telemetry.events import CallEnded, Evicted

TTL = 60.0


def cached(call, policy=None):
    made = function(call)
    made.Cache = policy or CachePolicy(ttl_sec=TTL)
    return describe(made)


class Bench:
    """A cache with a manual clock, and calls of one function that counts its runs."""

    def __init__(self, fails=False, policy=None):
        self.now = 0.0
        self.told = []
        self.runs = 0
        self.fails = fails
        self.retained = Retained()
        self.cache = Cache(self.told.append, lambda: self.now)
        self.function = cached(self.call, policy)

    def call(self, parameters, columns, headers):
        self.runs += 1
        if self.fails:
            raise ValueError("no")
        return pa.table({"n": [self.runs]}, schema=SCHEMA)

    def make(self, parameters, emit):
        clock = lambda: self.now  # noqa: E731  # a function of one word
        keep = self.retained.keep
        return Call(
            self.function, parameters, None, {}, deadline=9.0, emit=emit, keep=keep, clock=clock
        )

    def join(self, caller="", **parameters):
        """A call, and the execution that it needs run."""
        call = self.make(parameters, self.told.append)
        key = key_of(self.function, parameters, None, {}, caller)
        return call, self.cache.join(call, key, lambda emit: self.make(parameters, emit))

    def ended(self, **parameters):
        """A call that has its outcome."""
        call, execution = self.join(**parameters)
        if execution is not None:
            execution.run()
        return call


def answer(call):
    return call.result().open().table["n"].to_pylist()


def test_calls_that_come_while_an_equal_one_runs_share_its_run():
    bench = Bench()
    first, execution = bench.join(x=1)
    others = [bench.join(x=1) for _ in range(3)]
    assert [other for _, other in others] == [None, None, None]

    execution.run()

    assert bench.runs == 1
    assert [answer(call) for call in (first, *[call for call, _ in others])] == [[1]] * 4
    assert [first.cache, *[call.cache for call, _ in others]] == ["miss", *["shared"] * 3]


def test_each_call_is_told_of_once_and_the_execution_not():
    bench = Bench()
    first, execution = bench.join()
    second, _ = bench.join()

    execution.run()

    ended = [event.call for event in bench.told if isinstance(event, CallEnded)]
    assert sorted(map(id, ended)) == sorted(map(id, [first, second]))


def test_a_later_call_gets_the_table_within_its_time_and_not_after():
    bench = Bench()
    bench.ended()

    bench.now = TTL - 0.1
    hit = bench.ended()
    assert (hit.cache, answer(hit)) == ("hit", [1])

    bench.now = TTL
    late = bench.ended()
    assert (late.cache, answer(late)) == ("miss", [2])


def test_with_no_time_to_live_only_calls_that_run_are_shared():
    bench = Bench(policy=CachePolicy(ttl_sec=0))

    assert [bench.ended().cache for _ in range(2)] == ["miss", "miss"]


def test_other_parameters_are_another_call():
    bench = Bench()

    assert [bench.ended(x=x).cache for x in (1, 1.0, "1", True, None)] == ["miss"] * 5
    assert bench.ended(x=1).cache == "hit"


def test_the_order_of_parameters_does_not_count():
    bench = Bench()
    bench.ended(a={"x": 1, "y": 2}, b=3)

    assert bench.ended(b=3, a={"y": 2, "x": 1}).cache == "hit"


def test_who_leaves_only_detaches():
    bench = Bench()
    first, execution = bench.join()
    second, _ = bench.join()

    assert first.stop(Cancelled("left"))
    assert bench.cache.leave(first) is None
    execution.run()

    assert first.state is State.STOPPED
    assert answer(second) == [1]


def test_when_the_last_has_left_the_execution_is_to_be_stopped_and_nobody_joins_it():
    bench = Bench()
    first, execution = bench.join()
    second, _ = bench.join()
    bench.cache.leave(first)

    assert bench.cache.leave(second) is execution
    assert bench.join()[1] is not None


def test_an_execution_goes_on_until_the_last_of_its_calls_is_late():
    bench = Bench()
    _, execution = bench.join()
    second = bench.make({}, bench.told.append)
    second.deadline = 50.0

    bench.cache.join(second, key_of(bench.function, {}, None, {}, ""), lambda emit: None)

    assert execution.deadline == 50.0


def test_nobody_joins_an_execution_past_the_deadline_of_its_first_call():
    bench = Bench()
    first, hangs = bench.join()
    bench.now = first.deadline - 0.1
    second, _ = bench.join()

    bench.now = first.deadline
    third, another = bench.join()

    assert another is not None
    assert hangs.deadline == first.deadline
    another.run()
    assert answer(third) == [1]
    hangs.run()
    assert [answer(first), answer(second)] == [[2], [2]]
    assert bench.ended().cache == "hit"


def test_a_call_that_ended_meanwhile_waits_for_nothing():
    bench = Bench()
    key = key_of(bench.function, {}, None, {}, "")
    gone = bench.make({}, bench.told.append)
    gone.stop(Cancelled("left"))
    assert bench.cache.join(gone, key, lambda emit: bench.make({}, emit)) is None
    assert len(bench.cache) == 0

    first, execution = bench.join()
    bench.cache.join(gone, key, lambda emit: None)
    assert bench.cache.leave(first) is execution


def test_calls_that_wait_for_others_are_bounded(monkeypatch):
    monkeypatch.setattr("flexhost.storage.cache._MOST_AWAITING", 2)
    bench = Bench()
    bench.join()
    bench.join()

    with pytest.raises(Busy, match="2 calls wait for runs that they share"):
        bench.join()


def test_a_call_that_another_runs_for_keeps_no_arguments():
    bench = Bench()

    for call, _ in (bench.join(x=1), bench.join(x=1)):
        assert call._arguments is None


def test_the_execution_runs_under_the_id_of_its_first_call():
    bench = Bench()
    first, execution = bench.join()

    assert execution.id == first.id


def test_a_call_that_missed_began_when_its_execution_did():
    bench = Bench()
    first, execution = bench.join()
    second, _ = bench.join()
    bench.now = 3.0
    assert first.began_at is None

    execution.run()

    assert (first.began_at, second.began_at) == (3.0, None)


def test_a_failure_reaches_all_who_wait_and_is_not_kept():
    bench = Bench(fails=True)
    first, execution = bench.join()
    second, _ = bench.join()
    execution.run()

    for call in (first, second):
        with pytest.raises(FunctionFailed, match="no") as failed:
            call.result()
        assert failed.value.id == call.id
    assert bench.ended().cache == "miss"
    assert bench.runs == 2


def test_a_stream_cannot_be_cached():
    bench = Bench()
    reader = pa.RecordBatchReader.from_batches(SCHEMA, iter(()))
    bench.function = cached(lambda *_: reader)

    with pytest.raises(FunctionFailed, match="has a Cache and returned a stream"):
        bench.ended().result()


def test_a_function_that_is_invalidated_runs_again():
    bench = Bench()
    held = bench.ended(x=1)
    bench.ended(x=2)

    assert bench.cache.invalidate(bench.function) == 2

    assert answer(held) == [1]
    assert [bench.ended(x=x).cache for x in (1, 2)] == ["miss", "miss"]


def test_a_table_that_the_cache_forgot_is_not_evicted_from_who_holds_it():
    bench = Bench()
    held = bench.ended()

    bench.cache.invalidate(bench.function)

    assert not bench.retained._evict()
    assert answer(held) == [1]


@pytest.mark.parametrize(
    ("wanted", "number"),
    [
        ({"region": "EU"}, 2),
        ({"region": "EU", "filter": {"year": 2026}}, 1),
        ({"region": "US"}, 0),
        ({"region": "EU", "executionContext": {"userId": "u", "timestamp": "later"}}, 2),
        ({"columns": []}, 2),
        ({"columns": ["n"]}, 0),
    ],
)
def test_only_calls_with_these_parameters_are_invalidated(wanted, number):
    bench = Bench()
    context = {"userId": "u", "timestamp": "now"}
    bench.ended(region="EU", filter={"year": 2026, "month": 1}, executionContext=context)
    bench.ended(region="EU", executionContext=context)

    assert bench.cache.invalidate(bench.function, wanted) == number


def test_what_is_made_while_it_is_invalidated_reaches_those_who_wait_and_nobody_else():
    bench = Bench()
    first, execution = bench.join()

    bench.cache.invalidate(bench.function)
    execution.run()

    assert answer(first) == [1]
    assert bench.ended().cache == "miss"


def test_a_table_that_was_invalidated_while_it_was_made_is_not_evicted_from_who_holds_it():
    bench = Bench()
    first, execution = bench.join()
    bench.cache.invalidate(bench.function)

    execution.run()

    assert not bench.retained._evict()
    assert answer(first) == [1]


def test_parameters_that_are_nested_too_deep_have_no_key():
    deep = []
    for _ in range(200_000):
        deep = [deep]

    with pytest.raises(BadCall, match="nested too deep"):
        key_of(PLAIN, {"deep": deep}, None, {}, "")


def test_a_header_of_bytes_can_be_named():
    policy = CachePolicy(ttl_sec=1, vary_by=("header:x-bin",))

    assert key(headers={"x-bin": [b"a"]}, policy=policy) != key(
        headers={"x-bin": [b"b"]}, policy=policy
    )


def test_what_is_evicted_is_made_again():
    bench = Bench()
    bench.ended().data.release()
    bench.retained.budget = 0

    second = bench.make({}, bench.told.append)
    second.run()  # its table has no room, but for that of the cached one

    assert isinstance(second.error, Exception)
    assert bench.ended().cache == "miss"


def test_expiry_frees_what_no_ticket_holds():
    bench = Bench()
    bench.ended().data.release()
    assert bench.retained.bytes > 0

    bench.now = TTL
    bench.cache.expire()

    assert bench.retained.bytes == 0
    assert len(bench.cache) == 0


def test_the_parameters_that_are_kept_are_bounded(monkeypatch):
    monkeypatch.setattr("flexhost.storage.cache._MOST", 2_500)
    bench = Bench()
    for n in range(4):
        bench.ended(x=str(n) * 1_000)

    assert len(bench.cache) == 2
    assert bench.told.count(Evicted("numbers")) == 2
    assert bench.ended(x="3" * 1_000).cache == "hit"
    assert bench.ended(x="0" * 1_000).cache == "miss"


def key(parameters=None, columns=None, headers=None, caller="", policy=None):
    made = cached(KEEP, policy) if policy else PLAIN
    return key_of(made, parameters or {}, columns, headers or {}, caller)[1:]


PLAIN = cached(lambda *_: None)
CONTEXT = {"timestamp": "2026-01-01T00:00:00Z", "executionInitiator": {"type": "display"}}


def test_when_and_from_where_it_was_asked_does_not_count_unless_it_is_named():
    later = {"timestamp": "2026-01-02T00:00:00Z", "executionInitiator": {"type": "alert"}}
    one, other = ({"executionContext": {"userId": "u"} | more} for more in (CONTEXT, later))
    assert key(one) == key(other)

    for name in ("timestamp", "executionInitiator.type"):
        policy = CachePolicy(ttl_sec=1, vary_by=(f"parameters:executionContext.{name}",))
        assert key(one, policy=policy) != key(other, policy=policy)


def test_everything_else_of_the_context_counts():
    one, other = ({"executionContext": {"userId": user}} for user in "ab")

    assert key(one) != key(other)


def test_the_column_hint_counts_however_it_says_all():
    assert key({"columns": []}, ()) == key({"columns": None}, None) == key()
    assert key({"columns": ["a"]}, ("a",)) != key()
    assert key(columns=("a", "b")) != key(columns=("b", "a"))


def test_headers_count_only_when_they_are_named():
    one, other = ({"x-tenant": [tenant]} for tenant in "ab")
    policy = CachePolicy(ttl_sec=1, vary_by=("header:X-Tenant",))

    assert key(headers=one) == key(headers=other)
    assert key(headers=one, policy=policy) != key(headers=other, policy=policy)
    assert key(policy=policy) == key(headers={"other": ["1"]}, policy=policy)


def test_callers_share_only_when_the_function_says_so():
    shared = CachePolicy(ttl_sec=1, shared=True)

    assert key(caller="a") != key(caller="b")
    assert key(caller="a", policy=shared) == key(caller="b", policy=shared)


def test_another_version_of_a_function_has_tables_of_its_own():
    again = cached(lambda *_: None)

    assert key_of(PLAIN, {}, None, {}, "") != key_of(again, {}, None, {}, "")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"ttl_sec": -1}, "ttl_sec is -1, expected a number of seconds from 0"),
        ({"ttl_sec": "60"}, "ttl_sec is '60'"),
        ({"ttl_sec": True}, "ttl_sec is True"),
        ({"ttl_sec": float("nan")}, "ttl_sec is nan"),
        ({"ttl_sec": 1, "vary_by": "header:x"}, "vary_by is 'header:x', expected a tuple"),
        ({"ttl_sec": 1, "vary_by": ("x-tenant",)}, "vary_by has 'x-tenant', expected"),
        ({"ttl_sec": 1, "vary_by": ("header:",)}, "vary_by has 'header:'"),
        ({"ttl_sec": 1, "vary_by": (1,)}, "vary_by has 1"),
        ({"ttl_sec": 1, "shared": "no"}, "shared is 'no', expected True or False"),
    ],
)
def test_a_policy_that_means_nothing_is_refused_with_what_is_wrong(wrong, told):
    with pytest.raises(ValueError, match=told.replace("(", r"\(")):
        CachePolicy(**wrong)
