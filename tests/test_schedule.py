from __future__ import annotations

import itertools
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.config.every import Every
from runctl.config.model import Training
from runctl.train import schedule


def training(**values: object) -> Training:
    return Training.model_validate({"batch_size": 10, "lr": 1.0, "warmup_steps": 4, "min_lr_ratio": 0.1} | values)


def test_an_epoch_ends_with_the_windows_that_are_left() -> None:
    plan = schedule.plan(training(epochs=2, accumulation=2), windows=45)
    assert (plan.step_windows, plan.steps_per_epoch, plan.total_steps) == (20, 3, 6)
    assert plan.position(2) == (0, 40)
    assert plan.position(3) == (1, 0)


def test_epochs_may_be_fractional_and_steps_are_totals() -> None:
    assert schedule.plan(training(epochs=0.5), windows=100).total_steps == 5
    assert schedule.plan(training(epochs=1.25), windows=100).total_steps == 13
    assert schedule.plan(training(epochs=0.001), windows=100).total_steps == 1
    assert schedule.plan(training(steps=7), windows=100).total_steps == 7
    assert schedule.plan(training(), windows=100).total_steps == 10


def test_the_cosine_spans_optimizer_steps_however_many_passes_each_takes() -> None:
    for accumulation in (1, 8):
        given = training(epochs=1, accumulation=accumulation)
        plan = schedule.plan(given, windows=8000)
        assert schedule.rate(given, plan.total_steps, plan.total_steps) == pytest.approx(0.1)


def test_the_rate_rises_in_a_line_then_falls_by_half_a_cosine() -> None:
    rates = [schedule.rate(training(), 104, step) for step in range(1, 105)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[53] == pytest.approx(0.55)  # halfway between the peak and a tenth of it
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[3:]))


@given(st.integers(0, 50), st.integers(1, 60), st.floats(0, 1))
def test_the_rate_stays_above_zero_and_below_its_peak(warmup: int, total: int, floor: float) -> None:
    given = training(warmup_steps=warmup, min_lr_ratio=floor)
    for step in range(1, total + 1):
        rate = schedule.rate(given, total, step)
        assert math.isfinite(rate)
        assert 0 <= rate <= 1.0 + 1e-12


def test_steps_and_epochs_fall_due_by_the_step_alone() -> None:
    def due(every: str) -> list[int]:
        cadence = schedule.Cadence(Every.model_validate(every), steps_per_epoch=10, now=0.0)
        return [step for step in range(1, 31) if cadence.due(step, 0.0)]

    assert due("10 steps") == [10, 20, 30]
    assert due("1 epoch") == [10, 20, 30]
    assert due("0.25 epochs") == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25, 28, 30]
    assert due("0.01 epochs") == list(range(1, 31))


def test_a_duration_falls_due_from_the_last_time_it_was_done() -> None:
    cadence = schedule.Cadence(Every(seconds=5), steps_per_epoch=10, now=100.0)
    assert not cadence.due(1, 104.9)
    assert cadence.due(2, 105.0)
    cadence.done(107.0)
    assert not cadence.due(3, 111.9)
    assert cadence.due(4, 112.0)


def test_never_is_never_due() -> None:
    cadence = schedule.Cadence(None, steps_per_epoch=10, now=0.0)
    assert not any(cadence.due(step, 1e9) for step in range(1, 100))


def test_schedule_needs_no_torch() -> None:
    code = "import sys, runctl.train.schedule; raise SystemExit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
