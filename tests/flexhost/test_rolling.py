"""Two hosts behind one name, replaced one after the other while they are called."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pyarrow.flight as fl
from support import LONG, NUMBERS, command, free_port, process, until

from flexhost.frontends.flight_wire import RETRY_ANY

# The pid says which process answered. Some calls are so long that a drain has to wait for them.
SLOW = (
    NUMBERS.replace("def call(self", "def table(self")
    + """
    def call(self, parameters, columns, headers):
        import os, threading
        threading.Event().wait(parameters["sec"])
        rows = self.table({"upto": 50_000}, columns, headers)
        return rows.replace_schema_metadata({"pid": str(os.getpid())})
"""
)

OPTIONS = fl.FlightCallOptions(timeout=LONG)


class Balancer:
    """One address that hands its connections to these ports in turn, one after another.

    It knows nothing of gRPC, nor of who is well: a port that refuses costs the caller a connection.
    """

    def __init__(self, ports: list[int]) -> None:
        self._ports = itertools.cycle(ports)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                caller, _ = self._listener.accept()
                ends = caller, next(self._ports)
                threading.Thread(target=_serve, args=ends, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _serve(caller: socket.socket, port: int) -> None:
    with caller, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as host:
        back = threading.Thread(target=_copy, args=(host, caller))
        back.start()
        _copy(caller, host)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    """Until one of them ends; then both do."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Follower:
    """A client that sends a call again when an error says so, over a new connection.

    lost: errors after which it did not.
    """

    def __init__(self, port: int, **parameters: float) -> None:
        self._name = f"grpc://127.0.0.1:{port}"
        self._command = fl.FlightDescriptor.for_command(command(**parameters))
        self.answered: list[bytes] = []  # by which process, call after call
        self.again: list[str] = []
        self.lost: list[str] = []

    def until(self, done: threading.Event) -> None:
        while not done.is_set():
            try:
                self.answered.append(self._call())
            except fl.FlightError as error:
                (self.again if _says_again(error) else self.lost).append(str(error))

    def _call(self) -> bytes:
        with _connected(self._name) as client:
            [endpoint] = client.get_flight_info(self._command, OPTIONS).endpoints
        with _connected(endpoint.locations[0]) as client:
            table = client.do_get(endpoint.ticket, OPTIONS).read_all()
        assert table.num_rows == 50_000
        return bytes(table.schema.metadata[b"pid"])


def _connected(where: str | fl.Location) -> fl.FlightClient:
    """Over a connection of its own: gRPC would share that of the last client of this process."""
    return fl.connect(where, generic_options=[("grpc.use_local_subchannel_pool", 1)])


def _says_again(error: fl.FlightError) -> bool:
    """What carries no code comes from gRPC, which says UNAVAILABLE of a connection that is gone."""
    if not error.extra_info:
        return isinstance(error, fl.FlightUnavailableError)
    return bool(json.loads(error.extra_info)["code"] & RETRY_ANY)


@contextmanager
def calling(followers: list[Follower]) -> Iterator[None]:
    done = threading.Event()
    threads = [threading.Thread(target=one.until, args=[done]) for one in followers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join(LONG)


def test_a_client_that_follows_the_retry_flags_loses_no_call_when_hosts_are_replaced(tmp_path):
    ports = [free_port(), free_port()]
    statuses = []
    with ExitStack() as stack:

        def start(number, port):
            folder = tmp_path / str(number)
            folder.mkdir()
            host = stack.enter_context(process(folder, SLOW, listen=f"listen_port = {port}"))
            host.port()
            return host

        def answers(host):
            return any(str(host.process.pid).encode() in one.answered for one in followers)

        hosts = [start(number, port) for number, port in enumerate(ports)]
        name = stack.enter_context(closing(Balancer(ports)))
        followers = [Follower(name.port, sec=sec) for sec in (0.0, 0.0, 0.1, 0.5)]
        with calling(followers):
            for number, port in enumerate(ports):
                until(lambda host=hosts[-2]: answers(host))
                hosts[-2].process.send_signal(signal.SIGTERM)
                statuses.append(hosts[-2].ended()[0])
                hosts.append(start(number + 2, port))
                until(lambda host=hosts[-1]: answers(host))

    assert statuses == [0, 0]
    assert [one.lost for one in followers] == [[], [], [], []]
    assert any("is stopping" in text for one in followers for text in one.again)
