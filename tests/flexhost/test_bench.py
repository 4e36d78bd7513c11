"""The benchmark goes on to run; what it finds is no matter here."""

from __future__ import annotations

import json
import subprocess
import sys

from support import ROOT

sys.path.insert(0, str(ROOT / "bench"))

from workloads import WORKLOADS

# one of each kind
KINDS = ("alone", "outstanding", "refused", "generator", "start")


def test_a_small_round_of_the_benchmark_tells_a_figure_for_each_target(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, ROOT / "bench" / "comparison.py", "--rounds", "1"),
            *("--size", "0.02", "--tls", "no", "--out", tmp_path, "--only", *KINDS),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert list(dict.fromkeys(one["workload"] for one in told["targets"])) == list(KINDS)
    page = (tmp_path / "comparison.md").read_text()
    assert all(f"## {one.title}" in page for one in WORKLOADS if one.name in KINDS)
    assert all((tmp_path / f"{one}.svg").exists() for one in ("calls", "streams", "cost"))
