"""How many processes share a run, and what one of them may not be asked to do. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from runctl import fields, hardware
from runctl.errors import RunctlError
from runctl.train.presence import RANKS


def processes(config: Mapping[str, Any]) -> int:
    """How many processes an effective config asks for. Raises RunctlError where its keys contradict each other."""
    training, compute = config.get("training"), config.get("compute")
    wanted, gpu = fields.whole(training, "processes"), fields.text(compute, "gpu")
    counts = sorted({hardware.split(one.strip())[1] for one in gpu.split(",")}) if gpu else []
    if len(counts) > 1:
        raise RunctlError(
            f"compute.gpu is {gpu}: {' or '.join(map(str, counts))} processes would share the run",
            hint="ask for the same number of GPUs in each choice",
        )
    if counts and wanted is not None and wanted != counts[0]:
        raise RunctlError(
            f"training.processes is {wanted}, but compute.gpu asks for {counts[0]}",
            hint="leave training.processes out: each GPU gets a process",
        )
    size = wanted or (counts[0] if counts else 1)
    batch = fields.whole(training, "batch_size")
    if batch is not None and size > batch:
        raise RunctlError(f"{size} processes cannot share a batch of {batch}", hint="raise training.batch_size")
    return size


def draws(config: Mapping[str, Any]) -> str:
    """What a step draws random numbers for, in words; "" where it draws none, and the number of processes changes
    nothing but the order of sums."""
    model, training = config.get("model"), config.get("training")
    found = ["dropout"] if fields.number(model, "dropout") else []
    found += ["scheduled sampling"] if fields.number(training, "scheduled_sampling") else []
    return " and ".join(found)


def refuse_foreign() -> None:
    """Raise RunctlError for a process that another torchrun has started: runctl starts its processes itself, and they
    share one machine."""
    size = _number("WORLD_SIZE")
    if RANKS in os.environ or size <= 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    if _number("LOCAL_WORLD_SIZE") != size:
        raise RunctlError(
            f"this is one of {size} processes on several machines: the trainer uses the GPUs of one machine",
            hint="ask for more GPUs in one machine: compute.gpu NAME:COUNT. Several would each need the supervisor, "
            "the records and the checkpoints that one has here",
        )
    raise RunctlError(
        f"this is one of {size} processes of a torchrun that runctl did not start",
        hint="set training.processes, or compute.gpu: NAME:COUNT, and launch without torchrun",
    )


def _number(variable: str) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else 1
