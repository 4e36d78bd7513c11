"""Files and variables → one checked value. Variables are real ones."""

from __future__ import annotations

import re
import socket

import pytest
from support import ROOT

from flexhost.errors import SettingsError
from flexhost.settings import Flexfun, Server, Settings, load


@pytest.fixture
def given(tmp_path, monkeypatch):
    """`given(toml, toml, SERVER__LISTEN_PORT="1")`: a file for each text, then the variables."""

    def run(*texts, **variables):
        files = []
        for number, text in enumerate(texts):
            file = tmp_path / f"{number}.toml"
            file.write_text(text)
            files.append(str(file))
        for name, value in variables.items():
            monkeypatch.setenv(f"GOODDATA_FLIGHT_{name}", value)
        return load(files)

    return run


def test_without_files_and_variables_there_are_the_defaults():
    assert load().settings == Settings()
    assert Server().advertise_host == socket.gethostname()


def test_files_combine_key_by_key_and_variables_win(given):
    first = "[server]\nlisten_port = 1\ntask_threads = 2\n"
    settings = given(first, "[server]\nlisten_port = 3\n", SERVER__TASK_QUEUE_SIZE="4").settings

    server = settings.server
    assert (server.listen_port, server.task_threads, server.task_queue_size) == (3, 2, 4)


def test_a_later_list_replaces_an_earlier_one(given):
    first, second = '[flexfun]\nfunctions = ["a", "b"]\n', '[flexfun]\nfunctions = ["c"]\n'
    assert given(first, second).settings.flexfun.functions == ("c",)

    assert given(first, FLEXFUN__FUNCTIONS='["d"]').settings.flexfun.functions == ("d",)


def test_flexconnect_is_another_name_of_flexfun(given):
    file = '[flexconnect]\nfunctions = ["a"]\ncall_deadline_ms = 5\n'
    assert given(file).settings.flexfun == Flexfun(functions=("a",), call_deadline_ms=5)

    assert given(file, FLEXFUN__CALL_DEADLINE_MS="7").settings.flexfun.call_deadline_ms == 7


def test_the_case_of_keys_does_not_matter(given):
    assert given("[SERVER]\nListen_Port = 5\n").settings.server.listen_port == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nuse_tls = false\nUSE_TLS = true", "[server] use_tls and USE_TLS are the same"),
        ("[server]\ntask_threads = 1\n[Server]\n", "section server and Server are the same"),
        (
            "[[enumerated_tokens.entries]]\nname = 'a'\ntoken = 't'\nfunctions = ['a']\n"
            "FUNCTIONS = ['*']",
            "functions and FUNCTIONS are the same",
        ),
    ],
)
def test_what_differs_in_capitals_alone_is_refused(given, text, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        given(text)


def test_a_variable_in_small_letters_is_refused(monkeypatch):
    monkeypatch.setenv("gooddata_flight_server__use_tls", "true")

    with pytest.raises(SettingsError, match="gooddata_flight_server__use_tls is no setting"):
        load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\ntoken_verification = 'my.auth'", "authentication_method is not"),
        ("[server]\ntoken_header_name = 'x-token'", "authentication_method is not"),
        (
            "[server]\nauthentication_method = 'token'\ntoken_verification = 'my.auth'\n"
            "[enumerated_tokens]\ntokens = ['t']",
            "[enumerated_tokens] tokens is given, which token_verification = 'my.auth' does not",
        ),
        (
            "[server]\nauthentication_method = 'token'\n[enumerated_tokens]\ntokens = ['t']\n"
            "[jwt]\nissuer = 'i'",
            "[jwt] issuer is given, which token_verification = 'EnumeratedTokenVerification'",
        ),
        ("[auth]\nauthentication_method = 'token'", "stands in [auth], where nothing reads it"),
    ],
)
def test_settings_of_tokens_that_nothing_reads_are_refused(given, text, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        given(text)


def test_values_are_read_as_what_they_must_be(given):
    file = '[server]\nlisten_port = "80"\ndrain_sec = 5\nerror_detail = "false"\n'
    server = given(file, SERVER__ADVERTISE_HOST="0123", SERVER__METRICS_HOST="").settings.server

    assert (server.listen_port, server.drain_sec, server.error_detail) == (80, 5.0, False)
    assert (server.advertise_host, server.metrics_host) == ("0123", None)


def test_sections_of_the_author_reach_on_load(given):
    loaded = given("[my]\nurl = 'a'\nn = 1\n", "[my]\nn = 2\n", MY__KEYS='["k"]')

    assert loaded.everything.get().my.url == "a"
    assert loaded.everything.get().get("my.n") == 2
    assert loaded.everything.get()["my"]["keys"] == ["k"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\nlisten_prot = 1", "[server] has no setting 'listen_prot'; did you mean"),
        ("[server]\nxyz = 1", "[server] has no setting 'xyz'; there is listen_host, "),
        ("[flexconnect]\nfunction = []", "[flexconnect] has no setting 'function'; did you"),
        ('[server]\nlisten_port = "x"', "listen_port is 'x', expected a port from 0 to 65535"),
        ("[server]\nlisten_port = 70000", "listen_port is 70000, expected a port"),
        ("[server]\nlisten_port = true", "listen_port is True, expected a port"),
        ("[server]\nlisten_host = ' '", "listen_host is ' ', expected a text that is not blank"),
        ("[server]\ntask_threads = 0", "task_threads is 0, expected a whole number from 1"),
        ("[server]\ntask_threads = 1.5", "task_threads is 1.5, expected a whole number"),
        ("[server]\ndrain_sec = -1", "drain_sec is -1, expected a number of seconds from 0"),
        ("[server]\ndrain_sec = inf", "drain_sec is inf, expected a number of seconds"),
        ("[server]\nerror_detail = 'yes'", "error_detail is 'yes', expected true or false"),
        ("[server]\nauthentication_method = 'x'", 'is \'x\', expected "none" or "token"'),
        ("[flexfun]\nfunctions = 'a'", "functions is 'a', expected a list of texts"),
        ("[flexfun]\nfunctions = ['a', '']", "functions is ['a', ''], expected a list of texts"),
        ("server = 5", "server is 5, expected a section with keys"),
        ("[server", "is not TOML: "),
        ("listen_port = 5", "listen_port stands outside of [server]"),
        ("[sever]\nlisten_port = 5", "there is no section [sever]; is it [server]?"),
        ("[flexfuns]\nfunctions = []", "there is no section [flexfuns]; is it [flexfun]?"),
        ("[server]\nadvertise_host = 'grpc://h:5'", "expected a host name or an address, no URL"),
        ("[server]\nlog_event_key_name = 'level'", "not timestamp, level or logger"),
    ],
)
def test_a_wrong_file_is_named_with_key_value_and_what_is_expected(given, text, message):
    with pytest.raises(SettingsError) as error:
        given(text)

    assert message in str(error.value)
    assert "0.toml" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SERVER__LISTEN_PORT", "80 80", "[server] listen_port is '80 80', expected a port"),
        ("SERVER__TASK_THREAD", "5", "[server] has no setting 'task_thread'; did you mean"),
        ("FLEXFUN__FUNCTIONS", "a", "[flexfun] functions is 'a', expected a list"),
        ("SERVER", "5", "server is 5, expected a section"),
        ("ENUMERATED_TOKENS", '["x"]', "enumerated_tokens is a secret, expected a section"),
    ],
)
def test_a_wrong_variable_is_named(given, name, value, message):
    with pytest.raises(SettingsError, match=re.escape(f"GOODDATA_FLIGHT_{name}: {message}")):
        given(**{name: value})


def test_a_variable_that_dynaconf_cannot_read_is_a_settings_error(given):
    with pytest.raises(
        SettingsError, match="variable GOODDATA_FLIGHT_SERVER__TASK_THREADS cannot be read: .*'x'"
    ):
        given(SERVER__TASK_THREADS="@int x")


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(SettingsError, match=r"cannot read .*missing.toml: No such file"):
        load([str(tmp_path / "missing.toml")])


CERTIFICATE = "tls_certificate = 'c'\n"
KEY = "tls_private_key = 'k'\n"
ROOT_CERTIFICATE = "tls_root_certificate = 'r'\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CERTIFICATE, "tls_certificate is set, but use_tls is not true"),
        (CERTIFICATE + KEY, "tls_certificate is set, but use_tls is not true"),
        (CERTIFICATE + KEY + "use_tls = false", "tls_certificate is set, but use_tls is not"),
        (KEY, "tls_private_key is set, but use_tls is not true"),
        ("use_mtls = true\n" + ROOT_CERTIFICATE, "use_mtls is set, but use_tls is not true"),
        (ROOT_CERTIFICATE, "tls_root_certificate is set, but use_mtls is not true"),
        ("use_tls = true", "use_tls is true, but tls_certificate is not set"),
        ("use_tls = true\n" + CERTIFICATE, "use_tls is true, but tls_private_key is not set"),
        (
            "use_tls = true\n" + CERTIFICATE + KEY + ROOT_CERTIFICATE,
            "tls_root_certificate is set, but use_mtls is not true",
        ),
        (
            "use_tls = true\nuse_mtls = true\n" + CERTIFICATE + KEY,
            "use_mtls is true, but tls_root_certificate is not set",
        ),
    ],
)
def test_half_of_what_tls_needs_is_refused(given, text, message):
    with pytest.raises(SettingsError, match=re.escape(f"0.toml: [server] {message}")):
        given("[server]\n" + text)


def test_all_that_tls_needs_may_come_from_files_and_variables(given):
    switches = "[server]\nuse_tls = true\nuse_mtls = true\n" + ROOT_CERTIFICATE
    pem = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"

    server = given(
        switches, SERVER__TLS_CERTIFICATE="@/etc/c.pem", SERVER__TLS_PRIVATE_KEY=pem
    ).settings.server

    assert (server.tls_certificate, server.tls_private_key) == ("@/etc/c.pem", pem)
    assert pem not in repr(server)


@pytest.mark.parametrize("value", ["['s3cret']", "{ k = 's3cret' }"])
def test_a_wrong_private_key_is_not_shown(given, value):
    with pytest.raises(SettingsError, match="tls_private_key is something else") as error:
        given(f"[server]\ntls_private_key = {value}")

    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["{trace = 't'}", "{trace_id = 'level'}", "{span_id = 1}", "{trace_id = ''}", "'t'"]
)
def test_the_keys_of_a_trace_are_names_for_its_three_ids(given, text):
    expected = "a table of names for trace_id, span_id and parent_span_id"
    with pytest.raises(SettingsError, match=f"log_trace_keys is .*, expected {expected}"):
        given(f"[server]\nlog_trace_keys = {text}")


def test_the_files_of_the_template_are_right():
    files = sorted(str(file) for file in (ROOT / "config").glob("*.toml"))

    assert load(files).settings.flexfun.functions


@pytest.mark.parametrize("name", ["SERVER_USE_TLS", "FLEXFUN_FUNCTIONS"])
def test_a_variable_with_the_wrong_underscores_is_not_passed_over(given, name):
    with pytest.raises(SettingsError, match=f"GOODDATA_FLIGHT_{name} is no setting: two under"):
        given(**{name: "true"})


def test_a_file_may_have_any_name_and_dynaconfs_own_variables_do_not_matter(tmp_path, monkeypatch):
    monkeypatch.setenv("ENVIRONMENTS_FOR_DYNACONF", "true")
    monkeypatch.setenv("SETTINGS_FILE_FOR_DYNACONF", "other.toml")
    (tmp_path / "host.local.conf").write_text("[server]\nlisten_port = 9\n")
    (tmp_path / "host.conf").write_text("[server]\nlisten_port = 5\n[my]\nn = 1\n")

    loaded = load([str(tmp_path / "host.conf")])

    assert loaded.settings.server.listen_port == 5
    assert loaded.everything.get().my.n == 1


def test_functions_of_both_sections_are_served(given):
    both = '[flexfun]\nfunctions = ["a"]\n[flexconnect]\nfunctions = ["b"]\n'

    assert given(both).settings.flexfun.functions == ("a", "b")


def test_the_text_of_a_variable_counts_where_a_text_is_wanted(given):
    assert given(SERVER__ADVERTISE_HOST="10.0").settings.server.advertise_host == "10.0"


@pytest.mark.parametrize("name", ["env", "loaders", "secrets", "root_path", "preload", "my"])
def test_a_section_of_the_author_is_carried_whole_or_refused(given, name):
    try:
        loaded = given(f"[{name}]\nurl = 'a'\n")
    except SettingsError as error:
        assert f"[{name}] is a name that dynaconf keeps" in str(error)  # noqa: PT017
    else:
        assert loaded.everything.get().get(name) == {"url": "a"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "no.such.invalid"])
def test_a_host_that_others_reach_and_that_asks_nobody_is_not_started(given, host):
    with pytest.raises(SettingsError, match="0.toml: .*listen_host is .*, which others may reach"):
        given(f"[server]\nlisten_host = '{host}'")
    with pytest.raises(SettingsError, match="GOODDATA_FLIGHT_SERVER__LISTEN_HOST: .*listen_host"):
        given("[server]\nauthentication_method = 'none'", SERVER__LISTEN_HOST=host)


@pytest.mark.parametrize(
    "text",
    [
        "listen_host = '0.0.0.0'\nallow_insecure = true",
        "listen_host = '0.0.0.0'\nauthentication_method = 'token'",
        "listen_host = 'localhost'",
        "listen_host = '127.8.9.1'",
        "listen_host = '::1'",
    ],
)
def test_a_host_in_a_closed_network_or_that_asks_for_tokens_may_listen_anywhere(given, text):
    assert given(f"[server]\n{text}").settings.server.listen_host in text


def test_the_image_alone_does_not_start_and_compose_knows_why_it_may(given):
    def variables(file):
        text = (ROOT / file).read_text()
        return dict(re.findall(r'^ +GOODDATA_FLIGHT_(\w+)(?:=|: )"?([^\s"]+)', text, re.MULTILINE))

    with pytest.raises(SettingsError, match="nobody is asked for a token"):
        given(**variables("Dockerfile"))
    assert given(**variables("docker-compose.yaml")).settings.server.allow_insecure


def test_certificates_of_callers_are_authentication_as_well():
    assert Server(use_mtls=True).authenticates
    assert Server(authentication_method="token").authenticates
    assert not Server(use_tls=True).authenticates
