"""The trace of a step against what the CPU's allocator really gave, and the shipped answers against the trace."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from runctl import record  # noqa: E402
from runctl.config.model import Data, Encoding, Model, RunConfig, Simulate, Training  # noqa: E402
from runctl.estimate import allocator, generate, measured, solve, trace, traced  # noqa: E402

torch.set_num_threads(1)
SAMPLE = 500


def config(*, data: Any = None, training: Any = None, encoding: Any = None, **model: Any) -> RunConfig:
    return RunConfig(
        name="traced",
        data=Data(**(data or {})),
        encoding=Encoding(**(encoding or {})),
        model=Model(**{"d_model": 64, "n_layers": 2, **model}),
        training=Training(**{"batch_size": 64, **(training or {})}),
    )


REAL = {
    "fp32": {},
    "bf16": {"n_layers": 3, "training": {"precision": "bf16"}},
    "flags and sampling": {"encoding": {"state_flags": True, "hitstun": True}, "training": {"scheduled_sampling": 0.5}},
    "age ids, accumulated": {
        "encoding": {"state_age_as_embed": True},
        "training": {"accumulation": 3, "precision": "bf16"},
    },
    "chunks": {"context_len": 32, "chunk_size": 8, "training": {"batch_size": 16}},
    "filled chunks, bf16": {"context_len": 30, "chunk_size": 8, "training": {"batch_size": 16, "precision": "bf16"}},
    "recomputed": {"n_layers": 5, "training": {"activation_checkpointing": True}},
    "recomputed chunks, bf16": {
        "n_layers": 4,
        "context_len": 32,
        "chunk_size": 8,
        "dropout": 0.0,
        "training": {"activation_checkpointing": True, "precision": "bf16", "batch_size": 16},
    },
    "few windows for wide weights": {"d_model": 512, "training": {"batch_size": 4}},
    "no dropout": {"dropout": 0.0, "d_model": 128},
    "residual targets": {"training": {"delta_target": "residual", "grad_clip": 0}},
    "every position": {"n_layers": 3, "training": {"targets": "all", "delta_target": "residual", "batch_size": 32}},
    "every position, filled chunks, bf16": {
        "context_len": 30,
        "chunk_size": 8,
        "training": {"targets": "all", "batch_size": 8, "precision": "bf16", "scheduled_sampling": 0.5},
    },
}


@pytest.mark.parametrize("name", REAL)
def test_a_trace_meets_the_measured_peak_of_the_real_step(name: str) -> None:
    wanted = config(**REAL[name])
    real, found = measured.on_cpu(wanted, SAMPLE), trace.trace(wanted, sample=SAMPLE)
    phases = [phase for phase in real.peaks if phase.startswith(measured.STEP)]
    assert found.peak(*phases).total == pytest.approx(real.step, rel=0.005)
    assert found.peak("evaluate").total == pytest.approx(real.peaks["evaluate"], rel=0.02)
    there = measured.categories(real.marks)
    for category, size in measured.categories(found.marks).items():
        assert size == pytest.approx(there[category], abs=0.005 * real.step), category


def test_the_rehearsed_step_takes_what_the_training_loop_takes(tmp_path: Path) -> None:
    """The real job on simulated games in the real loop, against the trace of its config."""
    from types import SimpleNamespace

    from torch.profiler import ProfilerActivity, profile

    from runctl.tasks.worldmodel import task
    from runctl.train.loop import Loop
    from runctl.train.ranks import Alone

    simulated = {"simulate": Simulate(games=4, seconds=4)}
    wanted = config(data=simulated, training={"batch_size": 128, "threads": 1, "steps": 3})
    run = record.RunDir(tmp_path)
    device = torch.device("cpu")
    job = task.build(wanted, project=tmp_path, run=run, device=device, report=lambda message: None)
    beat = SimpleNamespace(beat=lambda: None)
    loop = Loop(job, wanted, SimpleNamespace(run=run, attempt=1, device=device, heartbeat=beat, ranks=Alone()))
    loop.step()
    before = sum(value.nbytes for values in loop.state.optimizer.state.values() for value in values.values())
    before += sum(value.nbytes for value in (*job.model.parameters(), *job.model.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loop.step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    peak = trace.trace(wanted, sample=SAMPLE).peak("pass 1", "backward 1", "optimizer")
    assert peak.total - peak.parts["batch"] - peak.parts["sums"] == pytest.approx(before + highest, rel=0.005)


def test_peak_is_affine_in_the_batch() -> None:
    one, two, three = (
        trace.trace(config(training={"batch_size": size}), sample=8).peak().total for size in (64, 128, 192)
    )
    assert three - two == two - one


def test_dropout_on_cuda_keeps_bytes_and_on_the_cpu_floats() -> None:
    wanted = config(training={"batch_size": 256}, n_layers=3)
    there, here = (
        trace.trace(wanted, device=device, sample=8).peak().parts["activations"] for device in ("cuda", "cpu")
    )
    values = 2 * 256 * 10 * 64  # of two whole layers; at the peak the last one's mask is gone
    assert here - there == 3 * values


def test_recomputing_keeps_one_input_for_each_layer() -> None:
    """A layer more adds its input: B × K × d_model floats of 4 bytes."""
    held = {}
    for layers in (4, 5):
        training = {"activation_checkpointing": True}
        found = trace.trace(config(n_layers=layers, training=training), sample=8)
        held[layers] = measured.categories(found.marks)["activations"]
    assert held[5] - held[4] == 4 * 64 * 10 * 64


def test_without_dropout_both_devices_take_the_same() -> None:
    wanted = config(dropout=0.0, n_layers=3, training={"precision": "bf16"})
    assert trace.trace(wanted, device="cuda", sample=8).peak() == trace.trace(wanted, device="cpu", sample=8).peak()


def test_shipped_answers_equal_new_traces() -> None:
    """Random forms and shapes of 2 to 6 layers; the sizes themselves cost nothing on meta tensors."""
    rng = random.Random(5)
    for number in range(6):
        form = rng.choice([*solve.FORMS, *solve.EVERY])
        shape = next(solve.shapes(form, 1, seed=900 + number))
        layers = min(shape.model.n_layers, 6)
        shape = replace(
            shape, model=shape.model.model_copy(update={"n_layers": layers}), accumulation=rng.choice((1, 2))
        )
        device: traced.Device = "cuda" if form["dropout"] == "cuda" else "cpu"
        wanted, found = trace.of(shape, device).peak(), traced.peak(shape, device)
        assert found.total == pytest.approx(wanted.total, rel=0.005), (traced.form(shape, device), shape.model)


def test_the_shipped_file_is_what_the_code_gives() -> None:
    """One form; `python -m runctl.estimate.generate --check` looks at all of them."""
    assert generate.differences([solve.FORMS[random.Random(torch.__version__).randrange(len(solve.FORMS))]], 10) == []


def test_a_stale_file_is_told_from_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traced, "_value", lambda polynomial, every, sizes: 1)
    traced.peak.cache_clear()
    try:
        found = generate.differences(solve.FORMS[:1], 2)
    finally:
        traced.peak.cache_clear()
    assert "in the file" in found[0]


def test_two_dimensions_of_one_length_are_refused() -> None:
    with pytest.raises(ValueError, match="both 64"):
        solve._lengths({"B": 64, "K": 64, "K+1": 65, "R": 3, "f": 1, "F": 2}, "chunks")


def test_a_large_model_is_traced_in_seconds_and_its_allocator_needs_little_more() -> None:
    large = traced.Shape(Encoding(state_age_as_embed=True), Model(d_model=512, n_layers=6), 4096, "bf16")
    found = trace.of(large, "cuda")
    peak = found.peak()
    assert peak.parts["weights"] == pytest.approx(4 * 10_592_546, rel=0.001)
    assert peak.parts["optimizer"] == pytest.approx(8 * 10_592_546, rel=0.001)
    usage = allocator.replay(found.allocations())
    assert peak.total == usage.requested <= usage.allocated <= usage.reserved < 1.3 * peak.total
    assert usage.allocated <= allocator.needed(found.allocations()) <= usage.reserved
