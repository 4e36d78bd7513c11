"""How much of the machine the host takes, by the limits of its container."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import ROOT

from flexhost.serving import server
from flexhost.settings import Server
from flexhost.system.capacity import OTHERS, Threads, processors, threads, within


@pytest.fixture
def files(tmp_path):
    """Writes the files of control groups, and gives their folder."""

    def write(texts):
        for name, text in texts.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text + "\n")
        return tmp_path

    return write


@pytest.mark.parametrize(
    ("groups", "texts", "count"),
    [
        ("0::/a", {"a/cpu.max": "max 100000"}, 16),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "6400000 100000"}, 16),
        ("3:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "200000"}, 16),
        (
            "3:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "50000"},
            4,
        ),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 16),
        ("", {}, 16),
    ],
)
def test_the_quota_of_a_container_says_how_many_processors_there_are(
    files, monkeypatch, groups, texts, count
):
    monkeypatch.setattr("pyarrow.cpu_count", lambda: 16)

    assert processors(groups, files(texts)) == count


@pytest.mark.parametrize(
    ("groups", "texts", "count"),
    [
        ("0::/a/b", {"a/b/pids.max": "max", "a/pids.max": "500"}, 500),
        ("0::/", {"pids.max": "2048"}, 2048),
        ("8:pids:/a", {"pids/a/pids.max": "100"}, 100),
        ("8:pids:/a", {"pids/a/pids.max": "max"}, None),
        ("", {}, None),
    ],
)
def test_a_container_says_how_many_threads_there_may_be(files, groups, texts, count):
    assert threads(groups, files(texts)) == count


@pytest.mark.parametrize("limit", [OTHERS + 4, 100, 200, 500, 1000, 2048])
def test_the_threads_of_calls_reads_and_requests_stay_within_the_limit(limit):
    wanted = Threads(calls=32, reads=256, requests=1024)

    given = within(wanted, limit)

    assert sum(given) + OTHERS <= limit
    assert all(0 < one <= most for one, most in zip(given, wanted, strict=True))


def test_where_there_is_room_for_all_threads_none_is_taken_away():
    wanted = Threads(calls=32, reads=256, requests=1024)

    assert within(wanted, None) == wanted
    assert within(wanted, sum(wanted) + OTHERS) == wanted


def test_a_host_with_too_few_threads_for_its_settings_takes_fewer_and_says_so(caplog):
    given = server.within_limit(Server(), 264)

    assert (given.task_threads, given.max_streams, given.max_rpcs) == (32, 50, 118)
    assert "264 threads may be started here (pids.max): task_threads is 32" in caplog.text
    assert server.within_limit(Server(), 264, frontends=2).max_rpcs == 59
    assert server.within_limit(Server(), None) == Server()


@pytest.mark.parametrize(("variables", "told"), [({}, "1 1"), ({"OMP_NUM_THREADS": "3"}, "3 3")])
def test_the_pools_of_libraries_are_as_large_as_the_quota_unless_a_variable_says_so(
    variables, told
):
    code = (
        "import os, pyarrow as pa\n"
        "from flexhost.system.capacity import bound_pools\n"
        "if 'OMP_NUM_THREADS' not in os.environ: pa.set_cpu_count(8)\n"
        "bound_pools(1)\n"
        "print(pa.cpu_count(), os.environ['OMP_NUM_THREADS'])\n"
    )
    environ = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"} | variables
    wrote = subprocess.run(
        [sys.executable, "-c", code],
        env=environ,
        cwd=ROOT / "src",
        capture_output=True,
        text=True,
        check=True,
    )

    assert wrote.stdout.strip() == told
