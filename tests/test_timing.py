"""What a run measures of itself: on a clock that the test sets."""

from __future__ import annotations

import random

import pytest

from runctl.train import timing
from runctl.train.timing import Timing


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(timing.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def run(clock: Clock, found: Timing, steps: list[float]) -> Timing:
    found.go()
    for seconds in steps:
        clock.now += seconds
        found.step()
    return found


def test_the_mean_leaves_out_the_first_steps_and_what_is_no_training(clock: Clock) -> None:
    found = run(clock, Timing(), [9.0, 9.0, 9.0] + [0.5] * 30)
    clock.now += 60.0  # a validation
    run(clock, found, [0.5] * 10)
    assert found.steps == 40
    assert found.step_seconds() == pytest.approx(0.5)
    assert found.quantiles() == pytest.approx((0.5, 0.5, 0.5))


def test_a_steady_pace_is_sure_and_a_drifting_one_is_not(clock: Clock) -> None:
    steady = run(clock, Timing(), [0.1] * 1000).spread()
    drifting = run(clock, Timing(), [0.1 + 0.0001 * step for step in range(1000)]).spread()
    assert steady < 0.01
    assert drifting > 0.2


def test_noise_from_step_to_step_averages_out_over_a_long_run(clock: Clock) -> None:
    draw = random.Random(1)
    short = run(clock, Timing(), [draw.choice((0.05, 0.2)) for _ in range(100)]).spread()
    long = run(clock, Timing(), [draw.choice((0.05, 0.2)) for _ in range(20_000)]).spread()
    assert long < short / 3


def test_too_few_blocks_are_unsure(clock: Clock) -> None:
    assert run(clock, Timing(), [0.1] * 24).spread() == timing.UNSURE
