"""Which device the run trains on, and how it computes there."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch

from runctl.config import RunConfig
from runctl.errors import RunctlError
from runctl.train.heartbeat import peak_rss_bytes


def choose(config: RunConfig) -> torch.device:
    """The device, never a silent second choice: raises RunctlError where the config asks for what is not there."""
    wanted, gpu = config.training.device, config.compute.gpu
    present = torch.cuda.is_available()
    if gpu and wanted == "cpu":
        raise RunctlError(
            f"training.device is cpu, but compute.gpu asks for {gpu}",
            hint="leave out one of the two: a GPU that is paid for and not used helps nobody",
        )
    if (gpu or wanted == "cuda") and not present:
        asked = f"compute.gpu is {gpu}" if gpu else "training.device is cuda"
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        raise RunctlError(
            f"{asked}, but {why} on this machine",
            hint="launch where the GPU is, or train on the CPU with: --set compute.gpu=null --set training.device=cpu",
        )
    if wanted == "cpu" or not present:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def prepare(config: RunConfig, processes: int = 1) -> int:
    """Set the number of threads and the matmul precision; returns the threads, of each of so many processes. Sums
    depend on how they are split among threads, so a run repeats bit for bit only with the same number."""
    threads = config.training.threads or max(1, len(os.sched_getaffinity(0)) // processes)
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("medium" if config.training.precision == "bf16" else "highest")
    return threads


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bf16 where it is safe (`bf16`), or nothing at all (`fp32`); weights are fp32 either way."""
    if precision != "bf16":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def name(device: torch.device) -> str:
    """For people: `cpu (2 threads)` or the GPU's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)"


def peak_memory_bytes(device: torch.device) -> int:
    """CUDA: the most that tensors have taken; CPU: the largest resident size of the process."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_rss_bytes()
