"""Making room: what may go, what never may, and that a kill in between harms nothing."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import in_state, make, supervised, until
from hypothesis import given, settings
from hypothesis import strategies as st
from test_launch import runctl

from runctl import prune, record, status
from runctl.supervisor import summary


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def finished(
    project: Path,
    name: str = "run",
    *,
    steps: tuple[int, ...] = (),
    best: int | None = None,
    state: str = "succeeded",
    days: float = 0.0,
) -> record.RunDir:
    """A run that has ended, with whole checkpoints at these steps; that of `best`, else the last,
    is the best."""
    run = make(project, name=name)
    for step in steps:
        checkpoint(run, step)
        value = 1 / step if best is None else 0.1 if step == best else 1.0
        record.append_line(run.metrics, {"step": step, "attempt": 1, "val/loss": value})
    ended = time.time() - days * 86400
    outcome = {"succeeded": "succeeded", "stopped": "stopped"}.get(state, "failed")
    record.write_json(run.attempt(1).result, {"outcome": outcome, "step": 9, "total_steps": 9}, durable=False)
    end = {"state": state, "reason": "", "ended": ended, "exit_code": 0, "step": 9, "total_steps": 9}
    record.write_json(run.attempt(1).exit, end, durable=False)
    record.write_json(run.summary, {"state": state, "checkpoints": summary.checkpoints(run)}, durable=False)
    return run


def checkpoint(run: record.RunDir, step: int, size: int = 10_000) -> Path:
    folder = run.checkpoint(step)
    folder.mkdir(parents=True)
    data = os.urandom(size)
    (folder / "model.safetensors").write_bytes(data)
    files = {"model.safetensors": {"bytes": size, "sha256": hashlib.sha256(data).hexdigest()}}
    manifest = {"kind": "checkpoint", "step": step, "files": files, "identity": {}}
    record.write_json(folder / "manifest.json", manifest, durable=False)
    run.latest.write_text(folder.name + "\n")
    return folder


def names(run: record.RunDir) -> list[int]:
    return [entry["step"] for entry in summary.checkpoints(run)]


def snapshot(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_nothing_goes_without_yes_and_then_what_was_shown(project: Path) -> None:
    run = finished(project, steps=(10, 20, 30, 40, 50), best=20)
    before = snapshot(project)
    done = runctl("prune", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [item["path"][-2:] for item in plan["items"]] == ["10", "30"]
    assert plan["deleted"] is False
    assert plan["bytes"] >= 20_000
    assert snapshot(project) == before
    shown = runctl("prune")
    assert "neither the best nor among the newest 2" in shown.stdout
    assert "Nothing was touched: add --yes" in shown.stderr
    done = json.loads(runctl("prune", "--yes", "--json").stdout)
    assert (done["deleted"], done["bytes"], done["left"]) == (True, plan["bytes"], [])
    assert names(run) == [20, 40, 50]
    assert [one["step"] for one in record.read_json(run.summary)["checkpoints"]] == [20, 40, 50]
    (row,) = [row for row in record.read_lines(run.events) if row["event"] == "pruned"]
    assert len(row["paths"]) == 2
    assert json.loads(runctl("prune", "--yes", "--json").stdout)["items"] == []


def test_options_narrow_what_goes(project: Path) -> None:
    finished(project, "old-1", steps=(10, 20, 30), days=40)
    finished(project, "old-2", steps=(100, 150, 200, 250), days=5)
    finished(project, "new", steps=(1, 2, 3))

    def chosen(*options: str) -> list[tuple[str, int]]:
        items = json.loads(runctl("prune", "--json", *options).stdout)["items"]
        return [(item["run"], int(item["path"].rpartition("-")[2])) for item in items]

    assert chosen("--keep", "1", "--runs", "old-*", "--older-than", "30d") == [("old-1", 10), ("old-1", 20)]
    assert chosen("--runs", "old-2", "--keep", "1", "--keep-every", "100") == [("old-2", 150)]
    assert chosen("--older-than", "60d") == []
    assert runctl("prune", "--keep", "0").returncode == 2
    assert runctl("prune", "--older-than", "soon").returncode == 2


def test_a_run_that_is_not_over_is_left_alone(project: Path) -> None:
    run = make(project, "--steps", 100_000, "--checkpoint-every", 2, "--step-seconds", 0.005)
    with supervised(run):
        until(run, lambda found: (found.checkpoint_step or 0) > 10)
        done = json.loads(runctl("prune", "--keep", "1", "--yes", "--json").stdout)
        assert (done["items"], done["kept"]) == ([], [{"run": "run", "why": "it is running"}])
        assert until(run, lambda _: True).state == "running"


def test_a_run_that_begins_after_the_plan_is_left_alone(project: Path) -> None:
    """Between the look and the deletion somebody resumes it: its lock says so, or its state."""
    run = finished(project, steps=(10, 20, 30))
    policy = prune.Policy(keep=1)
    plan = prune.plan(project, policy)
    assert len(plan.items) == 2
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'ab'); fcntl.flock(f, 2); print(1, flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", hold, run.lock], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        done = prune.carry_out(plan, policy)
    finally:
        holder.kill()
        holder.communicate()
    assert [why for _, why in done.left] == ["a supervisor holds it"] * 2
    run.attempt(2).path.mkdir()
    record.write_json(run.attempt(2).start, {"time": time.time()})
    done = prune.carry_out(plan, policy)
    assert [why for _, why in done.left] == ["it is no longer what it was"] * 2
    assert names(run) == [10, 20, 30]


def test_dead_runs_go_as_a_whole_only_where_nothing_was_saved(project: Path) -> None:
    finished(project, "empty", state="failed", days=40)
    finished(project, "saved", steps=(10,), state="failed", days=40)
    damaged = finished(project, "damaged", steps=(10,), state="failed", days=40)
    os.truncate(damaged.checkpoint(10) / "model.safetensors", 5)
    finished(project, "recent", state="failed", days=1)
    finished(project, "good", days=40)
    found = json.loads(runctl("prune", "--older-than", "30d", "--yes", "--json").stdout)
    assert [(item["run"], item["kind"]) for item in found["items"]] == [("empty", "run")]
    assert sorted(run.name for run in record.list_runs(project)) == ["damaged", "good", "recent", "saved"]
    assert not list((project / "runs").glob(".*"))


def test_a_simulated_dataset_goes_once_nobody_needs_it(project: Path) -> None:
    for name, state, steps in (("good", "succeeded", (9,)), ("resumable", "failed", (9,)), ("dead", "failed", ())):
        run = finished(project, name, steps=steps, state=state)
        run.dataset.mkdir()
        record.write_json(run.dataset / "manifest.json", {"kind": "encoded-dataset"})
        (run.dataset / "frames.bin").write_bytes(bytes(9999))
    found = json.loads(runctl("prune", "--yes", "--json").stdout)
    assert sorted(item["run"] for item in found["items"] if item["kind"] == "dataset") == ["dead", "good"]
    assert (project / "runs" / "resumable" / "dataset" / "frames.bin").exists()


def test_what_was_half_written_goes_and_a_damaged_one_if_a_newer_is_whole(project: Path) -> None:
    run = finished(project, steps=(10, 20, 30))
    (run.checkpoints / ".tmp-step-000000040-77").mkdir()
    (run.checkpoints / "damaged-step-000000025").mkdir()
    (run.checkpoints / "damaged-step-000000099").mkdir()  # newer than all that is whole: somebody may restore it
    (run.path / "attempts" / ".resume-5.tmp").mkdir()
    (project / "runs" / ".trash-old-1-1").mkdir()
    (project / "runs" / ".launch.1.tmp").mkdir()  # young: perhaps of a launch that goes on
    found = json.loads(runctl("prune", "--keep", "3", "--yes", "--json").stdout)
    assert sorted(Path(item["path"]).name for item in found["items"]) == [
        ".resume-5.tmp",
        ".tmp-step-000000040-77",
        ".trash-old-1-1",
        "damaged-step-000000025",
    ]
    assert (run.checkpoints / "damaged-step-000000099").is_dir()
    assert (project / "runs" / ".launch.1.tmp").is_dir()


def test_no_link_leads_out_of_the_runs(project: Path) -> None:
    outside = project / "precious"
    other = record.RunDir(outside / "run")
    for step in (10, 20, 30):
        checkpoint(other, step)
    run = finished(project, steps=(10, 20, 30))
    for step in (1, 2):
        (run.checkpoints / f"step-00000000{step}").symlink_to(other.checkpoint(10))
    run.dataset.symlink_to(outside)
    linked = finished(project, "linked", state="failed", days=99)
    elsewhere = project / "elsewhere"
    linked.path.rename(elsewhere)
    linked.path.symlink_to(elsewhere)
    inner = finished(project, "inner", steps=(10,))
    inner.checkpoint(10).parent.rename(project / "kept")
    inner.checkpoints.symlink_to(project / "kept")
    before = snapshot(outside) + snapshot(elsewhere) + snapshot(project / "kept")
    done = runctl("prune", "--keep", "1", "--older-than", "0s", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(int(item["path"][-2:]) for item in json.loads(done.stdout)["items"]) == [10, 20]
    assert snapshot(outside) + snapshot(elsewhere) + snapshot(project / "kept") == before


def test_a_folder_that_becomes_a_link_after_the_look_is_not_followed(project: Path) -> None:
    run = finished(project, steps=(10, 20, 30))
    policy = prune.Policy(keep=1)
    plan = prune.plan(project, policy)
    run.checkpoints.rename(project / "moved")
    run.checkpoints.symlink_to(project / "moved")
    done = prune.carry_out(plan, policy)
    assert not done.items
    assert sorted(path.name for path in (project / "moved").glob("step-*/model.safetensors") or []) != []
    with pytest.raises(OSError, match="is a link"):
        prune._delete(plan.root, plan.items[0])


@pytest.mark.parametrize("call", ["unlink", "rename", "rmtree"])
def test_a_kill_in_between_leaves_no_half_checkpoint(project: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Whatever the last call was, `status` and a resume see only whole ones, and the next prune ends the work."""
    run = finished(project, steps=(10, 20, 30))
    policy = prune.Policy(keep=1)
    plan = prune.plan(project, policy)

    def killed(original: Callable[..., object]) -> Callable[..., object]:
        def do(*arguments: object, **named: object) -> object:
            if call != "rmtree":
                original(*arguments, **named)
            raise KeyboardInterrupt

        return do

    owner = {"unlink": Path, "rename": os, "rmtree": prune.shutil}[call]
    with monkeypatch.context() as patch:
        patch.setattr(owner, call, killed(getattr(owner, call)))
        with pytest.raises(KeyboardInterrupt):
            prune.carry_out(plan, policy)
    assert names(run) == [20, 30]
    assert status.read(run).state == "succeeded"
    prune.carry_out(prune.plan(project, policy), policy)
    assert [path.name for path in run.checkpoints.iterdir() if path.is_dir()] == ["step-000000030"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8, unique=True),
    st.integers(1, 4),
    st.one_of(st.none(), st.integers(1, 20)),
    st.sampled_from(["succeeded", "failed", "stopped", "killed"]),
    st.one_of(st.none(), st.floats(0, 90)),
    st.data(),
)
def test_the_newest_and_the_best_stay_whatever_is_asked(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[int],
    keep: int,
    every: int | None,
    state: str,
    days: float | None,
    data: st.DataObject,
) -> None:
    project = tmp_path_factory.mktemp("prune")
    steps.sort()
    best = data.draw(st.sampled_from(steps))
    run = finished(project, steps=tuple(steps), best=best, state=state, days=30)
    policy = prune.Policy(keep, every, None if days is None else days * 86400)
    prune.carry_out(prune.plan(project, policy), policy)
    left = names(run)
    assert steps[-1] in left
    assert best in left
    assert set(steps[-keep:]) <= set(left)
    assert every is None or all(step in left for step in steps if step % every == 0)
    assert status.read(run).state == state


def test_a_real_run_can_be_resumed_after_a_prune(project: Path) -> None:
    run = make(project, "--steps", 40, "--checkpoint-every", 5)
    with supervised(run):
        until(run, in_state("succeeded"))
    assert runctl("prune", "--keep", "1", "--yes").returncode == 0
    assert status.read(run).checkpoint_step == 40
    assert run.latest.read_text().strip() == "step-000000040"
