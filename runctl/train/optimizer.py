"""AdamW as the run uses it: which weights decay, and clipping without waiting for the device."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from runctl.config.model import Training


def adamw(model: nn.Module, training: Training) -> torch.optim.AdamW:
    """AdamW, betas (0.9, 0.999), fused. Matrices and embeddings decay; vectors do not: norms, biases, and
    Mamba's A_log, D and dt_bias, for which zero is no neutral value."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for _, parameter in named if parameter.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [parameter for _, parameter in named if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=training.lr, fused=True)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients so that their common norm is at most `limit` (0: leave them); returns the norm as it
    was, a scalar on the device that nobody has waited for."""
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    if limit > 0:
        nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return norm
