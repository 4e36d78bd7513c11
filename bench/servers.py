"""The servers that are compared, each in a process of its own on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.flight as fl

from measuring import runs

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / ".venv-reference" / "bin" / "python"
# One environment for these three: what else is installed costs too (pyarrow imports pandas).
PYTHON = str(REFERENCE) if REFERENCE.exists() else sys.executable
BARE, THEIRS, OURS = "bare", "reference", "ours"
# They hold pyarrow within a narrower range, so each has an environment of its own.
ARROW_UDF, DATABEND_UDF = "arrow-udf", "databend-udf"
PYTHONS = {name: ROOT / f".venv-{name}" / "bin" / "python" for name in (ARROW_UDF, DATABEND_UDF)}
TOKEN = "measured"
_PATIENCE = 60.0  # seconds that a server has to start


@dataclass(frozen=True)
class Setup:
    """What is served, and how. Production settings of ours are always on: a token, metrics, a line
    of JSON for each call; the others have what they come with. All write their log to a file.

    modules:  of functions, below `measured`.
    plain:    the modules are of plain functions, for DoExchange.
    threads:  that run functions; 0 for what each server takes by itself.
    settings: lines of ours, in its section [server].
    blocked:  calls of ours that are under way meanwhile.
    left_out: of the production settings of ours.
    quiet:    a logging file of ours.
    """

    modules: tuple[str, ...]
    threads: int = 0
    settings: tuple[str, ...] = ()
    blocked: int = 0
    left_out: tuple[str, ...] = ()
    quiet: str = ""
    tls: bool = False
    plain: bool = False


@dataclass(frozen=True)
class Server:
    """root: the certificate to trust; "" for a plain connection. started: monotonic seconds."""

    name: str
    pid: int
    port: int
    root: str
    started: float

    @property
    def location(self) -> str:
        return f"grpc{'+tls' if self.root else ''}://127.0.0.1:{self.port}"

    def connect(self) -> fl.FlightClient:
        options = {"tls_root_certs": self.root.encode()} if self.root else {}
        own = [("grpc.use_local_subchannel_pool", 1)]
        return fl.connect(self.location, generic_options=own, **options)


OPTIONS = fl.FlightCallOptions(headers=[(b"authorization", f"Bearer {TOKEN}".encode())])


@contextmanager
def running(name: str, setup: Setup, folder: Path) -> Iterator[Server]:
    """folder: with its certificates; its log goes there too."""
    port, own = _free_port(), folder / name
    own.mkdir(exist_ok=True)
    command, variables = _COMMANDS[name](setup, port, own)
    path = os.pathsep.join([str(ROOT / "bench"), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "MEASURED_ON": name, "TMPDIR": str(own)}
    environment |= variables
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # or each start compiles everything
    started = time.monotonic()
    with (own / "log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=own, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    root = (folder / "root.pem").read_text() if setup.tls else ""
    try:
        yield Server(name, process.pid, port, root, started)
    finally:
        process.kill()  # nobody waits for its results, as it would when it drains
        process.wait()


def first_call(server: Server, command: bytes, log: Path) -> float:
    """Seconds from the start of a server until it has served a call."""
    descriptor = fl.FlightDescriptor.for_command(command)

    def call(client: fl.FlightClient) -> None:
        info = client.get_flight_info(descriptor, OPTIONS)
        client.do_get(info.endpoints[0].ticket, OPTIONS).read_all()

    return first_answer(server, call, log)


def first_answer(server: Server, ask: Callable[[fl.FlightClient], object], log: Path) -> float:
    """Seconds from the start of a server until it has been asked."""
    until = server.started + _PATIENCE
    while not _listens(server.port):
        _check(server, log, until)
        time.sleep(0.001)
    with server.connect() as client:
        while True:
            try:
                ask(client)
                return time.monotonic() - server.started
            except fl.FlightUnavailableError:
                _check(server, log, until)
                time.sleep(0.001)


def make_certificates(folder: Path) -> None:
    """For 127.0.0.1: root.pem, certificate.pem and key.pem."""
    import trustme

    authority = trustme.CA()
    mine = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "root.pem")
    mine.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "certificate.pem").write_bytes(b"".join(b.bytes() for b in mine.cert_chain_pems))


def _check(server: Server, log: Path, until: float) -> None:
    if time.monotonic() > until or not runs(server.pid):
        raise SystemExit(f"{server.name} did not start:\n{log.read_text()[-4000:]}")


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _modules(setup: Setup) -> list[str]:
    return [f"measured.{name}" for name in setup.modules]


def _listed(values: list[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


def _bare(setup: Setup, port: int, own: Path) -> tuple[list[str], dict[str, str]]:
    if setup.plain:
        return _udf_server(PYTHON, BARE, port)
    tls = ["--tls", "../certificate.pem", "../key.pem"] if setup.tls else []
    pool = ["--pool", str(setup.threads)] if setup.threads else []
    script = str(ROOT / "bench" / "bare_server.py")
    return [PYTHON, script, str(port), ",".join(_modules(setup)), *pool, *tls], {}


def _reference(setup: Setup, port: int, own: Path) -> tuple[list[str], dict[str, str]]:
    prefix = "GOODDATA_FLIGHT_SERVER__"
    variables = {
        "GOODDATA_FLIGHT_FLEXCONNECT__FUNCTIONS": _listed(_modules(setup)),
        prefix + "LISTEN_PORT": str(port),
        prefix + "ADVERTISE_HOST": "127.0.0.1",
    }
    if setup.threads:
        variables[prefix + "TASK_THREADS"] = str(setup.threads)
    if setup.tls:
        variables[prefix + "USE_TLS"] = "true"
        variables[prefix + "TLS_CERTIFICATE"] = f"@{own.parent / 'certificate.pem'}"
        variables[prefix + "TLS_PRIVATE_KEY"] = f"@{own.parent / 'key.pem'}"
    start = ["start", "--methods-provider", "gooddata_flexconnect"]
    return [PYTHON, "-m", "gooddata_flight_server.cli", *start], variables


def _ours(setup: Setup, port: int, own: Path) -> tuple[list[str], dict[str, str]]:
    lines = [
        "[server]",
        f"listen_port = {port}",
        'advertise_host = "127.0.0.1"',
        *(['authentication_method = "token"'] if "token" not in setup.left_out else []),
        *(
            ['metrics_host = "127.0.0.1"', "metrics_port = 0"]
            if "metrics" not in setup.left_out
            else []
        ),
        *([f"task_threads = {setup.threads}"] if setup.threads else []),
        *setup.settings,
    ]
    if setup.tls:
        files = {"tls_certificate": "certificate.pem", "tls_private_key": "key.pem"}
        lines += ["use_tls = true"]
        lines += [f'{key} = "@{own.parent / file}"' for key, file in files.items()]
    if "token" not in setup.left_out:
        lines += ["[enumerated_tokens]", f'tokens = ["{TOKEN}"]']
    if setup.plain:
        lines += ["[udf]", f"functions = {_listed(_modules(setup))}", "[flexfun]"]
    else:
        lines += ["[flexfun]", f"functions = {_listed(_modules(setup))}"]
    lines += ["call_deadline_ms = 3_600_000"]
    (own / "host.toml").write_text("\n".join(lines))
    command = [PYTHON, "-m", "flexhost", "start", "--config", "host.toml"]
    if setup.quiet:
        (own / "logging.ini").write_text(setup.quiet)
        command += ["--logging-config", "logging.ini"]
    return command, {}


def _udf_server(python: str, name: str, port: int) -> tuple[list[str], dict[str, str]]:
    return [python, str(ROOT / "bench" / "udf_servers.py"), name, str(port)], {}


def _arrow_udf(setup: Setup, port: int, own: Path) -> tuple[list[str], dict[str, str]]:
    return _udf_server(str(PYTHONS[ARROW_UDF]), ARROW_UDF, port)


def _databend_udf(setup: Setup, port: int, own: Path) -> tuple[list[str], dict[str, str]]:
    return _udf_server(str(PYTHONS[DATABEND_UDF]), DATABEND_UDF, port)


_COMMANDS = {
    BARE: _bare,
    THEIRS: _reference,
    OURS: _ours,
    ARROW_UDF: _arrow_udf,
    DATABEND_UDF: _databend_udf,
}
