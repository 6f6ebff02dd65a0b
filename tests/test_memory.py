"""Memory without torch: shipped polynomials, the allocator's model, what fits where, and the change that would."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runctl import hardware
from runctl.config.model import Encoding, Model
from runctl.estimate import allocator, fits, memory, parameters, traced

ROOT = Path(__file__).parents[1]
GIB, MIB = 2**30, 2**20


def shape(batch: int = 512, precision: str = "bf16", accumulation: int = 1, **model: Any) -> traced.Shape:
    sizes = {"d_model": 384, "n_layers": 4, "context_len": 10, "chunk_size": 10, **model}
    return traced.Shape(Encoding(state_age_as_embed=True), Model(**sizes), batch, precision, accumulation)


def request(gpu: str | None = "A100-40GB", frames: int = 0, **changes: Any) -> memory.Request:
    return memory.Request(shape(**changes), hardware.find(gpu) if gpu else None, frames)


@pytest.mark.parametrize("gpu", ["A100-40GB", "H100", None])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_categories_add_up_and_states_are_exact(gpu: str | None, precision: str) -> None:
    found = memory.peak(request(gpu, precision=precision))
    assert sum(found.parts.values()) == pytest.approx(found.likely, abs=2)
    assert found.low <= found.likely <= found.high
    count = parameters.count(found.request.shape.encoding, found.request.shape.model)
    assert found.parts["optimizer"] == pytest.approx(8 * count, rel=1e-3)
    assert 4 * count <= found.parts["weights"] < 4.01 * count
    assert ("CUDA context" in found.parts) == (gpu is not None)
    assert found.basis == ("traced, not measured on CUDA" if gpu else "traced")


def test_the_peak_grows_with_the_batch_alone() -> None:
    one, two, four = (traced.peak(shape(batch=size), "cuda").total for size in (512, 1024, 2048))
    assert four - two == 2 * (two - one)


def test_accumulation_keeps_the_gradients_during_the_second_pass() -> None:
    count = parameters.count(shape().encoding, shape().model)
    one, two, more = (traced.peak(shape(accumulation=number), "cuda").total for number in (1, 2, 8))
    assert 0 < two - one <= 4 * count
    assert two == more


def test_a_dataset_counts_only_where_the_trainer_keeps_it_on_the_gpu() -> None:
    record = 4 * traced.atoms(shape())["R"]
    assert memory.peak(request(frames=10**7)).parts["dataset"] == 10**7 * record
    assert "dataset" not in memory.peak(request(frames=10**9)).parts
    assert "dataset" not in memory.peak(request(None, frames=10**7)).parts


def test_a_shape_beyond_the_traces_is_named_and_gets_a_wider_bar() -> None:
    inside, outside = memory.peak(request()), memory.peak(request(d_conv=3))
    assert "d_conv is 3" in outside.basis
    assert outside.high / outside.likely > inside.high / inside.likely + 0.2


def test_the_questions_of_a_real_team_have_answers() -> None:
    """K=60 at batch 512 and K=10 at batch 4096 fit an A100-40GB with room to spare."""
    for found in (memory.peak(request(context_len=60, chunk_size=30)), memory.peak(request(batch=4096))):
        assert found.fits
        assert found.high < 0.5 * 39 * GIB


def test_recomputing_blocks_takes_less_and_is_offered_where_a_run_does_not_fit() -> None:
    asked = request("L4", batch=16384, n_layers=12)
    less = memory.peak(asked.change(recompute=True))
    assert less.parts["activations"] < 0.2 * memory.peak(asked).parts["activations"]
    assert {"training.activation_checkpointing": "true"} in [change.settings for change in fits.changes(asked)]
    assert fits.changes(asked.change(recompute=True)) == []


def test_on_the_cpu_a_checkpoint_is_copied_while_the_run_trains_not_while_it_loads() -> None:
    small = memory.peak(request(None, batch=1, d_model=64, n_layers=2))
    assert small.phase == "load"
    assert "checkpoint copy" not in small.parts
    large = memory.peak(request(None))
    assert large.parts["checkpoint copy"] == 12 * parameters.count(large.request.shape.encoding, shape().model)
    assert large.phase != "load"


def test_the_shipped_traces_are_read_in_milliseconds() -> None:
    began = time.process_time()
    data = json.loads(traced.FILE.read_text(encoding="utf-8"))
    assert time.process_time() - began < 0.02  # 0.0015 on a quiet machine
    assert set(data["forms"]) >= {traced.form(shape(), "cuda"), traced.form(replace(shape(), recompute=True), "cpu")}


def test_ddp_holds_every_gradient_once_more_unless_they_lie_in_its_buckets(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    layers = [torch.nn.Linear(300, 300) for _ in range(4)]
    count = sum(weights.numel() for layer in layers for weights in layer.parameters())
    buckets = []
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        for views in (False, True):
            wrapped = DistributedDataParallel(torch.nn.Sequential(*layers), gradient_as_bucket_view=views)
            for _ in range(2):
                wrapped(torch.ones(1, 300)).sum().backward()
            grads = {weights.grad.untyped_storage().data_ptr() for weights in wrapped.parameters()}
            buckets.append(len(grads))
    finally:
        dist.destroy_process_group()
    assert buckets[0] == 8  # gradients of their own, beside the buckets
    assert buckets[1] < 8  # views into buckets
    assert memory.ddp_buckets(count, 4) == 4 * count
    assert memory.ddp_buckets(count, 4, views=True) == 0


def test_the_largest_batch_fits_and_the_next_does_not() -> None:
    for gpu in ("T4", "H200"):
        asked = request(gpu, precision="fp32")
        found = fits.largest_batch(asked)
        assert memory.peak(asked.change(batch=found)).fits
        assert not memory.peak(asked.change(batch=2 * found)).fits
    assert fits.largest_batch(request("T4", d_model=8192, n_layers=64, precision="fp32")) == 0


def test_every_change_is_estimated_and_fits_and_is_one_change() -> None:
    asked = request("L4", batch=4096, precision="fp32", context_len=128, chunk_size=128, n_layers=6)
    assert not memory.peak(asked).fits
    found = fits.changes(asked)
    assert any("training.batch_size" in change.settings for change in found)
    for change in found:
        assert change.memory.fits
        assert change.memory == memory.peak(change.memory.request)
    batch = next(change for change in found if "training.batch_size" in change.settings)
    assert batch.settings["training.batch_size"] * batch.settings["training.accumulation"] == 4096  # type: ignore[operator]
    larger = memory.peak(batch.memory.request.change(batch=2 * batch.memory.request.shape.batch))
    assert not larger.fits


def test_a_run_that_fits_needs_no_change_and_a_hopeless_one_has_none() -> None:
    assert fits.changes(request()) == []
    assert fits.changes(request("B200", batch=1, d_model=32_768, n_layers=100)) == []


def test_the_table_has_every_gpu_that_knows_the_precision() -> None:
    rows = fits.table(request(batch=65_536))
    assert {row.gpu.name for row in rows} == {
        name for name, gpu in hardware.catalogue().gpus.items() if "bf16" in gpu.peak
    }
    assert {row.verdict for row in rows} >= {"fits", "does not fit"}
    for row in rows:
        assert (row.largest_batch >= 65_536) == (row.verdict == "fits")
    json.dumps([fits.to_json(row) for row in rows], allow_nan=False)


def test_an_answer_takes_milliseconds_and_no_torch() -> None:
    code = (
        "import sys, time\n"
        "from runctl.estimate import memory, traced\n"
        "from runctl.config.model import Encoding, Model\n"
        "began = time.process_time()\n"
        "shape = traced.Shape(Encoding(), Model(d_model=384, n_layers=4), 512, 'bf16')\n"
        "memory.peak(memory.Request(shape, None))\n"
        "print(time.process_time() - began, 'torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60
    )
    seconds, *heavy = done.stdout.split()
    assert heavy == ["False", "False"]
    assert float(seconds) < 0.25  # 0.02 on a quiet machine, the file's reading included


def test_absurd_shapes_neither_overflow_nor_hang() -> None:
    began = time.monotonic()
    asked = request("T4", batch=10_000_000, d_model=65_536, n_layers=1000, context_len=1_000_000, chunk_size=999_999)
    assert memory.peak(asked).likely > 10**18
    assert fits.changes(asked) == []
    assert time.monotonic() - began < 10


def test_heads_that_do_not_divide_are_said_so() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        memory.peak(request(headdim=100))


# The allocator


def test_sizes_are_rounded_and_segments_come_in_steps() -> None:
    assert allocator.replay([(0, 1, 1)]) == allocator.Usage(1, 512, 2 * MIB)
    assert allocator.replay([(0, MIB + 1, 1)]) == allocator.Usage(MIB + 1, MIB + 512, 20 * MIB)
    assert allocator.replay([(0, 11 * MIB - 5, 1)]) == allocator.Usage(11 * MIB - 5, 12 * MIB, 12 * MIB)  # not split
    assert allocator.replay([(0, 12 * MIB - 5, 1)]) == allocator.Usage(12 * MIB - 5, 12 * MIB, 12 * MIB)


def test_blocks_of_one_segment_share_it() -> None:
    assert allocator.replay([(number, MIB // 4, 1) for number in range(8)]).reserved == 2 * MIB
    assert allocator.replay([(number, 5 * MIB, 1) for number in range(5)]).reserved == 40 * MIB


def test_released_neighbours_join_and_are_taken_again() -> None:
    takes = [(number, 5 * MIB, 1) for number in range(4)]
    gives = [(number, 5 * MIB, -1) for number in (1, 3, 2)]
    assert allocator.replay([*takes, *gives, (4, 15 * MIB - 2 * MIB, 1)]).reserved == 20 * MIB


def test_a_hole_that_is_too_small_costs_a_new_segment() -> None:
    takes = [(number, 5 * MIB, 1) for number in range(4)]
    gives = [(number, 5 * MIB, -1) for number in (0, 2)]
    assert allocator.replay([*takes, *gives, (4, 9 * MIB, 1)]).reserved == 40 * MIB


def test_unused_segments_are_given_back_before_memory_runs_out() -> None:
    events = [(0, 100 * MIB, 1), (0, 100 * MIB, -1), (1, 120 * MIB, 1)]
    assert allocator.replay(events).reserved == 220 * MIB
    assert allocator.replay(events, 120 * MIB).reserved == 120 * MIB
    assert allocator.needed(events) <= 122 * MIB
    with pytest.raises(allocator.OutOfMemory):
        allocator.replay(events, 119 * MIB)


def test_random_traffic_never_loses_or_doubles_memory() -> None:
    rng = random.Random(7)
    for _ in range(20):
        events, live, number = [], {}, 0
        for _ in range(400):
            if live and rng.random() < 0.48:
                key = rng.choice(list(live))
                events.append((key, live.pop(key), -1))
            else:
                live[number] = int(2 ** rng.uniform(4, 26))
                events.append((number, live[number], 1))
                number += 1
        usage = allocator.replay(events)
        assert usage.requested <= usage.allocated <= usage.reserved
        closed = [*events, *((key, size, -1) for key, size in live.items())]
        whole = [*closed, (number, usage.reserved // 4, 1)]
        assert allocator.replay(whole, usage.reserved + 2 * MIB).allocated >= usage.allocated


# The command


def test_estimate_shows_every_gpu_and_what_would_fit(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text("model: {d_model: 1024, n_layers: 24, context_len: 1000, chunk_size: 100}\n"
                    "training: {steps: 10, batch_size: 512, precision: bf16}\ncompute: {gpu: L4}\n")  # fmt: skip
    done = _runctl("estimate", str(path), "--all-gpus")
    assert done.returncode == 0, done.stderr
    assert "does not fit" in done.stdout
    assert "one change that fits" in done.stdout
    assert "not measured on CUDA" in done.stdout
    data = json.loads(_runctl("estimate", str(path), "--all-gpus", "--json").stdout)
    assert {row["gpu"] for row in data["gpus"]} >= {"L4", "H200"}
    assert data["estimates"]["memory_bytes"]["phase"]


def test_a_trace_stands_beside_the_shipped_answer() -> None:
    pytest.importorskip("torch")
    began = time.monotonic()
    done = _runctl("estimate", "configs/mamba2-large.yaml", "--trace", "--json")
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60  # 10.6M parameters: 5 s on a quiet machine
    found = json.loads(done.stdout)["trace"]
    assert abs(found["difference"]) < 0.02
    assert found["bytes"] <= found["needed_bytes"] <= found["reserved_bytes"]


def _runctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False)


def test_a_replaced_shape_is_another_question() -> None:
    asked = request()
    assert asked.change(batch=1).shape == replace(asked.shape, batch=1)
    assert asked.change(hardware.find("H100")).shape == asked.shape
