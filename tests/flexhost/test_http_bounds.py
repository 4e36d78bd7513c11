"""What a connection to health and metrics may do, over real sockets."""

from __future__ import annotations

import contextlib
import gc
import resource
import socket
import threading
from collections import deque
from pathlib import Path

import pytest
from support import LONG, NUMBERS, Client, command, process, until

from flexhost.frontends import http

LIVE = b"GET /live HTTP/1.1\r\nHost: h\r\n\r\n"
BOTH = "metrics_host = '127.0.0.1'\nmetrics_port = 0\n"
BOTH += "health_check_host = '127.0.0.1'\nhealth_check_port = 0"


@contextlib.contextmanager
def pages(**more):
    """The port of `/live`, and of the pages in `more`."""
    served = {f"/{name}": page for name, page in more.items()}
    frontend = http.HttpFrontend({("127.0.0.1", 0): {"/live": http.health(lambda: True), **served}})
    try:
        yield frontend.addresses[0][1]
    finally:
        frontend.stop(LONG)


def connected(port):
    return socket.create_connection(("127.0.0.1", port), timeout=LONG)


def ask(port, *parts):
    """All that is answered to these bytes, and nothing when the connection is broken."""
    with connected(port) as connection, contextlib.suppress(ConnectionError):
        for part in parts:
            connection.sendall(part)
        return connection.makefile("rb").read()
    return b""


def status(answer):
    return int(answer.split()[1])


@pytest.fixture
def many():
    """How many sockets a test may have, with some to spare for the host."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield min(2000, max(soft, wanted) - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_thousand_idle_connections_hold_up_nobody(tmp_path, many):
    with process(tmp_path, NUMBERS, BOTH) as host, contextlib.ExitStack() as held:
        port = int(host.line(r"HTTP on [^ ]+:(\d+)")[1])
        host.port()
        for _ in range(many):
            held.enter_context(connected(port))

        assert status(ask(port, LIVE)) == 204
        assert status(ask(port, LIVE.replace(b"live", b"ready"))) == 204
        assert status(ask(port, LIVE.replace(b"live", b"metrics"))) == 200
        assert descriptors(host.process.pid) < http._MOST_CONNECTIONS + 100


def test_who_asks_is_answered_while_others_connect_again_and_again():
    def connect():
        held = deque()
        while not enough.is_set():
            held.append(connected(port))
            if len(held) > 100:
                held.popleft().close()
        for connection in held:
            connection.close()

    enough = threading.Event()
    with pages() as port:
        crowd = [threading.Thread(target=connect) for _ in range(4)]
        for one in crowd:
            one.start()
        answers = [ask(port, LIVE) for _ in range(50)]
        enough.set()
        for one in crowd:
            one.join(LONG)

    assert [status(answer) for answer in answers] == [204] * 50


def test_all_is_answered_while_every_worker_computes(tmp_path):
    spins = NUMBERS.replace(
        "        return ",
        "        import pathlib\n"
        "        pathlib.Path(f'began-{id(self)}').touch()\n"
        "        while not pathlib.Path('go').exists():\n"
        "            sum(range(100_000))\n"
        "        return ",
    )
    with process(tmp_path, spins, f"{BOTH}\ntask_threads = 32") as host:
        port = int(host.line(r"HTTP on [^ ]+:(\d+)")[1])
        client = Client(host.port())
        callers = [threading.Thread(target=client.info, args=[command()]) for _ in range(32)]
        for caller in callers:
            caller.start()
        until(lambda: len(list(tmp_path.glob("began-*"))) == 32)

        assert status(ask(port, LIVE)) == 204
        assert status(ask(port, LIVE.replace(b"live", b"ready"))) == 204
        assert b"\nflexhost_calls_running 32.0\n" in ask(port, LIVE.replace(b"live", b"metrics"))
        (tmp_path / "go").touch()
        for caller in callers:
            caller.join(LONG)


def test_a_page_that_is_slow_holds_up_no_other():
    made = threading.Event()

    def make():
        made.wait()
        return http.Answer(200, b"at last")

    with pages(slow=http.Page(make, slow=True)) as port, connected(port) as waiting:
        waiting.sendall(LIVE.replace(b"live", b"slow"))

        assert status(ask(port, LIVE)) == 204
        made.set()
        assert waiting.makefile("rb").read().endswith(b"\r\n\r\nat last")


def test_a_page_that_cannot_be_made_is_an_error_and_the_log_says_why(caplog):
    with pages(bad=http.Page(lambda: 1 / 0)) as port:
        assert status(ask(port, LIVE.replace(b"live", b"bad"))) == 500
        assert status(ask(port, LIVE)) == 204

    assert "/bad cannot be made" in caplog.text
    assert "division by zero" in caplog.text


@pytest.mark.parametrize("sent", [b"", b"GET /live HTTP/1.1\r\nHost: h\r\n"])
def test_a_connection_that_does_not_ask_in_time_is_closed(monkeypatch, sent):
    monkeypatch.setattr(http, "_ASKS_WITHIN", 0.1)
    with pages() as port:
        assert ask(port, sent) == b""


def test_who_asks_byte_by_byte_gets_no_more_time(monkeypatch):
    monkeypatch.setattr(http, "_ASKS_WITHIN", 0.3)
    with pages() as port, connected(port) as slow:

        def broken():
            with contextlib.suppress(BlockingIOError):
                return not slow.recv(1, socket.MSG_DONTWAIT)
            slow.sendall(b"x")
            return False

        with contextlib.suppress(ConnectionError):
            until(broken)


def test_who_does_not_take_the_answer_is_closed(monkeypatch):
    monkeypatch.setattr(http, "_TAKES_WITHIN", 0.5)
    open_then = []

    def make():
        open_then.append(descriptors())
        return http.Answer(200, b"x" * (64 << 20))

    with pages(large=http.Page(make)) as port, connected(port) as connection:
        connection.sendall(LIVE.replace(b"live", b"large"))
        until(lambda: open_then and descriptors() < open_then[0])

        with contextlib.suppress(ConnectionError):
            assert len(connection.makefile("rb").read()) < 64 << 20


def descriptors(process="self"):
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([b"GET /live HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 10_000 + b"\r\n\r\n"], 431),
        ([b"GET /live HTTP/1.1\r\nHost: h\r\n", *[b"X: " + b"x" * 1000 + b"\r\n"] * 9], 431),
        ([b"GET /" + b"x" * 10_000], 431),
        ([b"\x16\x03\x01\x02\x00\x01\r\n\r\n"], 400),
        ([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 404),
        ([b"GET /live HTTP/1.1\r\n\r\n"], 400),
        ([b"GET /live HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n"], 400),
        ([b"\r\n" * 20], 400),
        ([b"POST /live HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n"], 405),
        ([b"DELETE /live HTTP/1.1\r\nHost: h\r\n\r\n"], 405),
        ([b"GET /../live HTTP/1.1\r\nHost: h\r\n\r\n"], 404),
        ([b"GET /live/ HTTP/1.1\r\nHost: h\r\n\r\n"], 404),
        ([b"GET /%6cive HTTP/1.1\r\nHost: h\r\n\r\n"], 404),
        ([b"GET /live?why HTTP/1.1\r\nHost: h\r\n\r\n"], 204),
        ([b"GET /live HTTP/1.0\r\n\r\n"], 204),
        ([bytes([byte]) for byte in LIVE], 204),
    ],
)
def test_what_is_asked_wrongly_is_refused_and_no_version_told(caplog, parts, expected):
    with pages() as port:
        answer = ask(port, *parts)

    assert status(answer) == expected
    assert b"\r\nserver:" not in answer.lower()
    assert (b"\r\nAllow: GET, HEAD\r\n" in answer) == (expected == 405)
    assert not caplog.records


def test_what_comes_behind_a_request_is_not_looked_at():
    with pages() as port:
        for behind in (LIVE * 100, b"\0" * 100_000):
            assert ask(port, LIVE + behind).count(b"HTTP/1.1") <= 1
        assert status(ask(port, LIVE)) == 204


def test_head_gets_what_get_would_without_the_body():
    text = http.Page(lambda: http.Answer(200, b"some text", "text/plain"))
    with pages(text=text) as port:
        head = ask(port, b"HEAD /text HTTP/1.1\r\nHost: h\r\n\r\n")

    assert head.endswith(b"\r\nContent-Type: text/plain\r\nContent-Length: 9\r\n\r\n")


def test_stopping_leaves_nothing_open_while_others_connect():
    before = descriptors()
    with contextlib.ExitStack() as held:
        with pages() as port:
            for _ in range(200):
                held.enter_context(connected(port))
    gc.collect()  # what was left would be found here

    assert descriptors() <= before


def test_stopping_ends_connections_that_are_open():
    with contextlib.ExitStack() as stack:
        with pages() as port:
            connection = stack.enter_context(connected(port))
            ask(port, LIVE)

        with contextlib.suppress(ConnectionError):
            assert connection.recv(1) == b""
