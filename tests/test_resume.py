"""A run that is killed and resumed is the run that was never killed, to the last bit of every loss."""

from __future__ import annotations

import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_job
import torch
from test_loop import attempt, log, result, run_tiny, wait_for_step
from tiny_job import TinyJob

from runctl import record
from runctl.errors import CheckpointError
from runctl.train import checkpoint, optimizer, surroundings
from runctl.train.state import State


def history(run: record.RunDir) -> dict[tuple[int, str], float]:
    """(step, name) → value of everything that does not depend on the clock; the last attempt's row counts."""
    found: dict[tuple[int, str], float] = {}
    for row in record.read_lines(run.metrics):
        for name, value in row.items():
            if name.startswith(("train/", "val/", "baseline/")):
                found[row["step"], name] = value
    return found


def finish(run: record.RunDir, number: int = 1) -> None:
    assert attempt(run, number).wait(120) == 0, log(run, number)


def kill_at(run: record.RunDir, number: int, step: int, pause: float) -> None:
    process = attempt(run, number, PACE="0.01")
    wait_for_step(run, process, step)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(pause)
    process.send_signal(signal.SIGKILL)
    assert process.wait(30) == -signal.SIGKILL
    assert not run.attempt(number).result.exists()


def test_three_kills_and_resumes_match_an_unbroken_run(tmp_path: Path) -> None:
    config = tiny_job.config(training={"steps": 120, "accumulation": 2, "batch_size": 37, "log_every": 3})
    whole, broken = (tiny_job.make_run(tmp_path / name, config) for name in ("whole", "broken"))
    finish(whole)
    moments = random.Random()
    for number, earliest in ((1, 12), (2, 45), (3, 80)):
        kill_at(broken, number, earliest + moments.randrange(20), moments.random() * 0.1)
    finish(broken, 4)
    assert history(broken) == history(whole)
    assert {row["attempt"] for row in record.read_lines(broken.metrics)} == {1, 2, 3, 4}
    assert result(broken, 4)["metrics"] == result(whole)["metrics"]
    final = [checkpoint.load(run.checkpoint(120), _identity(run)) for run in (whole, broken)]
    for name, tensor in final[0].tensors["model"].items():
        assert torch.equal(tensor, final[1].tensors["model"][name])


def _identity(run: record.RunDir) -> dict[str, str]:
    manifest = checkpoint.read_manifest(run.checkpoint(120))
    assert manifest is not None
    return dict(manifest["identity"])


def test_a_stop_between_rows_and_a_resume_match_an_unbroken_run(tmp_path: Path) -> None:
    config = tiny_job.config(training={"steps": 60, "log_every": 7}, checkpoint={"every": "0.05s"})
    whole, broken = (tiny_job.make_run(tmp_path / name, config) for name in ("whole", "broken"))
    finish(whole)
    process = attempt(broken, 1, PACE="0.01")
    wait_for_step(broken, process, 14)
    process.terminate()
    assert process.wait(60) == 0, log(broken)
    assert result(broken)["outcome"] == "stopped"
    finish(broken, 2)
    assert history(broken) == history(whole)


def test_a_damaged_newest_checkpoint_costs_steps_and_no_exactness(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections: dict[str, Any] = {"training": {"log_every": 7}, "checkpoint": {"every": "8 steps"}}
    run_tiny(tmp_path / "whole", **sections)
    run_tiny(tmp_path / "broken", **sections)
    run = record.RunDir(tmp_path / "broken")
    for step in (40, 32):
        path = run.checkpoint(step) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    ended = run_tiny(tmp_path / "broken", attempt=2, **sections)
    assert ended.step == 40
    assert "step-000000040 is damaged: model.safetensors" in ended.notes[0]
    assert ended.notes[-1] == "resumed from step-000000030"
    warnings = [f"warning: {ended.notes[0]}", f"warning: {ended.notes[1]}"]
    assert capsys.readouterr().err.splitlines() == [*warnings, "resumed from step-000000030"]
    told = record.read_json(run.attempt(2).resumed)
    assert (told["step"], told["checkpoint"]) == (30, "step-000000030")
    assert [(entry["checkpoint"], entry["why"]) for entry in told["passed_over"]] == [
        ("step-000000040", ended.notes[0]),
        ("step-000000032", ended.notes[1]),
    ]
    assert history(run) == history(record.RunDir(tmp_path / "whole"))
    assert checkpoint.load(run.checkpoint(40), _identity_of(run, 40)).manifest["attempt"] == 2


def _identity_of(run: record.RunDir, step: int) -> dict[str, str]:
    manifest = checkpoint.read_manifest(run.checkpoint(step))
    assert manifest is not None
    return dict(manifest["identity"])


def test_resuming_a_finished_run_trains_nothing_and_keeps_its_metrics(tmp_path: Path) -> None:
    first = run_tiny(tmp_path)
    rows = len(list(record.read_lines(tmp_path / "metrics.jsonl")))
    again = run_tiny(tmp_path, attempt=2)
    assert (again.outcome, again.step, again.metrics) == ("succeeded", 40, first.metrics)
    assert len(list(record.read_lines(tmp_path / "metrics.jsonl"))) == rows


def test_a_resume_with_another_model_or_order_is_refused(tmp_path: Path) -> None:
    run_tiny(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.width is 16 there, 32 here"):
        run_tiny(tmp_path, TinyJob(width=32), attempt=2)
    with pytest.raises(CheckpointError, match=r"training\.batch_size is 64 there, 32 here"):
        run_tiny(tmp_path, attempt=2, training={"batch_size": 32})


def test_a_run_killed_before_its_first_checkpoint_starts_over_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / ".tmp-step-000000008-1").mkdir(parents=True)
    ended = run_tiny(tmp_path, attempt=2)
    assert ended.notes == [
        "removed half-written .tmp-step-000000008-1",
        "no checkpoint was saved by earlier attempts: starting from step 0",
    ]


def test_a_resume_in_other_surroundings_says_that_it_is_not_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_tiny(tmp_path, training={"steps": 40})
    here = surroundings.describe(torch.device("cpu"))
    monkeypatch.setattr(surroundings, "describe", lambda *_: here | {"code": "other", "torch": "3.0"})
    ended = run_tiny(tmp_path, attempt=2)
    assert ended.outcome == "succeeded"
    assert ended.notes[-1].startswith("not bit for bit what an unbroken run would be: runctl's own code, torch (2.")
    assert "threads" not in ended.notes[-1]


def test_a_change_of_any_source_changes_the_digest_of_the_code(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.py").write_text("x = 1\n")
    first = surroundings.code_digest(tmp_path)
    assert surroundings.code_digest(tmp_path) == first
    (tmp_path / "models" / "a.py").write_text("x = 2\n")
    assert surroundings.code_digest(tmp_path) != first


def test_the_whole_state_comes_back_into_a_fresh_one(tmp_path: Path) -> None:
    def fresh(seed: int) -> State:
        torch.manual_seed(seed)
        model = TinyJob().model
        return State(model, optimizer.adamw(model, tiny_job.config().training), torch.device("cpu"), seed)

    old, new = fresh(1), fresh(2)
    for step in (1, 2, 3):
        loss = old.model(torch.randn(5, 8, generator=old.generator)).square().mean()
        loss.backward()
        old.optimizer.step()
        old.sums.add(step, [(loss.detach(), {"square": loss.detach()}, 5)], torch.tensor(1.0))
    old.step, old.best, old.validation = 3, 0.25, {"step": 2, "metrics": {"val/loss": 0.25}}
    tensors, state = old.capture()
    new.restore(checkpoint.Loaded(tmp_path, {file: dict(named) for file, named in tensors.items()}, state, {}))
    assert (new.step, new.best, new.validation) == (old.step, old.best, old.validation)
    again, repeated = new.capture()
    assert repeated == state
    for file, named in tensors.items():
        assert again[file].keys() == named.keys()
        assert all(torch.equal(again[file][name], tensor) for name, tensor in named.items()), file
    assert {key.rpartition("/")[2] for key in tensors["optimizer"]} == {"step", "exp_avg", "exp_avg_sq"}


def test_a_checkpoint_that_does_not_fit_the_model_is_refused_by_the_weight_s_name(tmp_path: Path) -> None:
    run_tiny(tmp_path)
    job = TinyJob(width=32)
    job.identity = TinyJob().identity
    with pytest.raises(CheckpointError, match=r"0\.bias is \(16,\) float32 there, \(32,\) float32 here"):
        run_tiny(tmp_path, job, attempt=2)
