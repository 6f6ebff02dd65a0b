"""A run that goes on with a changed config: what is refused, what is to be accepted, where it stands in the data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import FAKE, clean, make, until
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loop import run_tiny

from runctl import changes, launch, page, record, resume, standing, status, stop
from runctl import config as configs
from runctl.backends import local
from runctl.config.model import RunConfig, Training
from runctl.errors import ConfigError, RefusedError, UsageError
from runctl.supervisor import restarts, summary
from runctl.tasks.worldmodel import encoding
from runctl.train import schedule
from runctl.train.order import Order

CONFIG = (
    "name: q\ntask: worldmodel\ndata: {{simulate: {{games: 2, seconds: 2}}}}\nmodel: {{d_model: 16, headdim: 16}}\n"
    "training: {{{length}, batch_size: 64, lr: 0.01, warmup_steps: 5, threads: 1, seed: 1, device: cpu}}\n"
    "checkpoint: {{every: 8 steps}}\ncompute: {{timeout: 9m}}\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for run in record.list_runs(tmp_path):
        clean(run)


def ended(run: record.RunDir) -> status.RunStatus:
    return until(run, lambda found: found.over and run.summary.exists())


def launched(monkeypatch: pytest.MonkeyPatch, *trainer: str, length: str = "steps: 90") -> record.RunDir:
    """A launch of a world-model config with another trainer in its trainer's place."""
    monkeypatch.setattr(local, "TRAINER", [sys.executable, *trainer])
    Path("q.yaml").write_text(CONFIG.format(length=length))
    run = launch.start(launch.plan(Path("q.yaml")))
    launch.await_start(run, 30)
    return run


def tiny(monkeypatch: pytest.MonkeyPatch, length: str) -> record.RunDir:
    """The same with a real trainer of a tiny job: 492 windows, 8 steps of an epoch."""
    return launched(monkeypatch, str(Path(__file__).parent / "tiny_job.py"), length=length)


def runctl(*argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.lists(st.tuples(st.integers(1, 25), st.integers(1, 9)), min_size=1, max_size=4))
def test_a_run_whose_steps_change_their_size_reads_every_window_once_an_epoch(
    windows: int, parts: list[tuple[int, int]]
) -> None:
    base, step, read = schedule.Base(), 0, list[int]()
    before = None
    for size, count in parts:
        if before is not None and size != before.step_windows:
            base = schedule.Base(step, *before.position(step))
        before = schedule.plan(Training(epochs=1000.0, batch_size=size), windows, base)
        order = Order(before, 7)
        for _ in range(count):
            read += order.windows(step).tolist()
            step += 1
        assert before.epoch(step) <= len(read) / windows + size / windows
    for epoch in range(len(read) // windows):
        assert sorted(read[epoch * windows : (epoch + 1) * windows]) == list(range(windows))
    rest = read[len(read) // windows * windows :]
    assert len(set(rest)) == len(rest)


def test_the_learning_rate_of_epochs_follows_what_was_read_when_steps_change_their_size() -> None:
    small, large = (Training(epochs=4.0, batch_size=size, lr=1.0, warmup_steps=0) for size in (10, 20))
    before = schedule.plan(small, 100)
    after = schedule.plan(large, 100, schedule.Base(20, *before.position(20)))  # two of four epochs
    assert (before.total_steps, after.total_steps, after.shift) == (40, 30, -10)
    assert schedule.learning_rate(large, after, 20) == schedule.learning_rate(small, before, 20)
    assert schedule.learning_rate(large, after, 30) == pytest.approx(0.1)
    assert after.epoch(20) == before.epoch(20) == 2.0
    due = schedule.Cadence(configs.every.Every(epochs=1), after.steps_per_epoch, 0.0, after.shift)
    assert [step for step in range(21, 31) if due.due(step, 0.0)] == [25, 30]


def test_a_resume_with_another_batch_goes_on_where_it_was_in_the_data(tmp_path: Path) -> None:
    """492 windows, 64 a step: stopped after 24 steps, three epochs; and after 28, within one."""
    run_tiny(tmp_path, training={"steps": 28})
    run = record.RunDir(tmp_path)
    record.write_json(run.attempt(2).start, {"accepted": ["training.batch_size"]})
    again = run_tiny(tmp_path, attempt=2, training={"steps": 60, "batch_size": 100})
    assert again.outcome == "succeeded"
    told = "a step reads 100 windows from here on, 64 before: epoch 4 goes on at its window 257"
    assert told in again.notes
    state = record.read_json(run.checkpoint(60) / "state.json")
    assert state["base"] == [28, 3, 256]
    assert (state["epoch"], state["offset"]) == (9, 400)  # 3 steps for the rest of epoch 4, then 29 = 5 × 5 + 4
    third = run_tiny(tmp_path, attempt=2, training={"steps": 62, "batch_size": 100})
    assert third.step == 62
    assert record.read_json(run.checkpoint(62) / "state.json")["base"] == [28, 3, 256]


def test_what_alters_the_learning_is_listed_and_needs_to_be_accepted(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = launched(monkeypatch, FAKE, "--steps", "1000000")
    stop.stop(run)
    refused = runctl("resume", "q", "--set", "training.lr=0.02", "--set", "training.log_every=7")
    assert refused.returncode == 4
    assert "1 change of its config would alter what q learns" in refused.stderr
    assert "training.lr 0.01 → 0.02" in refused.stderr
    assert "log_every" not in refused.stderr
    assert "--accept-changes" in refused.stderr
    assert [attempt.number for attempt in run.attempts()] == [1]
    before = record.read_json(run.run)["digest"]
    done = runctl("resume", "q", "--detach", "--set", "training.lr=0.02", "--accept-changes")
    assert done.returncode == 0, done.stderr
    assert "changed training.lr 0.01 → 0.02" in done.stderr
    found = status.read(run)
    assert found.changed == "training.lr 0.01 → 0.02"
    stop.stop(run)
    start = record.read_json(run.attempt(2).start)
    assert start["config"]["training"]["lr"] == 0.02
    (event,) = [row for row in record.read_lines(run.events) if row["event"] == "changed"]
    assert (event["digest_before"], event["digest_after"]) == (before, start["digest"])
    assert before != start["digest"] == configs.digest(configs.from_effective(start["config"]))
    assert page.read(run).attempts[1]["changed"] == "training.lr 0.01 → 0.02"
    assert "config changed since the launch: training.lr 0.01 → 0.02" in runctl("status", "q").stdout
    assert "changed: training.lr 0.01 → 0.02" in runctl("logs", "q").stdout
    third = resume.plan(run)  # what was changed holds from there on
    assert third.changes == ()
    assert third.held["config"]["training"]["lr"] == 0.02
    claimed = restarts.claim(run, restarts.Restart(1, 1, 0.0, "again"), 2)
    assert record.content(run, claimed)["config"]["training"]["lr"] == 0.02
    assert record.content(run, 1)["config"]["training"]["lr"] == 0.01


def test_what_alters_nothing_needs_no_word(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = launched(monkeypatch, FAKE, "--steps", "1000000")
    stop.stop(run)
    plan = resume.plan(run, settings=["checkpoint.every=5m", "compute.timeout=8h", "training.log_every=9"])
    assert {change.key: change.weight for change in plan.changes} == dict.fromkeys(
        ("training.log_every", "checkpoint.every", "compute.timeout"), "free"
    )
    assert plan.request.timeout_seconds == 8 * 3600


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("model.d_model=32", "model.d_model is 16 in the run, 32 now"),
        ("encoding.hitstun=true", "encoding.hitstun is false in the run, true now"),
        ("data.simulate.seed=9", "data.simulate.seed is 1 in the run, 9 now"),
        ("training.seed=2", "training.seed is 1 in the run, 2 now"),
        ("compute.backend=modal", "compute.backend is local in the run, modal now"),
    ],
)
def test_another_run_is_refused_with_both_values(
    project: Path, monkeypatch: pytest.MonkeyPatch, setting: str, told: str
) -> None:
    run = stopped(project)
    with pytest.raises(UsageError) as caught:
        resume.plan(run, settings=[setting], accept=True)
    assert told in caught.value.message
    assert "launch a new run" in (caught.value.hint or "")


def stopped(project: Path, length: str = "steps: 90") -> record.RunDir:
    """A run that was stopped before its first checkpoint, without ever having run."""
    path = project / "q.yaml"
    path.write_text(CONFIG.format(length=length))
    run = make(project, name="q")
    config = configs.to_effective(configs.load(path).config)
    record.write_json(run.run, record.read_json(run.run) | {"config": config, "digest": "d"})
    record.write_json(run.attempt(1).exit, {"state": "stopped", "reason": "", "seconds": 1.0})
    return run


def test_the_same_games_may_lie_elsewhere_and_others_may_not(project: Path) -> None:
    run = stopped(project)
    manifest = {"encoding_digest": "e", "games": [{"identity": "i", "sha256": "s", "frames": 9}]}
    for name, more in (("old", {}), ("copy", {}), ("other", {"encoding_digest": "f"})):
        record.write_json(project / name / "manifest.json", manifest | more)
    content = record.read_object(run.run)
    content["config"]["data"] |= {"simulate": None, "encoded": "old"}
    record.write_json(run.run, content)
    identity = {"training.batch_size": "64", "training.accumulation": "1", "data.train_windows": "492"}
    entry = {"step": 16, "files": {}, "identity": identity | {"dataset": encoding.contents(manifest)}}
    record.write_json(run.checkpoint(16) / "manifest.json", entry)
    record.write_json(run.checkpoint(16) / "state.json", {"epoch": 2, "offset": 0, "base": [0, 0, 0]})
    moved = changes.between({"data": {"encoded": "old"}}, {"data": {"encoded": "copy"}})[0]
    dataset = standing.read(run, summary.checkpoints(run)[-1]).dataset
    assert changes.moved(moved, project, dataset).weight == "free"
    with pytest.raises(UsageError, match=r"data\.encoded is old in the run, other now"):
        resume.plan(run, settings=["data.encoded=other"], accept=True)


def test_a_config_file_is_compared_key_by_key(project: Path) -> None:
    run = stopped(project)
    (project / "new.yaml").write_text(CONFIG.format(length="steps: 90").replace("batch_size: 64", "batch_size: 32"))
    with pytest.raises(RefusedError, match=r"training\.batch_size 64 → 32: a step reads 32 windows, 64 before"):
        resume.plan(run, config_path=project / "new.yaml")
    assert resume.plan(run, config_path=project / "q.yaml").changes == ()
    (project / "new.yaml").write_text("model: {d_mdel: 3}\n")
    with pytest.raises(ConfigError) as caught:
        resume.plan(run, config_path=project / "new.yaml")
    assert "d_mdel" in caught.value.problems[0].message


def test_what_preflight_refuses_is_refused_of_a_changed_config_too(project: Path) -> None:
    run = stopped(project)
    with pytest.raises(launch.Refused) as caught:
        resume.plan(run, settings=["checkpoint.every=never", "training.steps=100000000"], accept=True)
    assert any(problem.rule == "CK101" for problem in caught.value.problems)


def test_totals_are_told_in_words_and_a_finished_run_is_not_trained_again_by_mistake(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny(monkeypatch, "epochs: 3")
    assert ended(run).state == "succeeded"
    done = runctl("resume", "q")
    assert done.returncode == 2
    assert "q has finished at step 24 of 24: 3 of 3 epochs done, 0 to go; there is nothing to resume" in done.stderr
    same = runctl("resume", "q", "--set", "training.epochs=3")
    assert same.returncode == 2
    assert "epochs are the run's total, not an addition" in same.stderr
    fewer = runctl("resume", "q", "--set", "training.epochs=2", "--accept-changes")
    assert "q has nothing to do with that total: 3 of 2 epochs done, 0 to go; step 24 of 16" in fewer.stderr
    refused = runctl("resume", "q", "--set", "training.epochs=4")
    assert refused.returncode == 4
    assert "training.epochs 3.0 → 4.0: the next step's learning rate is 0.002412" in refused.stderr
    longer = runctl("resume", "q", "--set", "training.epochs=4", "--accept-changes")
    assert longer.returncode == 0, longer.stderr
    assert "3 of 4 epochs done, 1 to go; step 24 of 32" in longer.stderr
    assert status.read(run).step == 32
    rows = [row for row in record.read_lines(run.metrics) if "train/lr" in row]
    assert rows[-1]["train/lr"] == pytest.approx(0.001)


def test_a_batch_is_halved_exactly_or_not_at_all() -> None:
    def half(batch: int, passes: int) -> Any:
        made = changes.halved({"training": {"batch_size": batch, "accumulation": passes}})
        return made and (made["training"]["batch_size"], made["training"]["accumulation"])

    assert [half(64, 1), half(45, 2), half(7, 1), half(1, 8)] == [(32, 2), (15, 6), (1, 7), None]


def test_every_section_of_a_config_has_a_weight_on_purpose() -> None:
    """What is in no table has to be accepted: safe, but nobody has thought about it."""
    known = {key.split(".")[0] for key in (*changes.REFUSED, *changes.FREE, *changes.MEANT)} | {"training"}
    assert set(RunConfig.model_fields) <= known


def test_a_damaged_start_does_not_bring_the_old_config_back(tmp_path: Path) -> None:
    run = make(tmp_path, training={"lr": 1.0})
    record.write_json(run.attempt(2).start, {"config": {"training": {"lr": 2.0}}, "accepted": ["training.lr"]})
    run.attempt(3).path.mkdir()
    run.attempt(3).start.write_text('{"config": {"tr')
    assert record.content(run)["config"]["training"]["lr"] == 2.0
    assert record.content(run, 1)["config"]["training"]["lr"] == 1.0
    assert json.loads(run.run.read_text())["config"]["training"]["lr"] == 1.0
    assert os.listdir(run.attempt(3).path) == ["start.json"]
