"""Estimates: exact parameters, ranges that hold what was measured, and honesty about what is unknown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runctl import preflight
from runctl.estimate import memory, time_
from runctl.project import Project
from runctl.reporting import json_

ROOT = Path(__file__).parents[1]
GIB = 2**30
MEDIUM: dict[str, Any] = {"d_model": 384, "n_layers": 4, "d_state": 64, "headdim": 64, "expand": 2}


def shape(**changes: Any) -> memory.Shape:
    base: dict[str, Any] = {
        **MEDIUM, "parameters": 4_282_386, "context_len": 10, "chunk_size": 10, "inputs": 200, "outputs": 1050,
        "batch": 512, "precision": "bf16",
    }  # fmt: skip
    return memory.Shape(**{**base, **changes})


def estimates(folder: Path, text: str, *overrides: str) -> dict[str, Any]:
    path = folder / "config.yaml"
    path.write_text(text)
    facts, document = preflight.gather(path, overrides, Project(folder))
    return json_.estimates(preflight.check(facts, document, only=()))


def test_parameters_are_exact(tmp_path: Path) -> None:
    large = "model: {d_model: 512, n_layers: 6}\nencoding: {state_age_as_embed: true}\ntraining: {steps: 1}\n"
    assert estimates(tmp_path, large)["parameters"] == 10_592_546


def test_memory_by_category_adds_up_and_grows_with_the_batch_alone() -> None:
    one, two, four = (memory.peak(shape(batch=batch), 40 * GIB) for batch in (512, 1024, 2048))
    assert sum(one.parts.values()) == pytest.approx(one.likely, rel=1e-6)
    assert four.likely - two.likely == pytest.approx(2 * (two.likely - one.likely), rel=1e-6)
    assert one.low < one.likely < one.high
    assert one.parts["optimizer"] == 8 * 4_282_386


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    found = memory.peak(shape(), 10 * GIB).largest_batch(10 * GIB)
    assert (
        memory.peak(shape(batch=found), 10 * GIB).likely
        <= 10 * GIB
        < memory.peak(shape(batch=2 * found), 10 * GIB).likely
    )
    assert memory.peak(shape(parameters=10**10), 10 * GIB).largest_batch(10 * GIB) == 0


def test_a_dataset_counts_only_where_the_trainer_keeps_it_on_the_gpu() -> None:
    assert "dataset" in memory.peak(shape(dataset_bytes=10 * GIB), 40 * GIB).parts
    assert "dataset" not in memory.peak(shape(dataset_bytes=30 * GIB), 40 * GIB).parts
    assert "dataset" not in memory.peak(shape(dataset_bytes=GIB), None).parts
    assert "CUDA context" not in memory.peak(shape(), None).parts


@pytest.mark.parametrize(
    ("width", "layers", "context", "chunk", "batch", "precision"),
    [
        (128, 2, 10, 10, 256, "fp32"),
        (192, 3, 10, 10, 128, "bf16"),
        (128, 3, 60, 30, 32, "fp32"),
        (64, 2, 60, 60, 32, "bf16"),
    ],
)
def test_the_measured_cpu_peak_of_the_built_model_lies_in_the_range(
    width: int, layers: int, context: int, chunk: int, batch: int, precision: str
) -> None:
    torch = pytest.importorskip("torch")
    from runctl.config.model import Encoding, LossWeights, Model
    from runctl.estimate import parameters
    from runctl.tasks.worldmodel import encoding as encodings
    from runctl.tasks.worldmodel import losses
    from runctl.tasks.worldmodel.model import WorldModel

    torch.set_num_threads(1)
    encoding = Encoding(state_age_as_embed=True)
    config = Model(d_model=width, n_layers=layers, context_len=context, chunk_size=chunk)
    layout = encodings.columns(encoding)
    model = WorldModel(encoding, config, layout)
    optimizer = torch.optim.AdamW(model.parameters())
    records = torch.zeros(batch, context + 1, layout.record_bytes, dtype=torch.uint8)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            total, _ = losses.loss(model(records), records, LossWeights(), model.targets)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    count = parameters.count(encoding, config)
    measured = 12 * count + records.numel() + _allocator_peak(step)
    sizes = {key: getattr(config, key) for key in ("d_model", "n_layers", "d_state", "headdim", "expand")}
    guess = memory.peak(
        memory.Shape(
            **sizes,
            parameters=count,
            context_len=context,
            chunk_size=chunk,
            inputs=parameters.inputs(encoding),
            outputs=parameters.outputs(encoding),
            batch=batch,
            precision=precision,
            record_bytes=layout.record_bytes,
        ),
        None,
    )
    assert guess.low <= measured <= guess.high
    assert 0.85 < guess.likely / measured < 1.15


def _allocator_peak(step: Any) -> int:
    """Bytes by which one call of `step` raises what the CPU allocator holds, at its highest."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


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
    base = {
        "examples": 1e7,
        "passes": 1e4,
        "flops_per_example": 1e9,
        "peak": 3e14,
        "top": 3e14,
        "layers": 4,
        "context_len": 10,
    }
    one, twice = time_.seconds(**base), time_.seconds(**{**base, "examples": 2e7, "passes": 2e4})
    assert one.low < one.likely < one.high
    assert twice.high - time_.SETUP[2] == pytest.approx(2 * (one.high - time_.SETUP[2]))
    assert time_.seconds(**{**base, "peak": 1e14}).low > one.low


def test_a_cpu_run_has_no_time_and_costs_nothing_here(tmp_path: Path) -> None:
    found = estimates(tmp_path, "training: {steps: 100}\n")
    assert "no measurement" in found["time_seconds"]["unknown"]
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
