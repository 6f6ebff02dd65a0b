from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny_job
import torch
from tiny_job import TinyJob

from runctl import record
from runctl.config import RunConfig
from runctl.errors import RunctlError
from runctl.train import checkpoint, device, evaluate, optimizer
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Outcome, Place, train
from runctl.train.sums import NonFinite
from runctl.train.trackers import start

TINY = Path(tiny_job.__file__)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def place(run: record.RunDir, config: RunConfig, attempt: int = 1) -> Place:
    files = run.attempt(attempt)
    files.path.mkdir(parents=True, exist_ok=True)
    trackers = start(config, {}, run)
    return Place(run, attempt, torch.device("cpu"), Control(), Heartbeat(files), trackers)


def run_tiny(folder: Path, job: TinyJob | None = None, attempt: int = 1, **sections: Any) -> Outcome:
    config = tiny_job.config(**sections)
    torch.manual_seed(0)
    return train(job or TinyJob(), config, place(record.RunDir(folder), config, attempt))


def rows(folder: Path, key: str) -> dict[int, float]:
    return {row["step"]: row[key] for row in record.read_lines(folder / "metrics.jsonl") if key in row}


def attempt(run: record.RunDir, number: int = 1, **environment: str) -> subprocess.Popen[bytes]:
    """Start an attempt as the supervisor does: its output goes to the attempt's log."""
    command = [sys.executable, str(TINY), str(run.path), "--attempt", str(number)]
    root = str(Path(__file__).resolve().parents[1])
    given = os.environ | {"PYTHONPATH": root} | environment
    run.attempt(number).path.mkdir(parents=True, exist_ok=True)
    with run.attempt(number).log.open("wb") as log:
        return subprocess.Popen(command, env=given, stdout=log, stderr=subprocess.STDOUT)


def log(run: record.RunDir, number: int = 1) -> str:
    return run.attempt(number).log.read_text()


def wait_for_step(run: record.RunDir, process: subprocess.Popen[Any], step: int) -> None:
    deadline = time.monotonic() + 60
    while not any(row["step"] >= step for row in record.read_lines(run.metrics)):
        assert process.poll() is None, [attempt.log.read_text() for attempt in run.attempts() if attempt.log.exists()]
        assert time.monotonic() < deadline
        time.sleep(0.005)


def result(run: record.RunDir, number: int = 1) -> dict[str, Any]:
    found = record.read_json(run.attempt(number).result)
    assert found is not None
    return dict(found)


def test_training_lowers_the_loss_and_leaves_rows_and_checkpoints(tmp_path: Path) -> None:
    ended = run_tiny(tmp_path)
    assert (ended.outcome, ended.step, ended.total_steps) == ("succeeded", 40, 40)
    losses = rows(tmp_path, "train/loss")
    assert list(losses) == [1, 5, 10, 15, 20, 25, 30, 35, 40]
    assert losses[40] < losses[1] / 5
    assert list(rows(tmp_path, "val/loss")) == [10, 20, 30, 40]
    assert ended.metrics["val/loss"] == rows(tmp_path, "val/loss")[40]
    assert "baseline/no_motion/loss" in ended.metrics
    assert record.RunDir(tmp_path).latest.read_text() == "step-000000040\n"


def test_accumulation_gives_the_gradient_of_the_whole_batch_uneven_ends_included(tmp_path: Path) -> None:
    quiet = {"checkpoint": {"every": "never"}}

    def weights(folder: Path, batch_size: int, accumulation: int) -> torch.Tensor:
        torch.manual_seed(0)
        job = TinyJob()
        job.model[2].p = 0.0  # dropout draws otherwise for other shapes
        job.loss = lambda batch, **_: _plain_loss(job, batch)  # type: ignore[method-assign]
        training = {"batch_size": batch_size, "accumulation": accumulation, "steps": 16}
        run_tiny(folder, job, training=training, **quiet)
        return torch.cat([parameter.detach().flatten() for parameter in job.model.parameters()])

    whole = weights(tmp_path / "whole", 96, 1)  # 492 windows: the last step of an epoch has 12
    cut = weights(tmp_path / "cut", 40, 3)  # 120 a step: other batches, so other weights
    same = weights(tmp_path / "same", 32, 3)
    uneven = weights(tmp_path / "uneven", 95, 2)
    joined = weights(tmp_path / "joined", 190, 1)
    assert torch.allclose(whole, same, atol=1e-5)
    assert torch.allclose(uneven, joined, atol=1e-5)
    assert not torch.allclose(whole, cut, atol=1e-3)


def _plain_loss(job: TinyJob, batch: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    error = (job.model(batch[:, : tiny_job.CONTEXT]).squeeze(-1) - batch[:, tiny_job.CONTEXT]).square().mean()
    return error, {"square": error.detach()}


def test_validation_leaves_no_trace_in_the_training(tmp_path: Path) -> None:
    run_tiny(tmp_path / "often", training={"validate_every": "3 steps"})
    run_tiny(tmp_path / "rarely", training={"validate_every": "1000 steps"})
    assert rows(tmp_path / "often", "train/loss") == rows(tmp_path / "rarely", "train/loss")
    assert rows(tmp_path / "often", "val/loss")[40] == rows(tmp_path / "rarely", "val/loss")[40]


def test_validation_runs_without_dropout_and_training_with_it(tmp_path: Path) -> None:
    modes: dict[str, set[bool]] = {"training": set(), "validating": set()}
    job = TinyJob()
    original = job.batch

    def batch(windows: torch.Tensor, validation: bool) -> torch.Tensor:
        modes["validating" if validation else "training"].add(job.model.training)
        return original(windows, validation)

    job.batch = batch  # type: ignore[method-assign]
    run_tiny(tmp_path, job)
    assert modes == {"training": {True}, "validating": {False}}


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    run_tiny(tmp_path / "a", training={"seed": 1})
    run_tiny(tmp_path / "b", training={"seed": 2})
    assert rows(tmp_path / "a", "train/loss")[40] != rows(tmp_path / "b", "train/loss")[40]


def test_a_non_finite_loss_names_its_step_and_saves_no_poison(tmp_path: Path) -> None:
    with pytest.raises(NonFinite, match="non-finite loss at step 23"):
        run_tiny(tmp_path, TinyJob(poison_at=23))
    assert [path.name for path in checkpoint.folders(record.RunDir(tmp_path))][-1] == "step-000000020"
    assert max(rows(tmp_path, "train/loss")) == 20


def test_a_checkpoint_looks_for_poison_even_between_rows(tmp_path: Path) -> None:
    training = {"log_every": 1000, "validate_every": "1000 steps"}
    with pytest.raises(NonFinite, match="non-finite loss at step 12"):
        run_tiny(tmp_path, TinyJob(poison_at=12), training=training)
    assert [path.name for path in checkpoint.folders(record.RunDir(tmp_path))] == ["step-000000008"]


def test_an_infinite_weight_is_not_saved_though_loss_and_gradients_are_finite(tmp_path: Path) -> None:
    job = TinyJob()
    job.model.register_parameter("spare", torch.nn.Parameter(torch.tensor([float("inf")])))
    with pytest.raises(NonFinite, match="non-finite weights at step 8"):
        run_tiny(tmp_path, job)
    assert checkpoint.folders(record.RunDir(tmp_path)) == []


def test_an_infinite_gradient_is_found_though_the_loss_was_finite(tmp_path: Path) -> None:
    job = TinyJob()
    original = job.loss

    def loss(batch: torch.Tensor, **given: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        if job.batches == 7:
            job.model[0].bias.register_hook(lambda gradient: gradient / 0)
        return original(batch, **given)

    job.loss = loss  # type: ignore[method-assign]
    with pytest.raises(NonFinite, match="non-finite gradient norm at step 8"):
        run_tiny(tmp_path, job)
    assert checkpoint.folders(record.RunDir(tmp_path)) == []


def test_an_unknown_metric_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(RunctlError, match=r"checkpoint\.metric is val/los,") as caught:
        run_tiny(tmp_path, checkpoint={"metric": "val/los"})
    assert caught.value.hint == "did you mean 'val/loss'?"
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_dataset_without_windows_is_refused(tmp_path: Path) -> None:
    job = TinyJob()
    job.validation_windows = 0
    with pytest.raises(RunctlError, match="no validation window of 10 \\+ 1 frames"):
        run_tiny(tmp_path, job)


def test_matrices_decay_and_vectors_do_not() -> None:
    made = optimizer.adamw(TinyJob().model, tiny_job.config(training={"weight_decay": 0.1}).training)
    assert [(group["weight_decay"], {p.ndim for p in group["params"]}) for group in made.param_groups] == [
        (0.1, {2}),
        (0.0, {1}),
    ]


def test_clipping_scales_the_common_norm_and_tells_the_norm_before() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(optimizer.clip(parameters, 0)) == 5.0
    assert float(optimizer.clip(parameters, 1.0)) == 5.0
    assert float(optimizer.clip(parameters, 0)) == pytest.approx(1.0, abs=1e-5)


def test_a_limited_validation_takes_windows_from_everywhere() -> None:
    assert [part.tolist() for part in evaluate.HeldOut(10, None).split(6)] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9]]
    assert [part.tolist() for part in evaluate.HeldOut(10, 4).split(3)] == [[0, 2, 5], [7]]
    assert [part.tolist() for part in evaluate.HeldOut(10, 4)[:2].split(3)] == [[0, 2]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_gpu_that_is_not_there_is_a_clear_failure() -> None:
    for asked in ({"compute": {"gpu": "H100"}, "training": {"device": "auto"}}, {"training": {"device": "cuda"}}):
        with pytest.raises(RunctlError, match="CUDA"):
            device.choose(tiny_job.config(**asked))
    with pytest.raises(RunctlError, match=r"training\.device is cpu, but compute.gpu asks for H100"):
        device.choose(tiny_job.config(compute={"gpu": "H100"}))
    assert device.choose(tiny_job.config(training={"device": "auto"})).type == "cpu"


def test_bf16_trains_too(tmp_path: Path) -> None:
    ended = run_tiny(tmp_path, training={"precision": "bf16"})
    assert ended.outcome == "succeeded"
    assert rows(tmp_path, "train/loss")[40] < rows(tmp_path, "train/loss")[1] / 5


def test_an_attempt_ends_with_its_result_and_a_heartbeat(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config())
    process = attempt(run)
    assert process.wait(60) == 0, log(run)
    told = result(run)
    assert (told["outcome"], told["step"], told["total_steps"], told["error"]) == ("succeeded", 40, 40, None)
    assert told["metrics"]["val/loss"] < 0.1
    beat = record.read_json(run.attempt(1).heartbeat)
    assert beat["phase"] == "ending"
    assert beat["pid"] == process.pid
    assert beat["checkpoint"]["step"] == 40
    assert beat["tracking"] == {"wandb": "disabled"}
    assert beat["data_source"] == "a noisy sine (simulated)"
    assert beat["memory_bytes"] > 50 << 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_ends_as_stopped(tmp_path: Path, number: signal.Signals) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config(checkpoint={"every": "never", "keep_best": 0}))
    process = attempt(run, PACE="0.02")
    wait_for_step(run, process, 5)
    process.send_signal(number)
    assert process.wait(30) == 0, log(run)
    told = result(run)
    assert told["outcome"] == "stopped"
    assert 5 <= told["step"] < 40
    assert run.latest.read_text() == f"step-{told['step']:09d}\n"


def test_sigusr1_saves_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config(checkpoint={"every": "never", "keep_best": 0}))
    process = attempt(run, PACE="0.02")
    wait_for_step(run, process, 5)
    process.send_signal(signal.SIGUSR1)
    deadline = time.monotonic() + 20
    while not run.latest.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert run.latest.read_text() < "step-000000040"
    assert process.wait(30) == 0
    assert result(run)["outcome"] == "succeeded"


def test_the_death_of_the_supervisor_saves_and_ends_as_failed(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config(checkpoint={"every": "never", "keep_best": 0}))
    starter = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, {str(TINY)!r}, {str(run.path)!r}, '--attempt', '1'])\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(120)\n"
    )
    root = str(Path(__file__).resolve().parents[1])
    given = os.environ | {"PYTHONPATH": root, "PACE": "0.02"}
    parent = subprocess.Popen([sys.executable, "-c", starter], env=given, text=True, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent:
        child = psutil.Process(int(parent.stdout.readline()))
        wait_for_step(run, parent, 5)
        parent.kill()
    child.wait(30)
    told = result(run)
    assert told["outcome"] == "failed"
    assert told["error"]["message"] == "supervisor lost"
    assert run.latest.read_text() == f"step-{told['step']:09d}\n"


def test_a_defect_is_told_in_the_result_and_its_traceback_in_the_log_only(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config())
    process = attempt(run, PACE="not a number")
    assert process.wait(60) == 1
    assert result(run)["error"]["type"] == "ValueError"
    assert "Traceback" in log(run)
    assert "Traceback" not in run.attempt(1).result.read_text()


def test_a_failure_that_a_person_can_mend_is_told_without_a_traceback(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config())
    process = attempt(run, POISON="23")
    assert process.wait(60) == 1
    told = result(run)
    assert told["outcome"] == "failed"
    assert told["error"]["type"] == "NonFinite"
    assert told["error"]["message"] == "non-finite loss at step 23"
    assert "training.lr" in told["error"]["hint"]
    assert "error: non-finite loss at step 23" in log(run)
    assert "Traceback" not in log(run)


def test_a_run_without_a_readable_config_ends_with_a_result(tmp_path: Path) -> None:
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config())
    run.run.write_text("{")
    process = attempt(run)
    assert process.wait(60) == 1
    assert "run.json is missing or damaged" in result(run)["error"]["message"]


def test_a_full_disk_ends_the_run_with_the_reason_and_keeps_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoint._write

    def full(path: Path, parts: list[Any]) -> dict[str, Any]:
        if "step-000000010" not in str(path) and path.name == "optimizer.safetensors":
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, parts)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(OSError, match="No space left on device"):
        run_tiny(tmp_path, checkpoint={"every": "10 steps"})
    run = record.RunDir(tmp_path)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step-000000010"]
    assert run.latest.read_text() == "step-000000010\n"


@pytest.mark.parametrize("left", [12 << 10, 0])
def test_a_disk_that_fills_up_is_told_without_a_traceback(tmp_path: Path, left: int) -> None:
    """With a little room left the checkpoint does not fit, but the result does; with none, stderr has the cause."""
    room = tmp_path / "small"
    room.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", room]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        run = tiny_job.make_run(
            room / "run", tiny_job.config(training={"steps": 10_000, "validate_every": "9999 steps"})
        )
        given = os.environ | {"PYTHONPATH": str(TINY.parents[1]), "PACE": "0.005"}
        command = [sys.executable, str(TINY), str(run.path), "--attempt", "1"]
        process = subprocess.Popen(command, env=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        wait_for_step(run, process, 10)
        with (room / "fill").open("wb", buffering=0) as file:
            with suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            if left:
                file.truncate(file.tell() - left)
            while not left and process.poll() is None:
                with suppress(OSError):
                    file.write(bytes(4096))
        said = process.communicate(timeout=30)[0].splitlines()
        assert process.returncode == 1
        assert said[0].startswith(f"error: no space left on {run.path} for ")
        assert said[0].endswith("; free some there, then go on from the last checkpoint with: runctl resume run")
        saved = checkpoint.folders(run)
        assert run.latest.read_text().strip() == saved[-1].name
        assert checkpoint.load(saved[-1], TinyJob().identity | checkpoint.read_manifest(saved[-1])["identity"])  # type: ignore[index]
        if left:
            told = result(run)
            assert (told["outcome"], told["error"]["type"], len(said)) == ("failed", "OSError", 1)
            assert said[0] == f"error: {told['error']['message']}; {told['error']['hint']}"
        else:
            assert not run.attempt(1).result.exists()
            assert said[1].startswith(f"error: no space left on {run.path} for ")
            assert said[1].endswith("; result.json could not be written: No space left on device")
            assert len(said) == 2
    finally:
        subprocess.run(["umount", "-l", room], check=True)


def test_the_best_checkpoint_stays_if_its_validation_was_given_up_and_made_up_for(tmp_path: Path) -> None:
    """The stop arrives in the validation of step 10, which turns out to be the best of all."""

    class Best(TinyJob):
        loop: Loop

        def batch(self, windows: torch.Tensor, validation: bool) -> torch.Tensor:
            if validation and self.loop.state.step == 10 and self.loop.place.attempt == 1:
                self.loop.place.control._on_stop(signal.SIGTERM, None)
            return super().batch(windows, validation)

        def metrics(self) -> Any:
            measured = super().metrics()
            measured.compute = lambda: {"val/loss": 0.1 if self.loop.state.step == 10 else 0.9}  # type: ignore[method-assign]
            return measured

    settings = tiny_job.config(checkpoint={"every": "5 steps", "keep_last": 1, "keep_best": 1})
    for number in (1, 2):
        job = Best()
        job.loop = Loop(job, settings, place(record.RunDir(tmp_path), settings, number))
        job.loop.run()
    assert {path.name for path in (tmp_path / "checkpoints").glob("step-*")} == {"step-000000010", "step-000000040"}
