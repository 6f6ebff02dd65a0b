"""Programs of one's own on Modal, end to end: the command line as a process, the unmodified client, a plane on the
loopback, and in its containers the real supervisor and the program."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from modal_scene import Scene
from plane import Plane, box

from runctl.backends.modal import shipping
from runctl.errors import UsageError

ROOT = Path(__file__).parent.parent
KEY = "hf_" + "a1B2" * 8
LOOP = '''
"""Counts: says where it is, saves now and then and when it is asked, and goes on from what it has saved."""
import os, pathlib, sys, time
import runctl
from helper import PAUSE

out, begin = pathlib.Path(sys.argv[1]), 1
out.mkdir(parents=True, exist_ok=True)
if "--resume" in sys.argv:
    begin = int(pathlib.Path(sys.argv[-1]).read_text().split()[0]) + 1
    print(f"going on from step {begin - 1}", flush=True)
assert pathlib.Path("runctl.yaml").exists(), "not in the project"
assert os.environ["GREETING"] == "hello you"
total = int(os.environ["STEPS"])


def save(step):
    part = out / "part.tmp"
    part.write_text(f"{step} " + "x" * 1000)
    part.rename(out / f"ckpt-{step}.txt")
    runctl.checkpoint(out / f"ckpt-{step}.txt", step=step)


for step in range(begin, total + 1):
    time.sleep(PAUSE)
    runctl.report(step=step, total_steps=total, loss=1 / step)
    if step % 50 == 0 or runctl.should_checkpoint():
        save(step)
    if runctl.should_stop():
        save(step)
        sys.exit(0)
save(total)
'''
CONFIG = """
name: job
task: command
command:
  argv: [python3, code/loop.py, "{{run_dir}}/out"]
  when_resuming: [--resume, "{{resume}}"]
  checkpoints: "{{run_dir}}/out/ckpt-{{step}}.txt"
  env: {{GREETING: hello you, STEPS: "{steps}"}}
compute: {{backend: modal, timeout: 30m, retries: 2}}
"""

pytestmark = pytest.mark.skipif(
    box.best_way() == "links", reason="no namespaces here: /vol cannot be given to a container"
)


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")  # python3 is this one, as in an image
    with Plane(grace=25.0) as running:
        yield running


@pytest.fixture
def scene(plane: Plane, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(plane, tmp_path / "one")
    yield made
    made.end()


def program(scene: Scene, steps: int = 100_000) -> str:
    """A project with a program, its helper, something that git would ignore, and something that nobody may have."""
    files = {
        "code/loop.py": LOOP,
        "code/helper.py": "PAUSE = 0.02\n",
        ".gitignore": "data/\n",
        "data/large.bin": "x" * 100_000,
        ".env": f"HF_TOKEN={KEY}\n",
        "notes/plan.md": "what to try next\n",
        ".runctlignore": "notes/\n",
        "job.yaml": CONFIG.format(steps=steps),
    }
    for name, text in files.items():
        (scene.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (scene.folder / name).write_text(text)
    return "job.yaml"


@pytest.mark.slow
def test_an_example_is_sent_runs_and_what_it_saved_is_pulled(scene: Scene, plane: Plane) -> None:
    for name in ("examples/plain.yaml", "examples/trainers/plain.py"):
        (scene.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (scene.folder / name).write_text((ROOT / name).read_text())
    backend = ("--set", "compute.backend=modal")
    launched = scene.do("launch", "examples/plain.yaml", "--detach", *backend)
    assert (launched.code, launched.out) == (0, "plain\n"), launched
    assert scene.do("wait", "plain").code == 0
    found = scene.status("plain")
    assert (found["state"], found["step"], found["total_steps"], found["source"]) == ("succeeded", 200, 200, "output")
    assert found["checkpoint_step"] == 200
    assert not (scene.folder / "runs/plain/out").exists(), "it stays on the volume until somebody pulls it"
    rows = (scene.folder / "runs/plain/metrics.jsonl").read_text().splitlines()
    assert any("val_loss" in json.loads(row) for row in rows)
    pulled = scene.do("pull", "plain", "taken", "--checkpoint", "latest")
    assert (pulled.code, pulled.out) == (0, "taken/plain\n"), pulled
    there = scene.files()["runs/plain/out/ckpt-200.pt"]
    assert (scene.folder / "taken/plain/checkpoints/ckpt-200.pt").read_bytes() == there
    assert scene.living() == []
    pruned = scene.do("prune", "--keep", "1", "--yes", "--json")
    assert (pruned.code, len(pruned.json["items"]), pruned.json["left"]) == (0, 9, []), pruned
    assert [name for name in scene.files() if name.startswith("runs/plain/out/")] == ["runs/plain/out/ckpt-200.pt"]
    assert scene.do("prune", "--keep", "1", "--json").json["items"] == []


@pytest.mark.slow
def test_a_program_is_sent_asked_for_a_checkpoint_killed_and_goes_on_from_what_it_saved(
    scene: Scene, plane: Plane, tmp_path: Path
) -> None:
    launched = scene.do("launch", program(scene), "--detach")
    assert launched.code == 0, launched
    assert ".env" in launched.err
    plane.until(lambda: any(name.startswith("runs/job/out/ckpt-") for name in scene.files()), 60, "a checkpoint")

    asked = scene.do("checkpoint", "job", "--timeout", "60s", "--json")
    assert asked.code == 0, asked
    saved = asked.json["checkpoint"]
    assert saved["step"] >= asked.json["asked"]["step"]
    assert saved["path"].endswith(f"runs/job/out/ckpt-{saved['step']}.txt")
    assert f"runs/job/out/ckpt-{saved['step']}.txt" in scene.files()
    events = scene.files()["runs/job/events.jsonl"].decode()
    assert events.count('"checkpoint_asked"') == 1

    plane.kill()
    plane.until(lambda: len(plane.call().tasks) == 2, 30)
    plane.until(lambda: "going on from step" in plane.log(), 40, "the second container")
    resumed = json.loads(scene.files()["runs/job/attempts/2/resumed.json"])
    assert resumed["step"] >= saved["step"]
    assert resumed["passed_over"] == []
    assert f"going on from step {resumed['step']}" in plane.log()

    stopped = scene.do("stop", "job", "--yes")
    assert stopped.code == 0, stopped
    first = scene.status()
    assert (first["state"], scene.living()) == ("stopped", [])
    other = Scene(plane, tmp_path / "two")
    assert other.do("attach", "job").code == 0
    without = other.do("resume", "job", "--no-wait")
    assert without.code == 5, without
    assert "command.argv names code/loop.py, which went with the attempt before and is not in" in without.err

    (scene.folder / "code/helper.py").write_text("PAUSE = 0.0\n")
    resumed_here = scene.do("resume", "job", "--no-wait", "--set", 'command.env.STEPS="120000"', "--accept-changes")
    assert resumed_here.code == 0, resumed_here
    assert "1 file of its code changed since then: code/helper.py" in resumed_here.err
    plane.until(lambda: "runs/job/attempts/3/resumed.json" in scene.files(), 40)
    again = json.loads(scene.files()["runs/job/attempts/3/resumed.json"])
    assert again["step"] == first["checkpoint_step"]

    sent = {file.filename for mount in plane.world.mounts.values() for file in mount.files}
    ours = {name.partition("runctl-code/")[2] for name in sent if "runctl-code/" in name}
    assert ours == {"code/loop.py", "code/helper.py", ".gitignore", ".runctlignore", "runctl.yaml", "job.yaml"}
    assert plane.leaks(KEY) == []
    told = json.loads(scene.files()["runs/job/attempts/1/sent.json"])["files"]
    assert told.keys() == ours


@pytest.mark.slow
def test_a_program_that_is_preempted_saves_within_its_grace_and_one_that_fails_is_not_paid_for_twice(
    scene: Scene, plane: Plane
) -> None:
    assert scene.do("launch", program(scene), "--detach").code == 0
    plane.until(lambda: any(name.startswith("runs/job/out/ckpt-") for name in scene.files()), 60, "a checkpoint")
    plane.preempt()
    first = scene.exits()[1]
    assert (first["state"], first["failure"]["kind"]) == ("stopped", "preemption")
    plane.until(lambda: "going on from step" in plane.log(), 40, "the second container")
    resumed = json.loads(scene.files()["runs/job/attempts/2/resumed.json"])
    assert resumed["step"] >= first["step"], "it saved when it was asked to end"
    assert scene.do("stop", "job", "--yes").code == 0

    (scene.folder / "code/helper.py").write_text("raise SystemExit('there is no such data')\n")
    failed = scene.do("launch", "job.yaml", "--detach", "--name", "broken")
    assert failed.code == 6, failed
    assert "there is no such data" in failed.err
    (call,) = [call for call in plane.world.calls.values() if call.function.app.tags["runctl.run"] == "broken"]
    assert (len(call.tasks), scene.living()) == (1, [])


def test_what_would_be_sent_is_listed_first_and_what_it_would_lack_is_refused(scene: Scene) -> None:
    path = program(scene)
    shown = scene.do("launch", path, "--dry-run", "--json")
    assert shown.code == 0, shown
    code = shown.json["request"]["code"]
    assert sorted(code["files"]) == [
        ".gitignore",
        ".runctlignore",
        "code/helper.py",
        "code/loop.py",
        "job.yaml",
        "runctl.yaml",
    ]
    assert code["left_out"] == {".env": "its name says that it may hold secrets"}
    steps = [step["do"] for step in shown.json["request"]["image"]]
    assert steps == ["debian_slim", "pip_install", "pip_install", "pip_install"]
    printed = scene.do("launch", path, "--dry-run")
    assert "code/loop.py" in printed.out
    assert "not sent  .env: its name says that it may hold secrets" in printed.out

    (scene.folder / "requirements.txt").write_text("einops==0.8.1\n")
    scene.settings("{requirements: requirements.txt}")
    asked = scene.do("launch", path, "--dry-run", "--json").json["request"]["image"][-1]
    assert (asked["do"], asked["words"]) == (
        "pip_install_from_requirements",
        [str(scene.folder / "requirements.txt")],
    )

    data = scene.do("launch", path, "--dry-run", "--set", "command.argv=[python3, code/loop.py, data/large.bin]")
    assert data.code == 5, data
    assert "command.argv names data/large.bin, which is here and would not be sent" in data.err
    lost = scene.do("launch", path, "--dry-run", "--set", "command.checkpoints=out/ckpt-{step}.txt")
    assert lost.code == 5, lost
    assert "of a container only what lies below the run's folder is kept" in lost.err
    (scene.folder / "code/helper.py").write_text(f"PAUSE = 0.02\nTOKEN = '{KEY}'\n")
    secret = scene.do("launch", path, "--dry-run")
    assert secret.code == 2, secret
    assert "code/helper.py:2 holds a Hugging Face token" in secret.err
    assert KEY not in secret.err + secret.out
    assert not (scene.folder / "runs").exists()


def test_in_a_repository_git_says_what_is_sent(tmp_path: Path) -> None:
    for name in ("train.py", "new.py", "old.bin", "deep/left.txt", "tokenizer.json", "data/x", "runs/a/run.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "pyvenv.cfg").write_text("")
    (tmp_path / ".gitignore").write_text("*.bin\ndata/\n")
    (tmp_path / ".runctlignore").write_text("deep/**\n!deep/kept.txt\n")
    (tmp_path / "deep/kept.txt").write_text("x")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "alias.py").symlink_to("train.py")
    walked = {name for name, _ in shipping.look(tmp_path).files}
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    subprocess.run(["git", "-C", str(tmp_path), "add", "-f", "train.py", "old.bin"], check=True)
    listed = shipping.look(tmp_path)
    always = {".gitignore", ".runctlignore", "alias.py", "deep/kept.txt", "new.py", "tokenizer.json", "train.py"}
    assert walked == always
    assert {name for name, _ in listed.files} == always | {"old.bin"}, "git tracks it all the same"
    assert dict(listed.left_out) == {"out": "it is a link out of the project"}
    (tmp_path / ".git" / "config").write_text("[broken")
    assert {name for name, _ in shipping.look(tmp_path).files} == always, "a repository that git cannot read"
    (tmp_path / "train.py").unlink()
    (tmp_path / "alias.py").unlink()
    assert "train.py" not in dict(shipping.look(tmp_path).files)


def test_a_home_folder_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UsageError, match="all of it would be sent"):
        shipping.look(tmp_path)


@pytest.mark.parametrize(
    ("line", "fits"),
    [("einops==0.8.1", True), ("-e .", False), ("./wheels/x.whl", False), ("--extra-index-url https://x.org", True)],
)
def test_requirements_that_name_files_of_this_machine_are_refused(tmp_path: Path, line: str, fits: bool) -> None:
    (tmp_path / "r.txt").write_text(f"{line}\n")
    if fits:
        assert shipping.requirements(tmp_path, "r.txt") == str(tmp_path / "r.txt")
        return
    with pytest.raises(UsageError):
        shipping.requirements(tmp_path, "r.txt")
