"""What a sound world model looks like before and after its first steps: the numbers that a probe judges.

Each id head has a cross-entropy that can be foretold. Before any training it is near ln V, as all V classes are as
good. And with the targets of other windows in place of the right ones it can never fall far below their entropy: a
loss that does has seen the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from runctl.config import RunConfig
from runctl.config.model import LossWeights
from runctl.tasks.worldmodel import losses
from runctl.tasks.worldmodel.encoding import BYTES, CONTROLLER, Layout
from runctl.tasks.worldmodel.model import WorldModel
from runctl.tasks.worldmodel.targets import PREDICTED_IDS


@dataclass(frozen=True)
class Head:
    """One category head on one batch, in nats: its `loss`, that against the targets of other windows (`shuffled`),
    and the entropy of the targets (`floor`)."""

    name: str
    classes: int
    loss: float
    shuffled: float
    floor: float

    @property
    def untrained(self) -> float:
        """The loss of a head that knows nothing."""
        return math.log(self.classes)


def expected(config: RunConfig, record_bytes: int, train_windows: int) -> dict[str, object]:
    """What the config promises: the shape of a batch, and the number of parameters."""
    from runctl.estimate import parameters  # estimates stand above tasks

    rows = min(config.training.batch_size, train_windows)
    return {
        "batch": [rows, config.model.context_len + 1, record_bytes],
        "parameters": parameters.count(config.encoding, config.model),
    }


def strays(model: WorldModel, records: Tensor, layout: Layout) -> float:
    """The largest change of an output where the next frame of records (B, K+1, R) is another window's, except for
    its controllers, which the model is given. The model is in eval mode for it."""
    other = records.clone()
    other[:, -1] = records[:, -1].roll(1, 0) if len(records) > 1 else records[:, 0]
    for column in layout.columns:
        if column.field in CONTROLLER:
            bytes_ = slice(column.offset, column.offset + BYTES[column.dtype])
            other[:, -1, bytes_] = records[:, -1, bytes_]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            one, two = model(records), model(other)
    finally:
        model.train(training)
    return max(float((one.outputs[name] - two.outputs[name]).abs().max()) for name in one.outputs)


def heads(model: WorldModel, records: Tensor, weights: LossWeights) -> list[Head]:
    """Each id head on records (B, K+1, R); the model is in eval mode for it."""
    # Each window gets the target of one that lies half a batch away: inputs stay what they were.
    away = records.clone()
    away[:, -1] = records[:, -1].roll(max(1, len(records) // 2), 0)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            predictions = model(records)
            right, wrong = (losses.loss(predictions, rows, weights, model.targets)[1] for rows in (records, away))
    finally:
        model.train(training)
    _, ids = model.targets.features(records[:, -1])
    return [
        Head(
            name=kind,
            classes=model.vocabs[kind],
            loss=float(right[kind]),
            shuffled=float(wrong[kind]),
            floor=_entropy(ids[:, model.targets.features.id_columns(kind)].flatten()),
        )
        for kind in PREDICTED_IDS
    ]


def _entropy(ids: Tensor) -> float:
    shares = torch.bincount(ids.long()).double() / max(1, ids.numel())
    return float(-(shares[shares > 0] * shares[shares > 0].log()).sum())
