from __future__ import annotations

import numpy as np
import pytest
import torch

from runctl.config.model import Encoding, Model
from runctl.tasks.worldmodel import targets
from runctl.tasks.worldmodel.encoding import columns
from runctl.tasks.worldmodel.model import WorldModel


def test_scales_measured_in_parts_are_those_measured_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no part is larger than allowed, whatever the number of windows."""
    layout = columns(Encoding())
    rng = np.random.default_rng(0)
    records = np.zeros((700, layout.record_bytes), np.uint8)
    for column in layout.columns:
        if column.dtype == "f32":
            drift = rng.normal(1000, 1) + np.cumsum(rng.normal(0, 1, len(records)))
            records[:, column.offset : column.offset + 4] = drift.astype("<f4").view(np.uint8).reshape(-1, 4)
    starts = np.arange(len(records) - 8)

    def scales(part: int) -> dict[str, torch.Tensor]:
        monkeypatch.setattr(targets, "PART", part)
        assert max(len(frames) for frames in targets.sample(records, starts, 7)) == min(part, len(starts))
        model = WorldModel(Encoding(), Model(d_model=32, n_layers=1), layout)
        model.measure(records, starts, 7)
        return {name: value for name, value in model.state_dict().items() if "scale" in name or "mean" in name}

    at_once = scales(10_000)
    for name, value in scales(97).items():
        assert torch.equal(value, at_once[name]), name
