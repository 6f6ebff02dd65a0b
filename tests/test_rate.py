from __future__ import annotations

import time

import pytest

from runctl.train.rate import Rate


def test_the_rate_is_that_of_the_recent_steps_without_the_first_and_without_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    rate = Rate()

    def steps(count: int, seconds: float) -> float | None:
        for _ in range(count):
            clock[0] += seconds
            rate.add(64)
        return rate.read()

    assert steps(1, 10.0) is None
    assert steps(1, 0.1) is None
    assert steps(1, 0.1) == pytest.approx(640.0)
    with rate.paused():
        clock[0] += 100.0
        assert rate.last() == pytest.approx(640.0), "asked for within a pause"
    assert steps(1, 0.1) == pytest.approx(640.0)
    assert steps(5, 2.0) == pytest.approx(32.0), "the quick steps are more than five seconds ago"
