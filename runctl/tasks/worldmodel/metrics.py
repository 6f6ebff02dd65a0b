"""What teams steer by, with the baselines on the same frames, summed on the device and read once.

Their names, and what they mean, stand in `metric_names`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from runctl.config.model import Encoding, LossWeights
from runctl.tasks.worldmodel import losses, metric_names
from runctl.tasks.worldmodel.baselines import Lookup
from runctl.tasks.worldmodel.model import Predictions, WorldModel

_SUMS = (*metric_names.COUNTS, *metric_names.SHARES)


class Metrics:
    """Sums in float64 on the model's device."""

    def __init__(self, model: WorldModel, weights: LossWeights, encoding: Encoding, lookup: Lookup) -> None:
        self.model, self.weights, self.lookup = model, weights, lookup
        self.xy_scale, self.age_scale = encoding.xy_scale, encoding.state_age_scale
        device = model.frame.weight.device
        self._keys = torch.from_numpy(lookup.keys).to(device)
        self._actions = torch.from_numpy(lookup.actions).to(device)
        self._parts = ("loss", *metric_names.PARTS)
        self._sums = torch.zeros(len(_SUMS) + len(self._parts), dtype=torch.float64, device=device)

    def update(self, predictions: Predictions, records: Tensor) -> None:
        """Add one batch of records (B, K+1, R) and what the model predicted for it; waits for nothing."""
        targets = self.model.targets
        total, parts = losses.loss(predictions, records, self.weights, targets)
        floats, ids = targets.features(records[:, -3:])
        last, wanted = self._actions_of(ids[:, 1]), self._actions_of(ids[:, 2])
        changed = last != wanted
        guessed = predictions.outputs["action"].argmax(-1)
        looked_up = self._look_up(floats[:, 1], ids[:, 1])

        before, now, after = targets.of(floats, "continuous").unbind(1)
        outputs = predictions.outputs["continuous"].float()
        moved = predictions.origin["continuous"] + outputs * targets.scale("continuous")

        def off(position: Tensor) -> Tensor:
            return (position - after)[:, targets.positions].abs().mean(-1).double().sum() / self.xy_scale

        def hits(guess: Tensor, where: Tensor | None = None) -> Tensor:
            right = guess == wanted
            return (right if where is None else right & where).double().sum()

        windows = torch.tensor(float(len(records)), dtype=torch.float64, device=total.device)
        sums = [windows, changed.double().sum(), hits(guessed), hits(guessed, changed), off(moved)]
        sums += [hits(last), off(now), off(2 * now - before), hits(looked_up), hits(looked_up, changed)]
        parts = {"loss": total, **parts}
        sums += [parts[name].double() * len(records) for name in self._parts]
        self._sums += torch.stack(sums)

    def tensors(self) -> list[Tensor]:
        """All that is summed up so far; what others have summed may be added to it."""
        return [self._sums]

    def compute(self) -> dict[str, float]:
        """By the names of `metric_names.NAMES`; reads the device once."""
        values = self._sums.tolist()
        sums = dict(zip(_SUMS, values[: len(_SUMS)], strict=True))
        by_part = dict(zip(self._parts, values[len(_SUMS) :], strict=True))
        windows, changes = sums["windows"], sums["changes"]
        counts = {"action": 2 * windows, "change": changes, "position": windows}
        result = {"val/loss": _over(by_part.pop("loss"), windows)}
        for share in metric_names.SHARES:
            result[metric_names.name(share)] = _over(sums[share], counts[share.rpartition("/")[2]])
        result |= {"val/frames": windows, "val/changes": changes}
        return result | {f"val/loss/{name}": _over(value, windows) for name, value in by_part.items()}

    def _actions_of(self, ids: Tensor) -> Tensor:
        """ids (B, I) → actions (B, 2)."""
        return ids[:, self.model.features.id_columns("action")].long()

    def _look_up(self, floats: Tensor, ids: Tensor) -> Tensor:
        """The next action by the table, (B, 2); the action itself where the table has no answer."""
        features = self.model.features
        action, character = self._actions_of(ids), ids[:, features.id_columns("character")].long()
        if "state_age" in features.kinds:
            age = ids[:, features.id_columns("state_age")].long()
        else:
            age = floats[:, features.columns(("state_age",))] / self.age_scale
            age = (age + 1e-3).nan_to_num(0.0).clamp(0, self.lookup.ages - 1).long()
        key = self.lookup.key(action, character, age)
        if not len(self._keys):
            return action
        place = torch.searchsorted(self._keys, key).clamp(max=len(self._keys) - 1)
        return torch.where(self._keys[place] == key, self._actions[place], action)


def _over(total: float, count: float) -> float:
    return total / count if count else float("nan")
