"""Tokens of the settings: what may stand there, and files that change under a running host."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from contextlib import closing

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from support import NUMBERS, SCHEMA, Client, command, free_port, function, process, serving, until

from flexhost.caller import Caller
from flexhost.configuration.files import LOOK
from flexhost.errors import SettingsError
from flexhost.security.digests import Digest
from flexhost.security.tokens import EnumeratedTokenVerification, Known, Token, Tokens
from flexhost.security.verification import verifier
from flexhost.settings import load

SECRET = "s3cret-of-the-tests"
HASHED = "sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()
QUICK = 0.02  # seconds between two looks


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Settings of a file with token authentication, this text and these variables."""

    def run(text="", **variables):
        file = tmp_path / "host.toml"
        file.write_text(f'[server]\nauthentication_method = "token"\n{text}')
        for name, value in variables.items():
            monkeypatch.setenv(f"GOODDATA_FLIGHT_{name}", value)
        return load([str(file)])

    return run


def found(text, given):
    """The verifier of these settings."""
    return verifier(given(text).settings, None)


def names(checked, *tokens):
    return [caller and caller.name for caller in (checked.verify(None, one) for one in tokens)]


def test_a_token_is_given_as_it_is_or_as_its_digest(given):
    plain = found(f"{LIST} ['{SECRET}']", given)
    hashed = found(f"{LIST} ['{HASHED.upper().replace('SHA', 'sha')}']", given)

    for one in (plain, hashed):
        assert one.verify(None, SECRET) == Caller(Digest.of(SECRET).name)
        assert names(one, HASHED, "s", "", SECRET + "x") == [None] * 4


def test_a_list_in_a_variable_is_json_and_replaces_that_of_a_file(given):
    loaded = given(f"{LIST} ['x']", ENUMERATED_TOKENS__TOKENS='["y", "12"]')
    checked = verifier(loaded.settings, None)

    assert [bool(name) for name in names(checked, "x", "y", "12")] == [False, True, True]


def test_an_entry_is_a_caller_with_a_name_its_functions_and_its_bound(given):
    checked = found(
        f"""
        [[enumerated_tokens.entries]]
        name = "sales"
        token = "{HASHED}"
        functions = ["Sales*"]
        max_running = 3
        [[enumerated_tokens.entries]]
        name = "all"
        token = "another"
        """,
        given,
    )

    assert checked.verify(None, SECRET) == Caller("sales", ("Sales*",), 3)
    assert checked.verify(None, "another") == Caller("all")


@pytest.mark.parametrize(
    "entries",
    [
        '[{name = 53, token = "one"}, {name = "b", token = "two", functions = ["x"]}]',
        '[{"name": 53, "token": "one"}, {"name": "b", "token": "two", "functions": ["x"]}]',
    ],
    ids=["TOML", "JSON"],
)
def test_entries_in_a_variable_are_a_list_of_tables(given, entries):
    checked = verifier(given(ENUMERATED_TOKENS__ENTRIES=entries).settings, None)

    assert checked.verify(None, "one") == Caller("53")  # not the text of the whole variable
    assert checked.verify(None, "two") == Caller("b", ("x",))


LIST = "[enumerated_tokens]\ntokens ="
ENTRY = "[[enumerated_tokens.entries]]\nname = 'a'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LIST} 's3cret'", "tokens is of type str, not a list, expected a"),
        (f"{LIST} '@s3cret'", "tokens is of type str, not a list"),
        (f"{LIST} 's3cret@/'", "tokens is of type str, not a list"),
        (f"{LIST} 53", "tokens is of type int, not a list"),
        (LIST + "{s3cret = 1}", "tokens is of type dict, not a list"),
        (f"{LIST} ['s3cret', '']", "tokens has an item 2 that is empty"),
        (f"{LIST} ['s3cret', '  ']", "has an item 2 that is empty"),
        (f"{LIST} [53]", "has an item 1 that is of type int, not a text"),
        (f"{LIST} [' s3cret']", "item 1 that has characters that no header"),
        (f"{LIST} ['s3crét']", "item 1 that has characters that no header"),
        (f'{LIST} ["s3c\\nret"]', "item 1 that has characters that no header"),
        (f"{LIST} ['@/s3cret']", "item 1 that begins with @, which is no tok"),
        (f"{LIST} ['sha256:53']", "item 1 that begins with sha256: and has no"),
        (f"{LIST} ['sha256:{'s3cret53' * 8}']", "and has not 64 hex digits"),
        ("[enumerated_tokens]\ntoken = 's3cret'", "has no setting 'token'; did you mean 'tokens'"),
        ("[enumerated_tokens]\nentries = 's3cret'", "entries is no list of tables"),
        ("[enumerated_tokens]\nentries = ['s3cret']", "entries is no list of tables"),
        (f"{ENTRY}token = 53", "[enumerated_tokens.entries, 1] token is of type int, not a text"),
        (f"{ENTRY}token = ''", "token is empty, expected one token, a text or sha"),
        (f"{ENTRY}token = ['s3cret']", "token is of type list, not a text"),
        (f"{ENTRY}tokn = 's3cret'", "[enumerated_tokens.entries, 1] has no 'token'"),
        (f"{ENTRY}token = 's3cret'\nfunction = 'a'", "no setting 'function'; did you mean 'funct"),
        (f"{ENTRY}token = 's3cret'\nfunctions = 'a'", "functions is 'a', expected a list of tex"),
        (f"{ENTRY}token = 's3cret'\nmax_running = 0", "max_running is 0, expected a whole number"),
        ("[[enumerated_tokens.entries]]\ntoken = 's3cret'", "entries, 1] has no 'name'"),
        (
            "token_header_name = 'x-token-bin'",
            "token_header_name is 'x-token-bin', expected a head",
        ),
        ("token_header_name = 'X-Token-Bin'", "neither grpc-... nor ...-bin"),
        ("token_header_name = 'Grpc-Token'", "neither grpc-... nor ...-bin"),
        ("token_header_name = 'a b'", "expected a header name of letters, digits and dashes"),
    ],
)
def test_what_is_no_token_ends_the_start_and_is_not_shown(given, text, message):
    with pytest.raises(SettingsError) as error:
        given(text)

    _, told = str(error.value).split("host.toml: ")
    assert message in told
    assert "s3c" not in told
    assert "53" not in told


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ENUMERATED_TOKENS", "@int s3cret"),
        ("ENUMERATED_TOKENS", "s3cret"),
        ("ENUMERATED_TOKENS__ENTRIES__TOKEN", "@int s3cret"),
        ("ENUMERATED_TOKENS__ENTRIES__TOKEN", "s3cret"),
        ("ENUMERATED_TOKENS_ENTRIES__TOKEN", "@int s3cret"),
        ("enumerated_tokens__tokens", "@int s3cret"),
        ("JWT", "https://id.example/jwks?key=s3cret"),
        ("JWT", "@int s3cret"),
        ("JWT__JWKS", "@int s3cret"),
        ("JWT__JWKS", "http://id.example/jwks?key=s3cret"),
        ("JWT_JWKS", "@int s3cret"),
        ("JWT_JWKS", "https://id.example/jwks?key=s3cret"),
        ("TOKENS", "@int s3cret"),
        ("JWKS", "@int s3cret"),
    ],
)
def test_a_variable_that_is_nearly_one_with_secrets_is_named_and_not_shown(given, name, value):
    with pytest.raises(SettingsError, match=f"(?i)GOODDATA_FLIGHT_{name}") as error:
        given(**{name: value})

    assert "s3cret" not in str(error.value)


def test_functions_do_not_see_where_the_key_of_the_host_is(tmp_path):
    (tmp_path / "host.toml").write_text("[server]\ntls_private_key = ''\nlisten_port = 5")
    server = load([str(tmp_path / "host.toml")]).everything.get().server

    assert server == {"tls_private_key": "***", "listen_port": 5}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TOKENS", "s3cret"),
        ("TOKENS", "53"),
        ("TOKENS", "@int s3cret"),
        ("TOKENS", '["", "s3cret"]'),
        ("ENTRIES", "s3cret"),
        ("ENTRIES", '[{name = 53, token = ["s3cret"]}]'),
        ("ENTRIES", '[{name = "", token = "s3cret"}]'),
    ],
)
def test_a_variable_that_is_wrong_is_named_and_its_token_is_not_shown(given, name, value):
    with pytest.raises(SettingsError, match=f"GOODDATA_FLIGHT_ENUMERATED_TOKENS__{name}") as error:
        given(**{f"ENUMERATED_TOKENS__{name}": value})

    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "[enumerated_tokens] has neither tokens nor entries: nobody could call"),
        (f"{LIST} []", "has neither tokens nor entries"),
        (f"{LIST} ['a', 'a']", "one token is given twice, for 'token-"),
        (f"{ENTRY}token = 'x'\n{ENTRY}token = 'y'", "two entries of tokens are named 'a'"),
        (f"{LIST} ['x']\n{ENTRY}token = 'x'", "is given twice, for 'token-"),
        (f"{LIST} '@/no/such'", "cannot read the file /no/such of tokens: No"),
        (f"{LIST} '@/dev'", "the file /dev of tokens is no regular file"),
    ],
)
def test_tokens_that_tell_no_callers_apart_end_the_start(given, text, message):
    with pytest.raises(SettingsError) as error:
        found(text, given)

    assert message in str(error.value)


@pytest.mark.parametrize("text", [f"{LIST} ['x']", "[jwt]\nissuer = 'x'"])
def test_tokens_without_an_authentication_method_end_the_start(tmp_path, text):
    file = tmp_path / "host.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="is given, but .* authentication_method is not"):
        load([str(file)])

    file.write_text(f"[server]\nauthentication_method = 'none'\n{text}")
    assert load([str(file)]).settings.server.authentication_method == "none"


def test_nothing_that_holds_tokens_shows_them(given):
    text = f"{LIST} ['{SECRET}']\n{ENTRY}token = 'an0ther'"
    loaded = given(text)
    checked = verifier(loaded.settings, None)
    everything = loaded.everything.get()

    shown = "".join(
        [
            *(repr(one) + str(one) for one in (loaded.settings, checked, vars(checked))),
            str(everything.as_dict()),
            str(everything.enumerated_tokens),
        ]
    )
    digests = [Digest.of(token) for token in (SECRET, "an0ther")]
    for secret in (
        SECRET,
        "an0ther",
        *(d.hex() for d in digests),
        *(bytes.__repr__(d) for d in digests),
    ):
        assert secret not in shown
    assert everything.enumerated_tokens.tokens == everything.enumerated_tokens.entries == "***"


def test_the_name_of_a_nameless_caller_does_not_tell_its_token():
    name = Digest.of(SECRET).name

    assert (
        name == "token-" + hashlib.sha256(hashlib.sha256(SECRET.encode()).digest()).hexdigest()[:16]
    )


@pytest.fixture
def watching():
    """Verifiers of files that look often."""
    made = []

    def make(*known):
        made.append(EnumeratedTokenVerification(known, every=QUICK))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_file_has_a_token_a_line(tmp_path, watching):
    file = tmp_path / "tokens"
    file.write_text(f"\ufeff# of ann\nann's\r\n\n   bob's  \n#no\n{HASHED}\n", "utf-8")
    checked = watching(Known(Tokens(file=str(file))))

    assert all(names(checked, "ann's", "bob's", SECRET))
    assert names(checked, "#no", "", "# of ann", HASHED) == [None] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has none"),
        (b"\n# nothing\n", "has none"),
        (b"good\nsha256:s3cret\n", "line 2 begins with sha256: and has not 64 hex digits after it"),
        (b"s3cr\xc3\xa9t", "line 1 has characters that no header carries"),
        (b"s3cret\x00x", "line 1 has characters that no header carries"),
        (b"s3cret\ns3cret\n", "one token is given twice"),
        (b"s3cret\n" * 200_000, "has over 1048576 bytes"),
    ],
)
def test_a_file_that_is_no_list_of_tokens_ends_the_start(tmp_path, content, message):
    file = tmp_path / "tokens"
    file.write_bytes(content)

    with pytest.raises(SettingsError, match=message) as error:
        EnumeratedTokenVerification([Known(Tokens(file=str(file)))])
    assert "s3cr" not in str(error.value)


def test_a_pipe_is_no_list_of_tokens_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SettingsError, match="is no regular file"):
        EnumeratedTokenVerification([Known(Tokens(file=str(tmp_path / "pipe")))])


def test_a_file_of_an_entry_has_one_token(tmp_path, watching):
    file = tmp_path / "token"
    file.write_text("ann's\n")
    known = Known(Token(file=str(file)), Caller("ann"))
    assert names(watching(known), "ann's") == ["ann"]

    file.write_text("ann's\nbob's\n")
    with pytest.raises(SettingsError, match="has 2 tokens, expected 1"):
        watching(known)


def test_a_file_that_changes_is_read_again(tmp_path, watching):
    file = tmp_path / "tokens"
    file.write_text("one\ntwo\n")
    checked = watching(Known(Tokens(file=str(file))))

    file.write_text("two\nsix\n")  # as long as before

    until(lambda: names(checked, "one") == [None])
    assert all(names(checked, "two", "six"))


def test_a_link_that_is_swapped_is_read_again(tmp_path, watching):
    # as Kubernetes changes a secret
    for version in ("1", "2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "tokens").write_text(f"token-{version}\n")
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "tokens").symlink_to("data/tokens")
    checked = watching(Known(Tokens(file=str(tmp_path / "tokens"))))
    assert all(names(checked, "token-1"))

    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "data")

    until(lambda: names(checked, "token-1") == [None])
    assert all(names(checked, "token-2"))


STAY = "those of before stay"


def test_a_bad_new_file_is_reported_once_and_the_tokens_of_before_stay(tmp_path, watching, caplog):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    checked = watching(Known(Tokens(file=str(file))))

    file.write_text("sha256:5\n")

    until(lambda: STAY in caplog.text)
    for _ in range(3):
        checked.look()
    assert caplog.text.count(STAY) == 1
    assert all(names(checked, "one"))
    file.write_text("two\n")
    until(lambda: names(checked, "two") != [None])


def test_a_bad_file_is_reported_again_each_minute_while_its_old_tokens_are_good(tmp_path, caplog):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    now = [0.0]
    known = Known(Tokens(file=str(file)))
    with closing(EnumeratedTokenVerification([known], every=1e6, clock=lambda: now[0])) as checked:
        file.write_text("sha256:5\n")
        for now[0], lines in ((0, 1), (59, 1), (60, 2), (119, 2), (120, 3)):
            checked.look()
            assert caplog.text.count(STAY) == lines


@pytest.mark.parametrize("content", ["", "\n# none\n", None])
@pytest.mark.parametrize("caller", [None, Caller("ann")])
def test_tokens_of_a_file_that_is_emptied_or_deleted_are_good_no_more(
    tmp_path, watching, caplog, content, caller
):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    bob = Known(Tokens((Digest.of("bob's"),)), Caller("bob"))
    checked = watching(Known(Tokens(file=str(file)), caller), bob)

    file.unlink() if content is None else file.write_text(content)

    until(lambda: names(checked, "one") == [None])
    assert names(checked, "bob's") == ["bob"]
    file.write_text("two\n")
    until(lambda: names(checked, "two") != [None])
    assert caplog.text.count(f"the file {file} of tokens is empty or gone") == 1


def test_a_file_that_is_gone_for_one_look_takes_no_token_along(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    with closing(
        EnumeratedTokenVerification([Known(Tokens(file=str(file)))], every=1e6)
    ) as checked:
        file.unlink()
        checked.look()
        assert all(names(checked, "one"))

        file.write_text("one\n")
        checked.look()
        checked.look()
        assert all(names(checked, "one"))


@pytest.mark.parametrize("bad", ["sha256:5\n", "bob's\nbob's-new\n", "folder"])
def test_a_bad_file_does_not_keep_the_tokens_of_another(tmp_path, watching, bad):
    anns, bobs = tmp_path / "ann", tmp_path / "bob"
    anns.write_text("ann's\n")
    bobs.write_text("bob's\n")
    checked = watching(
        Known(Token(file=str(bobs)), Caller("bob")), Known(Token(file=str(anns)), Caller("ann"))
    )

    if bad == "folder":
        bobs.unlink()
        bobs.mkdir()
    else:
        bobs.write_text(bad)
    anns.write_text("ann's-new\n")

    until(lambda: names(checked, "ann's-new") == ["ann"])
    assert names(checked, "ann's", "bob's") == [None, "bob"]


def test_a_file_that_keeps_changing_does_not_keep_the_tokens_of_another(tmp_path):
    anns, many = tmp_path / "ann", tmp_path / "many"
    anns.write_text("ann's\n")
    many.write_text("0\n")
    known = Known(Tokens(file=str(many))), Known(Token(file=str(anns)), Caller("ann"))
    with closing(EnumeratedTokenVerification(known, every=1e6)) as checked:
        anns.unlink()
        for number in range(2):
            many.write_text(f"new-{number}\n")
            checked.look()

        assert names(checked, "ann's", "new-0") == [None, None]


def test_a_token_that_two_files_come_to_have_is_good_for_neither_caller(tmp_path, watching, caplog):
    anns, many = tmp_path / "ann", tmp_path / "many"
    anns.write_text("ann's\n")
    many.write_text("one\n")
    checked = watching(Known(Tokens(file=str(many))), Known(Token(file=str(anns)), Caller("ann")))

    many.write_text("two\nann's\n")

    until(lambda: all(names(checked, "two")))
    assert names(checked, "ann's", "one") == [None, None]
    until(lambda: "one token is given twice, for 'token-" in caplog.text)
    many.write_text("two\n")
    until(lambda: names(checked, "ann's") == ["ann"])


def test_a_token_that_a_file_comes_to_have_twice_stays_good(tmp_path, watching, caplog):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    checked = watching(Known(Tokens(file=str(file))))

    file.write_text("two\ntwo\n")

    until(lambda: all(names(checked, "two")))
    until(lambda: "one token is given twice" in caplog.text)
    assert names(checked, "one") == [None]


def test_two_tokens_that_come_to_have_one_name_are_good_for_neither(tmp_path, watching, caplog):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    same = Known(Tokens((Digest.of("x"),)), Caller(Digest.of("two").name))
    checked = watching(Known(Tokens(file=str(file))), same)

    file.write_text("two\nsix\n")

    until(lambda: all(names(checked, "six")))
    assert names(checked, "x", "two") == [None, None]
    until(lambda: "two entries of tokens are named 'token-" in caplog.text)


def test_what_is_half_written_is_no_token(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("one-long-token\n")
    checked = EnumeratedTokenVerification([Known(Tokens(file=str(file)))], every=1e6)

    file.write_text("another-lo")
    checked.look()
    file.write_text("another-long-token\n")
    checked.look()
    assert names(checked, "another-lo", "another-long-token") == [None, None]

    checked.look()
    assert 2 * LOOK < 5  # seconds, within which a token that is removed is no good
    assert names(checked, "another-lo", "one-long-token") == [None, None]
    assert all(names(checked, "another-long-token"))
    checked.close()


def test_two_looks_with_a_bad_one_between_them_are_not_alike_enough(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("one\n")
    known = Known(Tokens(file=str(file)))
    with closing(EnumeratedTokenVerification([known], every=1e6)) as checked:
        for content in ("two\n", "sha256:\n", "two\n"):
            file.write_text(content)
            checked.look()
        assert names(checked, "two") == [None]

        checked.look()
        assert all(names(checked, "two"))


def test_a_removed_token_gets_nobody_in_and_its_tickets_neither(tmp_path, watching):
    file = tmp_path / "tokens"
    file.write_text("ann-token\nbob-token\n")
    checked = watching(Known(Tokens(file=str(file))))
    table = pa.table({"n": [1]}, SCHEMA)
    with serving(function(lambda *_: table), verifier=checked) as client:
        ann = client.showing("ann-token")
        ticket = ann.ticket()
        file.write_text("bob-token\n")
        until(lambda: names(checked, "ann-token") == [None])

        with pytest.raises(fl.FlightUnauthenticatedError):
            ann.read(ticket)
        assert client.showing("bob-token").call().num_rows == 1


def test_all_digests_are_compared_in_constant_time(monkeypatch):
    compared = []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr(
        "flexhost.security.tokens.hmac.compare_digest",
        lambda a, b: compared.append(a) or real(a, b),
    )
    digests = tuple(Digest.of(str(number)) for number in range(20))
    checked = EnumeratedTokenVerification([Known(Tokens(digests))])

    for shown in ("0", "19", "unknown"):
        compared.clear()
        checked.verify(None, shown)
        assert compared == list(digests)


TELLING = (
    NUMBERS
    + """
    @staticmethod
    def on_load(ctx):
        print(ctx.settings.enumerated_tokens, file=__import__("sys").stderr)
"""
)


def test_a_host_of_its_own_lets_tokens_in_and_says_nothing_of_them(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("first-s3cret\n")
    metrics = free_port()
    settings = f"""
authentication_method = "token"
metrics_host = "127.0.0.1"
metrics_port = {metrics}
[enumerated_tokens]
tokens = "@{file}"
[[enumerated_tokens.entries]]
name = "sales"
token = "second-s3cret"
functions = ["num*"]
"""
    with process(tmp_path, TELLING, settings) as host:
        port = host.port()
        first, second = Client(port, "first-s3cret"), Client(port, "second-s3cret")
        assert first.call().num_rows == second.call().num_rows == 3
        with pytest.raises(fl.FlightUnauthenticatedError):
            Client(port, "third-s3cret").info(command())
        file.write_text("other-s3cret\n")

        def refused():
            try:
                list(first.flight.list_flights(options=first.options()))
            except fl.FlightUnauthenticatedError:
                return True
            return False

        until(refused)
        assert Client(port, "other-s3cret").call().num_rows == 3
        page = urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics")
        counted = page.read().decode()
        host.process.terminate()
        status, log = host.ended()

    assert status == 0
    assert '"caller":"sales"' in log
    assert f'"caller":"{Digest.of("first-s3cret").name}"' in log
    assert 'flexhost_refusals_total{reason="unauthenticated"}' in counted
    assert "s3cret" not in log + counted
