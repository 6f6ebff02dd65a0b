"""Scheduled sampling for windows: noise on the last frames that the model is given.

A model that runs on its own output meets frames that are a little wrong. Per window, with a rate that grows from
zero, Gaussian noise is added to the core numbers and velocities of the last frames; stocks and other dynamics,
binaries, ids and controllers stay as they are, for a wrong one is not a small error.

The prediction starts from the corrupted frame, as it would on its own, and its target is the true next frame: what
is asked of the model is the way back. Starting from the true frame would teach it to keep the error.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runctl.config.model import Training
from runctl.tasks.worldmodel.features import Features


def rate(training: Training, epochs_done: float) -> float:
    """The share of windows to corrupt: linear from 0 to `scheduled_sampling` over `ss_anneal_epochs`."""
    if training.ss_anneal_epochs <= 0:
        return training.scheduled_sampling
    return training.scheduled_sampling * min(1.0, epochs_done / training.ss_anneal_epochs)


def corrupt(floats: Tensor, features: Features, training: Training, rate: float, generator: torch.Generator) -> Tensor:
    """floats (B, K, F) with noise of `ss_noise_scale` on the last `ss_corrupt_frames` frames of about `rate` of the
    windows. The input is left as it is; a rate of 0 draws nothing from the generator (on the floats' device)."""
    if rate <= 0:
        return floats
    columns = features.moving
    batch, context, _ = floats.shape
    frames = min(training.ss_corrupt_frames, context)
    chosen = torch.rand(batch, 1, 1, generator=generator, device=floats.device) < rate
    noise = torch.randn(batch, frames, len(columns), generator=generator, device=floats.device)
    noise = noise * (training.ss_noise_scale * chosen)
    out = floats.clone()
    out[:, context - frames :].index_add_(-1, columns, noise.to(floats.dtype))
    return out
