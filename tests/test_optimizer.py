"""AdamW, clipping and the sums of a step, each held against the plain way to do it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from runctl.config.model import Training
from runctl.errors import CheckpointError
from runctl.train import optimizer, sums
from runctl.train.checkpoint import Loaded
from runctl.train.state import State
from runctl.train.sums import NonFinite, Sums

CPU = torch.device("cpu")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.matrix = nn.Parameter(torch.randn(7, 5, generator=generator))
        self.late = nn.Parameter(torch.randn(5, 3, generator=generator))  # gets no gradient at first
        self.vector = nn.Parameter(torch.randn(5, generator=generator))
        self.never = nn.Parameter(torch.ones(2))

    def gradients(self, step: int) -> None:
        generator = torch.Generator().manual_seed(step)
        absent = {4: self.matrix, 5: self.late}.get(step, self.late if step < 3 else None)
        for parameter in [one for one in (self.matrix, self.late, self.vector) if one is not absent]:
            parameter.grad = 3 * torch.randn(parameter.shape, generator=generator)


def test_a_step_is_bit_for_bit_that_of_torch_also_after_a_restore() -> None:
    training = Training(lr=0.01, weight_decay=0.1, grad_clip=1.0)
    ours, theirs = Model(), Model()
    mine = optimizer.adamw(ours, training)
    groups = [{**group, "params": []} for group in mine.param_groups]
    names = {parameter: name for name, parameter in ours.named_parameters()}
    for group, empty in zip(mine.param_groups, groups, strict=True):
        empty["params"] = [theirs.get_parameter(names[parameter]) for parameter in group["params"]]
    reference = torch.optim.AdamW(groups, lr=0.01, fused=True)
    for step in range(1, 9):
        ours.gradients(step)
        theirs.gradients(step)
        norm = optimizer.clip(list(ours.parameters()), training.grad_clip)
        assert norm == nn.utils.clip_grad_norm_(theirs.parameters(), training.grad_clip)
        optimizer.set_rate(mine, 0.01 / step)
        for group in reference.param_groups:
            group["lr"] = 0.01 / step
        mine.step()
        reference.step()
        mine.zero_grad()
        reference.zero_grad()
        if step == 6:
            copies = {one: {name: value.clone() for name, value in kept.items()} for one, kept in mine.state.items()}
            mine = optimizer.adamw(ours, training)
            mine.restore(copies)
        for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(one, other), f"step {step}"
            assert one.grad is None
    assert ours.never not in mine.state
    assert [float(mine.state[one]["step"]) for one in (ours.matrix, ours.late, ours.vector)] == [7.0, 5.0, 8.0]


def test_moments_that_do_not_fit_their_weights_are_refused_and_change_nothing() -> None:
    """The fused kernel looks at no shape: it would write beyond the end of what it is given."""
    model = Model()
    state = State(model, optimizer.adamw(model, Training(lr=0.01)), CPU, seed=1)
    model.gradients(3)
    state.optimizer.step()
    tensors, facts = state.capture()
    loaded = Loaded(Path("step-000000001"), tensors, facts, {})
    state.restore(loaded)
    weights = {name: torch.zeros_like(value) for name, value in tensors["model"].items()}
    for moment, value in (("exp_avg", torch.zeros(7, 4)), ("exp_avg_sq", torch.zeros(7, 5, dtype=torch.bfloat16))):
        moments = {**tensors["optimizer"], f"matrix/{moment}": value}
        with pytest.raises(CheckpointError, match=f"does not fit the optimizer: matrix/{moment} is"):
            state.restore(replace(loaded, tensors={**tensors, "model": weights, "optimizer": moments}))
    assert model.matrix.any()


def passes(step: int, count: int) -> list[tuple[torch.Tensor, dict[str, torch.Tensor], int]]:
    generator = torch.Generator().manual_seed(step)
    values = torch.randn(count, 3, generator=generator) * 1e3
    return [(loss, {"a": a, "b": b}, 1 + index + step % 5) for index, (loss, a, b) in enumerate(values.unbind())]


def test_sums_do_not_depend_on_when_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a bit: a resumed run reads them at other steps than an unbroken one, and their rows must be equal. The
    buffer is so small that it is full in the middle of steps."""

    def row(reading: float, floats: int) -> dict[str, float]:
        monkeypatch.setattr(sums, "FLOATS", floats)
        rng, found = random.Random(1), Sums(CPU)
        for step in range(1, 40):
            found.add(step, passes(step, 1 + step % 3), torch.tensor(float(step)) / 3)
            if rng.random() < reading:
                tensors, facts = found.state()
                found = Sums(CPU)
                found.restore(tensors, facts)
        return found.take(39)

    whole = row(0.0, 8192)
    assert whole == row(0.0, 22) == row(0.4, 8192) == row(0.4, 22)
    losses = [(float(loss), count) for step in range(1, 40) for loss, _, count in passes(step, 1 + step % 3)]
    mean = sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
    assert whole["train/loss"] == pytest.approx(mean, rel=1e-12)
    assert whole["train/grad_norm"] == pytest.approx(20 / 3, rel=1e-6)


@pytest.mark.parametrize("what", ["loss", "gradient norm"])
def test_the_first_bad_step_is_named_though_the_buffer_was_read_since(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "FLOATS", 24)
    found = Sums(CPU)
    for step in range(1, 20):
        given: Any = passes(step, 1)
        if what == "loss" and step in (7, 9):
            given = [(torch.tensor(float("inf")), given[0][1], 5)]
        norm = torch.tensor(float("nan") if what == "gradient norm" and step >= 7 else 1.0)
        found.add(step, given, norm)
    with pytest.raises(NonFinite, match=f"non-finite {what} at step 7"):
        found.check(19)
