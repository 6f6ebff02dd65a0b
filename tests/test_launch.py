"""Launch: what it refuses, what it claims, what it proves before it returns, and what it leaves after Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import FAKE, clean, in_state, until

from runctl import code_version, launch, record, status
from runctl.backends import load, local, names
from runctl.errors import ConfigError, ProviderError, RunFailed, UsageError

LOOP = """
import time
from runctl.report import report
for step in range(1, 10**6):
    report(step=step, total_steps=10**6)
    time.sleep(0.01)
"""
QUICK = """
name: q
task: worldmodel
data: {simulate: {games: 2}}
training: {steps: 9, seed: 1}
compute: {timeout: 9m}
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project in which the test runs; what it launches is killed at its end."""
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    yield tmp_path
    for run in record.list_runs(tmp_path):
        clean(run)


def config(project: Path, *argv: str, name: str = "job", more: str = "") -> Path:
    path = project / f"{name}.yaml"
    command = json.dumps([sys.executable, *argv])
    path.write_text(f"name: {name}\ntask: command\ncommand: {{argv: {command}}}\ncompute: {{timeout: 5m}}\n{more}")
    return path


def runctl(*words: str) -> subprocess.CompletedProcess[str]:
    """The command line as a process. `env` is given, because readline (which pytest imports) puts COLUMNS into the
    environment behind Python's back."""
    argv, env = [sys.executable, "-m", "runctl", *words], dict(os.environ)
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=env)


def test_detach_prints_the_name_alone_and_returns_when_step_1_has_run(project: Path) -> None:
    done = runctl("launch", str(config(project, "-c", LOOP)), "--detach")
    assert (done.returncode, done.stdout) == (0, "job\n"), done.stderr
    found = status.read(record.find(project, "job"))
    assert found.state == "running"
    assert found.step is not None
    assert found.step >= 1


def test_the_run_survives_the_end_of_its_launchers_session(project: Path) -> None:
    argv = [sys.executable, "-m", "runctl", "launch", str(config(project, "-c", LOOP)), "--detach"]
    shell = subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert shell.communicate(timeout=60)[0] == b"job\n"
    with pytest.raises(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGHUP)  # nothing of the run is in the terminal's group
    assert status.read(record.find(project, "job")).state == "running"


def test_a_run_that_fails_at_its_start_is_told_with_its_log_and_exit_6(project: Path) -> None:
    script = "print('opening the data'); raise SystemExit('no such dataset')"
    done = runctl("launch", str(config(project, "-c", script)), "--detach")
    assert (done.returncode, done.stdout) == (6, "")
    assert "exit 1: no such dataset" in done.stderr
    assert "  | opening the data" in done.stderr


def test_a_followed_run_ends_with_its_page_and_exit_code(project: Path) -> None:
    done = runctl("launch", str(config(project, "-c", "print('done')")))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("job  succeeded")
    assert "job · succeeded" in done.stderr


def test_the_record_holds_what_is_needed_to_run_it_again(project: Path) -> None:
    run = launch.start(launch.plan(config(project, "-c", "pass"), ["compute.timeout=2m"]))
    until(run, in_state("succeeded"))
    data = record.read_json(run.run)
    assert data["command"] == [sys.executable, "-c", "pass"]
    assert data["config"]["compute"]["timeout"] == 120
    assert data["overrides"] == ["compute.timeout=2m"]
    assert data["config_text"].startswith("name: job")
    assert data["environment"]["packages"]["typer"]
    assert len(data["digest"]) == 64


def test_the_default_name_is_numbered_and_a_given_one_is_refused_if_taken(project: Path) -> None:
    path = config(project, "-c", "pass")
    assert [launch.start(launch.plan(path)).name for _ in range(3)] == ["job", "job-2", "job-3"]
    assert launch.start(launch.plan(path, name="mine")).name == "mine"
    with pytest.raises(UsageError, match="'mine' is taken") as caught:
        launch.plan(path, name="mine")
    assert "runctl resume mine" in str(caught.value.hint)
    for run in record.list_runs(project):
        until(run, in_state("succeeded"))


def test_two_launches_at_once_both_succeed_under_two_names(project: Path) -> None:
    plans = [launch.plan(config(project, "-c", "pass")) for _ in range(4)]
    ready, found = threading.Barrier(4), []

    def go(plan: launch.Plan) -> None:
        ready.wait()
        found.append(launch._claim(plan, code_version.CodeVersion(None, None, "")).name)

    threads = [threading.Thread(target=go, args=(plan,)) for plan in plans]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == ["job", "job-2", "job-3", "job-4"]
    for run in record.list_runs(project):
        assert record.read_json(run.run)["name"] == record.read_json(run.run)["config"]["name"] == run.name


@pytest.mark.parametrize("name", ["../x", "a/b", "x" * 300, "two words", "", ".hidden", "a..b", "-n"])
def test_a_name_that_cannot_be_is_refused_before_anything_is_written(project: Path, name: str) -> None:
    done = runctl("launch", str(config(project, "-c", "pass")), f"--name={name}")
    assert done.returncode == 2
    assert "cannot be a run's name" in done.stderr
    assert len(done.stderr) < 400
    assert not (project / "runs").exists()


def test_a_dry_run_prints_the_request_and_writes_nothing(project: Path) -> None:
    path = str(config(project, "-c", "pass"))
    done = runctl("launch", path, "--dry-run", "--json")
    data = json.loads(done.stdout)
    assert data["schema_version"] == 1
    assert data["request"]["trainer"] == [sys.executable, "-c", "pass"]
    assert data["request"]["run"] == "job"
    assert "trainer" in runctl("launch", path, "--dry-run").stdout
    assert not (project / "runs").exists()


def test_what_preflight_refuses_is_refused_unless_allowed_with_a_reason(project: Path) -> None:
    quick = project / "quick.yaml"
    quick.write_text(
        "name: q\ntask: worldmodel\ndata: {simulate: {games: 2, seconds: 2}}\n"
        "training: {steps: 100000, seed: 1}\ncheckpoint: {every: never}\ncompute: {timeout: 24h}\n"
    )
    with pytest.raises(launch.Refused) as caught:
        launch.plan(quick)
    rules = sorted({problem.rule for problem in caught.value.problems})
    assert "CK101" in rules
    done = runctl("launch", str(quick), "--dry-run")
    assert done.returncode == 1
    assert "--allow" in done.stderr
    plan = launch.plan(quick, allowed=[launch.Allowed(rule, "a test") for rule in rules])
    assert [entry.rule for entry in plan.allowed] == rules


def test_allow_and_because_go_together(project: Path) -> None:
    path = str(config(project, "-c", "pass"))
    for words in (["--allow", "CK101"], ["--because", "so"], ["--allow", "CK101", "--because", " "]):
        done = runctl("launch", path, "--dry-run", *words)
        assert done.returncode == 2
        assert "--because" in done.stderr
    assert runctl("launch", path, "--dry-run", "--allow", "XX999", "--because", "so").returncode == 2


def test_an_allowance_with_nothing_to_allow_is_said_and_not_recorded(project: Path) -> None:
    plan = launch.plan(config(project, "-c", "pass"), allowed=[launch.Allowed("CK101", "why not")])
    assert plan.allowed == ()
    assert "--allow CK101: nothing to allow, not recorded" in plan.notes


def test_a_file_where_the_runs_belong_is_one_clear_message(project: Path) -> None:
    (project / "runs").write_text("in the way")
    done = runctl("launch", str(config(project, "true")), "--detach")
    assert done.returncode == 2
    assert "cannot make the folder" in done.stderr
    assert "defect" not in done.stderr


def test_an_invalid_config_is_not_launched(project: Path) -> None:
    with pytest.raises(ConfigError):
        launch.plan(config(project, "-c", "pass", more="unknown: 1\n"))


def test_backends_are_known_by_name(project: Path) -> None:
    assert names() == ["local", "modal"]
    assert [load(name).plan.__name__ for name in names()] == ["plan", "plan"]
    with pytest.raises(UsageError, match="no backend 'locl'; known: local, modal") as caught:
        load("locl")
    assert caught.value.hint == "did you mean 'local'?"


def test_settings_that_the_local_backend_ignores_are_said(project: Path) -> None:
    plan = launch.plan(config(project, "-c", "pass"), ["compute.memory=1GiB"])
    assert any("compute.memory" in note for note in plan.notes)


def test_a_supervisor_that_cannot_be_started_leaves_no_run(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(request: object) -> int:
        raise OSError("no more processes")

    plan = launch.plan(config(project, "-c", "pass"))
    monkeypatch.setattr(local, "submit", refuse)
    with pytest.raises(OSError, match="no more processes"):
        launch.start(plan)
    assert list((project / "runs").iterdir()) == []


def test_without_torch_a_training_run_is_refused_before_it_exists(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project / "train.yaml"
    path.write_text("data: {simulate: {games: 4}}\ntraining: {steps: 1}\n")
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ProviderError, match="torch is not installed") as caught:
        launch.start(launch.plan(path))
    assert "[train]" in (caught.value.hint or "")
    assert list((project / "runs").iterdir()) == []


def test_ctrl_c_while_waiting_for_step_1_leaves_the_run_and_says_how_to_come_back(project: Path) -> None:
    path = config(project, "-c", "import os, time; print('up'); time.sleep(300)")
    argv = [sys.executable, "-m", "runctl", "launch", str(path)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 30
    while not record.list_runs(project):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "runctl status job --watch" in err
    assert "runctl stop job" in err
    until(record.find(project, "job"), in_state("running"))


def test_ctrl_c_between_claim_and_start_waits_until_the_run_is_whole(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, submit = launch.plan(config(project, "-c", "pass")), local.submit

    def interrupted(request: object) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return submit(request)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "submit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        launch.start(plan)
    until(record.find(project, "job"), in_state("succeeded"))


def test_a_silent_start_is_over_only_when_nothing_alive_is_seen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runctl.errors import WaitTimeout

    monkeypatch.setattr(local, "TRAINER", [sys.executable, "-c", "import time; time.sleep(300)"])
    quick = project / "quick.yaml"
    quick.write_text(QUICK)
    run = launch.start(launch.plan(quick))
    with pytest.raises(WaitTimeout, match="no sign of life"):
        launch.await_start(run, 0.5)
    assert status.read(run).state == "starting"


def test_the_trainers_hint_comes_with_its_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "TRAINER", [sys.executable, FAKE, "--fail-at", "1"])
    quick = project / "quick.yaml"
    quick.write_text(QUICK)
    run = launch.start(launch.plan(quick))
    with pytest.raises(RunFailed, match="q failed at step 1: ValueError: the loss is NaN") as caught:
        launch.await_start(run, 30)
    assert caught.value.hint == "lower the rate"
    assert "step 1" in caught.value.message


def test_a_clock_that_jumps_a_day_ends_no_wait_for_the_first_step(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a silence that was waited through counts."""
    run = launch.start(launch.plan(config(project, "-c", "import time; time.sleep(1.5)")))
    real = time.time
    monkeypatch.setattr(launch.time, "time", lambda: real() + 86_400)
    try:
        assert launch.await_start(run, 60).state in ("running", "succeeded")
    finally:
        clean(run)


def test_the_code_version_has_changes_and_new_files_but_no_secrets(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    assert code_version.read(tmp_path).commit is None
    git("init", "-q")
    (tmp_path / "model.py").write_text("width = 1\n")
    git("add", ".")
    git("commit", "-qm", "first")
    assert code_version.read(tmp_path).dirty is False
    (tmp_path / "model.py").write_text("width = 2\napi_key = 'abcdefgh12345678'\ntokens_per_second = compute_rate()\n")
    (tmp_path / "new.py").write_text("depth = 3\n")
    (tmp_path / ".env").write_text("WANDB_API_KEY=0123456789abcdef0123\n")
    (tmp_path / "run.sh").write_text("export WANDB_API_KEY=0123456789abcdef0123\n")
    found = code_version.read(tmp_path)
    assert found.dirty is True
    assert "+width = 2" in found.diff
    assert "+depth = 3" in found.diff
    assert "+tokens_per_second = compute_rate()" in found.diff
    assert "left out, may hold secrets: .env" in found.diff
    assert "abcdefgh12345678" not in found.diff
    assert "0123456789abcdef" not in found.diff


@pytest.mark.parametrize(
    "text",
    [
        'os.environ["WANDB_API_KEY"] = "SECRET12345"',
        'os.environ.setdefault("HF_TOKEN", "SECRET12345")',
        'wandb.login(key="SECRET1234567890123456")',
        "token: eyJhbGciOiJI.SECRET.abc",
        "AWS_SECRET_ACCESS_KEY: SECRETnFEMI/K7MDENG/bPxRfi",
        "-----BEGIN RSA PRIVATE KEY-----\n+SECRETbody\n+-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_secret_is_not_kept_however_it_is_written(text: str) -> None:
    kept = code_version._clean(f"--- /dev/null\n+++ b/train.py\n+before = 1\n+{text}\n+after = 2\n")
    assert "SECRET" not in kept
    assert "+before = 1\n" in kept
    assert kept.endswith("+after = 2\n")


@pytest.mark.parametrize("tracked", [True, False])
def test_what_runctl_writes_is_no_code(tmp_path: Path, tracked: bool) -> None:
    """In a project that is a folder of its repository: what lies beside it is still looked at."""
    project, identity = tmp_path / "project", ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    own = [project / "runs/old/run.json", project / ".runctl/calibrations/x.json"]

    def write(text: str) -> None:
        for path in own:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    project.mkdir()
    (tmp_path / "beside.py").write_text("depth = 1\n")
    if tracked:
        write("{}\n")
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    write('{"new": 1}\n')
    found = code_version.read(project)
    assert (found.dirty, found.diff) == (False, "")
    (tmp_path / "beside.py").write_text("depth = 2\n")
    assert "+depth = 2" in code_version.read(project).diff


def test_a_difference_that_git_could_not_give_in_time_is_noted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True)
    (project / "bin").mkdir()
    slow = f'case "$*" in *--name-only*) exec sleep 60;; esac\nexec {shutil.which("git")} "$@"\n'
    (project / "bin" / "git").write_text(f"#!/bin/sh\n{slow}")
    (project / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{project / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(code_version, "_GIT_SECONDS", 0.5)
    found = code_version.read(project)
    assert found.note == "code.diff is not whole: git diff did not end within 0.5 s"
    assert found.diff.endswith(f"# {found.note}\n")
    assert found.to_json()["note"] == found.note
