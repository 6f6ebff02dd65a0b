"""From durations to a calibration record: what was measured of this attempt, as later estimates read it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

import runctl
from runctl import hardware, record
from runctl.errors import UsageError
from runctl.estimate import calibration, parameters
from runctl.estimate.calibration import Measurement
from runctl.train import matmul
from runctl.train import timing as timings
from runctl.train.heartbeat import peak_rss_bytes

if TYPE_CHECKING:
    from runctl.train.loop import Loop
    from runctl.train.timing import Timing


def measurement(
    loop: Loop, timing: Timing, *, kind: str, name: str, attempt: int = 1, memory: int | None = None
) -> Measurement | None:
    """What is known so far; None before there are enough steps. `memory` is the peak of tensors, where it is known."""
    if not timing.enough:
        return None
    config, device = loop.config, loop.place.device
    examples = timing.step_examples()
    flops = parameters.flops(config.encoding, config.model, every=config.training.targets == "all")
    if config.training.activation_checkpointing:
        flops += parameters.recompute_flops(config.encoding, config.model)
    p10, p50, p90 = timing.quantiles()
    attempt_seconds = timing.seconds + timing.validation_seconds + sum(timing.stall)
    reserved = None
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated(device)
        reserved = torch.cuda.max_memory_reserved(device)
    return Measurement(
        kind=kind,
        name=name,
        attempt=attempt,
        created=time.time(),
        shape=calibration.shape(config, loop.ranks.seat.size),
        device=device_name(loop),
        steps=timing.steps,
        step_seconds=timing.step_seconds(),
        spread=timing.spread(),
        examples=examples,
        flops=examples * flops,
        startup_seconds=timing.startup or 0.0,
        startup_data=loop.job.startup_data() if hasattr(loop.job, "startup_data") else "",
        step_p10_seconds=p10,
        step_p50_seconds=p50,
        step_p90_seconds=p90,
        data_share=timing.data_seconds / timing.seconds,
        validation_share=timing.validation_seconds / attempt_seconds if kind == "run" else None,
        checkpoint_share=sum(timing.stall) / attempt_seconds if kind == "run" else None,
        matmul_flops_per_second=matmul.flops_per_second(device, config.training.precision),
        threads=torch.get_num_threads() if device.type == "cpu" else None,
        cores=len(os.sched_getaffinity(0)) if device.type == "cpu" else None,
        validation_window_seconds=timing.validation_seconds / timing.validated if timing.validated else None,
        checkpoint_stall_seconds=_mean(timing.stall),
        checkpoint_write_seconds=_mean(timing.write),
        checkpoint_bytes=_newest_bytes(loop),
        peak_bytes=memory,
        reserved_bytes=reserved,
        resident_bytes=peak_rss_bytes(),
        load=timings.load(),
        versions={"runctl": runctl.__version__, "torch": torch.__version__},
    )


def write(files: record.Attempt, one: Measurement | None) -> None:
    """`measured.json` of an attempt; left out where the disk refuses it."""
    if one is not None:
        with suppress(OSError):
            record.write_json(files.measured, calibration.to_json(one), durable=False)


def device_name(loop: Loop) -> str:
    """The device as calibrations name it: a GPU by its name in the catalogue, where it stands there."""
    device = loop.place.device
    if device.type != "cuda":
        return calibration.cpu_device(torch.get_num_threads())
    name = torch.cuda.get_device_name(device)
    size = torch.cuda.get_device_properties(device).total_memory
    for candidate in (name, f"{name} {round(size / 2**30)}GB"):
        try:
            return hardware.find(candidate).name
        except UsageError:
            continue
    return name


def peak_of_a_step(loop: Loop) -> int | None:
    """Bytes of tensors at the highest moment of one more step. On the CPU every allocation is read from torch's
    profiler, on top of what is held between steps; on CUDA the allocator itself knows."""
    if loop.place.device.type == "cuda":
        return None
    held = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in _lasting(loop)}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        loop.step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = sum(held.values())
    for event in sorted(events, key=lambda one: one.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest


def _lasting(loop: Loop) -> list[torch.Tensor]:
    """Weights, buffers and the optimizer's state."""
    model = loop.job.model
    moments = [value for state in loop.state.optimizer.state.values() for value in state.values()]
    return [*model.parameters(), *model.buffers(), *(one for one in moments if isinstance(one, torch.Tensor))]


def _newest_bytes(loop: Loop) -> int | None:
    try:
        name = loop.place.run.latest.read_text("utf-8").strip()
    except OSError:
        return None
    manifest = record.read_json(loop.place.run.checkpoints / name / "manifest.json")
    files = manifest.get("files") if isinstance(manifest, dict) else None
    return sum(int(entry["bytes"]) for entry in files.values()) if isinstance(files, dict) else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
