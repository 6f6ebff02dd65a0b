"""AdamW as the run uses it: which weights decay, and clipping without waiting for the device.

Why not `torch.optim.AdamW`: its `step` calls the very kernel that is called here (`_fused_adamw_`, of the one version
of torch that the trainer is pinned to), but gathers the lists of tensors anew and groups them by device and dtype at
every step, under hooks that nobody has set; and it imports torch's compiler, which nothing here needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from runctl.config.model import Training

BETAS = (0.9, 0.999)
EPSILON = 1e-8
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # as torch's own AdamW names them, hence in checkpoints


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, 2019), fused: one kernel for all tensors of a group. `state` is
    by parameter, by MOMENTS, from a parameter's first gradient on; one without a gradient is left alone."""

    def __init__(self, groups: Iterable[Mapping[str, Any]], lr: float) -> None:
        self.param_groups = [{**group, "lr": lr} for group in groups]
        self.state: dict[Tensor, dict[str, Tensor]] = {}
        self._lists = [_Lists() for _ in self.param_groups]

    @torch.no_grad()
    def step(self) -> None:
        for group, lists in zip(self.param_groups, self._lists, strict=True):
            present = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not present:
                continue
            if not lists.of(present):
                lists.set(present, [self._moments(parameter) for parameter in present])
            torch._foreach_add_(lists.steps, 1)
            torch._fused_adamw_(
                present,
                [parameter.grad for parameter in present],
                lists.means,
                lists.squares,
                [],
                lists.steps,
                lr=group["lr"],
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=group["weight_decay"],
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def zero_grad(self) -> None:
        """Let the gradients go: the next backward pass makes them anew instead of adding to zeros."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def restore(self, state: Mapping[Tensor, Mapping[str, Tensor]]) -> None:
        """Take over moments, on the device of their parameters."""
        self.state = {
            parameter: {name: value.to(parameter.device) for name, value in moments.items()}
            for parameter, moments in state.items()
        }
        self._lists = [_Lists() for _ in self.param_groups]

    def _moments(self, parameter: Tensor) -> dict[str, Tensor]:
        if parameter not in self.state:
            step = torch.zeros((), dtype=torch.float32, device=parameter.device)
            zeros = [torch.zeros_like(parameter, memory_format=torch.preserve_format) for _ in range(2)]
            self.state[parameter] = dict(zip(MOMENTS, (step, *zeros), strict=True))
        return self.state[parameter]


@dataclass
class _Lists:
    """The tensors of a group as the kernel takes them, kept from step to step."""

    parameters: list[Tensor] = field(default_factory=list)
    steps: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)

    def of(self, parameters: list[Tensor]) -> bool:
        """Whether they are of these parameters."""
        return len(parameters) == len(self.parameters) and all(map(is_, parameters, self.parameters))

    def set(self, parameters: list[Tensor], moments: list[dict[str, Tensor]]) -> None:
        self.parameters = parameters
        self.steps, self.means, self.squares = ([one[name] for one in moments] for name in MOMENTS)


def adamw(model: nn.Module, training: Training) -> AdamW:
    """AdamW, betas (0.9, 0.999), fused. Matrices and embeddings decay; vectors do not: norms, biases, and
    Mamba's A_log, D and dt_bias, for which zero is no neutral value."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for _, parameter in named if parameter.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [parameter for _, parameter in named if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], training.lr)


def set_rate(optimizer: AdamW, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


@torch.no_grad()
def clip(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients so that their common norm is at most `limit` (0: leave them); returns the norm as it
    was, a scalar on the device that nobody has waited for. The gradients are of one dtype on one device."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if limit > 0:  # torch's own clip_grad_norm_ multiplies by the same number
        torch._foreach_mul_(gradients, torch.clamp(limit / (norm + 1e-6), max=1.0))
    return norm
