from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from runctl.train.gather import Gather
from runctl.train.order import Order, permutation
from runctl.train.schedule import Plan

CPU = torch.device("cpu")


def records(tmp_path: Path, count: int, width: int = 12) -> np.ndarray:
    path = tmp_path / "frames.bin"
    np.random.default_rng(0).integers(0, 256, (count, width), np.uint8).tofile(path)
    return np.memmap(path, np.uint8, "r", shape=(count, width))


def test_a_batch_holds_the_records_that_follow_each_start(tmp_path: Path) -> None:
    stored = records(tmp_path, 50)
    starts = torch.tensor([0, 41, 7, 7, 20])
    batch = Gather(stored, 9, CPU)(starts)
    assert batch.shape == (5, 9, 12)
    assert batch.dtype == torch.uint8
    for row, start in zip(batch, starts.tolist(), strict=True):
        assert np.array_equal(row.numpy(), stored[start : start + 9])


def test_the_buffer_is_kept_and_a_shorter_last_batch_fits_in_it(tmp_path: Path) -> None:
    stored = records(tmp_path, 50)
    gather = Gather(stored, 3, CPU)
    first = gather(torch.arange(8))
    second = gather(torch.arange(5) + 1)
    assert second.data_ptr() == first.data_ptr()
    assert np.array_equal(second[4].numpy(), stored[5:8])


def test_a_start_beyond_the_last_window_is_refused(tmp_path: Path) -> None:
    gather = Gather(records(tmp_path, 50), 9, CPU)
    with pytest.raises(IndexError):
        gather(torch.tensor([42]))


def test_too_few_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="8 records of 12 bytes hold no window of 9"):
        Gather(records(tmp_path, 8), 9, CPU)


def test_opening_copies_nothing(tmp_path: Path) -> None:
    stored = records(tmp_path, 50)
    gather = Gather(stored, 9, CPU)
    assert gather._view.data_ptr() == stored.ctypes.data


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_cuda_gathers_the_same_windows_resident_or_through_pinned_buffers(
    tmp_path: Path, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runctl.train.gather.RESIDENT_SHARE", share)
    stored = records(tmp_path, 500)
    gather = Gather(stored, 9, torch.device("cuda", 0))
    assert gather.resident == (share > 0)
    kept = [gather(torch.arange(100) + shift).clone() for shift in (0, 30, 60, 90)]
    for shift, batch in zip((0, 30, 60, 90), kept, strict=True):
        assert np.array_equal(batch[7].cpu().numpy(), stored[shift + 7 : shift + 16])


def test_an_epoch_reads_every_window_once_and_another_order_the_next_time() -> None:
    plan = Plan(windows=103, step_windows=10, steps_per_epoch=11, total_steps=22)
    order = Order(plan, seed=5)
    epochs = [torch.cat([order.windows(step) for step in range(first, first + 11)]) for first in (0, 11)]
    for epoch in epochs:
        assert torch.equal(epoch.sort().values, torch.arange(103))
    assert not torch.equal(*epochs)
    assert len(order.windows(10)) == 3


def test_the_order_from_the_middle_is_the_order_from_the_start() -> None:
    plan = Plan(windows=103, step_windows=10, steps_per_epoch=11, total_steps=33)
    unbroken = Order(plan, seed=5)
    read = [unbroken.windows(step) for step in range(33)]
    assert torch.equal(Order(plan, seed=5).windows(17), read[17])
    assert not torch.equal(Order(plan, seed=6).windows(17), read[17])


def test_the_order_is_the_same_on_every_machine() -> None:
    assert permutation(0, 0, 10).tolist() == permutation(0, 0, 10).tolist()
    assert permutation(0, 0, 10).tolist() != permutation(0, 1, 10).tolist()
