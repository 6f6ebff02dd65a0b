"""What a training step reads from the device: nothing. Every read would make the host wait for all that is queued.

On the CPU nothing has to wait, so the reads are counted as they pass through torch: by the operations that end in a
number on the host or in a shape that depends on values, or that make a tensor of Python numbers (which a GPU takes
from pageable memory), and by the methods of tensors that copy to the host.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from runctl import record
from runctl.config import RunConfig
from runctl.tasks.worldmodel import task
from runctl.train.control import Control
from runctl.train.heartbeat import Heartbeat
from runctl.train.loop import Loop, Place
from runctl.train.trackers import start

METHODS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "__array__")
OPERATIONS = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "lift_fresh")


class _Methods(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(function, "__name__", "") in METHODS:
            SEEN.append(function.__name__)
        return function(*args, **(kwargs or {}))


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        masks = name in ("index", "index_put", "index_put_") and any(_mask(one) for one in args[1])
        if masks or name in OPERATIONS:
            SEEN.append(f"aten.{name}")
        return function(*args, **(kwargs or {}))


def _mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


SEEN: list[str] = []


@contextmanager
def counted() -> Iterator[list[str]]:
    """The reads of what runs within."""
    SEEN.clear()
    with _Methods(), _Operations():
        yield SEEN


@contextmanager
def uncounted() -> Iterator[None]:
    before = len(SEEN)
    yield
    del SEEN[before:]


CONFIG = {
    "name": "reads",
    "data": {"simulate": {"games": 3, "seconds": 4}},
    "model": {"d_model": 16, "n_layers": 1, "headdim": 16, "context_len": 8, "dropout": 0.1},
    "training": {"steps": 1000, "batch_size": 12, "accumulation": 2, "threads": 1, "log_every": 4, "seed": 1}
    | {"device": "cpu", "validate_every": "1000 steps", "scheduled_sampling": 0.5, "ss_anneal_epochs": 0.01},
    "checkpoint": {"every": "never"},
}


def made(folder: Path, device: str = "cpu", **training: Any) -> Loop:
    """A loop of the real task that has made three steps."""
    changed = CONFIG | {"training": CONFIG["training"] | {"device": device} | training}  # type: ignore[operator]
    config = RunConfig.model_validate(changed)
    run, there = record.RunDir(folder / "run"), torch.device(device)
    files = run.attempt(1)
    files.path.mkdir(parents=True)
    torch.manual_seed(0)
    job = task.build(config, project=folder, run=run, device=there, report=lambda message: None)
    loop = Loop(job, config, Place(run, 1, there, Control(), Heartbeat(files), start(config, {}, run)))
    gather = job.batch

    def batch(windows: Tensor, *, validation: bool) -> Tensor:  # numbers of windows lie on the host: no reads there
        with uncounted():
            return gather(windows, validation=validation)

    job.batch = batch
    job.model.train()
    for _ in range(3):
        loop.step()
        loop.after_step()
    return loop


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_reads_nothing_from_the_device_and_a_row_of_metrics_reads_once(tmp_path: Path, precision: str) -> None:
    loop = made(tmp_path, precision=precision)
    for step in range(4, 12):
        with counted() as seen:
            loop.step()
            loop.after_step()
        once = ["tolist"] if step % 4 == 0 else []
        assert seen == once, f"step {step}"


def test_a_read_that_is_added_to_a_step_is_seen(tmp_path: Path) -> None:
    """What the test above would say of the usual ways to slip one in."""
    loop = made(tmp_path)
    original = loop.loss
    ways = {
        "item": lambda loss: loss.item(),
        "float": float,
        "condition": lambda loss: bool(loss > 0),
        "tolist": lambda loss: loss.tolist(),
        "copy": lambda loss: loss.cpu(),
        "mask": lambda loss: loss.reshape(1)[loss.reshape(1) > 0],
        "equal": lambda loss: torch.equal(loss, loss),
        "made of numbers": lambda loss: torch.tensor([1.0, 2.0], device=loss.device),
    }
    for name, read in ways.items():

        def slow(batch: Tensor, read: Any = read, **given: Any) -> Any:
            loss, parts = original(batch, **given)
            read(loss.detach())
            return loss, parts

        loop.loss = slow
        with counted() as seen:
            loop.step()
        assert seen, f"{name} was not seen"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_step_waits_for_nothing(tmp_path: Path) -> None:
    loop = made(tmp_path, "cuda", log_every=1000)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.step()
            loop.after_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
