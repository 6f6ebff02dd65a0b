"""What else decides the bits of a run: the code, torch, the device and the number of threads.

A resume under others is allowed, because the run is still the same experiment, but it is not exact and says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

import runctl
from runctl.train import device as devices

ROOMS = ("train", "models", "tasks")


def describe(device: torch.device, processes: int = 1) -> dict[str, str]:
    """The surroundings of this process, as a checkpoint's manifest keeps them."""
    return {
        "code": code_digest(Path(runctl.__file__).parent),
        "torch": torch.__version__,
        "device": devices.name(device),
        "threads": str(torch.get_num_threads()),
        "processes": str(processes),
    }


def code_digest(package: Path) -> str:
    """sha256 (hex) of the sources that a training step runs through."""
    digest = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((package / room).rglob("*.py")):
            digest.update(f"{path.relative_to(package).as_posix()}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def differences(stored: Mapping[str, str], here: Mapping[str, str]) -> str | None:
    """What a person is told if a checkpoint was written in other surroundings; None if it was not."""
    stored = {"processes": "1", **stored}  # before several could share a run, nothing was written of it
    differing = [key for key in here if stored.get(key) != here[key]]
    if not differing:
        return None
    told = [
        "runctl's own code" if key == "code" else f"{key} ({stored.get(key, 'unknown')}, now {here[key]})"
        for key in differing
    ]
    return f"not bit for bit what an unbroken run would be: {', '.join(told)} changed since the checkpoint"
