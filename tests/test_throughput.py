"""How fast a run trains, in words: the share of the peak, what the time went to, and the likely cause of little."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runctl.estimate import throughput
from runctl.estimate.calibration import Measurement, parse, to_json
from runctl.train import matmul, threads


def measured(**facts: Any) -> Measurement:
    given: dict[str, Any] = {
        "kind": "run", "name": "one", "attempt": 1, "created": 1.0, "steps": 100, "step_seconds": 0.5, "spread": 0.1,
        "shape": {"precision": "bf16", "model.context_len": 10}, "device": "AMD EPYC × 2", "examples": 512.0,
        "flops": 1e11, "startup_seconds": 1.0, "matmul_flops_per_second": 4e11, "threads": 2, "cores": 2,
        "data_share": 0.01, "validation_share": 0.02, "checkpoint_share": 0.0,
    }  # fmt: skip
    return parse(to_json(Measurement(**given | facts)))


def test_rates_are_shares_of_what_the_device_can_do() -> None:
    here = throughput.of(measured())
    assert (here.examples_per_second, here.frames_per_second) == (1024.0, 10240.0)
    assert here.utilisation == pytest.approx(0.5)
    assert "measured in the run" in here.peak
    there = throughput.of(measured(device="H100"))
    assert there.utilisation == pytest.approx(2e11 / 989e12, rel=0.01)
    assert there.peak == "the bf16 peak of H100, from the catalogue"
    shape = {"precision": "bf16", "model.context_len": 10, "processes": 2}
    both = throughput.of(measured(shape=shape, threads=1))
    assert (both.utilisation, both.threads) == (pytest.approx(0.25), 2)
    assert both.peak.startswith("2 × what bf16 matrix products")
    unknown = throughput.of(measured(matmul_flops_per_second=None))
    assert unknown.utilisation is None
    assert unknown.cause == ""


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({}, ""),
        ({"data_share": 0.1}, "waiting for data: 10%"),
        ({"validation_share": 0.25}, "validation: 25%"),
        ({"checkpoint_share": 0.3, "validation_share": 0.25}, "checkpoints: steps stand still for 30%"),
        ({"flops": 1e9, "threads": 1}, "too few threads: 1 thread on 2 cores"),
        ({"flops": 1e6, "step_seconds": 0.001}, "tiny steps: one takes 1 ms"),
        ({"flops": 1e6, "step_seconds": 0.001, "data_share": 0.6}, "waiting for data: 60%"),
        ({"flops": 1e9}, "the steps themselves"),
        (
            {"flops": 1e9, "data_share": None, "validation_share": None, "checkpoint_share": None},
            "the steps themselves",
        ),
    ],
)
def test_a_low_share_names_its_likely_cause(facts: dict[str, Any], cause: str) -> None:
    found = throughput.of(measured(**facts))
    assert found.cause.startswith(cause)
    assert bool(found.cause) == bool(cause)
    lines = throughput.words(found.to_json())
    assert (f"likely cause: {found.cause}" in lines) == bool(cause)


def test_the_words_hold_what_was_measured_and_survive_what_is_torn() -> None:
    rates, shares = throughput.words(throughput.of(measured()).to_json())
    assert rates.startswith(
        "1.02k windows/s, 10.2k frames/s; 200 GFLOP/s, 50.0% of what bf16 matrix products reach here"
    )
    assert shares == "of the time 1.0% waits for data, 2.0% is validation, 0.0% is checkpoints"
    assert throughput.words({}) == []
    assert throughput.words({"examples_per_second": "many"}) == []


def test_a_matrix_product_is_measured_in_milliseconds() -> None:
    import torch

    assert 1e8 < matmul.flops_per_second(torch.device("cpu"), "fp32") < 1e14


@pytest.mark.parametrize(
    ("seconds", "asked", "best", "said"),
    [
        ({1: 0.9, 2: 0.5}, None, 2, "as fast as it gets"),
        ({1: 0.3, 2: 0.5}, None, 1, "faster with training.threads: 1"),
        ({1: 0.9, 2: 0.5}, 1, 2, "faster with training.threads: null (all)"),
        ({1: 0.505, 2: 0.5}, 1, 1, "as fast as it gets"),
        ({1: 0.505, 2: 0.5}, None, 2, "as fast as it gets"),
        ({1: 0.9, 4: 0.3, 8: 0.5}, None, 4, "faster with training.threads: 4"),
    ],
)
def test_the_faster_number_of_threads_is_recommended(
    seconds: dict[int, float], asked: int | None, best: int, said: str
) -> None:
    found = threads.Threads(seconds, asked)
    assert found.best == best
    assert said in found.words()


def test_threads_are_tried_on_the_step_itself_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    used: list[int] = []
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    loop: Any = SimpleNamespace(
        config=SimpleNamespace(training=SimpleNamespace(threads=None)),
        place=SimpleNamespace(device=torch.device("cpu")),
        ranks=SimpleNamespace(seat=SimpleNamespace(size=1)),
        step=lambda: used.append(torch.get_num_threads()),
    )
    before = torch.get_num_threads()
    found = threads.compare(loop, 0.0)
    assert found is not None
    assert sorted(found.seconds) == [1, 3]
    assert used[:4] == [1, 3, 1, 3]
    assert torch.get_num_threads() == before
    loop.ranks.seat.size = 2
    assert threads.compare(loop, 0.0) is None
