"""`task: command` through the command line: programs that know nothing of runctl, and one with two lines."""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import clean, events, in_state, pids, supervised, until

from runctl import config as configs
from runctl import placeholders, record, status
from runctl.errors import ConfigError
from runctl.starting import write_start
from runctl.supervisor import kept, starting

ROOT = Path(__file__).parent.parent
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
ARGV = """
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ.get("RUNCTL_RESUME"), os.environ.get("OUT")]))
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with the examples; `python3` is the one that runs the tests. What is launched is killed at the end."""
    (tmp_path / "runctl.yaml").write_text("{}\n")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))  # that python3 knows no venv
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for run in record.list_runs(tmp_path):
        clean(run)


def runctl(*words: str, code: int = 0) -> str:
    argv, env = [sys.executable, "-m", "runctl", *words], {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=90, stdin=subprocess.DEVNULL, env=env, check=False
    )
    assert done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def state(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(runctl("status", name, "--json"))["status"]
    return found


def config(project: Path, section: dict[str, Any], **more: Any) -> Path:
    path = project / "job.yaml"
    path.write_text(json.dumps({"name": "job", "task": "command", "command": section, **more}))
    return path


def rows(run: record.RunDir, name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in record.read_lines(run.metrics) if name in row]


def summary_of(run: record.RunDir) -> dict[str, Any]:
    """The result contract, which is written right after the end."""
    until(run, lambda one: run.summary.exists())
    return record.read_object(run.summary)


@needs_torch
@pytest.mark.slow
def test_a_program_that_knows_nothing_of_runctl_is_watched_killed_and_goes_on_from_its_own_checkpoint(
    project: Path,
) -> None:
    given = ["python3", "examples/trainers/plain.py", "--steps", "100", "--pause", "0.03", "--out", "{run_dir}/out"]
    runctl(
        "launch",
        "examples/plain.yaml",
        "--detach",
        "--set",
        f"command.argv={json.dumps(given)}",
        "--set",
        "compute.retries=0",
    )
    run = record.find(project, "plain")
    found = until(run, lambda one: (one.checkpoint_step or 0) >= 20 and one.eta_seconds is not None)
    assert (found.total_steps, found.source) == (100, "output")
    assert found.loss is not None
    log = run.attempt(1).log
    until(run, lambda one: re.search(r"[13579]0/100 loss \S+\n$", log.read_text()) is not None)
    os.kill(pids(run)[1], signal.SIGKILL)
    until(run, in_state("failed"))
    said = runctl("resume", "plain", "--detach")
    saved = kept.newest(run)[0]
    assert saved is not None
    assert f"{saved['path']}, of step {saved['step']}" in said
    assert until(run, in_state("succeeded")).step == 100
    assert f"going on from {run.path / saved['path']}" in run.attempt(2).log.read_text()
    assert record.read_object(run.attempt(2).resumed)["step"] == saved["step"]
    summary = summary_of(run)
    assert summary["metrics"]["val_loss"] == rows(run, "val_loss")[-1][1]
    assert [entry["step"] for entry in summary["checkpoints"]][-1] == 100
    first, again = (
        {
            row["step"]: row["loss"]
            for row in record.read_lines(run.metrics)
            if row["attempt"] == number and "loss" in row
        }
        for number in (1, 2)
    )
    assert {step: again[step] for step in first.keys() & again.keys()}  # what is run again gives the same losses
    assert all(again[step] == first[step] for step in first.keys() & again.keys())


@needs_torch
@pytest.mark.slow
def test_with_two_lines_it_reports_itself(project: Path) -> None:
    plain, reported = (
        (ROOT / "examples/trainers" / name).read_text().split('"""', 2)[2] for name in ("plain.py", "reported.py")
    )
    changed = [
        line
        for line in difflib.ndiff(plain.splitlines(), reported.splitlines())
        if line[0] in "+-" and line[2:].strip()
    ]
    assert [line.split()[0] + line.split()[1] for line in changed] == ["+import", "+runctl.report(step=step,"]
    runctl("launch", "examples/reported.yaml", "--detach")
    run = record.find(project, "reported")
    found = until(run, in_state("succeeded"))
    assert (found.step, found.total_steps, found.source) == (200, 200, None)
    assert found.checkpoint_step == 200
    steps = [step for step, _ in rows(run, "loss")]
    assert steps[0] == 1
    assert steps[-1] == 200
    assert "progress_read" not in events(run)


def test_a_shell_script_is_retried_by_itself_from_its_newest_state(project: Path) -> None:
    loaded = configs.load("examples/shell.yaml", ['command.env.PAUSE="0.4"'])
    run = record.RunDir(project / "runs" / "shell")
    content = {
        "schema_version": 1,
        "name": "shell",
        "created": time.time(),
        "backend": "local",
        "project": str(project),
    }
    config = configs.to_effective(loaded.config)
    record.write_json(run.run, content | {"command": config["command"]["argv"], "config": config})
    write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, backoff=0.1):
        until(run, lambda one: (one.checkpoint_step or 0) >= 2)
        os.kill(pids(run)[1], signal.SIGKILL)
        found = until(run, in_state("succeeded"))
    log = run.attempt(2).log.read_text().splitlines()
    first = record.read_object(run.attempt(2).resumed)["step"]
    assert log[0] == f"going on from {run.path}/out/state.{first}"
    assert log[1].startswith(f"step={first + 1}/12 ")
    assert (found.attempt, found.step, found.checkpoint_step) == (2, 12, 12)
    assert rows(run, "error")[-1][1] == pytest.approx(0, abs=1e-9)


def test_a_guard_over_a_metric_from_the_output_ends_the_run(project: Path) -> None:
    script = "i=0; while :; do i=$((i+1)); echo step $i/1000 val_loss=$i.5; sleep 0.5; done"
    path = config(project, {"argv": ["sh", "-c", script], "progress": "auto"}, guards=[{"when": "val_loss > 5"}])
    said = runctl("launch", str(path), code=7)
    assert "guard val_loss > 5: val_loss 5.5 > 5 at step 5" in said
    assert state("job")["state"] == "killed"


def test_the_guard_over_checkpoints_knows_those_on_the_disk(project: Path) -> None:
    script = "for i in 1 2 3 4 5 6; do echo $i > p; mv p c-$i; echo step $i; sleep 0.3; done; sleep 30"
    section = {"argv": ["sh", "-c", script], "progress": "auto", "checkpoints": "c-{step}"}
    said = runctl("launch", str(config(project, section, guards=[{"when": "no checkpoint for 3s"}])), code=7)
    assert "no checkpoint for 3s, the last is of step 6" in said
    assert record.read_object(record.find(project, "job").attempt(1).heartbeat)["step"] == 6


def test_a_program_that_reports_is_believed_and_not_what_it_prints(project: Path) -> None:
    script = (
        "import runctl, time\n"
        "for step in range(1, 25):\n"
        "    print(f'step={step + 1000} loss=9', flush=True)\n"
        "    if step > 12: runctl.report(step=step, total_steps=24, loss=0.5)\n"
        "    time.sleep(0.1)\n"
    )
    runctl("launch", str(config(project, {"argv": [sys.executable, "-c", script], "progress": ["key=value"]})))
    found = state("job")
    assert (found["step"], found["total_steps"], found["loss"], found["source"]) == (24, 24, 0.5, None)
    run = record.find(project, "job")
    assert rows(run, "loss")[0][0] > 1000
    assert rows(run, "loss")[-1] == (24, 0.5)


def test_placeholders_are_typed_single_arguments_and_nothing_is_read_by_a_shell(project: Path) -> None:
    (project / "show.py").write_text(ARGV)
    given = [
        "{name}",
        "{attempt}",
        "{seed}",
        "lr={training.lr}",
        "{training.activation_checkpointing}",
        "{run_dir}/x y",
        "{config}",
    ]
    odd = ["{{seed}}", '{"a": {"b": 1}}', "{print $1}", "in ${HOME}", "$(id); *", "{}", 'f"\n{name}"']
    section = {"argv": [sys.executable, "show.py", *given, *odd], "env": {"OUT": "{run_dir}/out"}}
    training = {"lr": 1e-05, "seed": 7}
    runctl("launch", str(config(project, section, training=training)), "--name", "one")
    run = record.find(project, "one")
    argv, resume, out = json.loads(run.attempt(1).log.read_text())
    assert argv == [
        "one",
        "1",
        "7",
        "lr=1e-05",
        "false",
        f"{run.path}/x y",
        f"{run.path}/config.json",
        "{seed}",
        *odd[1:],
    ]
    assert placeholders.fill("{print} {name}", {"name": "x"}) == "{print} x"  # of a record from before there were any
    assert (resume, out) == (None, f"{run.path}/out")
    assert record.read_object(run.config)["training"]["lr"] == 1e-05


@pytest.mark.parametrize(
    ("section", "column", "message", "hint"),
    [
        ({"argv": ["x", "{training.lrr}"]}, 18, "unknown placeholder '{training.lrr}'", "'training.lr'"),
        ({"argv": ["awk", "{print}"]}, 20, "unknown placeholder '{print}'", "{{print}}"),
        ({"argv": ["x", "{resume}"]}, 18, "'{resume}' has no value on the first attempt", "when_resuming"),
        ({"argv": ["x", "{training.epochs}"]}, 18, "has no value in this config", "set training.epochs"),
        ({"argv": ["x", "{training}"]}, 18, "is a section, not one value", "one of its keys"),
        ({"argv": ["x", "a{when_resuming}"]}, 18, "stands for whole arguments", "alone"),
        ({"argv": ["x"], "checkpoints": "../x/{step}"}, 19, "leaves the folder", "{run_dir}/"),
        ({"argv": ["x"], "checkpoints": "/tmp/{step}"}, 19, "leaves the folder", "{run_dir}/"),
        ({"argv": ["x"], "checkpoints": "a/**"}, 19, "no pattern of paths", "{step}"),
    ],
)
def test_what_a_command_section_cannot_mean_is_said_where_it_stands(
    tmp_path: Path, section: dict[str, Any], column: int, message: str, hint: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "task: command\ncommand:\n  "
        + json.dumps(section)[1:-1].replace('"argv"', "argv").replace(', "check', '\n  "check')
    )
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    (problem,) = caught.value.problems
    assert problem.line in (3, 4)
    assert message in problem.message
    assert hint in str(problem.hint)


def test_a_stop_and_a_request_for_a_checkpoint_reach_a_program_that_asks_for_them(project: Path) -> None:
    script = (
        "import runctl, time, pathlib, os\n"
        "step = 0\n"
        "def save():\n"
        "    path = pathlib.Path(os.environ['RUNCTL_RUN_DIR'], f'state-{step}')\n"
        "    path.write_text(str(step)); runctl.checkpoint(path, step=step)\n"
        "while not runctl.should_stop():\n"
        "    step += 1; time.sleep(0.02)\n"
        "    if runctl.should_checkpoint(): save()\n"
        "    runctl.report(step=step)\n"
        "save()\n"
    )
    runctl("launch", str(config(project, {"argv": [sys.executable, "-c", script]})), "--detach")
    run = record.find(project, "job")
    until(run, lambda one: "checkpoint" in (record.read_object(run.attempt(1).heartbeat).get("handles") or []))
    asked = json.loads(runctl("checkpoint", "job", "--wait", "--json").partition("\n}\n")[0] + "\n}")
    assert Path(asked["checkpoint"]["path"]).read_text() == str(asked["checkpoint"]["step"])
    runctl("stop", "job")
    found = state("job")
    assert found["state"] == "stopped"
    assert (run.path / f"state-{found['checkpoint_step']}").is_file()
    assert found["checkpoint_step"] > asked["checkpoint"]["step"]
    assert kept.newest(run)[0]["step"] == found["checkpoint_step"]


def make(project: Path, section: dict[str, Any]) -> record.RunDir:
    """A run of that section, its record only."""
    run = record.RunDir(project / "runs" / "job")
    content = {"schema_version": 1, "name": "job", "created": time.time() - 60, "project": str(project)}
    record.write_json(
        run.run,
        content | {"command": section["argv"], "config": {"task": "command", "name": "job", "command": section}},
    )
    write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    return run


def watch(run: record.RunDir, number: int = 1, looks: int = 0) -> Any:
    """The watcher of checkpoints as an attempt has it, after so many looks."""
    from runctl.supervisor.events import Events
    from runctl.supervisor.saved import Saved
    from runctl.supervisor.watchers import Scene

    made = Saved(Scene(run, number, record.content(run), Events(run, number)))
    for _ in range(looks):
        made.due = 0.0
        made.look(0.0)
    return made


def archive(path: Path, letters: int = 1000) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", "x" * letters)
    return path.read_bytes()


def test_half_written_and_damaged_checkpoints_are_passed_over_by_name(tmp_path: Path) -> None:
    section = {
        "argv": ["x"],
        "when_resuming": ["--go", "{resume}"],
        "checkpoints": {"path": "{run_dir}/out/c-{step}.pt", "done": None},
    }
    run = make(tmp_path, section)
    for step in (10, 20, 30):
        archive(run.path / f"out/c-{step}.pt")
    whole = archive(run.path / "out/c-40.pt")
    (run.path / "out/c-40.pt").write_bytes(whole[:-30])  # its program was killed meanwhile
    (run.path / "out/c-50.pt").touch()
    (run.path / "out/c-60.pt").symlink_to("c-10.pt")
    watch(run, looks=6)
    assert [row["step"] for row in kept.checkpoints(run)] == [10, 20, 30]
    (run.path / "out/c-30.pt").write_bytes(whole[:500])
    argv, _, env = starting.request(run, 2, record.content(run), {})
    assert argv == ["x", "--go", f"{run.path}/out/c-20.pt"]
    assert env["RUNCTL_RESUME"] == argv[-1]
    told = record.read_object(run.attempt(2).resumed)
    assert (told["step"], told["checkpoint"]) == (20, "out/c-20.pt")
    assert [row["why"] for row in told["passed_over"]] == ["checkpoint out/c-30.pt: it is cut off"]
    assert status.read(run).checkpoint_step == 20


def test_a_checkpoint_without_a_known_format_counts_when_it_rests_and_at_once_when_it_was_renamed(
    tmp_path: Path,
) -> None:
    run = make(tmp_path, {"argv": ["x"], "checkpoints": {"path": "{run_dir}/c-{step}", "done": None}})
    (run.path / "c-1").write_text("half")
    made = watch(run, looks=3)
    (run.path / "c-1").write_text("half and more")
    part = run.path / "part"
    part.write_text("whole")
    time.sleep(0.05)
    part.rename(run.path / "c-2")
    for look in range(4):
        made.due = 0.0
        made.look(0.0)
        assert [row["step"] for row in kept.checkpoints(run)] == ([], [2], [2], [2, 1])[look] or look == 3
    assert sorted(row["step"] for row in kept.checkpoints(run)) == [1, 2]


def test_a_folder_whose_files_come_one_after_the_other_counts_when_it_rests(tmp_path: Path) -> None:
    run = make(tmp_path, {"argv": ["x"], "checkpoints": {"path": "{run_dir}/c-{step}", "done": None}})
    archive(run.path / "c-1" / "part-1.pt")
    made = watch(run, looks=3)
    archive(run.path / "c-1" / "part-2.pt")
    made.due = 0.0
    made.look(0.0)
    made.orphaned(0)  # its program was killed in the middle
    assert kept.checkpoints(run) == []
    for _ in range(3):
        made.due = 0.0
        made.look(0.0)
    assert [(row["step"], row["bytes"]) for row in kept.checkpoints(run)] == [(1, kept.look(run.path / "c-1").bytes)]


def test_a_done_marker_decides_for_files_and_folders(tmp_path: Path) -> None:
    run = make(tmp_path, {"argv": ["x"], "checkpoints": {"path": "{run_dir}/c-*", "done": ".ok"}})
    (run.path / "c-file").write_text("1")
    (run.path / "c-folder").mkdir()
    (run.path / "c-folder" / "weights").write_text("2")
    made = watch(run, looks=6)
    os.utime(run.path / "c-file", (time.time() - 9, time.time() - 9))
    made.orphaned(0)
    assert kept.checkpoints(run) == []
    (run.path / "c-file.ok").touch()
    (run.path / "c-folder" / ".ok").touch()
    made.due = 0.0
    made.look(0.0)
    assert sorted(row["path"] for row in kept.checkpoints(run)) == ["c-file", "c-folder"]


def test_what_a_link_leads_to_outside_and_what_other_runs_left_is_no_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path, {"argv": ["x"], "checkpoints": {"path": "out/c-{step}.pt", "done": None}})
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    archive(outside / "c-1.pt")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "c-1.pt").symlink_to(outside / "c-1.pt")
    archive(tmp_path / "out" / "c-2.pt")
    os.utime(tmp_path / "out" / "c-2.pt", (1, 1))
    watch(run, looks=6)
    assert kept.checkpoints(run) == []
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").symlink_to(outside)
    watch(run, looks=6)
    assert kept.checkpoints(run) == [] or all(
        Path(row["path"]).is_relative_to(outside) for row in kept.checkpoints(run)
    )


def test_own_checkpoints_are_pulled_and_pruned(project: Path) -> None:
    script = "mkdir -p $0; for i in 1 2 3 4; do echo $i > $0/p; mv $0/p $0/c-$i; echo step $i/4; sleep 0.05; done"
    section = {
        "argv": ["sh", "-c", script, "{run_dir}/out"],
        "progress": "auto",
        "checkpoints": "{run_dir}/out/c-{step}",
    }
    runctl("launch", str(config(project, section)))
    runctl("pull", "job", "taken", "--checkpoint", "3")
    assert (project / "taken/job/checkpoints/c-3").read_text() == "3\n"
    run = record.find(project, "job")
    saved = record.read_object(run.saved)
    outside = {"step": 9, "path": "/etc/hostname", "time": time.time(), "bytes": 1, "stamp": 1}
    about = os.stat("/etc/hostname")
    outside |= {"bytes": about.st_size, "stamp": about.st_mtime_ns}
    record.write_json(run.saved, {**saved, "checkpoints": [*saved["checkpoints"], outside]})
    assert "lies outside of the project" in runctl("pull", "job", "more", "--checkpoint", "9", code=2)
    record.write_json(run.saved, saved)
    runctl("prune", "--yes")
    assert sorted(path.name for path in (run.path / "out").iterdir()) == ["c-3", "c-4"]
    assert state("job")["checkpoint_step"] == 4


def test_a_torrent_of_output_costs_little_and_the_newest_lines_count(tmp_path: Path) -> None:
    from runctl.supervisor import output
    from runctl.supervisor.events import Events
    from runctl.supervisor.watchers import Scene

    run = make(tmp_path, {"argv": ["x"], "progress": {"patterns": ["auto"]}})
    made = output.Output(Scene(run, 1, record.content(run), Events(run, 1)))
    with run.attempt(1).log.open("w") as file:
        for step in range(1, 400_001):
            file.write(f"step {step}/400000 loss {1 / step:.4f}\n")
        file.write("step 400000/400000 loss 0.25 val_loss 0.75")
    begun = time.thread_time()
    made.look(0.0)
    made.orphaned(0)
    assert time.thread_time() - begun < 0.5
    assert sum(made.reader.matched.values()) <= 2 * 500
    beat = record.read_object(run.attempt(1).heartbeat)
    assert (beat["step"], beat["loss"]) == (400_000, 0.25)
    assert rows(run, "val_loss") == [(400_000, 0.75)]
    assert len(list(record.read_lines(run.metrics))) <= 21


@needs_torch
@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(project: Path) -> None:
    from test_docs import commands

    told = list(commands(ROOT / "docs" / "any-program.md"))
    assert len(told) >= 8
    for command, code in told:
        runctl(*shlex.split(command)[1:], code=code)
    assert (project / "taken/shell/checkpoints/state.12").is_file()


DEAF = """
import pathlib, sys, time, zipfile
from itertools import count
out = pathlib.Path("out"); out.mkdir(exist_ok=True)
for step in count(1):
    time.sleep(0.03)
    print(f"step={step}/3000 loss=1.0", flush=True)
    if step % 20 == 0:
        with zipfile.ZipFile(out / "part.tmp", "w") as file:
            file.writestr("a", "a")
        (out / "part.tmp").rename(out / f"ckpt-{step}.pt")
"""


def test_a_program_that_begins_anew_though_it_was_given_a_checkpoint_is_told_as_that(project: Path) -> None:
    (project / "deaf.py").write_text(DEAF)
    section = {
        "argv": ["python3", "deaf.py"],
        "when_resuming": ["--resume", "{resume}"],
        "checkpoints": "out/ckpt-{step}.pt",
        "progress": "step={step}/{total_steps} loss={loss}",
    }
    path = config(project, section)
    runctl("launch", str(path), "--detach")
    run = record.RunDir(project / "runs" / "job")
    until(run, lambda found: (found.checkpoint_step or 0) >= 100)
    runctl("stop", "job", "--yes")
    newest = kept.newest(run)[0]
    assert newest is not None
    shutil.copy(project / "out" / "ckpt-20.pt", project / "out" / "ckpt-40.pt")  # written while nobody ran
    assert f"ckpt-{newest['step']}.pt" in runctl("resume", "job", "--detach")
    assert record.read_json(run.attempt(2).resumed)["step"] == newest["step"]  # and not the foreign file's
    until(run, lambda found: found.resume is not None)
    found = state("job")
    assert found["resume"]["verified"] is False
    assert f"but its last checkpoint is of step {newest['step']}" in found["resume"]["words"]
    assert json.loads(runctl("status", "job", "--json"))["attempts"][1]["from_step"] < newest["step"]


def test_a_success_that_nothing_was_read_of_and_a_child_left_behind_are_told_on_the_page(project: Path) -> None:
    program = "import os, time; print('stp 1 of 9 ' + 'x' * 5000, flush=True); os.fork() or time.sleep(60)"
    path = config(project, {"argv": ["python3", "-c", program], "progress": "step={step}/{total_steps}"})
    runctl("launch", str(path), "--detach")
    run = record.RunDir(project / "runs" / "job")
    summary_of(run)
    shown, told = runctl("status", "job"), json.loads(runctl("status", "job", "--json"))
    assert told["status"]["state"] == "succeeded"
    assert "none of the 1 lines that it printed was read by command.progress" in shown
    assert "1 process that outlived the trainer" in shown
    assert len(told["remarks"]) == 2
    assert len(told["last_line"]) < 500
