"""The loss: Huber's on numbers, binary cross-entropy on binaries, cross-entropy on ids, weighted and summed.

An error of a number counts in units of its column's scale (`targets`): e²/2 up to one unit, |e| - 1/2 beyond. All
parts are computed in float32, also under autocast.

With `training.targets: all` it is the mean over every position of the window, where `last` has the last one alone: the
first positions know little of the past, so that the training loss of the two cannot be compared. What is measured on
held-out windows is of the last position in both.

Why not the squared error throughout: deaths, respawns and hits are rare and a thousand units wide. With squares they
are nearly all of the loss, and after an epoch of real games a model was worse at positions than at its start (mean
error .230 → .310 units; .230 → .219 with Huber's loss, though that run also scaled its columns otherwise).
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from runctl.config.model import LossWeights
from runctl.tasks.worldmodel.model import Predictions
from runctl.tasks.worldmodel.targets import NUMBERS, PREDICTED_IDS, Targets


def loss(
    predictions: Predictions, records: Tensor, weights: LossWeights, targets: Targets
) -> tuple[Tensor, dict[str, Tensor]]:
    """(weighted sum, its parts unweighted and detached), means over records (B, K+1, R), over positions where every
    one is predicted, and over columns.

    The parts bear the names of `loss_weights`.
    """
    floats, ids = targets.features(records[:, 1:] if predictions.every else records[:, -1])
    parts = {}
    for name in NUMBERS:
        wanted = (targets.of(floats, name) - predictions.origin[name]) / targets.scale(name)
        parts[name] = F.smooth_l1_loss(predictions.outputs[name].float(), wanted)
    parts["binary"] = F.binary_cross_entropy_with_logits(
        predictions.outputs["binary"].float(), targets.of(floats, "binary")
    )
    for kind in PREDICTED_IDS:
        wanted = ids[..., targets.features.id_columns(kind)].long()
        parts[kind] = F.cross_entropy(predictions.outputs[kind].float().flatten(0, -2), wanted.flatten())
    total = sum((getattr(weights, name) * part for name, part in parts.items()), start=floats.new_zeros(()))
    return total, {name: part.detach() for name, part in parts.items()}
