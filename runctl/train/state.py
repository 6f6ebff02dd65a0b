"""The state of a training run: all of it goes into a checkpoint and comes back from one.

What is not here is a function of the step: the order of the windows, the learning rate, when things are due.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from runctl.errors import CheckpointError
from runctl.train.checkpoint import Loaded
from runctl.train.sums import Sums


class State:
    """Weights, optimizer, random generators, sums, and how far the run is."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, seed: int) -> None:
        self.model, self.optimizer, self.device = model, optimizer, device
        digest = hashlib.sha256(f"task:{seed}".encode()).digest()
        self.generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        self.sums = Sums(device)
        self.step = 0
        self.best: float | None = None
        self.validation: dict[str, Any] | None = None  # {step, metrics} of the last one

    def capture(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """(tensors by file, JSON): the live tensors themselves, to be copied before the next step."""
        sums, counts = self.sums.state()
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": {
                f"{name}/{moment}": value
                for name, parameter in self.model.named_parameters()
                for moment, value in self.optimizer.state.get(parameter, {}).items()
            },
            "state": {**_generators(self.device, self.generator), **sums},
        }
        state = {"step": self.step, "best": self.best, "validation": self.validation, "sums": counts}
        return tensors, state

    def restore(self, loaded: Loaded) -> None:
        """Become what the checkpoint holds; raises CheckpointError where it does not fit, changing nothing then."""
        weights = self.model.state_dict()
        stored = loaded.tensors["model"]
        for name in sorted({*weights, *stored}):
            here, there = weights.get(name), stored.get(name)
            if here is None or there is None or here.shape != there.shape or here.dtype != there.dtype:
                raise CheckpointError(
                    f"checkpoint {loaded.path.name} does not fit the model: {name} is {_shape(there)} there, "
                    f"{_shape(here)} here",
                    hint="it was written by another version of the model",
                )
        self.model.load_state_dict(stored)
        self._restore_optimizer(loaded.tensors["optimizer"])
        _restore_generators(self.device, self.generator, loaded.tensors["state"])
        self.sums.restore(loaded.tensors["state"], loaded.state["sums"])
        self.step = int(loaded.state["step"])
        self.best = loaded.state["best"]
        self.validation = loaded.state["validation"]

    def finite(self) -> bool:
        """Whether every weight is finite; waits for the device."""
        norms = torch._foreach_norm([tensor.detach() for tensor in self.model.parameters()])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _restore_optimizer(self, stored: Mapping[str, Tensor]) -> None:
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        moments: dict[str, dict[str, Tensor]] = {}
        for key, value in stored.items():
            name, _, moment = key.rpartition("/")
            moments.setdefault(name, {})[moment] = value.clone()  # into memory that torch aligned
        state = self.optimizer.state_dict()
        ordered = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        state["state"] = {i: moments[names[p]] for i, p in enumerate(ordered) if names[p] in moments}
        self.optimizer.load_state_dict(state)


def _generators(device: torch.device, generator: torch.Generator) -> dict[str, Tensor]:
    states = {"rng/torch": torch.get_rng_state(), "rng/task": generator.get_state()}
    if device.type == "cuda":
        states["rng/cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_generators(device: torch.device, generator: torch.Generator, stored: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(stored["rng/torch"].clone())
    generator.set_state(stored["rng/task"].clone())
    if device.type == "cuda" and "rng/cuda" in stored:
        torch.cuda.set_rng_state(stored["rng/cuda"].clone(), device)


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
