"""Estimates: exact parameters, ranges that hold what was measured, and honesty about what is unknown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl import preflight
from runctl.estimate import time_
from runctl.project import Project
from runctl.reporting import json_

ROOT = Path(__file__).parents[1]


def estimates(folder: Path, text: str, *overrides: str) -> dict[str, Any]:
    path = folder / "config.yaml"
    path.write_text(text)
    facts, document = preflight.gather(path, preflight.Options(overrides), Project(folder))
    return json_.estimates(preflight.check(facts, document, only=()))


def test_parameters_are_exact(tmp_path: Path) -> None:
    large = "model: {d_model: 512, n_layers: 6}\nencoding: {state_age_as_embed: true}\ntraining: {steps: 1}\n"
    assert estimates(tmp_path, large)["parameters"] == 10_592_546


def test_the_public_run_of_91_minutes_lies_in_the_range(tmp_path: Path) -> None:
    """4.3M parameters, K=10, two epochs of 18.8M frames on an A100-40GB: 91 minutes, $4.21."""
    text = (
        "data: {max_games: 2089}\nencoding: {state_age_as_embed: true}\nmodel: {d_model: 384, n_layers: 4}\n"
        "training: {epochs: 2, batch_size: 512, precision: bf16}\ncompute: {backend: modal, gpu: A100-40GB, cpu: 4}\n"
    )
    found = estimates(tmp_path, text)
    assert found["time_seconds"]["low"] < 91 * 60 < found["time_seconds"]["high"]
    assert found["cost_usd"]["low"] < 4.21 < found["cost_usd"]["high"]
    assert "not measured" in found["time_seconds"]["basis"]


def test_time_scales_with_the_work_and_more_of_the_peak_is_faster() -> None:
    work = time_.Work(steps=10_000, examples=1_000, flops=1e12, layers=4)

    def seconds(steps: int, peak: float) -> time_.Range:
        found = replace(work, steps=steps)
        return time_.total(found, time_.on_gpu(found, peak=peak, top=3e14))

    one, twice = seconds(10_000, 3e14), seconds(20_000, 3e14)
    assert one.low < one.likely < one.high
    assert twice.parts["steps"][2] == pytest.approx(2 * one.parts["steps"][2])
    assert sum(part[1] for part in one.parts.values()) == pytest.approx(one.likely)
    assert seconds(10_000, 1e14).low > one.low


def test_a_cpu_run_that_nobody_measured_has_a_wide_range_and_costs_nothing_here(tmp_path: Path) -> None:
    found = estimates(tmp_path, "data: {simulate: {games: 4}}\ntraining: {steps: 100}\n")
    assert "not measured" in found["time_seconds"]["basis"]
    assert found["time_seconds"]["high"] > 10 * found["time_seconds"]["low"]
    assert found["cost_usd"]["high"] == 0


def test_an_unknown_price_or_gpu_is_unknown_not_zero(tmp_path: Path) -> None:
    text = "training: {steps: 100}\ncompute: {backend: modal, gpu: RTX-4090}\n"
    assert "no price" in estimates(tmp_path, text)["cost_usd"]["unknown"]
    assert "no GPU 'A7'" in estimates(tmp_path, text, "compute.gpu=A7")["memory_bytes"]["unknown"]


def test_absurd_sizes_neither_overflow_nor_hang(tmp_path: Path) -> None:
    text = (
        "model: {d_model: 65536, n_layers: 1000, d_state: 4096, headdim: 4096, expand: 16, context_len: 1000000}\n"
        "training: {steps: 1000000000000, batch_size: 10000000, accumulation: 100000}\ncompute: {gpu: T4}\n"
    )
    found = estimates(tmp_path, text)
    assert found["parameters"] > 10**13
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--gpu", "H100:2"]])
def test_the_command_prints_every_estimate(arguments: list[str]) -> None:
    done = _runctl("estimate", "configs/mamba2-large.yaml", *arguments)
    assert done.returncode == 0, done.stderr
    for word in ("parameters", "memory", "time", "cost"):
        assert word in done.stdout
    assert "10592546" in done.stdout.replace(",", "")


def test_the_command_refuses_an_unknown_gpu_and_an_invalid_config(tmp_path: Path) -> None:
    assert _runctl("estimate", "configs/mamba2-large.yaml", "--gpu", "H10").returncode == 2
    (tmp_path / "bad.yaml").write_text("training: {epocs: 1}\n")
    done = _runctl("estimate", str(tmp_path / "bad.yaml"))
    assert done.returncode == 1
    assert "did you mean 'epochs'" in done.stderr


def _runctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1"}
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60, check=False)
