"""Guards at work: each fires on a run that is built to trip it, through the real supervisor, and on no healthy one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runs import alive, in_state, make, pids, supervised, until
from guard_trials import program, source

from runctl import page, record, status
from runctl.guards import listing
from runctl.guards.defaults import Known
from runctl.guards.evaluate import Guard, Moment
from runctl.guards.watch import Watch
from runctl.starting import write_start
from runctl.supervisor.verdict import ENDED, Stop, judge

NAN, INF = float("nan"), float("inf")


def made(when: str, do: str = "note", *, after: str | None = None, known: Known = Known(), **config: Any) -> list[Any]:
    """The guards of a config with this one first."""
    return listing.made({"task": "command", "guards": [{"when": when, "do": do, "after": after}], **config}, known)


def tripped(
    when: str, values: list[Any], metric: str = "val/loss", do: str = "note", after: str | None = None
) -> list[int]:
    """The steps, 10 apart, at which a guard trips over the values of a metric."""
    guard = Guard(made(when, do, after=after)[0])
    found = []
    for step, value in enumerate(values, 1):
        row = {"step": 10 * step, "epoch": step / 2, metric: value} if value != "left out" else {"val/other": 1.0}
        if guard.value(Moment(row, 10 * step, step / 2, 60.0 * step)):
            found.append(10 * step)
    return found


@pytest.mark.parametrize(
    ("when", "values", "wanted"),
    [
        ("val/loss > 0.4", [0.5, 0.5, 0.3, 0.41], [10, 40]),  # once for each time that it becomes true
        ("val/loss > 0.4", [0.4, 0.1], []),
        ("val/loss >= 0.4 for 3 evals", [0.4, 0.4, 0.1, 0.4, 0.5, 0.6, 0.7], [60]),
        ("val/loss > 0.4 after 1 epoch", [9, 0.5, 0.5], [20]),
        ("val/loss > 0.4 after 30 steps", [9, 9, 0.5, 0.5], [30]),
        ("val/loss > 0.4 after 2m", [9, 0.5, 0.5], [20]),
        ("val/loss > 0.4 for 2m", [9, 9, 9, 9], [30]),
        ("val/loss > 0.4", [NAN, INF], [10]),  # what is not finite is worse than any limit
        ("val/loss < 0.4", [NAN], [10]),
        ("val/loss > 0.4", ["left out", 0.1], [10]),  # missing beside its group: a note
        ("val/loss > 0.4", [None, "text", True, [1]], [10, 20]),
        ("nan", [0.1, NAN, 0.1, INF], [20, 40]),
        ("nan", [0.1, None], [20]),  # a loss that is null
        ("nan", [10**400], [10]),
        ("spike of val/loss ratio > 3 over 10", [1.0] * 10 + [3.5] + [1.0] * 5, [110]),
        ("spike of val/loss z > 6 over 10", [1.0, 1.1] * 5 + [1.2, 2.0], [120]),
        ("spike of val/loss z > 6 over 10", [1.0] * 10 + [1.001] * 3, []),
        ("plateau of val/loss over 3 evals by less than 0.1", [1.0, 0.8, 0.6, 0.4, 0.39, 0.38, 0.37], [70]),
        ("plateau of val/acc over 2 evals by less than 0.1", [0.1, 0.3, 0.5, 0.7], []),
        ("floor ln(256) of val/loss", [5.6, 5.55, 5.5], [30]),
        ("first val/loss > 100", [101, 102], [10]),
        ("first val/loss > 100", [1, 102], []),
        ("first val/loss far from ln(256)", [12.0], [10]),
        ("first val/loss far from ln(256)", [5.7], []),
        ("val/loss > 150% of the start", [1.0] * 5 + [1.4, 1.6], [70]),
        ("val/loss > 200% of the best", [1.0, 0.5, 0.9, 1.1], [40]),
        ("chance of val/acc among 10", [0.3, 0.125, 0.3, 0.05, 0.5], [20, 40]),  # 0.1 and three standard errors
        ("chance of val/acc among 10 within 0.01", [0.125, 0.109], [20]),
        ("chance of val/loss among 256 for 2 evals", [5.5, 5.0, 5.5, 5.6, 9.0], [40]),
        ("chance of val/ppl among 256", [250.0, 252.0], [20]),
        ("drift of val/acc > 30%", [1.0 - 0.02 * step for step in range(40)], [200]),
        ("drift of val/acc > 30%", [1.0 + 0.02 * step for step in range(40)], []),  # for the better
        ("creep of val/loss > 30%", [1.0] * 20 + [9.0] * 30, []),  # one leap, as of the first validation, is no creep
        ("creep of val/loss > 30%", [1.0 + 0.001 * step for step in range(1000)], [4480]),
    ],
)
def test_a_guard_trips_where_it_should(when: str, values: list[Any], wanted: list[int]) -> None:
    metric = next(name for name in ("val/acc", "val/ppl", "val/loss") if name in when or name == "val/loss")
    assert tripped(when, values, metric) == wanted


def test_a_guard_that_stops_trips_on_every_new_value() -> None:
    assert tripped("val/loss > 0.4", [0.5, 0.5], do="stop") == [10, 20]


def test_batches_left_out_are_a_share_of_the_steps_and_a_utilisation_follows_from_the_rate() -> None:
    known = Known(flops_per_example=1e9, peak_flops=1e14, peak_words="100 TFLOP/s")
    for when, rows in (
        ("oom > 1%", [{"oom": 1}, {"oom": 2}]),
        ("skipped > 1%", [{"skipped": 1}, {"skipped": 2}]),
        ("mfu < 2%", [{"examples_per_second": 3000.0}, {"examples_per_second": 1000.0}]),
        ("mfu < 2%", [{"mfu": 0.03, "examples_per_second": 1.0}, {"mfu": 0.01}]),  # what the program says itself
    ):
        guard = Guard(made(when, known=known)[0])
        moments = [Moment({**row, "step": 100 + at}, 100 + at, None, 0.0) for at, row in enumerate(rows)]
        assert [guard.value(moment) is not None for moment in moments] == [False, True], when


def test_a_loss_that_is_nan_is_told_by_one_default_guard_alone() -> None:
    found = listing.made({"task": "command", "declares": {"vocab_size": 50257}}, Known(steps=100))
    on = [one["name"] for one in found if one["on"] and one["test"].get("metric") == "loss"]
    assert on == ["first loss far from ln V", "floor 0 of loss", "loss at chance", "spike of loss ratio > 10 over 50"]
    moment = Moment({"loss": NAN, "step": 50}, 50, None, 0.0)
    assert [one["name"] for one in found if one["on"] and "hours" not in one["name"] and Guard(one).value(moment)] == [
        "nan"
    ]


def test_a_step_that_is_seen_again_counts_once() -> None:
    guard = Guard(made("val/loss > 0.4 for 3 evals")[0])
    steps = [10, 20, 20, 10, 30]
    trips = [guard.value(Moment({"val/loss": 1.0}, step, None, 0.0)) is not None for step in steps]
    assert trips == [False, False, False, False, True]


def rows(run: record.RunDir, event: str = "guard_tripped") -> list[dict[str, Any]]:
    return [row for row in record.read_lines(run.events) if row["event"] == event]


def test_a_budget_counts_the_hours_of_earlier_attempts_and_repeats_no_notice(tmp_path: Path) -> None:
    run = program(tmp_path, made("nan", budget={"max_hours": 1.0}), pace=0.5)
    record.write_json(run.attempt(1).exit, {"state": "failed", "seconds": 3598.5})
    told = {"event": "guard_tripped", "attempt": 1, "guard": "budget.max_hours", "do": "notify"}
    record.append_line(run.events, {**told, "values": {"mark": 0.8, "of": 1.0}})
    write_start(run.attempt(2).path, from_step=0, checkpoint=None, code=None)
    with supervised(run, attempt=2):
        found = until(run, in_state(*ENDED))
    assert found.state == "killed"
    assert [row["do"] for row in rows(run)] == ["notify", "stop"]  # the first is the one of attempt 1


def test_a_guard_that_kills_leaves_no_process(tmp_path: Path) -> None:
    """Neither the trainer, which ignores SIGTERM, nor its child, nor one in a session of its own."""
    run = make(tmp_path, "--steps", 10_000, "--deaf", "--child", "--daemon")
    guards = listing.made(
        {"task": "worldmodel", "guards": [{"when": "val/loss < 0.05", "do": "kill", "why": "a leak"}]}
    )
    record.write_json(run.run, record.read_json(run.run) | {"guards": guards})
    begun = time.monotonic()
    with supervised(run, grace=60.0):
        until(run, in_state("running"))
        supervisor, trainer = pids(run)
        found = until(run, in_state(*ENDED))
        until(run, lambda _: not alive(supervisor))
        children = [int((run.path / f"child-{kind}.pid").read_text()) for kind in (0, 1)]
        assert not any(alive(pid) for pid in (trainer, *children))
    assert time.monotonic() - begun < 20  # no grace period
    assert found.state == "killed"
    assert found.reason.startswith("guard val/loss < 0.05: val/loss 0.0")
    assert found.reason.endswith("; a leak")


def test_a_guard_that_stops_saves_a_checkpoint(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 20)
    guards = listing.made({"task": "worldmodel", "guards": [{"when": "val/loss < 0.02", "do": "stop"}]})
    record.write_json(run.run, record.read_json(run.run) | {"guards": guards})
    with supervised(run):
        found = until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    assert found.state == "killed"
    assert found.checkpoint_step == found.step
    assert record.read_json(run.summary)["state"] == "killed"


def test_what_a_guard_ended_is_not_started_again(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 10_000, compute={"retries": 3})
    guards = listing.made({"task": "worldmodel", "guards": [{"when": "val/loss < 0.1", "do": "kill"}]})
    record.write_json(run.run, record.read_json(run.run) | {"guards": guards})
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "killed"
        until(run, lambda _: run.summary.exists())
    assert [attempt.number for attempt in run.attempts()] == [1]


def test_a_guard_can_ask_for_a_checkpoint_and_the_run_goes_on(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 200, "--checkpoint-every", 40)
    guards = listing.made({"task": "worldmodel", "guards": [{"when": "val/loss < 0.02", "do": "checkpoint"}]})
    record.write_json(run.run, record.read_json(run.run) | {"guards": guards})
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert found.state == "succeeded"
    assert [row["do"] for row in rows(run)] == ["checkpoint"]
    steps = [int(folder.name.removeprefix("step-")) for folder in run.checkpoints.glob("step-*")]
    assert [step for step in steps if step % 40] != []


def test_status_and_page_tell_a_guard_that_has_tripped(tmp_path: Path) -> None:
    run = program(tmp_path, made("train/loss < 2.9"), pace=0.2)
    with supervised(run):
        found = until(run, lambda now: bool(now.guard))
        assert found.state == "running"
        assert found.guard.startswith("guard train/loss < 2.9: train/loss 2.88 < 2.9 at step 6")
        told = page.read(run).guards
    assert (told[0]["name"], told[0]["trips"], told[0]["last"]["step"]) == ("train/loss < 2.9", 1, 6)


def test_a_guard_whose_metric_never_came_is_told_at_the_end(tmp_path: Path) -> None:
    run = program(tmp_path, made("accuracy > 0.4", "kill"), pace=0.005)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"
    (row,) = rows(run, "guard_unjudged")
    assert row["reason"] == "accuracy was never reported"
    assert page.read(run).guards[0]["unjudged"] == "accuracy was never reported"


def test_what_trips_in_the_last_row_is_told_and_changes_no_end(tmp_path: Path) -> None:
    change = "if step == steps: row['val/loss'] = float('nan')"
    run = program(tmp_path, made("nan", "stop"), change=change, pace=0.001)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"
    (row,) = rows(run)
    assert (row["do"], row["reason"]) == ("note", "val/loss is NaN or infinite at step 60")


def measured(run: record.RunDir, attempt: int, step: int, value: float) -> None:
    record.append_line(run.metrics, {"step": step, "attempt": attempt, "val/loss": value})


def watch(run: record.RunDir, attempt: int, when: str, do: str = "note") -> Watch:
    return Watch(run, attempt, {"guards": made(when, do)[:1]}, 0.0)


@pytest.mark.parametrize(("at_30", "wanted"), [(1.0, 50), (0.1, 80)])
def test_after_a_resume_what_is_run_again_counts_once(at_30: float, wanted: int, tmp_path: Path) -> None:
    """Attempt 1 saw steps 10 to 40 and was resumed from 20: its steps 30 and 40 are forgotten."""
    run = record.RunDir(tmp_path)
    first = watch(run, 1, "val/loss > 0.4 for 5 evals")
    for step in (10, 20, 30, 40):
        measured(run, 1, step, 1.0)
    assert first.look({}, 1.0, True) == []
    record.write_json(run.attempt(2).resumed, {"step": 20})
    second = watch(run, 2, "val/loss > 0.4 for 5 evals")
    seen = []
    for step in (30, 40, 50, 60, 70, 80):
        measured(run, 2, step, at_30 if step == 30 else 1.0)
        seen += [trip.step for trip in second.look({}, 1.0, True)]
    assert seen == [wanted]  # 10 and 20 of the first attempt, then those of the second


def test_a_note_is_not_repeated_after_a_resume_and_a_stop_is(tmp_path: Path) -> None:
    run = record.RunDir(tmp_path)
    measured(run, 1, 10, 1.0)
    for do, wanted in (("note", []), ("stop", [20])):
        watching = watch(run, 2, "val/loss > 0.4", do)
        measured(run, 2, 20, 1.0)
        assert [trip.step for trip in watching.look({}, 1.0, True)] == wanted
        record.write_text(run.metrics, run.metrics.read_text().splitlines()[0] + "\n")


@pytest.mark.parametrize(
    "line",
    [b"\xff\xfe", b"[1]", b"{", b"[" * 10_000, b'{"step": "x", "loss": "y"}', b'{"step": 1e999}', b"null", b"{}"],
)
def test_damaged_rows_disturb_no_guard(line: bytes, tmp_path: Path) -> None:
    run = record.RunDir(tmp_path)
    watching = watch(run, 1, "val/loss > 0.4")
    good = json.dumps({"step": 5, "attempt": 1, "val/loss": 0.5}).encode()
    run.metrics.write_bytes(line + b"\n" + good[:9])
    assert watching.look({"step": "x", "checkpoint": [1], "loss": {}}, 1.0, True) == []
    with run.metrics.open("ab") as file:
        file.write(good[9:] + b"\n")
    assert [trip.step for trip in watching.look({}, 1.0, True)] == [5]


def test_rows_are_read_once_however_long_the_file_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = record.RunDir(tmp_path)
    watching = watch(run, 1, "val/loss > 0.4")
    for step in range(1, 2_001):
        measured(run, 1, step, 0.1)
    watching.look({}, 1.0, True)
    read: list[int] = []
    monkeypatch.setattr("runctl.guards.watch._parsed", lambda lines: read.append(sum(map(len, lines))) or ())
    measured(run, 1, 2_001, 0.1)
    watching.look({}, 1.0, True)
    watching.look({}, 1.0, True)
    assert sum(read) < 100


@pytest.mark.parametrize(
    "guards",
    ["text", [1], [{"on": True, "test": {"kind": "unknown"}}], [{"on": True, "name": "x", "do": "note", "test": {}}]],
)
def test_a_damaged_list_of_guards_ends_no_run(guards: Any, tmp_path: Path) -> None:
    run = program(tmp_path, guards, pace=0.001)
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"


@pytest.mark.parametrize("every", ["nonsense", "1e999 steps", "x epochs", 3, None])
def test_a_damaged_config_in_the_record_ends_no_run_and_no_page(every: Any, tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 20, checkpoint={"every": every, "metric": "val/loss"})
    with supervised(run):
        assert until(run, in_state(*ENDED)).state == "succeeded"
    assert page.read(run).guards
    assert rows(run, "guard_failed") == []


def test_the_names_of_metrics_may_be_any_text(tmp_path: Path) -> None:
    change = "row['\\ud800/loss'] = float('nan')"
    run = program(tmp_path, made("nan", "stop"), change=change)
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.reason) == ("killed", "guard nan: \\ud800/loss is NaN or infinite at step 1")


CONFIG = """
name: job
task: command
command: {argv: [%s, -c, %s]}
compute: {timeout: 5m}
guards:
  - {when: "val/loss > 5", after: "20 steps", do: stop, why: "the rate is too high"}
"""


def test_from_the_config_to_exit_code_7(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Preflight says it, run.json holds it, the supervisor does it, and launch, status, logs and page tell it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runctl.yaml").write_text("{}\n")
    text = source("row['val/loss'] = 9.0")
    Path("job.yaml").write_text(CONFIG % (json.dumps(sys.executable), json.dumps(text)))
    words = "the run will be stopped if val/loss is above 5 at any validation after step 20"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "COLUMNS": "300", "NO_COLOR": "1"}

    def runctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "runctl", *arguments]
        return subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    assert f"    {words} (the rate is too high)  guards[0]" in runctl("preflight", "job.yaml").stdout
    (report,) = json.loads(runctl("preflight", "job.yaml", "--json").stdout)["reports"]
    assert report["guards"][0]["words"] == words
    for form in ("markdown", "comment"):
        told = runctl("preflight", "job.yaml", "--format", form).stdout
        assert f"- {words} (the rate is too high) (<code>guards&#91;0&#93;</code>)" in told
        assert "- the run will be stopped if any loss is NaN or infinite\n" in told
    done = runctl("launch", "job.yaml")
    assert done.returncode == 7, done.stderr
    run = record.find(tmp_path, "job")
    assert record.read_json(run.run)["guards"] == report["guards"]
    why = "guard val/loss > 5: val/loss 9 > 5 at step 20; the rate is too high"
    assert status.read(run).reason == why
    assert f": {why}\n" in runctl("logs", "job").stdout
    assert "val/loss > 5  tripped (stop" in runctl("status", "job").stdout
    assert runctl("wait", "job").returncode == 7


def test_a_comment_on_a_change_says_what_would_watch_the_changed_configs(tmp_path: Path) -> None:
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(tmp_path)]
    (tmp_path / "runctl.yaml").write_text("{}\n")
    for name in ("same", "moved"):
        (tmp_path / f"{name}.yaml").write_text("training: {steps: 200}\n")
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message=first"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "moved.yaml").write_text("training: {steps: 300}\nguards: [{when: val/loss > 9, do: kill}]\n")
    argv = [sys.executable, "-m", "runctl", "preflight", ".", "--base", "HEAD", "--format", "comment"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    told = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60).stdout
    (watched,) = [part for part in told.split("<details>") if "what would watch these runs" in part]
    assert "- the run will be killed at once if val/loss is above 9 at any validation" in watched
    assert "moved.yaml" in watched
    assert "same.yaml" not in watched


def test_a_run_that_a_guard_ended_is_killed_whatever_the_trainer_made_of_it() -> None:
    stop = Stop("guard", "guard nan: loss is NaN")
    assert judge({"outcome": "stopped"}, 0, command=False, stop=stop).state == "killed"
    failed = {"outcome": "failed", "error": {"type": "NonFinite", "message": "weights"}}
    assert judge(failed, 1, command=False, stop=stop).reason.endswith("then it failed: weights")
    assert judge({"outcome": "succeeded"}, 0, command=False, stop=stop).state == "succeeded"
    assert judge(None, -9, command=False, stop=stop, forced=True).reason.endswith("was killed")


def test_status_shows_no_guard_of_a_run_that_is_over(tmp_path: Path) -> None:
    run = program(tmp_path, made("train/loss < 2.9"), pace=0.001)
    with supervised(run):
        found = until(run, in_state(*ENDED))
    assert (found.state, found.guard) == ("succeeded", "")
    assert os.path.exists(run.events)
    assert status.read(run).guard == ""
