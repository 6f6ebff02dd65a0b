"""Run cards through the command line: the losses that they are there to prevent, each reproduced and stopped."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from runctl import record
from runctl.config import load, to_effective

CONFIG = """\
name: {name}
data: {{simulate: {{games: 12, seconds: 20}}}}
model: {{d_model: {width}, n_layers: 1}}
training: {{steps: 120, batch_size: {batch}, lr: 3.0e-3, validate_every: 15 steps, seed: {seed}}}
compute: {{cpu: 2}}
{more}
"""
POLICY = "policy: {{require_card: {}, card_cost: 0.001}}\nprices: {{local: {{machine_hour: 60}}}}\n"
Runctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "runctl.yaml").write_text(POLICY.format("true"))
    (tmp_path / "configs").mkdir()
    return tmp_path


@pytest.fixture
def runctl(project: Path) -> Runctl:
    def call(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runctl", *arguments]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


def config(project: Path, name: str, *, width: int = 32, batch: int = 32, seed: int = 1, more: str = "") -> str:
    path = project / "configs" / f"{name}.yaml"
    path.write_text(CONFIG.format(name=name, width=width, batch=batch, seed=seed, more=more))
    return f"configs/{name}.yaml"


def finished(
    project: Path,
    name: str,
    losses: Sequence[float],
    *,
    state: str = "succeeded",
    reason: str | None = None,
    **settings: Any,
) -> record.RunDir:
    """The records of a run that has ended, by hand: its config, its validations, its end."""
    path = config(project, name, **settings)
    run = record.RunDir(project / "runs" / name)
    effective = to_effective(load(project / path).config)
    about = {"schema_version": 1, "name": name, "created": time.time(), "backend": "local", "project": str(project)}
    record.write_json(run.run, about | {"config": effective, "command": ["true"]})
    record.write_json(run.attempt(1).start, {"schema_version": 1, "time": time.time(), "from_step": 0})
    for index, loss in enumerate(losses, 1):
        row = {"step": 15 * index, "attempt": 1, "time": time.time(), "val/loss": loss, "val/frames": 700.0}
        record.append_line(run.metrics, row)
    ended = {"state": state, "reason": reason, "step": 15 * len(losses), "total_steps": 120, "seconds": 60.0}
    about = {"schema_version": 1, "started": time.time() - 60, "ended": time.time(), "exit_code": 0}
    record.write_json(run.attempt(1).exit, about | ended)
    record.write_json(run.summary, {**about, "run": name, **ended, "attempts": 1, "steps": 15 * len(losses)})
    return run


def say(project: Path, name: str, **given: str) -> None:
    """Fill in what people write: `targets='[…]'` replaces that key of the front matter."""
    path = project / "runcards" / f"{name}.md"
    lines = path.read_text().split("\n")
    for key, value in given.items():
        index = next(index for index, line in enumerate(lines) if line.startswith(f"{key}:"))
        lines[index] = f"{key}: {value}"
    path.write_text("\n".join(lines))


def agreed(runctl: Runctl, project: Path, name: str, *, baseline: str | None = None, **given: str) -> None:
    """A card for configs/NAME.yaml, filled in and approved."""
    runctl("card", "new", f"configs/{name}.yaml", *(["--baseline", baseline] if baseline else []))
    said = {"goal": "learn something", "question": "is it better?", "targets": '[{when: "val/loss < 0.30"}]'}
    say(project, name, **(said | {"kill": '[{when: "val/loss > 9", do: stop}]'} | given))
    runctl("card", "sign", name, "--as", "Ada", "--verdict", "approve")


def card_of(name: str) -> str:
    return f"card: runcards/{name}.md"


def test_a_batch_that_changes_after_review_voids_the_signature_and_stops_the_launch(
    project: Path, runctl: Runctl
) -> None:
    """1,024 → 4,096 in a shared config, between review and launch."""
    path = config(project, "smoke", batch=1024, more=card_of("smoke"))
    agreed(runctl, project, "smoke")
    runctl("launch", path, "--dry-run")
    config(project, "smoke", batch=4096, more=card_of("smoke"))
    shown = runctl("card", "show", "smoke").stdout
    assert "training.batch_size 1,024 → 4,096" in shown
    refused = runctl("launch", path, "--dry-run", code=4)
    assert "EX104" in refused.stderr
    assert "runctl card amend smoke" in refused.stderr
    amended = runctl("card", "amend", "smoke", "--why", "4,096 fits", "--as", "Bo")
    assert "training.batch_size 1,024 → 4,096" in amended.stdout
    refused = runctl("launch", path, "--dry-run", code=4)
    assert "runctl card sign smoke" in refused.stderr
    runctl("card", "sign", "smoke", "--as", "Ada", "--verdict", "approve")
    runctl("launch", path, "--dry-run")


def test_a_paid_run_without_a_card_is_refused_by_policy_and_else_warned_of(project: Path, runctl: Runctl) -> None:
    path = config(project, "bare", width=512)
    refused = runctl("launch", path, "--dry-run", code=4)
    assert "EX102" in refused.stderr
    assert "runctl card new" in refused.stderr
    (project / "runctl.yaml").write_text(POLICY.format("false"))
    assert "warning EX102" in runctl("preflight", path).stdout


def test_a_block_stops_the_launch_until_it_is_taken_back(project: Path, runctl: Runctl) -> None:
    path = config(project, "smoke", more=card_of("smoke"))
    agreed(runctl, project, "smoke")
    runctl("card", "sign", "smoke", "--as", "Bo", "--verdict", "block", "-m", "the rate is too high")
    refused = runctl("launch", path, "--dry-run", "--set", "training.seed=1", code=4)
    assert "Bo blocks it: the rate is too high" in refused.stderr
    runctl("card", "sign", "smoke", "--as", "Bo", "--verdict", "approve")
    runctl("launch", path, "--dry-run")


def test_a_card_that_says_15m_of_a_10_6m_model_is_an_error(project: Path, runctl: Runctl) -> None:
    config(project, "smoke", more=card_of("smoke"))
    runctl("card", "new", "configs/smoke.yaml")
    path = project / "runcards" / "smoke.md"
    exact = next(line for line in path.read_text().splitlines() if line.startswith("| parameters"))
    path.write_text(path.read_text().replace(exact, "| parameters | 15,000,000 (15M, exact) |"))
    wrong = runctl("card", "check", "smoke", code=1)
    assert "says parameters 15,000,000" in wrong.stdout


def test_an_encoding_that_was_made_without_its_flag_voids_the_signature(project: Path, runctl: Runctl) -> None:
    """A re-encode whose command forgot the override: an identical file under a new name."""

    def manifest(digest: str) -> None:
        (project / "data").mkdir(exist_ok=True)
        about = {"schema_version": 1, "kind": "encoded-dataset", "encoding": {}, "encoding_digest": digest}
        text = json.dumps(about | {"frames": 90_000, "games": 50})
        (project / "data" / "v3.manifest.json").write_text(text)

    text = (
        "name: v3\ndata: {encoded: data/v3}\nencoding: {hitstun: true}\ntraining: {steps: 120}\ncard: runcards/v3.md\n"
    )
    (project / "configs" / "v3.yaml").write_text(text)
    manifest("a" * 64)
    runctl("card", "new", "configs/v3.yaml")
    say(project, "v3", goal="see whether hitstun helps", question="does it?")
    runctl("card", "sign", "v3", "--as", "Ada", "--verdict", "comment")
    manifest("b" * 64)
    shown = json.loads(runctl("card", "show", "v3", "--json").stdout)["card"]
    (signature,) = shown["contract"]["signatures"]
    assert signature["void"] == [f"dataset.encoding_digest {'a' * 64} → {'b' * 64}"]


def test_three_variables_changed_at_once_are_listed(project: Path, runctl: Runctl) -> None:
    finished(project, "base", [0.5] * 8)
    config(project, "odd", width=64, batch=64, seed=2, more=card_of("odd"))
    runctl("card", "new", "configs/odd.yaml", "--baseline", "base")
    say(project, "odd", changes="[model.d_model]")
    path = project / "runcards" / "odd.md"
    text = path.read_text()
    head, _, rest = text.partition("changes: [model.d_model]\n")
    path.write_text(f"{head}changes: [model.d_model]\n" + rest[rest.index("metric:") :])
    found = runctl("preflight", "configs/odd.yaml", "--select", "EX101").stdout
    assert "3 keys differ from the baseline base" in found
    assert all(change in found for change in ("d_model 32 → 64", "batch_size 32 → 64", "seed 1 → 2"))


def test_the_baseline_is_the_one_that_was_named_before(project: Path, runctl: Runctl) -> None:
    """“+8.1 %, passed” against a baseline that was chosen afterwards; −7 % against the real one."""
    finished(project, "control", [0.61, 0.60, 0.60, 0.599, 0.6005, 0.6, 0.6, 0.6])
    finished(project, "easy", [0.71, 0.70, 0.70, 0.699, 0.7005, 0.7, 0.7, 0.7], width=48)
    config(project, "new", width=64, more=card_of("new"))
    agreed(runctl, project, "new", baseline="control")
    finished(project, "new", [0.66, 0.65, 0.65, 0.649, 0.6505, 0.65, 0.65, 0.65], width=64, more=card_of("new"))
    closed = runctl("card", "close", "new", "new", "--as", "Ada").stdout
    assert "control: 0.6" in closed
    assert "worse" in closed
    path = project / "runcards" / "new.md"
    path.write_text(path.read_text().replace("\n- control\n", "\n- easy\n", 1))
    shown = runctl("card", "show", "new").stdout
    assert "void" in shown
    assert "control" in shown
    runctl("card", "amend", "new", "--why", "easy is fairer", code=4)


def test_differences_within_noise_are_said_to_be_that(project: Path, runctl: Runctl) -> None:
    """Runs were ranked by 0.002 to 0.01 while their own last evaluations were spread as far."""
    finished(project, "one", [0.412, 0.406, 0.411, 0.404, 0.410, 0.405, 0.409, 0.404])
    finished(project, "two", [0.411, 0.408, 0.403, 0.410, 0.404, 0.409, 0.403, 0.401], seed=1, width=64)
    found = json.loads(runctl("compare", "one", "two", "--metric", "val/loss", "--json").stdout)
    assert found["metrics"]["val/loss"][1]["standing"] == "within noise"
    assert found["settings"] == {"model.d_model": [32, 64]}


def test_one_statistic_is_taken_of_all_runs(project: Path, runctl: Runctl) -> None:
    """“8 frames wins”: the best values of two runs against the last values of two others."""
    finished(project, "short", [0.50, 0.40, 0.30, 0.45, 0.45, 0.45, 0.45, 0.45])
    finished(project, "long", [0.50, 0.44, 0.42, 0.40, 0.40, 0.40, 0.40, 0.40])
    values = {}
    for statistic in ("best", "last", "mean of last 2"):
        found = runctl("compare", "short", "long", "--metric", "val/loss", "--statistic", statistic, "--json").stdout
        rows = json.loads(found)["metrics"]["val/loss"]
        assert {row["statistic"] for row in rows} == {statistic}
        values[statistic] = [row["value"] for row in rows]
    assert values == {"best": [0.3, 0.4], "last": [0.45, 0.4], "mean of last 2": [0.45, 0.4]}


def test_seeds_give_the_noise_where_there_are_any(project: Path, runctl: Runctl) -> None:
    for seed, last in ((1, 0.40), (2, 0.44), (3, 0.42)):
        finished(project, f"seed-{seed}", [0.5, last], seed=seed)
    finished(project, "other", [0.5, 0.43], width=64)
    found = json.loads(runctl("compare", "seed-1", "other", "--metric", "val/loss", "--json").stdout)
    first = found["metrics"]["val/loss"][0]["noise"]
    assert first["basis"] == "3 runs that differ in their seed only"
    assert first["band"] == pytest.approx(4.303 * 0.02)


def test_other_data_and_other_definitions_are_not_compared(project: Path, runctl: Runctl) -> None:
    finished(project, "base", [0.5] * 8)
    finished(project, "data", [0.4] * 8)
    finished(project, "weights", [0.4] * 8, more="loss_weights: {action: 9.0}")
    for name, said in (("data", "data.simulate.games"), ("weights", "loss_weights.action")):
        if name == "data":
            path = project / "runs" / "data" / "run.json"
            about = json.loads(path.read_text())
            about["config"]["data"]["simulate"]["games"] = 13
            path.write_text(json.dumps(about))
        found = json.loads(runctl("compare", "base", name, "--metric", "val/loss", "--json").stdout)
        assert found["metrics"]["val/loss"][1]["standing"].startswith("not comparable: another")
        assert said in found["metrics"]["val/loss"][1]["standing"]


@pytest.mark.parametrize(
    ("losses", "state", "target", "verdict"),
    [
        ([0.4, 0.3, 0.21, 0.2, 0.2, 0.2, 0.2, 0.2], "succeeded", "val/loss < 0.30", "success"),
        ([0.5, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4], "succeeded", "val/loss < 0.30", "missed"),
        ([0.4, 0.31, 0.295, 0.305, 0.293, 0.304, 0.294, 0.299], "succeeded", "val/loss < 0.30", "within noise"),
        ([0.4, 9.5], "killed", "val/loss < 0.30", "killed"),
        ([0.4] * 8, "succeeded", "val/change_acc > 0.9", "missed"),
    ],
)
def test_the_verdict_follows_from_the_records(
    project: Path, runctl: Runctl, losses: Sequence[float], state: str, target: str, verdict: str
) -> None:
    config(project, "run", more=card_of("run"))
    agreed(runctl, project, "run", targets=f'[{{when: "{target}", means: good}}]')
    finished(project, "run", losses, state=state, more=card_of("run"))
    closed = json.loads(runctl("card", "close", "run", "run", "--json").stdout)
    assert closed["outcome"]["verdict"] == verdict
    text = (project / "runcards" / "run.md").read_text()
    assert f"**{verdict}**" in text
    assert "status: closed" in text
    again = json.loads(runctl("card", "close", "run", "run", "--json").stdout)
    assert again["outcome"] == closed["outcome"]
    assert (project / "runcards" / "run.md").read_text() == text


def test_what_was_done_otherwise_is_in_the_results(project: Path, runctl: Runctl) -> None:
    config(project, "run", more=card_of("run"))
    agreed(runctl, project, "run")
    finished(project, "run", [0.2] * 8, batch=64, more=card_of("run"))
    config(project, "run", more=card_of("run"))
    runctl("card", "deviate", "run", "--why", "on an H100, not an A100", "--as", "Bo")
    runctl("card", "close", "run", "run")
    text = (project / "runcards" / "run.md").read_text()
    assert "training.batch_size 32 → 64" in text
    assert "Bo: on an H100, not an A100" in text
    assert "held to no config any more" in runctl("card", "diff", "run").stdout
    assert "64 windows" in runctl("card", "diff", "run", "run", code=1).stdout
    other = finished(project, "else", [0.2] * 8)
    runctl("card", "close", "run", other.name, code=4)


def test_wrong_cards_end_in_one_message(project: Path, runctl: Runctl) -> None:
    config(project, "run", more=card_of("run"))
    runctl("card", "new", "configs/run.yaml")
    assert "is there already" in runctl("card", "new", "configs/run.yaml", code=2).stderr
    assert "did you mean 'run'" in runctl("card", "show", "rnu", code=2).stderr
    unknown = runctl("card", "new", "configs/run.yaml", "--name", "x", "--baseline", "nil", code=2)
    assert "no run 'nil'" in unknown.stderr
    path = project / "runcards" / "run.md"
    before = path.read_text()
    path.write_text(before.replace("<!-- /runctl:model -->", ""))
    wrong = runctl("card", "sign", "run", "--as", "Ada", "--verdict", "approve", code=1)
    assert "the block 'model' has no end" in wrong.stderr
    assert f"{path.name}:" in wrong.stderr
    assert path.read_text() == before.replace("<!-- /runctl:model -->", "")
    assert "EX104" in runctl("preflight", "configs/run.yaml", code=1).stdout
    path.unlink()
    assert "EX104" in runctl("preflight", "configs/run.yaml", code=1).stdout


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen to sign a commit with")
def test_a_signature_names_the_git_identity_the_commit_and_who_signed_it(project: Path, runctl: Runctl) -> None:
    """And code that changed since is a warning, not a void signature."""
    key = project.parent / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    (project.parent / "allowed").write_text(f"ada@lab {key.with_suffix('.pub').read_text()}")
    (project / "train.py").write_text("print(1)\n")
    path = config(project, "run", more=card_of("run"))
    for command in (
        ["init", "-q"],
        ["config", "user.name", "Ada"],
        ["config", "user.email", "ada@lab"],
        ["config", "gpg.format", "ssh"],
        ["config", "user.signingkey", str(key)],
        ["config", "gpg.ssh.allowedSignersFile", str(project.parent / "allowed")],
        ["add", "-A"],
        ["commit", "-q", "-S", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True)
    agreed(runctl, project, "run")
    (signature,) = json.loads(runctl("card", "show", "run", "--json").stdout)["card"]["contract"]["signatures"]
    assert signature["identity"] == "Ada <ada@lab>"
    assert signature["code_signed_by"] == "ada@lab"
    assert len(signature["code"]) == 40
    assert "EX103" not in runctl("preflight", path, "--select", "EX103").stdout
    (project / "train.py").write_text("print(2)\n")
    assert "signed before the code changed: train.py" in runctl("preflight", path, "--select", "EX103").stdout
    runctl("launch", path, "--dry-run", "--set", "training.threads=1", code=4)
