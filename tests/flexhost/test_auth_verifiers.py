"""Verifiers of the author's own: what they may return, and how they may fail."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import (
    LONG,
    NUMBERS,
    SCHEMA,
    Client,
    command,
    flight_code,
    function,
    process,
    serving,
    until,
)

from flexhost import Caller, LoadContext
from flexhost.errors import StartError, Unauthenticated
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Tokens
from flexhost.security.verification import verifier
from flexhost.settings import Server, Settings
from flexhost.telemetry.events import CallEnded, Refused
from flexhost.telemetry.health import Health

TOKEN = r"a-token\of't0-verify"  # that a traceback may show in two ways


class Returning:
    """A verifier around a function of the token."""

    def __init__(self, found):
        self.found = found

    def verify(self, call_info, token):
        return self.found(token)


@contextmanager
def verified_by(found):
    def call(*_):
        return pa.table({"n": [1]}, SCHEMA)

    with serving(function(call), verifier=Returning(found)) as served:
        served.headers = [("authorization", f"Bearer {TOKEN}")]
        yield served


def caller_of(found):
    """The caller of a call whose token a verifier found this of."""
    with verified_by(found) as client:
        client.call()
        return client.event(CallEnded).call.caller


def refusal_of(found):
    with verified_by(found) as client:
        with pytest.raises(fl.FlightUnauthenticatedError) as error:
            client.info(command())
        code, message = flight_code(error.value)
        assert (code, message.split(" [id")[0]) == (110, "the token is not accepted")
        return client.event(Refused).error


def test_a_verifier_that_returns_a_text_names_the_caller():
    assert caller_of(lambda token: "ann") == Caller("ann")


def test_a_verifier_that_returns_a_caller_is_taken_at_its_word():
    ann = Caller("ann", ("num*",), 7, {"team": "sales"})

    assert caller_of(lambda token: ann) is ann


def test_anything_else_is_the_identity_of_a_caller_with_a_name():
    with_name, without = SimpleNamespace(name="ann"), {"claims": 1}

    assert caller_of(lambda token: with_name) == Caller("ann", identity=with_name)
    assert caller_of(lambda token: without) == Caller(Digest.of(TOKEN).name, identity=without)
    assert caller_of(lambda token: True) == Caller(Digest.of(TOKEN).name, identity=True)
    odd = SimpleNamespace(name=5)
    assert caller_of(lambda token: odd).name == Digest.of(TOKEN).name


@pytest.mark.parametrize(
    "found",
    [
        lambda token: token,
        lambda token: f"caller {token}",
        lambda token: Caller(token),
        lambda token: Caller(""),
        lambda token: SimpleNamespace(name=token),
    ],
)
def test_a_token_is_never_a_name(found):
    assert caller_of(found).name == Digest.of(TOKEN).name


def test_a_short_token_may_be_in_a_name_by_chance():
    with serving(
        function(lambda *_: pa.table({"n": [1]})), verifier=Returning(str.upper)
    ) as client:
        for token, name in (("an", "AN"), ("AN", Digest.of("AN").name)):
            client.showing(token).call()
            assert client.event(CallEnded).call.caller.name == name


async def later():
    return "ann"


def generated():
    yield "ann"


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.parametrize(
    "found",
    [
        lambda token: None,
        lambda token: False,
        lambda token: "",
        lambda token: {},
        lambda token: 0,
        lambda token: NotImplemented,
        lambda token: later(),
        lambda token: generated(),
        lambda token: ValueError("no such token"),
        lambda token: Unauthenticated("no such token"),
        lambda token: Future(),
        lambda token: generated_later(),
        lambda token: Caller,
        lambda token: Returning,
        lambda token: later,
        lambda token: Caller(5),
        lambda token: Caller("ann", functions="sales*"),
        lambda token: Caller("ann", functions=None),
        lambda token: Caller("ann", max_running="1"),
    ],
)
def test_what_is_false_or_no_answer_is_a_refusal(found):
    assert refusal_of(found).reason == "unauthenticated"


async def generated_later():
    yield "ann"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": 5}, "name is 5, expected a text"),
        ({"name": None}, "name is None"),
        ({"functions": None}, "functions is None, expected a tuple of patterns"),
        ({"functions": [1]}, r"functions is \[1\]"),
        ({"functions": "sales*"}, "functions is 'sales"),
        ({"max_running": "1"}, "max_running is '1', expected a whole number or None"),
        ({"max_running": 1.5}, "max_running is 1.5"),
        ({"max_running": True}, "max_running is True"),
        ({"max_running": -1}, "max_running is -1"),
    ],
)
def test_a_caller_that_is_odd_cannot_be_made(options, message):
    with pytest.raises(ValueError, match=message):
        Caller(**{"name": "ann"} | options)


def test_a_list_of_patterns_becomes_a_tuple():
    assert Caller("ann", functions=["a*", "b"]) == Caller("ann", functions=("a*", "b"))
    assert hash(Caller("ann", functions=["a*"]))


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error",
    [
        KeyError(TOKEN),
        ValueError(f"no such token: '{TOKEN}' in the table at db:1"),
        RuntimeError("no database"),
        SystemExit(),
        KeyboardInterrupt(),
        GeneratorExit(),
        StopIteration(),
        MemoryError(),
        Unspeakable(),
        fl.FlightUnavailableError("the database is away"),
        fl.FlightUnauthorizedError("not you"),
        NotImplementedError(),
    ],
)
def test_an_exception_of_a_verifier_is_a_refusal_and_in_the_log_without_the_token(error):
    def found(token):
        raise error

    told = refusal_of(found)

    assert told.trace.endswith(f"\n{type(error).__name__}")
    assert "test_auth_verifiers.py" in told.trace
    assert "in found" in told.trace
    assert TOKEN not in f"{told.trace} {told.why} {told}"


class Mute(Unauthenticated):
    def __init__(self, message):
        Exception.__init__(self, message)  # and has no `why`


def chained(token):
    try:
        raise KeyError(token)
    except KeyError as error:
        raise RuntimeError(token) from error


def forever(token):
    return forever(token)


def raising(make):
    def found(token):
        raise make(token)

    return found


@pytest.mark.parametrize(
    "found",
    [
        raising(ValueError),
        raising(lambda token: ValueError(f"no key for {token[:8]}")),
        raising(lambda token: ValueError(token[::-1])),
        raising(lambda token: Unauthenticated(token)),
        raising(lambda token: Unauthenticated("unknown", why=token)),
        raising(lambda token: Unauthenticated("unknown", why=token[:8], trace=token)),
        raising(Mute),
        chained,
        forever,
    ],
)
def test_nothing_that_a_verifier_says_is_in_the_log(found):
    told = refusal_of(found)

    said = f"{told.trace} {told.why} {told}"
    assert told.why == "the verifier failed"
    assert TOKEN[:8] not in said
    assert TOKEN[::-1] not in said
    assert len(said) < 10_000


def test_the_verifier_of_an_author_is_bound_by_max_rpcs_and_more_are_busy():
    under_way, go = threading.Semaphore(0), threading.Event()

    def found(token):
        under_way.release()
        go.wait(LONG)
        return "ann" if token == TOKEN else None

    numbers = function(lambda *_: pa.table({"n": [1]}, SCHEMA))
    with serving(numbers, verifier=Returning(found), rpcs=2) as client:
        asking = [threading.Thread(target=said, args=(client.showing("bad"),)) for _ in range(2)]
        for thread in asking:
            thread.start()
            assert under_way.acquire(timeout=LONG)
        busy = said(client.showing("another"))
        go.set()
        for thread in asking:
            thread.join(LONG)

        assert busy == (102, "2 requests are under way; try again in 1 s")
        assert client.event(Refused).error.reason == "max_rpcs"
        assert client.showing(TOKEN).call().num_rows == 1
        until(lambda: client.frontend.under_way == 0)


def said(client):
    """What a caller is told whose request fails."""
    with pytest.raises(fl.FlightError) as error:
        client.info(command())
    code, message = flight_code(error.value)
    return code, message.split(" [id")[0]


def test_the_hosts_own_verifier_needs_no_room():
    known = EnumeratedTokenVerification([Known(Tokens((Digest.of("good"),)))])
    with serving(verifier=known, rpcs=1) as client:
        with client.frontend._rpcs:
            assert said(client.showing("bad"))[0] == 110


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Bearer    ", ""])
def test_a_verifier_is_not_asked_about_an_empty_token(value):
    with verified_by(lambda token: "ann") as client:
        client.headers = [("authorization", value)]
        with pytest.raises(fl.FlightUnauthenticatedError):
            client.info(command())


def test_a_verifier_knows_the_kind_of_request():
    seen = []

    class Asking(Returning):
        def verify(self, call_info, token):
            seen.append((call_info.method, token))
            return "ann"

    with serving(function(None), verifier=Asking(None)) as client:
        one = client.showing(TOKEN)
        list(one.flight.list_flights(options=one.options()))

    assert seen == [(fl.FlightMethod.LIST_FLIGHTS, TOKEN)]


MINE = """
import flexhost.errors

class Mine:
    @classmethod
    def create(cls, ctx):
        made = cls()
        made.known = ctx.settings.my.known
        return made

    def verify(self, call_info, token):
        if token == "fails":
            raise RuntimeError("no answer for " + token)
        if token == "t3lls":
            raise flexhost.errors.Unauthenticated("unknown", why=token)
        return {"id": 5} if token == self.known else None
"""


@pytest.fixture
def loading(tmp_path, monkeypatch):
    """The verifier of a module with this source."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def run(source, name="my_auth", **submodules):
        folder = tmp_path / "my_package"
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        for file, text in {name: source, **submodules}.items():
            (folder / f"{file}.py").write_text(text)
        server = Server(authentication_method="token", token_verification=f"my_package.{name}")
        mine = SimpleNamespace(my=SimpleNamespace(known="a-known-token"))
        return verifier(Settings(server), LoadContext(mine, "location", Health()))

    yield run
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_the_one_class_of_a_module_is_made_by_its_create(loading):
    made = loading(MINE)

    assert made.verify(None, "a-known-token") == {"id": 5}
    assert made.verify(None, "another") is None


def test_what_a_module_imports_and_base_classes_are_not_its_verifier(loading):
    base = MINE.replace("Mine", "Base")
    source = f"""
from my_package.other import Imported
import abc
class Abstract(abc.ABC):
    create = classmethod(lambda cls, ctx: cls())
    @abc.abstractmethod
    def verify(self, call_info, token): ...
{base}
class Mine(Base, Imported): pass
"""
    made = loading(source, other=MINE.replace("Mine", "Imported"))

    assert type(made).__name__ == "Mine"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "'my_package.my_auth': expected one class with create(ctx) and verify(call_info, to"),
        ("class A:\n    def verify(self, call_info, token): ...", "found none"),
        (MINE + MINE.replace("Mine", "Other"), "verify(call_info, token), found Mine, Other"),
        ("import nothing_like_it", "cannot be imported: ModuleNotFoundError: No module named"),
        ("1 / 0", "cannot be imported: ZeroDivisionError"),
        (MINE.replace("my.known", "no.known"), "create of token_verification class Mine failed: A"),
        (MINE.replace("return made", "return"), "class Mine failed: AttributeError: 'NoneType'"),
        (MINE.replace("    def verify", "    async def verify"), "verify is async or a generator"),
        (MINE + "        yield", "class Mine: verify is async or a generator"),
        (MINE.replace("call_info, token", "token"), "class Mine: verify must take call_info and t"),
    ],
)
def test_a_module_that_has_no_verifier_ends_the_start(loading, source, message):
    with pytest.raises(StartError) as error:
        loading(source)

    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_module_that_is_not_there_ends_the_start():
    for name in ("no_such_module", "EnumeratedTokenVerificaton"):
        settings = Settings(Server(token_verification=name))
        with pytest.raises(StartError, match=f"token_verification module '{name}' cannot be found"):
            verifier(settings, None)


METHOD = """
authentication_method = "token"
token_verification = "my_functions"
[my]
known = "a-good-one"
"""


def test_a_host_serves_whom_the_authors_verifier_lets_in(tmp_path):
    with process(tmp_path, NUMBERS + MINE, METHOD) as host:
        port = host.port()
        assert Client(port, "a-good-one").call().num_rows == 3
        for token in ("another", "fails", "t3lls"):
            with pytest.raises(fl.FlightUnauthenticatedError, match="is not accepted") as error:
                Client(port, token).info(command())
            assert "no answer" not in str(error.value)
        host.process.terminate()
        status, log = host.ended()

    assert status == 0
    assert "\\nRuntimeError" in log
    assert "no answer for" not in log
    assert "t3lls" not in log


def test_a_create_that_fails_shows_the_authors_traceback(tmp_path):
    with process(tmp_path, NUMBERS + MINE, METHOD.replace("known", "other")) as host:
        status, text = host.ended()

    assert status == 1
    assert "create of token_verification class Mine failed: " in text.splitlines()[-1]
    assert 'my_functions.py", line' in text
    assert "src/flexhost" not in text
