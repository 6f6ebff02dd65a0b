"""Several processes that share a run, for real: gloo on the CPU, started by torchrun under the supervisor."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_job
import torch
from fake_runs import alive, events, in_state, supervised, until

from runctl import config as configs
from runctl import record, why
from runctl.config import RunConfig
from runctl.errors import RunctlError
from runctl.starting import write_start
from runctl.train import leader, presence, sharing
from runctl.train.presence import Seat
from runctl.train.ranks import Group

JOB = Path(__file__).parent / "ddp_job.py"
ENDED = ("succeeded", "failed", "stopped")
TOLERANCE = 1e-6  # relative: fp32 sums in another grouping
SLOW = 180.0  # seconds, for a machine that is busy with other tests

CONFIG = """
name: tiny
task: worldmodel
data: {simulate: {games: 4, seconds: 4}}
model: {d_model: 16, n_layers: 1, headdim: 16, context_len: 8, dropout: 0.0}
training: {steps: 24, batch_size: 37, accumulation: 3, lr: 1.0e-3, warmup_steps: 5, threads: 1, log_every: 1,
           validate_every: 8 steps, device: cpu, seed: 3}
checkpoint: {every: 6 steps, keep_last: 10}
"""


def runctl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[1])
    env = os.environ | {"PYTHONPATH": root, "NO_COLOR": "1"}
    argv = [sys.executable, "-m", "runctl", *words]
    return subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=SLOW, env=env, check=False)


def launched(folder: Path, name: str, *words: str) -> record.RunDir:
    done = runctl(folder, "launch", "tiny.yaml", "--name", name, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return record.RunDir(folder / "runs" / name)


def history(run: record.RunDir) -> dict[tuple[int, str], float]:
    """(step, name) → value of everything that does not depend on the clock; the last attempt's row counts."""
    return {
        (row["step"], name): value
        for row in record.read_lines(run.metrics)
        for name, value in row.items()
        if name.startswith(("train/", "val/", "baseline/"))
    }


def off(one: dict[tuple[int, str], float], other: dict[tuple[int, str], float]) -> float:
    """The largest relative difference of two histories of the same rows."""
    assert one.keys() == other.keys()
    assert len(one) > 300
    return max(abs(one[key] - other[key]) / max(abs(one[key]), 1e-9) for key in one)


def test_two_processes_train_what_one_trains_also_where_the_last_batch_is_uneven(tmp_path: Path) -> None:
    """Through the CLI: 24 steps of 3 passes of 37 windows, some of 1 epoch's last ones shorter; every loss, its parts,
    the norms, and the validations. Then the same from a checkpoint of two, by one."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    one = launched(tmp_path, "one")
    two = launched(tmp_path, "two", "--set", "training.processes=2")
    windows = int(record.read_object(one.checkpoint(24) / "manifest.json")["identity"]["data.train_windows"])
    assert windows % 111
    assert windows < 24 * 111  # an epoch ends within
    assert 0 < off(history(one), history(two)) <= TOLERANCE  # two processes did compute it otherwise
    first = two.attempt(1)
    assert [path.name for path in sorted(first.ranks.iterdir())] == ["0.at", "1.at", "1.json", "1.stacks.txt"]
    assert record.read_object(first.ranks / "1.json")["step"] == 24
    assert not one.attempt(1).ranks.exists()  # one process is no group
    assert record.read_object(one.attempt(1).heartbeat)["pid"] != record.read_object(first.heartbeat)["pid"]
    assert len([row for row in record.read_lines(two.metrics) if "train/loss" in row]) == 24  # only the first writes

    cut = goes_on(two, tmp_path / "runs" / "cut", 12)
    with supervised(cut, 2):
        assert until(cut, in_state(*ENDED), SLOW).state == "succeeded"
    assert "processes (2, now 1) changed since the checkpoint" in cut.attempt(2).log.read_text()
    assert {row["attempt"] for row in record.read_lines(cut.metrics)} == {1, 2}
    assert off(history(one), history(cut)) <= TOLERANCE


@pytest.mark.slow
def test_a_last_step_of_one_window_is_the_same_for_two_processes(tmp_path: Path) -> None:
    """One of the two has nothing to read then: its pass counts nothing, and both end with the same weights."""
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    sizes = ["--set", "training.batch_size=139", "--set", "training.accumulation=5", "--set", "training.steps=4"]
    one = launched(tmp_path, "one", *sizes)
    two = launched(tmp_path, "two", *sizes, "--set", "training.processes=2")
    windows = int(record.read_object(one.checkpoint(4) / "manifest.json")["identity"]["data.train_windows"])
    assert windows % 695 == 1
    found, other = history(one), history(two)
    assert found.keys() == other.keys()
    assert max(abs(found[key] - other[key]) / max(abs(found[key]), 1e-9) for key in found) <= TOLERANCE


def goes_on(run: record.RunDir, folder: Path, step: int) -> record.RunDir:
    """A copy of a run as it was at a checkpoint, about to go on by one process."""
    cut = record.RunDir(folder)
    shutil.copytree(run.path, cut.path)
    cut.summary.unlink()
    for later in [path for path in cut.checkpoints.glob("step-*") if path != cut.checkpoint(step)]:
        shutil.rmtree(later)
    cut.latest.write_text(f"{cut.checkpoint(step).name}\n")
    rows = [row for row in record.read_lines(cut.metrics) if row["step"] <= step]
    cut.metrics.write_text("")
    for row in rows:
        record.append_line(cut.metrics, row)
    entry = record.read_object(cut.run)
    entry["config"]["training"]["processes"] = None
    record.write_json(cut.run, entry)
    write_start(cut.attempt(2).path, from_step=step, checkpoint=None, code=None)
    return cut


def make(folder: Path, name: str = "run", **sections: Any) -> record.RunDir:
    """A run of ddp_job.py in two processes, as launch leaves it."""
    run = record.RunDir(folder / "runs" / name)
    training = {"processes": 2, "steps": 4000} | sections.pop("training", {})
    config = tiny_job.config(training=training, **sections)
    entry = {"schema_version": 1, "name": name, "created": time.time(), "backend": "local", "project": str(folder)}
    entry |= {"command": [sys.executable, str(JOB)], "config": configs.to_effective(config)}
    record.write_json(run.run, entry)
    write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    return run


@contextmanager
def running(
    run: record.RunDir, monkeypatch: pytest.MonkeyPatch, attempt: int = 1, grace: float = 20.0, **env: str
) -> Iterator[int]:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with supervised(run, attempt, grace) as supervisor:
        yield supervisor
    for one in presence.standing(run.attempt(attempt)):
        assert not alive(one.pid), "a process outlived its run"


def result(run: record.RunDir, attempt: int = 1) -> dict[str, Any]:
    return record.read_object(run.attempt(attempt).result)


def test_a_process_that_fails_ends_all_with_its_own_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path)
    with running(run, monkeypatch, FAULT="raise:1:40"):
        found = until(run, in_state(*ENDED), SLOW)
    assert (found.state, found.failure) == ("failed", "user_error")
    assert found.reason == "ValueError: rank 1: the sine is not noisy"
    told = result(run)["error"]
    assert told["where"].startswith("ddp_job.py:")
    failed = presence.failures(run.attempt(1))
    assert [(one["rank"], one["second"]) for one in failed] in ([(1, False), (0, True)], [(1, False)])
    log = run.attempt(1).log.read_text()
    assert "[rank1]: ValueError: the sine is not noisy" in log
    assert "ChildFailedError" not in log
    assert any("the sine is not noisy" in line for line in why.explain(run).failure.evidence)
    ended = record.read_object(run.attempt(1).exit)["ended"]
    assert ended - failed[0]["time"] < 5, "within seconds"


def test_a_process_that_is_killed_ends_all_and_its_signal_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path)
    with running(run, monkeypatch, PACE="0.01"):
        until(run, lambda found: found.first_step and found.state == "running", SLOW)
        pid = presence.standing(run.attempt(1))[1].pid
        killed = time.time()
        os.kill(pid, signal.SIGKILL)
        found = until(run, in_state(*ENDED), SLOW)
    assert found.reason == f"rank 1 (process {pid}) was ended by SIGKILL"
    assert found.failure == "infrastructure"
    exited = record.read_object(run.attempt(1).exit)
    assert exited["ended"] - killed < 5


def test_a_process_that_dies_while_all_validate_ends_them_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path)
    with running(run, monkeypatch, FAULT="late:1:5"):
        found = until(run, in_state(*ENDED), SLOW)
    pid = presence.standing(run.attempt(1))[1].pid
    assert found.reason == f"rank 1 (process {pid}) was ended by SIGKILL"
    ended = record.read_object(run.attempt(1).exit)["ended"]
    assert ended - (run.attempt(1).ranks / "died").stat().st_mtime < 5


def test_nan_in_one_process_stops_all_and_names_the_loss_and_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, training={"steps": 100, "log_every": 5}, checkpoint={"every": 5})
    with running(run, monkeypatch, FAULT="nan:1:13"):
        found = until(run, in_state(*ENDED), SLOW)
    assert (found.state, found.reason, found.failure) == ("failed", "non-finite loss at step 13", "nan")
    assert sorted(path.name for path in run.checkpoints.glob("step-*"))[-1] == "step-000000010"


def test_a_process_that_hangs_is_named_with_its_stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(tmp_path, compute={"hang_after": 1.5})
    with running(run, monkeypatch, grace=1.0, FAULT="hang:1:60"):
        found = until(run, in_state(*ENDED), SLOW)
    assert (found.state, found.failure) == ("failed", "hang")
    pid = presence.standing(run.attempt(1))[1].pid
    assert f"rank 1 (process {pid}) did not come to where 1 of 2 processes wait" in found.reason
    told = run.attempt(1).hang.read_text()
    assert f"rank 1 (process {pid}):\n" in told
    assert "in asleep" in told


def test_requests_reach_all_processes_and_leave_one_checkpoint_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGUSR1 saves after a step, SIGTERM to the supervisor stops all after the same one."""
    run = make(tmp_path, checkpoint={"every": "never"}, training={"validate_every": "100000 steps"})
    with running(run, monkeypatch, PACE="0.01") as supervisor:
        until(run, lambda found: found.first_step and found.state == "running", SLOW)
        record.write_json(run.attempt(1).save, {"schema_version": 1, "id": "a", "by": "b", "time": time.time()})
        until(run, lambda found: "checkpoint" in events(run), SLOW)
        os.kill(supervisor, signal.SIGTERM)
        found = until(run, in_state(*ENDED), SLOW)
    assert found.state == "stopped"
    saved = sorted(path.name for path in run.checkpoints.glob("step-*"))
    assert len(saved) == 2
    assert saved[1] == f"step-{result(run)['step']:09}"
    assert result(run)["outcome"] == "stopped"
    steps = {record.read_object(path)["step"] for path in (run.attempt(1).heartbeat, run.attempt(1).ranks / "1.json")}
    assert steps == {result(run)["step"]}


def test_a_resume_with_as_many_processes_is_exact_and_with_others_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random numbers of each process come back: the job draws noise and dropout. With another number they would be
    others, which is refused."""
    shape = {"steps": 40, "batch_size": 37, "accumulation": 2, "log_every": 1}
    dropping = {"model": {"dropout": 0.1}}
    whole, broken = (make(tmp_path, name, training=shape, **dropping) for name in ("whole", "broken"))
    with running(whole, monkeypatch):
        assert until(whole, in_state(*ENDED), SLOW).state == "succeeded"
    with running(broken, monkeypatch, FAULT="exit:1:55"):
        found = until(broken, in_state(*ENDED), SLOW)
    pid = presence.standing(broken.attempt(1))[1].pid
    assert found.reason == f"rank 1 (process {pid}) exited with 3 without a word"
    state = record.read_object(broken.checkpoint(24) / "manifest.json")
    assert state["surroundings"]["processes"] == "2"
    write_start(broken.attempt(2).path, from_step=24, checkpoint=None, code=None)
    with running(broken, monkeypatch, 2, FAULT=""):
        assert until(broken, in_state(*ENDED), SLOW).state == "succeeded"
    assert history(whole) == history(broken)

    alone = RunConfig.model_validate(record.read_object(broken.run)["config"])
    fewer = alone.model_copy(update={"training": alone.training.model_copy(update={"processes": 1, "steps": 60})})
    entry = record.read_object(broken.run)
    record.write_json(broken.run, entry | {"config": configs.to_effective(fewer)})
    write_start(broken.attempt(3).path, from_step=40, checkpoint=None, code=None)
    with running(broken, monkeypatch, 3):
        found = until(broken, in_state(*ENDED), SLOW)
    assert "is of a run of 2 processes, and here are 1: each draws its own random numbers for dropout" in found.reason


def test_pieces_of_a_batch_are_all_its_windows_once_and_the_empty_ones_count_nothing(tmp_path: Path) -> None:
    attempt = record.RunDir(tmp_path).attempt(1)
    for windows in (1, 2, 3, 7, 64):
        part = torch.arange(windows) + 100
        pieces = [Group(Seat(rank, 3), attempt, presence.Mark(attempt, rank)).share(part) for rank in range(3)]
        counted = torch.cat([piece[:count] for piece, count in pieces])
        assert torch.equal(counted, part)
        assert all(len(piece) for piece, _ in pieces)  # each makes its pass, since the others wait for its gradients
        assert max(count for _, count in pieces) - min(count for _, count in pieces) <= 1


def test_only_the_last_pass_of_a_step_shares_the_gradients(tmp_path: Path) -> None:
    attempt = record.RunDir(tmp_path).attempt(1)
    group = Group(Seat(0, 2), attempt, presence.Mark(attempt, 0))
    apart: list[str] = []

    @contextmanager
    def no_sync() -> Iterator[None]:
        apart.append("began")
        yield
        apart.append("ended")

    group._wrapped = SimpleNamespace(no_sync=no_sync)
    with group.passing(last=False):
        assert apart == ["began"]
    with group.passing(last=True):
        assert apart == ["began", "ended"]


def test_a_record_outweighs_what_a_process_did_afterwards(tmp_path: Path) -> None:
    """Gloo may abort in the teardown of a good run."""
    attempt = record.RunDir(tmp_path).attempt(1)
    record.write_json(attempt.result, {"schema_version": 1, "outcome": "succeeded", "step": 9})
    assert leader.settle(attempt, {1: (77, -signal.SIGABRT)}, None, stopped="") == 0
    assert record.read_object(attempt.result)["outcome"] == "succeeded"


def test_the_first_failure_of_its_own_is_the_runs(tmp_path: Path) -> None:
    attempt = record.RunDir(tmp_path).attempt(1)
    attempt.ranks.mkdir(parents=True)
    presence.tell_failure(attempt, 0, {"type": "PeerLost", "message": "another process is gone"}, second=True)
    presence.tell_failure(attempt, 2, {"type": "MemoryError", "message": "no room"}, second=False)
    assert leader.settle(attempt, {2: (77, 1), 0: (75, 1)}, None, stopped="") == 1
    assert record.read_object(attempt.result)["error"] == {"type": "MemoryError", "message": "rank 2: no room"}
    attempt.result.unlink()
    (attempt.ranks / "2.failed.json").unlink()
    assert leader.settle(attempt, {2: (77, -signal.SIGSEGV), 0: (75, 1)}, None, stopped="") == 128 + signal.SIGSEGV
    told = record.read_object(attempt.result)["error"]["message"]
    assert told == "rank 2 (process 77) was ended by SIGSEGV"


def test_the_number_of_processes_follows_the_gpus_and_contradictions_are_refused() -> None:
    def asked(gpu: str | None = None, processes: int | None = None, batch: int = 64) -> int:
        return sharing.processes(
            {"training": {"processes": processes, "batch_size": batch}, "compute": {"gpu": gpu}},
        )

    assert [asked(), asked("H100"), asked("A100-80GB:2"), asked(None, 3), asked("H100!:2, A100-80GB:2")] == [
        1,
        1,
        2,
        3,
        2,
    ]
    for facts, words in (
        (("H100:2", 4), "training.processes is 4, but compute.gpu asks for 2"),
        (("H100, A100-80GB:2",), "1 or 2 processes would share the run"),
        (("H100:8", None, 4), "8 processes cannot share a batch of 4"),
    ):
        with pytest.raises(RunctlError, match=words):
            asked(*facts)  # type: ignore[arg-type]


def test_processes_on_several_machines_are_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing.refuse_foreign()
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunctlError, match="4 processes on several machines") as refused:
        sharing.refuse_foreign()
    assert "compute.gpu NAME:COUNT" in (refused.value.hint or "")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(RunctlError, match="a torchrun that runctl did not start"):
        sharing.refuse_foreign()
