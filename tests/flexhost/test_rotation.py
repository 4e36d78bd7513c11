"""New certificates without a restart: when files count as changed, and how a server is replaced."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import weakref
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.flight as fl
import pytest
from authority import DAY, NOW, Authority, Files, day
from support import LONG, NUMBERS, SCHEMA, Client, command, function, process, serving, until

from flexhost.errors import StartError
from flexhost.frontends import listener
from flexhost.security import certificates
from flexhost.security.certificate_files import CertificateFiles
from flexhost.security.certificates import Certificates

TABLE = pa.table({"n": [0, 1, 2]}, schema=SCHEMA)
AUTHORITY = Authority()
TRUSTING = AUTHORITY.trusting()


def loaded(*names, **options):
    return certificates.load(AUTHORITY.settings(*names, **options), NOW)


# --- when


class Watched:
    """Files that are looked at when the test says so; `renewed` has what was to be served."""

    def __init__(self, folder, pair, interval=30.0):
        self.files = Files(folder, pair)
        self.renewed = []
        self.refuse = False
        served = certificates.load(self.files.settings, NOW)
        self.watch = CertificateFiles(self.files.settings, served, self.renew, interval=interval)

    def renew(self, found):
        if self.refuse:
            raise StartError("not taken")
        self.renewed.append(found.chain.decode())

    def look(self, *seconds):
        for second in seconds:
            self.watch.look(float(second), NOW + second)


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path, AUTHORITY.pair())
    watched.look(0, 2)
    assert watched.renewed == []
    return watched


def test_a_new_pair_is_served_once_nothing_more_changed_for_a_second(watched):
    first, second = AUTHORITY.pair(), AUTHORITY.pair()
    watched.files.write(first)
    watched.look(10, 10.9)
    watched.files.write(second)
    watched.look(11, 11.9)
    assert watched.renewed == []

    watched.look(12)
    assert watched.renewed == [second[0]]


def test_what_changed_before_the_first_look_is_found(tmp_path):
    watched = Watched(tmp_path, AUTHORITY.pair())
    new = AUTHORITY.pair()
    watched.files.write(new)

    watched.look(0, 1)
    assert watched.renewed == [new[0]]


def test_there_is_one_renewal_in_30_seconds(watched):
    watched.files.write(AUTHORITY.pair())
    watched.look(10, 11)
    watched.files.write(last := AUTHORITY.pair())
    watched.look(12, 13, 40.9)
    assert len(watched.renewed) == 1

    watched.look(41)
    assert watched.renewed[1:] == [last[0]]


def test_a_file_written_again_as_it_was_is_no_change(watched):
    watched.files.write((watched.files.certificate.read_text(), watched.files.key.read_text()))

    watched.look(10, 11, 12)
    assert watched.renewed == []


def test_a_change_behind_a_symbolic_link_is_seen(tmp_path):
    """Kubernetes: the file is a link into a folder that is a link itself, and that one changes."""
    pairs = AUTHORITY.pair(), AUTHORITY.pair()
    for name, pair in zip(("old", "new"), pairs, strict=True):
        (tmp_path / name).mkdir()
        Files(tmp_path / name, pair)
    (tmp_path / "data").symlink_to("old")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"data/{name}")
    settings, renewed = Files(tmp_path).settings, []
    watch = CertificateFiles(settings, certificates.load(settings, NOW), renewed.append)
    for second in (0, 1):
        watch.look(second, NOW)

    (tmp_path / "data.new").symlink_to("new")
    (tmp_path / "data.new").replace(tmp_path / "data")
    for second in (2, 3):
        watch.look(second, NOW)

    assert [found.chain.decode() for found in renewed] == [pairs[1][0]]


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        (("garbage", "garbage"), "cert.pem: holds no certificate in PEM form"),
        ((AUTHORITY.pair()[0], AUTHORITY.pair()[1]), "key.pem: this is not the key of the"),
        (AUTHORITY.pair(not_after=day(-0.5)), ") expired on 20"),
    ],
)
def test_a_bad_new_pair_is_reported_once_and_the_old_one_stays(watched, caplog, pair, problem):
    watched.files.write(pair)
    watched.look(10, 11, 12, 80, 200)

    assert watched.renewed == []
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the new certificate is not served, the old one stays: [server] tls_")
    assert problem in line


def test_a_good_pair_after_a_bad_one_is_served(watched):
    certificate, key = AUTHORITY.pair()
    watched.files.write((certificate, "garbage"))
    watched.look(10, 11)
    watched.files.write((certificate, key))

    watched.look(12, 13)
    assert watched.renewed == [certificate]


def test_a_file_that_goes_and_comes_back_is_no_change(watched, caplog):
    key = watched.files.key.read_text()
    watched.files.key.unlink()
    watched.look(10, 11)
    assert "key.pem: No such file or directory" in caplog.text
    watched.files.key.write_text(key)

    watched.look(12, 13)
    assert watched.renewed == []


def test_a_certificate_whose_day_has_not_come_is_served_when_it_has(watched):
    pair = AUTHORITY.pair(not_before=day(1))
    watched.files.write(pair)
    watched.look(10, 11, DAY - 60)
    assert watched.renewed == []

    watched.look(DAY + 61)
    assert watched.renewed == [pair[0]]


def test_what_could_not_be_served_is_tried_again(watched, caplog):
    watched.refuse = True
    watched.files.write(AUTHORITY.pair())
    watched.look(10, 11)
    assert "the old one stays: not taken" in caplog.text
    watched.refuse = False

    watched.look(70)
    assert watched.renewed == []
    watched.look(71)
    assert len(watched.renewed) == 1


def test_an_end_that_comes_near_is_warned_of_each_day(tmp_path, caplog):
    watched = Watched(tmp_path, AUTHORITY.pair(not_after=day(31)))
    days = [0, 0.5, 1.1, 1.2, 2.2]

    watched.look(*(number * DAY for number in days))

    assert caplog.text.count("the certificate expires on") == 2


# --- how


def serial(port):
    """Which certificate a new connection is shown."""
    context = ssl.create_default_context(cadata=AUTHORITY.root.decode())
    with socket.create_connection(("127.0.0.1", port), timeout=LONG) as connection:
        with context.wrap_socket(connection, server_hostname="127.0.0.1") as wrapped:
            return wrapped.getpeercert()["serialNumber"]


def tls(*functions, **options):
    options.setdefault("tls", AUTHORITY.settings())
    return serving(*functions, connect=TRUSTING, **options)


class Gate:
    """A function that runs, or streams, until `go` is set."""

    def __init__(self):
        self.running, self.go = threading.Event(), threading.Event()

    def call(self, *_):
        self.running.set()
        assert self.go.wait(LONG)
        return TABLE

    def stream(self, *_):
        def batches():
            yield pa.record_batch({"n": list(range(100_000))})
            self.running.set()
            assert self.go.wait(LONG)
            yield pa.record_batch({"n": [7]})

        return pa.RecordBatchReader.from_batches(SCHEMA, batches())


def test_a_new_connection_is_shown_the_new_certificate():
    with tls(function(lambda *_: TABLE)) as host:
        old = serial(host.frontend.port)
        host.frontend.renew(loaded())

        assert serial(host.frontend.port) != old
        assert Client(host.frontend.port, **TRUSTING).call().equals(TABLE)
        until(lambda: answers(host))


def answers(client):
    """Whether a client from before the change is connected again."""
    try:
        return client.call().equals(TABLE)
    except (fl.FlightUnavailableError, fl.FlightCancelledError):
        return False


def test_a_running_call_finishes_and_its_ticket_is_good_after_the_change():
    gate, infos = Gate(), []
    with tls(function(gate.call)) as host:
        caller = threading.Thread(target=lambda: infos.append(host.info(command())))
        caller.start()
        assert gate.running.wait(LONG)
        host.frontend.renew(loaded())
        gate.go.set()
        caller.join(LONG)

        client = Client(host.frontend.port, **TRUSTING)
        assert client.read(infos[0].endpoints[0].ticket).equals(TABLE)


def test_an_open_stream_goes_on_over_several_changes():
    gate = Gate()
    with tls(function(gate.stream), function(lambda *_: TABLE, "table")) as host:
        reader = host.flight.do_get(host.ticket())
        reader.read_chunk()
        assert gate.running.wait(LONG)
        for _ in range(3):
            host.frontend.renew(loaded())
            client = Client(host.frontend.port, **TRUSTING)
            assert client.call("table").equals(TABLE)
        assert host.frontend.under_way == 1
        gate.go.set()

        assert reader.read_all()["n"][-1].as_py() == 7
        until(lambda: host.frontend.under_way == 0)


def test_requests_are_bounded_and_counted_over_old_and_new_servers():
    gate = Gate()
    with tls(function(gate.call), rpcs=1) as host:
        caller = threading.Thread(target=host.info, args=[command()])
        caller.start()
        assert gate.running.wait(LONG)
        host.frontend.renew(loaded())

        with pytest.raises(fl.FlightUnavailableError, match="1 requests are under way"):
            Client(host.frontend.port, **TRUSTING).info(command())
        gate.go.set()
        caller.join(LONG)


def test_callers_under_load_meet_nothing_worse_than_a_moment_unavailable():
    stop = threading.Event()
    worse = []

    def call(client):
        while not stop.is_set():
            try:
                client.call()
            except (fl.FlightUnavailableError, fl.FlightCancelledError):
                continue
            except Exception as error:
                worse.append(error)

    with tls(function(lambda *_: TABLE)) as host:
        clients = [Client(host.frontend.port, **TRUSTING) for _ in range(4)]
        callers = [threading.Thread(target=call, args=[client]) for client in clients]
        for caller in callers:
            caller.start()
        for _ in range(3):
            host.frontend.renew(loaded())
            for client in clients:
                until(lambda client=client: answers(client))
        stop.set()
        for caller in callers:
            caller.join(LONG)

    assert worse == []


def test_what_grpc_does_not_take_changes_nothing(capfd):
    garbage = Certificates(b"garbage", b"garbage", None, NOW)
    with tls(function(lambda *_: TABLE)) as host:
        old = serial(host.frontend.port)
        with pytest.raises(StartError, match="gRPC does not take the certificate with its key"):
            host.frontend.renew(garbage)

        assert serial(host.frontend.port) == old
        assert host.call().equals(TABLE)  # on the connection that it had


def test_the_authority_of_callers_can_change():
    old, new = Authority(), Authority()
    presented = new.pair("caller")
    with tls(function(lambda *_: TABLE), tls=AUTHORITY.settings(root=old)) as host:
        host.frontend.renew(loaded(root=new))

        client = Client(host.frontend.port, **AUTHORITY.trusting(presented))
        assert client.call().equals(TABLE)
        with pytest.raises(fl.FlightUnavailableError):
            Client(host.frontend.port, **AUTHORITY.trusting(old.pair("caller"))).call()


@pytest.fixture
def intruder(monkeypatch):
    """Takes the port of a host in the moment between two servers; `leave` gives it back."""
    monkeypatch.setattr(listener, "_PATIENCE", 0.05)
    taken = []

    def take_first(make):
        def made(listen, **options):
            if listen[1] and not taken:
                until(lambda: took(listen))
            return make(listen, **options)

        return made

    def took(address):
        try:
            taken.append(socket.create_server(address))
        except OSError:
            return False
        return True

    class Intruded(listener.Listener):
        def __init__(self, make, *args, **options):
            super().__init__(take_first(make), *args, **options)

    monkeypatch.setattr("support.Listener", Intruded)
    yield taken
    for one in taken:
        one.close()


def test_a_port_taken_meanwhile_is_taken_back_and_told_of(intruder, caplog):
    with tls(function(lambda *_: TABLE)) as host:
        renewing = threading.Thread(target=host.frontend.renew, args=[loaded()])
        renewing.start()
        until(lambda: "tried again and again: cannot listen on 127.0.0.1:" in caplog.text)
        assert not host.health.live
        intruder[0].close()
        renewing.join(LONG)

        assert host.health.live
        assert Client(host.frontend.port, **TRUSTING).call().equals(TABLE)


def test_a_host_can_stop_while_its_port_is_taken(intruder):
    with tls(function(lambda *_: TABLE)) as host:
        ended = []

        def renew():
            with pytest.raises(StartError, match="is stopping"):
                host.frontend.renew(loaded())
            ended.append(True)

        renewing = threading.Thread(target=renew)
        renewing.start()
        until(lambda: not host.health.live)

        assert host.frontend.stop(LONG)
        renewing.join(LONG)
        assert ended


def test_stopping_waits_for_what_servers_before_still_do():
    gate = Gate()
    with tls(function(gate.call)) as host:
        caller = threading.Thread(target=host.info, args=[command()])
        caller.start()
        assert gate.running.wait(LONG)
        host.frontend.renew(loaded())

        assert not host.frontend.stop(0.1)
        gate.go.set()
        caller.join(LONG)
        assert host.frontend.stop(LONG)


def test_a_stopped_listener_serves_nothing_new():
    with tls() as host:
        assert host.frontend.stop(LONG)
        with pytest.raises(StartError, match="is stopping"):
            host.frontend.renew(loaded())

        with pytest.raises(ConnectionRefusedError):
            serial(host.frontend.port)


def test_old_servers_and_their_threads_go_when_they_are_done():
    with tls(function(lambda *_: TABLE)) as host:
        before = weakref.ref(host.frontend._frontend)
        host.frontend.renew(loaded())

        until(lambda: not any(t.name == "shutdown" for t in threading.enumerate()))
        until(lambda: before() is None or not pyarrow_frees_servers())


def pyarrow_frees_servers():
    """Old versions, as 19, keep 50 kB of each server that ever was."""
    bare = fl.FlightServerBase()
    bare.shutdown()
    found = weakref.ref(bare)
    del bare
    return found() is None


def test_a_host_serves_new_files_and_keeps_the_old_ones_when_they_are_bad(tmp_path):
    files = Files(tmp_path, AUTHORITY.pair())
    metrics = "metrics_host = '127.0.0.1'\nmetrics_port = 0"
    with process(tmp_path, NUMBERS, files.toml + metrics) as host:
        exported = host.line(r"HTTP on ([^ ]+:\d+): /metrics")[1]
        port = host.port()
        first = serial(port)
        files.write(("garbage", "garbage"))
        host.line("the new certificate is not served, the old one stays: .*cert.pem: holds no cert")
        assert serial(port) == first

        files.write(AUTHORITY.pair(not_after=day(90)))
        host.line("a new certificate is served")
        assert serial(port) != first
        assert Client(port, **TRUSTING).call().num_rows == 3
        with urlopen(f"http://{exported}/metrics", timeout=LONG) as page:
            found = re.search(r"\ntls_certificate_expiry_\w+ (.+)", page.read().decode())
        assert float(found[1]) == int(day(90).timestamp())
