"""The image as an operator runs it: process 1, read-only, user 10001, one folder to write to.

It takes root on Linux, and the files and the configuration of the image in two variables. After
`make docker`:

    docker image inspect flexfun-host >/tmp/image.json
    mkdir /tmp/image && docker export "$(docker create flexfun-host)" | tar -x -C /tmp/image
    IMAGE_CONFIG=/tmp/image.json IMAGE_ROOT=/tmp/image .venv/bin/pytest tests/flexhost/test_image.py

With buildah: `buildah inspect --type image flexfun-host`, and the folder that
`buildah mount "$(buildah from flexfun-host)"` prints.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.flight as fl
import pytest
from authority import Authority, Files
from support import LONG, NUMBERS, Client, command, flight_code, free_port, until

from flexhost.frontends.flight_wire import CODES

pytestmark = pytest.mark.skipif(
    not {"IMAGE_CONFIG", "IMAGE_ROOT"} <= os.environ.keys(),
    reason="needs an image: the head of this file says how to run it",
)

UID = 10001
STATE = "var/lib/flexfun"
TOKEN = "a-token-of-this-test"
SLOW = '''
class Waits(Numbers):
    """Runs until the file `go` is there."""
    Name = "waits"

    def call(self, parameters, columns, headers):
        import os, tempfile, threading
        tempfile.NamedTemporaryFile(prefix="runs", delete=False)
        while not os.path.exists("/run/secrets/go"):
            threading.Event().wait(0.01)
        return super().call(parameters, columns, headers)
'''
# What an engine does; by `exec` the host becomes process 1 of its name space.
START = f"""
set -e
mount --bind "$image" "$image" && mount -o remount,bind,ro "$image"
mount -t proc proc "$image/proc"
mount --rbind /dev "$image/dev"
mount -t tmpfs tmpfs "$image/run" && mkdir "$image/run/secrets"
mount --bind "$secrets" "$image/run/secrets" && mount -o remount,bind,ro "$image/run/secrets"
mount --bind "$state" "$image/{STATE}"
mount -t tmpfs tmpfs "$image/sys" && mkdir -p "$image/sys/fs/cgroup"
mount --bind "$groups" "$image/sys/fs/cgroup"
exec chroot "$image" env -i "$@"
"""


class Image:
    """What is mounted into the image, and how to start it."""

    def __init__(self, work: Path) -> None:
        inspected = json.loads(Path(os.environ["IMAGE_CONFIG"]).read_text())
        docker = isinstance(inspected, list)
        told = inspected[0]["Config"] if docker else inspected["OCIv1"]["config"]
        self.user, self.volumes = told["User"], list(told["Volumes"])
        self._told, self._entry = told["Env"], told["Entrypoint"]
        self._folders = {"image": Path(os.environ["IMAGE_ROOT"])}
        for name in ("secrets", "state", "groups"):
            self._folders[name] = work / name
            self._folders[name].mkdir()
        self.secrets, self.state, self.groups = (work / n for n in ("secrets", "state", "groups"))
        self.authority = Authority()
        Files(self.secrets, self.authority.pair())
        (self.secrets / "tokens").write_text(TOKEN)
        (self.secrets / "my_functions.py").write_text(NUMBERS + SLOW)
        for given in (self.state, self.secrets, *self.secrets.iterdir()):
            os.chown(given, UID, UID)
        self.port, self.health = free_port(), free_port()
        self._log = work / "log"

    def log(self) -> str:
        return self._log.read_text()

    def client(self, token: str = TOKEN) -> Client:
        return Client(self.port, token, **self.authority.trusting())

    def ready(self) -> bool:
        asked = http.client.HTTPConnection("127.0.0.1", self.health, timeout=LONG)
        try:
            asked.request("GET", "/ready")
            return asked.getresponse().status == 204
        except OSError:
            return False
        finally:
            asked.close()

    @contextmanager
    def started(
        self, executors: str = "{}", **settings: object
    ) -> Iterator[subprocess.Popen[bytes]]:
        given = {
            "listen_port": self.port,
            "health_check_port": self.health,
            "advertise_host": "127.0.0.1",
            "use_tls": "true",
            "tls_certificate": "@/run/secrets/cert.pem",
            "tls_private_key": "@/run/secrets/key.pem",
            "authentication_method": "token",
            **settings,
        }
        variables = [f"GOODDATA_FLIGHT_SERVER__{k.upper()}={v}" for k, v in given.items()]
        more = [
            "GOODDATA_FLIGHT_ENUMERATED_TOKENS__TOKENS=@/run/secrets/tokens",
            'GOODDATA_FLIGHT_FLEXFUN__FUNCTIONS=["my_functions"]',
            f"GOODDATA_FLIGHT_FLEXFUN__EXECUTORS={executors}",
            "PYTHONPATH=/app/src:/run/secrets",
        ]
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"]
        run = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", START, "sh"]
        within = ["env", "-C", "/app", *user, "--bounding-set=-all", *self._entry]
        with self._log.open("wb") as log:
            started = subprocess.Popen(
                [*run, *self._told, *variables, *more, *within],
                env={**os.environ, **{k: str(v) for k, v in self._folders.items()}},
                stderr=log,
            )
        try:
            yield started
        finally:
            if started.poll() is None:
                signalled(started, signal.SIGKILL)


@pytest.fixture
def image(tmp_path):
    return Image(tmp_path)


def signalled(started, number):
    """The exit status, after a signal to the host."""
    os.kill(child(started), number)
    return started.wait(LONG)


def child(started):
    """The host: the one child of what started it."""
    return int(Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text())


def test_it_is_ready_in_less_than_two_seconds_and_is_process_1(image):
    begun = time.monotonic()
    with image.started() as host:
        until(image.ready)
        took = time.monotonic() - begun
        status = Path(f"/proc/{child(host)}/status").read_text()

    assert took < 2, took
    assert (image.user, image.volumes) == (f"{UID}:{UID}", [f"/{STATE}"])
    assert status.split("NSpid:")[1].split("\n")[0].split()[-1] == "1"


def test_it_answers_who_has_a_token_over_tls_and_nobody_else(image):
    with image.started():
        until(image.ready)

        assert image.client().call(upto=5).num_rows == 5
        with pytest.raises(fl.FlightUnauthenticatedError):
            image.client("another").call()


def test_functions_run_in_worker_processes_that_end_with_it(image):
    with image.started('{"*": "processes"}') as host:
        until(image.ready)
        rows = image.client().call(upto=100_000)["n"]
        at_work = len(Path(f"/proc/{child(host)}/task/{child(host)}/children").read_text().split())
        status = signalled(host, signal.SIGTERM)

    assert rows.to_pylist() == list(range(100_000))
    assert at_work == 2  # what workers are forked from, and what looks after that
    assert status == 0


def test_a_long_call_is_finished_after_sigterm_and_the_status_is_0(image):
    with image.started() as host:
        until(image.ready)
        rows = []
        caller = threading.Thread(target=lambda: rows.append(image.client().call("waits").num_rows))
        caller.start()
        until(lambda: list(image.state.glob("runs*")))
        stopping = threading.Timer(0, lambda: rows.append(signalled(host, signal.SIGTERM)))
        stopping.start()
        until(lambda: "stopping within" in image.log())
        (image.secrets / "go").touch()
        caller.join(LONG)
        stopping.join(LONG)

    assert rows == [3, 0]


def test_after_a_kill_the_files_of_its_spool_are_taken_away(image):
    small = {"result_memory_bytes": 1 << 20}
    with image.started(**small) as host:
        until(image.ready)
        for _ in range(4):
            image.client().info(command(upto=100_000))
        assert signalled(host, signal.SIGKILL)
    left = set(image.state.rglob("*.arrows"))
    assert left

    with image.started(**small):
        until(image.ready)
        assert not any(file.exists() for file in left)
        assert image.client().call(upto=100_000).num_rows == 100_000


def test_on_a_full_disk_it_starts_and_refuses_what_it_cannot_keep(image):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", image.state], check=True)
    try:
        os.chown(image.state, UID, UID)
        subprocess.run(["dd", "if=/dev/zero", f"of={image.state}/full"], capture_output=True)
        with image.started(result_memory_bytes=1 << 20):
            until(image.ready)
            client = image.client()
            client.info(command(upto=100_000))
            with pytest.raises(fl.FlightUnavailableError, match="No space left") as refused:
                client.info(command(upto=100_000))
    finally:
        subprocess.run(["umount", image.state], check=True)

    assert flight_code(refused.value)[0] == CODES["BACKPRESSURE"][0] & 0xFFFF


def test_the_limits_of_its_container_count(image):
    for folder in (".", "pids"):  # of either version
        (image.groups / folder).mkdir(exist_ok=True)
        (image.groups / folder / "pids.max").write_text("264\n")
    with image.started():
        until(image.ready)

    assert "264 threads may be started here (pids.max)" in image.log()
