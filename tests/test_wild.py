"""Preflight against a reviewer's judgement of configs that nobody here wrote, where a folder of them is at hand.

`tests/test_adapters.py` shows the same with configs of our own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import wild  # noqa: E402


@pytest.fixture
def folder() -> Path:
    """Configs with a reviewer's verdicts: $RUNCTL_WILD, else `../shared/wild`. None are in the project."""
    path = Path(os.environ.get("RUNCTL_WILD") or ROOT.parent / "shared" / "wild")
    if not (path / "expected.json").is_file():
        pytest.skip("no configs of others here: set RUNCTL_WILD to a folder with an expected.json")
    return path


def test_a_reviewers_failures_are_errors_and_nothing_that_is_fine_is_blocked(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = wild.main([str(folder)])
    assert (code, "missed:" in capsys.readouterr().out) == (0, False)


def test_most_failures_are_errors_without_any_adapter_too(folder: Path) -> None:
    assert wild.main([str(folder), "--no-adapters"]) == 0


def test_the_table_says_what_is_missed_and_what_is_the_reviewers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "train: {max_steps: 90000, batch_size: 8, lr: 0.001, precision: fp32, save_every: 0, seed: 1}\n"
    (tmp_path / "long.yaml").write_text(long)
    (tmp_path / "fine.yaml").write_text(long.replace("90000", "90"))
    (tmp_path / "split.yaml").write_text("seed: 1\nval_ratio: 0.1\n")

    def one(file: str, verdict: str, *findings: tuple[str, str, str]) -> dict[str, object]:
        keys = ("severity", "code", "basis")
        listed = [dict(zip(keys, found, strict=True), why="its own words") for found in findings]
        return {"file": file, "args": ["--gpu", "A100-80GB"], "verdict": verdict, "findings": listed}

    cases = [
        one("long.yaml", "FAIL", ("FAIL", "CKPT_NONE", "config"), ("FAIL", "PREC_FP32_LONG", "hw")),
        one("fine.yaml", "OK"),
        one("split.yaml", "NOT_TRAINING"),
    ]
    (tmp_path / "expected.json").write_text(json.dumps(cases))
    assert wild.main([str(tmp_path)]) == 0
    assert "findings, one by one: 2 of 2 agree" in capsys.readouterr().out

    cases += [one("fine.yaml", "FAIL", ("FAIL", "MEM_NOFIT", "hw"), ("WARN", "ENV_REQUIRED", "repo"))]
    cases[1] = one("long.yaml", "OK")
    (tmp_path / "expected.json").write_text(json.dumps(cases))
    assert wild.main([str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "missed: long: OK, but fail" in shown
    assert "missed: fine: FAIL, but" in shown
    assert "missed: fine: FAIL MEM_NOFIT (hw)" in shown
    assert "findings, one by one: 2 of 4 agree, 1 missed, 1 unseen" in shown
    assert wild.main([str(tmp_path), "--no-adapters"]) == 1
    assert "missed: long is blocked" in capsys.readouterr().out
