"""What a launch says of several GPUs before any is paid for: the time as a range whose ends are said, and what another
number of them means for a run that goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runctl import changes
from runctl import config as configs

CONFIG = """
name: job
data: {simulate: {games: 50, seconds: 60}}
model: {d_model: 256, n_layers: 4, dropout: 0.1}
training: {steps: 200000, batch_size: 512, seed: 1}
"""
SMALL = """
name: job
data: {simulate: {games: 4, seconds: 4}}
model: {d_model: 16, n_layers: 1, headdim: 16, context_len: 8}
training: {steps: 60, batch_size: 37, threads: 1, device: cpu, seed: 3, validate_every: 60 steps}
checkpoint: {every: 60 steps}
"""


def runctl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "runctl", *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=180, env=env, check=False)


def time_of(folder: Path, *words: str) -> dict[str, Any]:
    done = runctl(folder, "estimate", "job.yaml", "--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["estimates"]["time_seconds"]
    return found


def test_the_time_of_several_gpus_lies_between_perfect_sharing_and_half_of_it(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(CONFIG)
    backend = ("--set", "compute.backend=modal", "--set", "compute.timeout=24h")
    one = time_of(tmp_path, *backend, "--gpu", "A100-80GB")
    four = time_of(tmp_path, *backend, "--gpu", "A100-80GB:4")
    assert four["likely"] < one["likely"]
    assert one["low"] / 4 <= four["low"] < one["low"]
    assert four["high"] < one["high"]
    assert "4 GPUs share each step: 100% (perfect) to 50% of 4 times one, not measured" in four["basis"]


@pytest.mark.slow
def test_processes_that_shared_a_step_leave_a_calibration_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    (tmp_path / "job.yaml").write_text(SMALL)
    two = ("--set", "training.processes=2")
    assert "not measured" in time_of(tmp_path, *two)["basis"]
    done = runctl(tmp_path, "launch", "job.yaml", "--allow", "CK108", "--because", "a test", *two)
    assert done.returncode == 0, done.stdout + done.stderr
    assert runctl(tmp_path, "pull", "job", "taken", "--checkpoint", "none").returncode == 0
    ranks = {path.name for path in (tmp_path / "taken/job/attempts/1/ranks").iterdir()}
    assert {"0.at", "1.at", "1.json"} <= ranks
    measured = time_of(tmp_path, *two)["basis"]
    assert measured.startswith("measured here: run of job, ")
    assert not time_of(tmp_path)["basis"].startswith("measured here"), "one process is another shape"


@pytest.mark.parametrize(
    ("more", "old", "new", "weight", "words"),
    [
        ("", "A100-80GB", "H100", "free", "where and how long"),
        ("", "", "H100", "free", "where and how long"),
        ("", "A100-80GB", "A100-80GB:2", "accepted", "2 processes share the run, 1 before, each with its own"),
        ("model: {dropout: 0.0}", "A100-80GB", "A100-80GB:2", "free", "the same windows in every step"),
        ("task: command\ncommand: {argv: [x]}", "A100-80GB", "A100-80GB:2", "accepted", "its program finds 2 GPUs"),
    ],
)
def test_another_number_of_gpus_is_accepted_where_it_changes_what_is_learned(
    tmp_path: Path, more: str, old: str, new: str, weight: str, words: str
) -> None:
    def effective(gpu: str) -> dict[str, Any]:
        path = tmp_path / "job.yaml"
        path.write_text(f"name: job\n{more}\ncompute: {{gpu: {gpu or 'null'}}}\n")
        return configs.to_effective(configs.load(path).config)

    (change,) = changes.between(effective(old), effective(new))
    assert (change.key, change.weight) == ("compute.gpu", weight)
    assert change.means.startswith(words)
