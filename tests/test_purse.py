"""The purse of a project: what its runs have cost, what is left, and that no launch overdraws it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runs import clean, in_state, make, supervised, until

from runctl import launch, prune, purse, record, resume, status, stop
from runctl import project as projects
from runctl.errors import RefusedError, UsageError
from runctl.starting import write_start
from runctl.supervisor.verdict import ENDED

ROOT = Path(__file__).parent.parent
HOUR = 3600.0


def runctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)


def argv(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "runctl", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "300", "NO_COLOR": "1"}


def project(folder: Path, total: float = 10.0, hour: float = 1.0) -> Path:
    (folder / "runctl.yaml").write_text(
        f"budget: {{total_usd: {total}}}\nprices: {{local: {{machine_hour: {hour}}}}}\n"
    )
    return folder


def run_of(
    folder: Path, name: str, *hours: float, rate: float | None = 1.0, likely: float | None = None, **more: Any
) -> record.RunDir:
    """A run whose attempts took so many hours each, on record; its last is over unless the run is `active`."""
    run = record.RunDir(folder / "runs" / name)
    entry = {
        "schema_version": 1,
        "name": name,
        "created": time.time(),
        "backend": "modal",
        "price": {"usd_per_hour": rate},
    }
    if likely is not None:
        entry["estimate"] = {"cost": {"value": {"likely": likely}}}
    record.write_json(run.run, {**entry, **more})
    for number, length in enumerate(hours, 1):
        files = run.attempt(number)
        write_start(files.path, from_step=0, checkpoint=None, code=None)
        record.write_json(files.exit, {"state": "failed", "reason": "", "seconds": length * HOUR})
    return run


def held(folder: Path) -> purse.Purse:
    found = purse.read(projects.load(folder / "runctl.yaml"), write=True)
    assert found is not None
    return found


def test_all_attempts_of_all_runs_are_counted_at_their_own_price(tmp_path: Path) -> None:
    project(tmp_path)
    run_of(tmp_path, "one", 1.0, 0.5)
    run_of(tmp_path, "two", 2.0, rate=2.0)
    run_of(tmp_path, "free", 100.0, rate=0.0)
    old = run_of(tmp_path, "before-prices-were-kept", 1.0, price=None)
    times = {"time": {"value": {"likely": HOUR}}, "cost": {"value": {"likely": 0.25}}}
    record.write_json(old.run, {**record.read_object(old.run), "price": "?", "estimate": times})
    found = held(tmp_path)
    assert (found.spent, found.left, found.unreadable) == (pytest.approx(5.75), pytest.approx(4.25), ())
    assert found.words() == "$5.75 of $10.00 spent, $4.25 left"


def test_what_cannot_be_read_is_named_and_never_taken_for_nothing(tmp_path: Path) -> None:
    project(tmp_path)
    run_of(tmp_path, "unpriced", 1.0, rate=None)
    run_of(tmp_path, "torn", 1.0).run.write_text('{"name": "to')
    cut = run_of(tmp_path, "cut", 1.0)
    cut.attempt(1).exit.write_text("{")
    lost = run_of(tmp_path, "lost", 1.0)
    shutil.rmtree(lost.attempt(1).path)
    lost.attempt(1).path.mkdir()
    told = "; ".join(held(tmp_path).unreadable)
    assert "unpriced: no price of it is on record" in told
    assert "torn: run.json is damaged" in told
    assert "cut: attempt 1: exit.json is damaged" in told
    assert "lost: attempt 1: nothing says how long it was" in told
    done = runctl(tmp_path, "status")
    assert "purse: not counted, for it cannot be read: " in done.stderr
    assert "4.0 USD" not in done.stderr


def test_a_run_that_becomes_unreadable_counts_what_it_was_last_seen_to_cost(tmp_path: Path) -> None:
    project(tmp_path)
    run = run_of(tmp_path, "one", 3.0)
    assert held(tmp_path).spent == pytest.approx(3.0)
    run.run.write_text("{")
    found = held(tmp_path)
    assert found.spent == pytest.approx(3.0)
    assert found.unreadable[0].startswith("one: run.json is damaged")


def test_a_live_run_counts_what_it_has_used_and_sets_aside_what_it_still_needs(tmp_path: Path) -> None:
    project(tmp_path, total=100)
    run = make(tmp_path, "--steps", 400, "--step-seconds", 0.02)
    estimate = {"cost": {"value": {"likely": 60.0}}}
    record.write_json(run.run, record.read_json(run.run) | {"price": {"usd_per_hour": HOUR}, "estimate": estimate})
    queued = held(tmp_path)
    assert (queued.active, queued.reserved) == (1, pytest.approx(60.0, abs=3))
    with supervised(run):
        until(run, lambda found: (found.step or 0) >= 150)
        found = held(tmp_path)
        shown = status.read(run)
        assert shown.cost_usd == pytest.approx(shown.total_seconds)
        assert found.active == 1
        assert 2.5 < found.spent < 10  # a dollar each second
        assert 1 < found.reserved < 60
        assert found.free == pytest.approx(100 - found.spent - found.reserved)
        assert "likely needed by 1 active run" in found.words()


def test_a_deleted_run_has_cost_what_it_has_cost_and_a_renamed_one_counts_once(tmp_path: Path) -> None:
    project(tmp_path)
    gone, kept = run_of(tmp_path, "gone", 2.0), run_of(tmp_path, "kept", 3.0)
    assert held(tmp_path).spent == pytest.approx(5.0)
    shutil.rmtree(gone.path)
    kept.path.rename(kept.path.with_name("moved"))
    found = held(tmp_path)
    assert (found.spent, found.gone) == (pytest.approx(5.0), pytest.approx(2.0))
    run_of(tmp_path, "gone", 1.0)  # another run of that name
    assert held(tmp_path).spent == pytest.approx(6.0)
    (tmp_path / ".runctl" / "purse.json").write_text("{")
    damaged = held(tmp_path)
    assert damaged.spent == pytest.approx(4.0)
    assert damaged.unreadable[0].startswith(".runctl/purse.json is damaged")
    assert (tmp_path / ".runctl" / "purse.json").read_text() == "{"


def test_what_prune_deletes_has_cost_what_it_has_cost(tmp_path: Path) -> None:
    project(tmp_path)
    run = make(tmp_path, "--steps", 3, "--fail-at", 2)
    record.write_json(run.run, record.read_json(run.run) | {"price": {"usd_per_hour": HOUR}})
    with supervised(run):
        until(run, lambda found: found.over and run.summary.exists())
    cost = record.read_object(run.summary)["cost_usd"]
    assert cost == pytest.approx(record.read_object(run.summary)["seconds"], rel=1e-6)
    policy = prune.Policy(1, None, 0.0, ("run",))
    prune.carry_out(prune.plan(tmp_path, policy), policy)
    assert not run.path.exists()
    assert held(tmp_path).spent == pytest.approx(cost, rel=1e-4)


def test_runs_that_have_ended_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    for number in range(5):
        summary = {"state": "failed", "cost_usd": 1.0, "created": 1795000000.0 + number}
        record.write_json(run_of(tmp_path, f"run-{number}", 3.0).summary, summary)
    assert held(tmp_path).spent == pytest.approx(5.0)
    read: list[str] = []
    monkeypatch.setattr("runctl.purse._of", lambda run, ended, now: read.append(run.name))
    assert held(tmp_path).spent == pytest.approx(5.0)
    assert read == []


JOB = """
name: job
task: command
command: {argv: [%s, -c, "%s"]}
declares: {family: mlp, inputs: 64, d_model: 256, n_layers: 2, outputs: 10, batch_size: 64, steps: 2000}
compute: {timeout: %s}
budget: {max_cost_usd: 100, max_hours: 10}
"""


def job(folder: Path, program: str = "pass", timeout: str = "10m") -> Path:
    path = folder / "job.yaml"
    path.write_text(JOB % (json.dumps(sys.executable), program, timeout))
    return path


def likely(folder: Path) -> float:
    (report,) = json.loads(runctl(folder, "preflight", "job.yaml", "--json").stdout)["reports"]
    return float(report["estimates"]["cost_usd"]["likely"])


def test_a_launch_that_would_overdraw_the_purse_is_refused_with_4_and_leaves_nothing(tmp_path: Path) -> None:
    project(tmp_path, total=1e6, hour=60)
    job(tmp_path)
    cost = likely(tmp_path)
    project(tmp_path, total=1.5 * cost + 2, hour=60)
    run_of(tmp_path, "earlier", (cost + 2) / 60, rate=60)
    plain = runctl(tmp_path, "preflight", "job.yaml")
    assert plain.returncode == 0
    assert "would be refused at launch here" in plain.stdout
    done = runctl(tmp_path, "launch", "job.yaml")
    assert done.returncode == 4, done.stderr
    assert "the run likely costs $" in done.stderr
    assert "of the project's purse is free" in done.stderr
    assert "or raise budget.total_usd in runctl.yaml" in done.stderr
    assert [run.name for run in record.list_runs(tmp_path)] == ["earlier"]
    allowed = runctl(tmp_path, "launch", "job.yaml", "--allow", "BU105", "--because", "please")
    assert allowed.returncode == 2
    assert "BU105 cannot be allowed" in allowed.stderr


def test_the_plan_and_the_list_show_what_is_spent_and_left(tmp_path: Path) -> None:
    project(tmp_path, total=200, hour=0.36)
    job(tmp_path)
    run_of(tmp_path, "earlier", 12.4)
    dry = runctl(tmp_path, "launch", "job.yaml", "--dry-run", "--json")
    assert not (tmp_path / ".runctl").exists()  # a plan writes nothing
    planned = json.loads(dry.stdout)["purse"]
    assert (planned["spent_usd"], planned["left_usd"]) == (12.4, 187.6)
    assert planned["run_usd"] >= 0
    assert "note: purse: $12.40 of $200.00 spent, $187.60 left; this run likely $" in dry.stderr
    listed = runctl(tmp_path, "status")
    assert "purse: $12.40 of $200.00 spent, $187.60 left" in listed.stderr
    assert json.loads(runctl(tmp_path, "status", "--json").stdout)["purse"]["total_usd"] == 200.0


def test_only_the_worst_case_not_fitting_is_a_warning(tmp_path: Path) -> None:
    project(tmp_path, total=50, hour=60)
    job(tmp_path, timeout="1h")
    done = runctl(tmp_path, "launch", "job.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "warning BU105: the worst case costs $60.00 (timeout 1h00m, at up to $60.00/h)" in done.stderr


def test_of_two_launches_at_once_only_one_takes_the_last_money(tmp_path: Path) -> None:
    project(tmp_path, total=1e6, hour=60)
    job(tmp_path, program="import time; time.sleep(4)")
    project(tmp_path, total=1.6 * likely(tmp_path), hour=60)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    both = [
        subprocess.Popen(argv("launch", "job.yaml", "--detach"), cwd=tmp_path, env=environment(), **pipes)  # type: ignore[call-overload]
        for _ in range(2)
    ]
    said = [one.communicate(timeout=60)[1] for one in both]
    assert sorted(one.returncode for one in both) == [0, 4], said
    (run,) = record.list_runs(tmp_path)
    with supervised(run):
        until(run, in_state("queued", "starting", "running", *ENDED))


def test_a_claim_waits_for_the_one_before_it_and_then_sees_its_run(tmp_path: Path) -> None:
    project(tmp_path)
    inside, refused = threading.Event(), []

    def second() -> None:
        inside.wait(5)
        try:
            with purse.claiming(tmp_path, 10.0, 6.0, "the run"):
                pass
        except RefusedError as error:
            refused.append(error.message)

    other = threading.Thread(target=second)
    other.start()
    with purse.claiming(tmp_path, 10.0, 6.0, "the run"):
        inside.set()
        time.sleep(0.2)
        assert not refused
        run = run_of(tmp_path, "first", likely=6.0)
        write_start(run.attempt(1).path, from_step=0, checkpoint=None, code=None)
    other.join(10)
    assert refused == [
        "the run likely costs $6.00, but $4.00 of the project's purse is free: $0.00 of $10.00 spent, $10.00 left, "
        "$6.00 of it likely needed by 1 active run"
    ]


def test_a_resume_that_would_overdraw_the_purse_is_refused(tmp_path: Path) -> None:
    project(tmp_path, total=10)
    run = make(tmp_path, "--steps", 60, "--fail-at", 30, "--checkpoint-every", 10)
    estimate = {"cost": {"value": {"likely": 12.0}}}
    priced = {"price": {"usd_per_hour": 1.0}, "estimate": estimate, "code": {}}
    from runctl import config as configs

    config = configs.to_effective(configs.RunConfig(name="run"))
    record.write_json(run.run, record.read_json(run.run) | priced | {"config": config})
    with supervised(run):
        until(run, lambda found: found.over and run.summary.exists())
    found = resume.plan(run)  # half of its steps are saved
    assert any("what is left of run likely $8.00" in note for note in found.notes), found.notes
    run_of(tmp_path, "another", 3.0)
    with pytest.raises(RefusedError) as caught:
        resume.start(found)
    assert "what is left of run likely costs $8.00, but $7.00 of the project's purse is free" in caught.value.message
    with pytest.raises(RefusedError):
        resume.plan(run)
    assert [attempt.number for attempt in run.attempts()] == [1]


def test_what_is_set_aside_for_a_run_follows_its_changed_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that goes on ten times as long still costs ten times as much; what it was estimated to cost at its launch
    stays what its account is held against."""
    monkeypatch.chdir(project(tmp_path, total=1e9, hour=6))
    path = job(tmp_path, program="import time; time.sleep(60)", timeout="9h")
    run = launch.start(launch.plan(path, ["declares.steps=200000"]))
    try:
        until(run, in_state("running"))
        before = held(tmp_path).reserved
        stop.stop(run)
        resume.start(resume.plan(run, settings=["declares.steps=2000000"], accept=True))
        until(run, in_state("running"))
        assert before > 0.02
        assert held(tmp_path).reserved == pytest.approx(10 * before, rel=0.2)
        estimate = record.read_object(run.run)["estimate"]["cost"]["value"]["likely"]
        assert estimate == pytest.approx(before, rel=0.2)
    finally:
        clean(run)


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("budget: 3", "has one key, total_usd"),
        ("budget: {max_cost_usd: 3}", "has one key, total_usd"),
        ("budget: {total_usd: -1}", "no amount of USD"),
        ("budget: {total_usd: .nan}", "no amount of USD"),
        ("budget: {total_usd: '200'}", "no amount of USD"),
        ("budget: {total_usd: true}", "no amount of USD"),
        ("prices: {local: {A100: 1}}", "your own machine has one price"),
    ],
)
def test_a_purse_that_cannot_be_is_refused_with_its_place(written: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n" + written + "\n")
    with pytest.raises(UsageError) as caught:
        projects.load(tmp_path / "config.yaml")
    assert fault in caught.value.message
    assert "runctl.yaml:2:" in caught.value.message


def test_a_project_without_a_purse_has_none(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    assert purse.read(projects.load(tmp_path / "runctl.yaml")) is None
    assert not (tmp_path / ".runctl").exists()
