"""What was signed before a run started is what it is judged by, whatever the card says since."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from runctl import record

CONFIG = """\
name: {name}
data: {{simulate: {{games: 12, seconds: 20}}}}
model: {{d_model: 32, n_layers: 1}}
training: {{steps: 120, batch_size: 32, lr: 3.0e-3, validate_every: 15 steps, seed: 1}}
compute: {{cpu: 2}}
card: runcards/{name}.md
"""
LOSSES = [0.9, 0.8, 0.78, 0.779, 0.778, 0.7785, 0.778, 0.778]


def runctl(folder: Path, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "runctl", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def edit(project: Path, *pairs: tuple[str, str], card: str = "c") -> None:
    path = project / "runcards" / f"{card}.md"
    text = path.read_text()
    for old, new in pairs:
        text, count = re.subn(old, new, text, count=1, flags=re.MULTILINE)
        assert count == 1, old
    path.write_text(text)


def recorded(project: Path, name: str, card: dict[str, Any] | None, losses: Sequence[float] = LOSSES) -> None:
    """The records of a run of configs/c.yaml that has ended, with what the launch says of its card."""
    from runctl.config import load, to_effective

    run = record.RunDir(project / "runs" / name)
    effective = to_effective(load(project / "configs" / "c.yaml").config) | {"name": name}
    about = {"schema_version": 1, "name": name, "created": time.time(), "backend": "local", "project": str(project)}
    record.write_json(run.run, about | {"config": effective, "command": ["true"], "card": card})
    record.write_json(run.attempt(1).start, {"schema_version": 1, "time": time.time(), "from_step": 0})
    for index, loss in enumerate(losses, 1):
        row = {"step": 15 * index, "attempt": 1, "time": time.time(), "val/loss": loss, "val/frames": 700.0}
        record.append_line(run.metrics, row)
    about = {"schema_version": 1, "started": time.time() - 60, "ended": time.time(), "exit_code": 0}
    ended = {"state": "succeeded", "reason": None, "step": 120, "total_steps": 120, "seconds": 60.0}
    record.write_json(run.attempt(1).exit, about | ended)
    record.write_json(run.summary, {**about, "run": name, **ended, "attempts": 1, "steps": 120})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card whose target is val_loss < 0.5, signed by Ada, and the run `c` by it that ended at 0.778."""
    project = tmp_path_factory.mktemp("agreed")
    (project / "runctl.yaml").write_text("{}\n")
    (project / "configs").mkdir()
    (project / "configs" / "c.yaml").write_text(CONFIG.format(name="c"))
    runctl(project, "card", "new", "configs/c.yaml")
    edit(
        project,
        (r"^goal: ''", "goal: learn"),
        (r"^question: ''", "question: does it?"),
        (r"^targets: \[\]", 'targets: [{when: "val/loss < 0.5"}]'),
        (r"^kill: \[\]", 'kill: [{when: "val/loss > 9", do: stop}]'),
    )
    runctl(project, "card", "sign", "c", "--as", "Ada", "--verdict", "approve")
    from runctl import launch

    plan = launch.plan(project / "configs" / "c.yaml")
    recorded(project, "c", plan.card)
    recorded(project, "a", None, [0.9] * 8)
    return project


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return shutil.copytree(template, tmp_path / "project")


def outcome(project: Path, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "runctl", "card", "close", *arguments, "--json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)["outcome"]
    return found


@pytest.mark.parametrize("noted", [True, False])
def test_a_target_that_was_moved_after_the_run_does_not_make_it_a_success(project: Path, noted: bool) -> None:
    """Whether the run's record says what the card was at the launch, or only a kept signature does."""
    if not noted:
        path = project / "runs" / "c" / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "card": None}))
    edit(project, (r"val/loss < 0\.5", "val/loss < 0.9"), (r"^baseline: .*", "baseline: [a]"))
    edit(project, (r"^  statistic: last", "  statistic: best"), (r"^How it could fool us", "How easy this is"))
    found = outcome(project, "c", "c")
    assert found["verdict"] == "missed"
    assert found["result"]["statistic"] == "last"
    assert [(one["when"], one["verdict"]) for one in found["targets"]] == [
        ("val/loss < 0.5", "missed"),
        ("val/loss < 0.9", "not agreed (met)"),
    ]
    assert [one["verdict"] for one in found["baselines"]] == ["not agreed (better)"]
    said = "\n".join(found["deviations"])
    assert "targets: agreed was val/loss < 0.5; the card now says val/loss < 0.9" in said
    assert "baseline: agreed was none; the card now says a" in said
    assert "now “How easy this is" in said
    assert "Otherwise than agreed" in (project / "runcards" / "c.md").read_text()


def test_a_signature_after_the_run_agrees_to_nothing_that_ran(project: Path) -> None:
    edit(project, (r"val/loss < 0\.5", "val/loss < 0.9"))
    assert "card deviate c" in runctl(project, "card", "amend", "c", "--why", "typo", code=4)
    said = runctl(project, "card", "sign", "c", "--as", "alice", "--verdict", "approve")
    assert "signed after c had started: that does not make c agreed" in said
    found = outcome(project, "c", "c")
    assert found["verdict"] == "missed"
    assert any("alice: approve" in one and "younger than the run" in one for one in found["deviations"])


def test_a_closed_card_stays_closed_and_keeps_its_verdict(project: Path) -> None:
    runctl(project, "card", "close", "c", "c")
    runctl(project, "card", "close", "c", "c")
    assert runctl(project, "card", "check", "c").startswith("closed")
    edit(project, (r"val/loss < 0\.5", "val/loss < 0.9"), (r"^status: closed", "status: draft"))
    assert "changed after it was closed" in runctl(project, "card", "check", "c", code=1)
    assert "is closed" in runctl(project, "card", "sign", "c", "--as", "bo", "--verdict", "approve", code=4)
    refused = runctl(project, "card", "close", "c", "c", code=4)
    assert "--again" in refused
    recorded(project, "c-2", None)
    runctl(project, "card", "close", "c", "c-2", code=4)
    found = outcome(project, "c", "c", "--again", "a reason", "--as", "Bo")
    assert found["verdict"] == "missed"
    text = (project / "runcards" / "c.md").read_text()
    assert "Closed before" in text
    assert "status: closed" in text
    assert text.count("kind: closed") == 2
    first, second = re.findall(r"kind: closed.*?(?=\n- kind|\nrun:|\n---)", text, re.DOTALL)
    assert re.search(r"before: \w{64}", first)
    assert re.findall(r"after: (\w{64})", first) == re.findall(r"before: (\w{64})", second)
    assert "again: a reason" in second
    runctl(project, "card", "check", "c")


def test_a_closed_card_authorises_no_other_run(project: Path) -> None:
    runctl(project, "card", "close", "c", "c")
    shown = runctl(project, "card", "show", "c")
    assert "may be launched" not in shown
    assert "c is closed (run c): draft a card" in shown
    assert "card sign" not in shown
    (project / "runctl.yaml").write_text(
        "policy: {require_card: true, card_cost: 0.001}\nprices: {local: {machine_hour: 6000}}\n"
    )
    refused = runctl(project, "launch", "configs/c.yaml", "--dry-run", code=4)
    assert "c is closed (run c): draft a card" in refused
    assert "runctl card new configs/c.yaml --name c-next" in refused


def test_check_show_and_diff_give_one_answer(project: Path) -> None:
    """A key that no table shows, and a run with another rate."""
    assert "agree, and c ran so" in runctl(project, "card", "diff", "c", "c")
    path = project / "runs" / "c" / "run.json"
    about = json.loads(path.read_text())
    about["config"]["loss_weights"]["action"] = 7.0
    path.write_text(json.dumps(about))
    assert re.search(r"loss_weights\.action \S+ \S+ 7", runctl(project, "card", "diff", "c", "c", code=1))
    runctl(project, "card", "diff", "c")
    config = project / "configs" / "c.yaml"
    config.write_text(config.read_text() + "loss_weights: {action: 9.0}\n")
    assert "loss_weights.action" in runctl(project, "card", "diff", "c", code=1)
    assert runctl(project, "card", "check", "c", code=1).startswith("void")
    assert runctl(project, "card", "show", "c").startswith("c void")
    assert "void" in runctl(project, "card", "list")
    assert "RUN is empty" in runctl(project, "card", "diff", "c", "", code=2)


def test_a_config_that_changed_after_a_run_asks_for_another_card(project: Path) -> None:
    config = project / "configs" / "c.yaml"
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: 64"))
    assert "fix: runctl card new configs/c.yaml --name c-next" in runctl(project, "card", "check", "c", code=1)
    shutil.rmtree(project / "runs")
    assert "fix: runctl card amend c --why" in runctl(project, "card", "check", "c", code=1)
    runctl(project, "card", "amend", "c", "--why", "it fits")


def test_a_card_whose_config_moved_is_mended_by_one_command(project: Path) -> None:
    runctl(project, "card", "close", "c", "c")
    (project / "configs" / "c.yaml").rename(project / "configs" / "old.yaml")
    told = runctl(project, "card", "show", "c", code=2)
    assert "runctl card amend c --config PATH" in told
    runctl(project, "card", "amend", "c", "--config", "configs/old.yaml", "--why", "it was moved")
    assert runctl(project, "card", "check", "c").startswith("closed")
    assert "config configs/c.yaml → configs/old.yaml" in runctl(project, "card", "show", "c")


def test_only_who_blocks_can_lift_the_block(project: Path) -> None:
    shutil.rmtree(project / "runs")
    runctl(project, "card", "sign", "c", "--as", "bob", "--verdict", "block", "-m", "no")
    shown = runctl(project, "card", "show", "c")
    assert "only bob can lift the block: runctl card sign c --as bob --verdict approve" in shown
    assert shown.startswith("c blocked")
    runctl(project, "card", "sign", "c", "--as", "bob", "--verdict", "approve")
    assert "bob: block “no” withdrawn" in runctl(project, "card", "show", "c")


COMMAND = """\
name: own
task: command
command: {{argv: ["true"], progress: [{pattern}]}}
compute: {{{compute}}}
{more}
"""


@pytest.mark.parametrize(
    ("compute", "code", "said"),
    [
        ("timeout: 30m", 4, "its likely cost is unknown, and it may cost $5"),
        ("timeout: 1s", 0, ""),
        ("cpu: 2", 0, "policy.require_card could not be judged"),
    ],
)
def test_the_policy_falls_back_on_the_worst_case(tmp_path: Path, compute: str, code: int, said: str) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {require_card: true}\nprices: {local: {machine_hour: 1000}}\n")
    config = tmp_path / "own.yaml"
    config.write_text(COMMAND.format(pattern='"step {step} loss {val_loss}"', compute=compute, more=""))
    told = runctl(tmp_path, "launch", "own.yaml", "--dry-run", "--allow", "BU102", "--because", "x", code=code)
    assert said in told
    if code == 4:
        runctl(tmp_path, "card", "new", "own.yaml")
        config.write_text(config.read_text() + "card: runcards/own.md\n")
        refused = runctl(tmp_path, "launch", "own.yaml", "--dry-run", "--allow", "BU102", "--because", "x", code=4)
        assert "nobody has approved it" in refused


@pytest.mark.parametrize(("pattern", "metric"), [('"step {step} held out {val_loss}"', "val_loss"), ("auto", None)])
def test_a_card_of_ones_own_program_says_sentences(tmp_path: Path, pattern: str, metric: str | None) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    (tmp_path / "own.yaml").write_text(COMMAND.format(pattern=pattern, compute="cpu: 2", more=""))
    runctl(tmp_path, "card", "new", "own.yaml")
    text = (tmp_path / "runcards" / "own.md").read_text()
    assert "unknown: task" not in text
    assert "| checkpoints | the program's own |" in text
    assert "| length | until the program ends, or a limit does |" in text
    assert f"name: {metric or 'val/loss'}\n" in text
    assert ("patterns name no metric" in text) is (metric is None)
