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
from runctl.train import ranks as sharing
from runctl.train.checkpoint import Loaded
from runctl.train.optimizer import MOMENTS, AdamW
from runctl.train.ranks import Alone, Ranks
from runctl.train.sums import Sums


class State:
    """Weights, optimizer, random generators, sums, and how far the run is."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: AdamW,
        device: torch.device,
        seed: int,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.optimizer, self.device, self.seed = model, optimizer, device, seed
        self.ranks = ranks or Alone()
        self.generator = torch.Generator(device)
        self._named = list(model.named_parameters())
        self.step = 0
        self._seed_generators()
        self.sums = Sums(device, self.ranks.total if self.ranks.seat.size > 1 else None)
        self.best: float | None = None
        self.validation: dict[str, Any] | None = None  # {step, metrics} of the last one

    def capture(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """(tensors by file, JSON): the live tensors themselves, to be copied before the next step. Of several processes
        all take part."""
        sums, counts = self.sums.state()
        tensors = {
            "model": dict(self.model.state_dict()),
            "optimizer": {
                f"{name}/{moment}": value
                for name, parameter in self._named
                for moment, value in self.optimizer.state.get(parameter, {}).items()
            },
            "state": {**self._generators(), **sums},
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
        moments = self._moments(loaded)
        self.model.load_state_dict(stored)
        self.optimizer.restore(moments)
        self.step = int(loaded.state["step"])
        self._restore_generators(loaded.tensors["state"])
        self.sums.restore(loaded.tensors["state"], loaded.state["sums"], first=self.ranks.seat.first)
        self.best = loaded.state["best"]
        self.validation = loaded.state["validation"]

    def finite(self) -> bool:
        """Whether every weight is finite; waits for the device."""
        norms = torch._foreach_norm([tensor.detach() for tensor in self.model.parameters()])
        return bool(torch.isfinite(torch.stack(norms)).all())

    def _seed_generators(self) -> None:
        """The task's generator, and in all processes but the first torch's own: those of the first are seeded with the
        run, before the model is built, which is the same everywhere."""
        rank = self.ranks.seat.rank
        seed = sharing.seed(self.seed, rank, self.step)
        digest = hashlib.sha256(f"task:{seed}".encode()).digest()
        self.generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        if rank:
            torch.manual_seed(seed)

    def _generators(self) -> dict[str, Tensor]:
        """The states of all processes' generators: `rng/task` of the first, `rng/task/1` of the next."""
        own = {"rng/torch": torch.get_rng_state(), "rng/task": self.generator.get_state()}
        if self.device.type == "cuda":
            own["rng/cuda"] = torch.cuda.get_rng_state(self.device)
        found: dict[str, Tensor] = {}
        for name, state in own.items():
            for rank, there in enumerate(self.ranks.gather(state)):
                found[_of_rank(name, rank)] = there
        return found

    def _restore_generators(self, stored: Mapping[str, Tensor]) -> None:
        """A process that the checkpoint does not know begins anew from the seed, its rank and the step."""
        rank = self.ranks.seat.rank
        if _of_rank("rng/torch", rank) not in stored:
            self._seed_generators()
            return
        torch.set_rng_state(stored[_of_rank("rng/torch", rank)].clone())
        self.generator.set_state(stored[_of_rank("rng/task", rank)].clone())
        if self.device.type == "cuda" and _of_rank("rng/cuda", rank) in stored:
            torch.cuda.set_rng_state(stored[_of_rank("rng/cuda", rank)].clone(), self.device)

    def _moments(self, loaded: Loaded) -> dict[Tensor, dict[str, Tensor]]:
        """The optimizer's state in the checkpoint, by parameter; each of the moments is held against it, for the fused
        kernel looks at no shape."""
        parameters = dict(self.model.named_parameters())
        moments: dict[Tensor, dict[str, Tensor]] = {}
        for key, value in loaded.tensors["optimizer"].items():
            name, _, moment = key.rpartition("/")
            parameter = parameters.get(name)
            wanted = None if parameter is None or moment not in MOMENTS else (parameter.shape, parameter.dtype)
            if wanted and moment == "step":
                wanted = (torch.Size(), torch.float32)
            if parameter is None or wanted != (value.shape, value.dtype):
                raise CheckpointError(
                    f"checkpoint {loaded.path.name} does not fit the optimizer: {key} is {_shape(value)} there, the "
                    f"parameter is {_shape(parameter)} here",
                    hint="it was written by another version of the trainer",
                )
            moments.setdefault(parameter, {})[moment] = value.clone()  # into memory that torch aligned
        return {parameter: found for parameter, found in moments.items() if len(found) == len(MOMENTS)}


def _of_rank(name: str, rank: int) -> str:
    return f"{name}/{rank}" if rank else name


def _shape(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
