"""The world model itself through `python -m runctl.train`: kills and resumes against an unbroken run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_job
from test_loop import log, result, wait_for_step
from test_resume import history

from runctl import record
from runctl.config import RunConfig
from runctl.errors import DataError

ENCODING = {"state_age_as_embed": True, "hitstun": True}


def config(steps: int, **sections: Any) -> RunConfig:
    """A small model with everything in it that draws random numbers: dropout and scheduled sampling."""
    training = {"steps": steps, "batch_size": 48, "accumulation": 2, "lr": 2e-3, "warmup_steps": 10, "threads": 1}
    training |= {"log_every": 3, "validate_every": "0.5 epochs", "validation_windows": 100, "seed": 4, "device": "cpu"}
    training |= {"scheduled_sampling": 0.5, "ss_anneal_epochs": 2.0, "delta_target": "residual"}
    model = {"d_model": 16, "n_layers": 2, "d_state": 8, "headdim": 8, "context_len": 6, "chunk_size": 6}
    data = {"simulate": {"games": 4, "seconds": 10, "seed": 2}}
    made = {"name": "small", "data": data, "encoding": ENCODING, "model": model | {"dropout": 0.1}}
    return RunConfig.model_validate(made | {"training": training, "checkpoint": {"every": "13 steps"}} | sections)


def attempt(run: record.RunDir, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "runctl.train", str(run.path), "--attempt", str(number)]
    root = str(Path(__file__).resolve().parents[1])
    run.attempt(number).path.mkdir(parents=True, exist_ok=True)
    with run.attempt(number).log.open("wb") as file:
        return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, stdout=file, stderr=subprocess.STDOUT)


def test_the_world_model_killed_three_times_matches_an_unbroken_run(tmp_path: Path) -> None:
    """The broken run recomputes its activations, which changes no bit either."""
    chosen = config(steps=150)
    recomputed = chosen.training.model_copy(update={"activation_checkpointing": True})
    whole = tiny_job.make_run(tmp_path / "whole", chosen)
    broken = tiny_job.make_run(tmp_path / "broken", chosen.model_copy(update={"training": recomputed}))
    assert attempt(whole, 1).wait(300) == 0, log(whole)
    for number, earliest in ((1, 15), (2, 50), (3, 90)):
        process = attempt(broken, number)
        wait_for_step(broken, process, earliest + random.randrange(25))
        process.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert attempt(broken, 4).wait(300) == 0, log(broken, 4)
    assert history(broken) == history(whole)
    assert {row["attempt"] for row in record.read_lines(broken.metrics)} == {1, 2, 3, 4}
    names = {name for _, name in history(whole)}
    assert {"train/loss", "val/change_acc", "baseline/lookup/change_acc", "baseline/last_delta/pos_mae"} <= names
    assert "simulated" in record.read_json(whole.attempt(1).heartbeat)["data_source"]
    assert result(broken, 4)["metrics"] == result(whole)["metrics"]


def test_a_dataset_encoded_otherwise_is_refused_naming_each_key(tmp_path: Path) -> None:
    import torch

    from runctl.tasks.worldmodel import encode, sources, task

    made = config(steps=1)
    assert made.data.simulate is not None
    encode.encode(sources.simulated(made.data.simulate), made.encoding, tmp_path / "data", workers=1)
    other = ENCODING | {"hitstun": False, "action_vocab": 500}
    asked = config(steps=1, data={"encoded": "data"}, encoding=other)
    place: dict[str, Any] = {"project": tmp_path, "run": record.RunDir(tmp_path / "run"), "device": torch.device("cpu")}
    with pytest.raises(DataError) as caught:
        task.build(asked, **place, report=lambda _: None)
    assert "hitstun is true there, false here" in caught.value.message
    assert "action_vocab is 400 there, 500 here" in caught.value.message
    assert "projectiles" not in caught.value.message
    job = task.build(config(steps=1, data={"encoded": "data"}), **place, report=lambda _: None)
    assert job.train_windows + job.validation_windows == 4 * (600 - 6)


def test_a_config_without_data_is_refused(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", config(steps=1, data={}))
    assert attempt(run, 1).wait(120) == 1
    assert result(run)["error"]["message"] == "the config names no data"
    assert "data.simulate" in result(run)["error"]["hint"]


def test_a_stop_while_the_data_are_loading_ends_as_stopped(tmp_path: Path) -> None:
    data = {"simulate": {"games": 2000, "seconds": 60, "seed": 2}}
    run = tiny_job.make_run(tmp_path / "run", config(steps=1, data=data))
    process = attempt(run, 1)
    while "simulating" not in ((record.read_json(run.attempt(1).heartbeat) or {}).get("message") or ""):
        assert process.poll() is None, log(run)
    process.terminate()
    assert process.wait(120) == 0, log(run)
    told = result(run)
    assert (told["outcome"], told["step"], told["error"]) == ("stopped", 0, None)
    assert not run.checkpoints.exists()
