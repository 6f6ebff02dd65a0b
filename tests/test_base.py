"""`runctl preflight --base`: what a change does to configs, read from git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAID = """\
data: {{max_games: 500}}
model: {{d_model: {width}}}
training: {{epochs: {epochs}, precision: bf16}}
compute: {{backend: modal, gpu: {gpu}, timeout: 20h}}
budget: {{max_cost_usd: 3}}
"""
GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]


def git(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = [*GIT, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str | None], message: str = "change") -> str:
    """Write the files (None removes one) and commit all; the commit."""
    for name, text in files.items():
        path = folder / name
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")


def paid(width: int = 256, epochs: int = 1, gpu: str = "A100-40GB") -> str:
    return PAID.format(width=width, epochs=epochs, gpu=gpu)


def runctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "runctl", "preflight", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=60, check=False)


def compared(folder: Path, *arguments: str) -> dict[str, Any]:
    """The comparison as JSON, with its changes by path."""
    done = runctl(folder, *arguments, "--json")
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)["comparison"]
    return {**found, "by": {change["path"]: change for change in found["changes"]}}


def rules_of(findings: list[dict[str, Any]]) -> set[str]:
    return {one["rule"] for one in findings}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with three configs on main, and a branch to change them."""
    git(tmp_path, "init", "-q")
    long = "training: {steps: 50000}\ncheckpoint: {every: never}\n"
    configs = {"configs/a.yaml": paid(), "configs/b.yaml": "training: {steps: 200}\n", "configs/long.yaml": long}
    commit(tmp_path, {"runctl.yaml": "{}\n", ".gitignore": "data/\n", **configs})
    git(tmp_path, "checkout", "-q", "-b", "topic")
    return tmp_path


def test_a_change_shows_what_it_does_to_cost_time_memory_and_findings(project: Path) -> None:
    commit(project, {"configs/a.yaml": paid(width=1024, epochs=40)})
    found = compared(project, "configs", "--base", "main")
    assert found["unchanged"] == 2
    (change,) = found["changes"]
    assert change["state"] == "changed"
    for name in ("cost_usd", "time_seconds", "memory_bytes", "parameters", "steps"):
        assert change[name]["now"] > change[name]["before"], name
    assert change["new"]
    done = runctl(project, "configs", "--base", "main")
    assert done.returncode == 1
    assert "configs/a.yaml  changed" in done.stdout
    assert "  cost       $" in done.stdout
    assert " → $" in done.stdout
    assert "2 configs unchanged and left out; with errors as before: configs/long.yaml" in done.stdout


def test_new_deleted_and_renamed_files_are_told_apart(project: Path) -> None:
    git(project, "mv", "configs/a.yaml", "configs/better.yaml")
    commit(project, {"configs/b.yaml": None, "configs/new.yaml": "training: {steps: 300}\nmodel: {n_layers: 1}\n"})
    by = compared(project, "configs", "--base", "main")["by"]
    states = {path: (change["state"], change["was"]) for path, change in by.items()}
    assert states == {
        "configs/b.yaml": ("deleted", None),
        "configs/better.yaml": ("renamed", "configs/a.yaml"),
        "configs/new.yaml": ("new", None),
    }
    renamed = by["configs/better.yaml"]
    assert renamed["cost_usd"]["before"] == renamed["cost_usd"]["now"]
    assert renamed["new"] == renamed["fixed"] == []


def test_findings_are_new_fixed_kept_or_waived_and_lines_do_not_matter(project: Path) -> None:
    text = "# moved\n\ntraining: {steps: 50000, seed: 1, batch_sise: 3}\ncheckpoint: {every: never}\n"
    commit(project, {"configs/long.yaml": text})
    change = compared(project, "configs", "--base", "main")["by"]["configs/long.yaml"]
    assert "CF101" in rules_of(change["new"])
    commit(project, {"configs/long.yaml": "# moved\ntraining: {steps: 50000}\ncheckpoint: {every: never}\n"})
    change = compared(project, "configs", "--base", "main")["by"]["configs/long.yaml"]
    assert "CK101" in rules_of(change["kept"])
    assert change["new"] == change["fixed"] == []
    commit(project, {"configs/long.yaml": "training: {steps: 50000}\ncheckpoint: {every: 500 steps}\n"})
    change = compared(project, "configs", "--base", "main")["by"]["configs/long.yaml"]
    assert "CK101" in rules_of(change["fixed"])
    waiver = "# runctl: allow CK101 a throughput test\n"
    commit(project, {"configs/long.yaml": f"{waiver}training: {{steps: 50000}}\ncheckpoint: {{every: never}}\n"})
    change = compared(project, "configs", "--base", "main")["by"]["configs/long.yaml"]
    assert rules_of(change["waived"]) == {"CK101"}
    assert change["fixed"] == []


def test_only_new_findings_fail_where_that_is_asked(project: Path) -> None:
    commit(project, {"configs/b.yaml": "training: {steps: 250}\n"})
    assert runctl(project, "configs", "--base", "main").returncode == 1  # long.yaml was bad before
    assert runctl(project, "configs", "--base", "main", "--new-only").returncode == 0
    commit(project, {"configs/new.yaml": "training: {steps: 50000}\ncheckpoint: {every: never}\n"})
    assert runctl(project, "configs", "--base", "main", "--new-only").returncode == 1
    refused = runctl(project, "configs", "--new-only")
    assert refused.returncode == 2
    assert "--base origin/main" in refused.stderr


def test_what_a_config_stands_on_counts_as_it_was(project: Path) -> None:
    """The policy of runctl.yaml changes, and no config does: those whose findings change with it are shown."""
    commit(project, {"runctl.yaml": "policy: {rules: {CK101: off}}\n"})
    found = compared(project, "configs", "--base", "main")
    assert found["by"]["configs/long.yaml"]["state"] == "affected"
    assert rules_of(found["by"]["configs/long.yaml"]["fixed"]) == {"CK101"}
    assert "configs/b.yaml" not in found["by"]


def test_the_dataset_that_a_config_no_longer_fits_is_named(project: Path) -> None:
    """An ignored dataset lies beside both versions; its committed manifest is that of each version."""
    from runctl import config
    from runctl.tasks.worldmodel import encoding

    text = "data: {encoded: data/melee}\ntraining: {steps: 300}\n"
    path = project / "configs" / "d.yaml"
    path.write_text(text)
    keys = encoding.dataset_keys(config.load(path).config.encoding)
    manifest = {"schema_version": 1, "kind": "encoded-dataset", "encoding": keys, "simulated": True}
    manifest |= {"frames": 60000, "games": [], "counts": {"games": 6}, "columns": {}}
    (project / ".gitignore").write_text("data/*\n!data/*.json\n")
    commit(project, {"data/melee.manifest.json": json.dumps(manifest)})
    git(project, "branch", "-f", "main", "topic")
    flags = {name: not value for name, value in keys.items() if isinstance(value, bool)}
    flag = sorted(flags)[0]
    commit(project, {"configs/d.yaml": f"{text}encoding: {{{flag}: {str(flags[flag]).lower()}}}\n"})
    done = runctl(project, "configs", "--base", "main", "--format", "markdown")
    assert "new: DA101" in done.stdout


def test_a_base_that_cannot_be_read_is_said_and_the_present_is_judged(project: Path) -> None:
    git(project, "checkout", "-q", "main")
    commit(project, {"configs/b.yaml": "training: [\n"})
    git(project, "checkout", "-q", "-b", "fix")
    commit(project, {"configs/b.yaml": "training: {steps: 200}\n"})
    change = compared(project, "configs", "--base", "main")["by"]["configs/b.yaml"]
    assert "configs/b.yaml:2:1" in change["base_error"]
    assert change["verdict"] == {"before": None, "now": "ok"}


def test_the_branch_is_compared_with_where_it_left_the_base(project: Path) -> None:
    commit(project, {"configs/b.yaml": "training: {steps: 250}\n"})
    git(project, "checkout", "-q", "main")
    commit(project, {"configs/a.yaml": paid(epochs=9)})
    git(project, "checkout", "-q", "topic")
    assert set(compared(project, "configs", "--base", "main")["by"]) == {"configs/b.yaml"}


def test_a_call_from_a_folder_below_and_with_absolute_paths_says_the_same(project: Path) -> None:
    commit(project, {"configs/a.yaml": paid(epochs=9)})
    below = compared(project / "configs", ".", "--base", "main")
    assert set(below["by"]) == {"a.yaml"}
    whole = compared(project, str(project / "configs" / "a.yaml"), "--base", "main")
    assert set(whole["by"]) == {"configs/a.yaml"}
    assert whole["unchanged"] == 0


def test_what_is_not_committed_yet_counts_as_the_present(project: Path) -> None:
    (project / "configs" / "a.yaml").write_text(paid(epochs=9))
    (project / "configs" / "c.yaml").write_text(paid(epochs=3))
    by = compared(project, "configs", "--base", "HEAD")["by"]
    assert {path: change["state"] for path, change in by.items()} == {
        "configs/a.yaml": "changed",
        "configs/c.yaml": "new",
    }


def test_a_symlink_of_the_base_does_not_lead_out_of_its_copy(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x.yaml").write_text("training: {steps: 200}\n")
    (project / "configs" / "link").symlink_to(outside)
    commit(project, {"configs/b.yaml": "training: {steps: 250}\n"})
    git(project, "branch", "-f", "main", "topic")
    commit(project, {"configs/a.yaml": paid(epochs=9)})
    assert set(compared(project, "configs", "--base", "main")["by"]) == {"configs/a.yaml"}
    assert [path.name for path in outside.iterdir()] == ["x.yaml"]


def test_outside_a_repository_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("training: {steps: 200}\n")
    done = runctl(tmp_path, "a.yaml", "--base", "main")
    assert done.returncode == 2
    assert "a.yaml is not in a git repository" in done.stderr


def test_an_unknown_ref_gets_a_hint(project: Path) -> None:
    done = runctl(project, "configs", "--base", "mian")
    assert done.returncode == 2
    assert "git knows no 'mian' here" in done.stderr
    assert "'--output=x' is no git ref" in runctl(project, "configs", "--base", "--output=x").stderr
    git(project, "update-ref", "refs/remotes/origin/release", "HEAD")
    assert "did you mean 'origin/release'?" in runctl(project, "configs", "--base", "release").stderr


def test_a_shallow_clone_says_what_to_fetch(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    commit(project, {"configs/b.yaml": "training: {steps: 250}\n"})
    clone = tmp_path_factory.mktemp("clone")
    git(clone, "clone", "-q", "--depth=1", "--branch=topic", f"file://{project}", ".")
    done = runctl(clone, "configs", "--base", "origin/main")
    assert done.returncode == 2
    assert "git fetch --depth=1 origin main" in done.stderr
    assert "fetch-depth: 0" in done.stderr
    git(clone, "fetch", "-q", "--depth=1", "origin", "main")
    found = compared(clone, "configs", "--base", "FETCH_HEAD")
    assert set(found["by"]) == {"configs/b.yaml"}
    assert "shallow" in found["note"]


def test_no_link_of_the_base_makes_the_copy_write_into_the_checkout(project: Path) -> None:
    """At the base `data/y` is a link; now `data` is a folder that git ignores, to which the copy links."""
    (project / "data").mkdir()
    (project / "data" / "y").symlink_to("elsewhere")
    git(project, "add", "-f", "data/y")
    commit(project, {})
    git(project, "branch", "-f", "main", "topic")
    git(project, "rm", "-q", "data/y")
    (project / "data").mkdir(exist_ok=True)
    (project / "data" / "x").write_text("x")
    commit(project, {"configs/a.yaml": paid(epochs=9)})
    assert set(compared(project, "configs", "--base", "main")["by"]) == {"configs/a.yaml"}
    assert [path.name for path in (project / "data").iterdir()] == ["x"]


def test_a_large_file_of_the_repository_is_not_copied_and_an_ignored_dataset_is_there(project: Path) -> None:
    (project / "data").mkdir()
    (project / "data" / "x").write_text("x")
    commit(project, {"weights.bin": "x" * (2 << 20)})
    from runctl import gitref

    copy = project / "data" / "copy"
    copy.mkdir()
    names = gitref.copy(gitref.find([project / "configs"], "main"), copy)
    assert "weights.bin" not in names
    names = gitref.copy(gitref.find([project / "configs"], "topic"), copy)
    assert (copy / "weights.bin").is_symlink()
    assert (copy / "data" / "x").exists()
