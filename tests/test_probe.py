"""The probe through the command line: what it measures narrows the estimate, and what is not sound launches nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from frames import random_records
from typer.testing import CliRunner

from runctl import probe
from runctl.cli import build
from runctl.config.model import Encoding, Model
from runctl.tasks.worldmodel import canary
from runctl.tasks.worldmodel.canary import Head
from runctl.tasks.worldmodel.encoding import columns
from runctl.train import probe as probes

CONFIG = """\
name: small
data: {simulate: {games: 4, seconds: 4}}
model: {d_model: 16, n_layers: 2, d_state: 16, headdim: 16}
training: {steps: 60, batch_size: 32, threads: 1, seed: 1, log_every: 10, warmup_steps: 2, device: cpu}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    file = tmp_path / "small.yaml"
    file.write_text(CONFIG)
    return file


def runctl(config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, cwd=config.parent, capture_output=True, text=True, timeout=120, check=False)


def estimated(config: Path) -> dict:
    return json.loads(runctl(config, "estimate", config.name, "--json").stdout)["estimates"]["time_seconds"]


def test_a_probe_measures_judges_and_narrows_the_estimate(config: Path) -> None:
    wide = estimated(config)
    done = runctl(config, "probe", config.name, "--for", "2s", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ok"]
    names = [check["name"] for check in found["checks"]]
    assert {"evaluation", "batch", "parameters", "blind", "finite", "reload"} <= set(names)
    assert len(os.sched_getaffinity(0)) < 2 or "threads" in names
    assert any(name.startswith("first loss") for name in names)
    measured = found["measurement"]
    assert measured["steps"] >= 20
    assert measured["checkpoint_bytes"] > 0
    assert measured["peak_bytes"] > 0
    assert 0 <= measured["data_share"] < 1
    narrow = estimated(config)
    assert narrow["measured"]
    assert narrow["high"] / narrow["low"] < wide["high"] / wide["low"]
    assert list((config.parent / ".runctl" / "probes").iterdir()) == []


def test_steps_that_are_not_sound_exit_1_and_launch_nothing(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "SECONDS", 2.0)  # a minute is asked for nowhere else, and shows no more
    monkeypatch.chdir(config.parent)
    words = ["launch", config.name, "--probe-first", "--detach", "--set", "training.lr=1e30"]
    done = CliRunner().invoke(build(["launch"]), words)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "non-finite" in done.stderr
    assert "nothing was launched" in done.stderr
    assert not (config.parent / "runs").exists()
    assert len(list((config.parent / ".runctl" / "probes").iterdir())) == 1


def test_a_run_leaves_its_account_and_a_calibration(config: Path) -> None:
    assert runctl(config, "launch", config.name, "--detach").returncode == 0
    assert runctl(config, "wait", "small").returncode == 0
    page = json.loads(runctl(config, "status", "small", "--json").stdout)
    account = json.loads((config.parent / "runs" / "small" / "summary.json").read_text())["account"]
    assert page["account"]["step_seconds"] == account["step_seconds"]
    assert account["time_seconds"]["estimated"]["low"] < account["time_seconds"]["estimated"]["high"]
    assert account["time_seconds"]["actual"] > 0
    assert "run of small" in estimated(config)["basis"]
    page = runctl(config, "status", "small").stdout
    assert "account" in page
    assert "windows/s" in page
    told = json.loads((config.parent / "runs" / "small" / "summary.json").read_text())["throughput"]
    assert 0 < told["utilisation"] < 1
    assert told["frames_per_second"] == pytest.approx(told["examples_per_second"] * 10)


def test_a_probe_that_is_interrupted_leaves_neither_process_nor_folder(config: Path) -> None:
    argv = [sys.executable, "-m", "runctl", "probe", config.name, "--for", "60s"]
    child = subprocess.Popen(
        argv, cwd=config.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    probes_folder = config.parent / ".runctl" / "probes"
    deadline = time.monotonic() + 60
    while not list(probes_folder.glob("*/attempts/1/heartbeat.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert list(probes_folder.iterdir()) == []
    left = subprocess.run(["pgrep", "-f", str(probes_folder)], capture_output=True, text=True, check=False)
    assert left.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--set", "compute.backend=modal"], 5, "runs on this machine"),
        (["--set", "task=command", "--set", "command.argv=[ls]"], 2, "a program of your own"),
        (["--for", "soon"], 2, "--for"),
    ],
)
def test_what_cannot_be_probed_says_why(config: Path, arguments: list[str], code: int, said: str) -> None:
    done = runctl(config, "probe", config.name, *arguments)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_reads_the_next_frame_is_not_blind() -> None:
    from runctl.tasks.worldmodel.model import Predictions, WorldModel

    class Leaky(WorldModel):
        def forward(self, records, corrupt=None):
            floats, ids = self.features(records)
            hidden = self.norm(self.positions(floats[:, 1:], ids[:, 1:]))
            return Predictions({name: head(hidden) for name, head in self.heads.items()}, {})

    encoding, shape = Encoding(), Model(d_model=32, n_layers=2, headdim=16, d_state=8)
    layout = columns(encoding)
    for batch in (1, 4):
        records = random_records(encoding, batch, shape.context_len + 1)
        assert canary.strays(WorldModel(encoding, shape, layout), records, layout) == 0
        assert canary.strays(Leaky(encoding, shape, layout), records, layout) > 0


def heads(loss: float, shuffled: float, floor: float, windows: int = 64) -> SimpleNamespace:
    """A loop with one head whose numbers are given: what the canary makes of them, not how they come about."""
    import torch

    head = Head("action", 400, loss, shuffled, floor)
    return SimpleNamespace(
        order=SimpleNamespace(windows=lambda step: torch.arange(windows)),
        config=SimpleNamespace(training=SimpleNamespace(batch_size=windows)),
        place=SimpleNamespace(device=torch.device("cpu")),
        job=SimpleNamespace(heads=lambda batch: [head], batch=lambda windows, validation: windows),
    )


@pytest.mark.parametrize(("loss", "sound"), [(5.99, True), (6.4, True), (1.2, False), (40.0, False)])
def test_a_first_loss_far_from_guessing_is_not_sound(loss: float, sound: bool) -> None:
    assert [check.ok for check in probes._first_loss(heads(loss, 6.0, 3.0))] == [sound]


@pytest.mark.parametrize(("shuffled", "floor", "sound"), [(3.1, 3.0, [True]), (0.4, 3.0, [False]), (0.0, 0.01, [])])
def test_a_head_that_does_well_on_wrong_targets_has_seen_the_answer(shuffled, floor, sound) -> None:
    assert [check.ok for check in probes._leaks(heads(3.0, shuffled, floor))] == sound


def test_a_batch_of_one_says_nothing_about_leaks() -> None:
    assert list(probes._leaks(heads(3.0, 0.0, 0.7, windows=1))) == []


def test_a_probe_that_fails_says_why_leaves_the_other_children_of_its_caller_alone_and_keeps_few_folders(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, whose child the other one is. Of probes that failed the newest folders are kept."""
    monkeypatch.chdir(config.parent)
    root = config.parent / ".runctl" / "probes"
    for number in range(6):
        (root / f"old-{number}").mkdir(parents=True)
    other = subprocess.Popen(["sleep", "60"])
    try:
        nowhere = ["--set", "data.simulate=null", "--set", "data.encoded=nowhere"]
        done = CliRunner().invoke(build(["probe"]), ["probe", config.name, *nowhere])
        assert done.exit_code == 1
        assert "nowhere" in done.stderr
        assert "Traceback" not in done.stderr
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert len(list(root.iterdir())) == probe.KEEP
