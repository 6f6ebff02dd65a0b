"""Window gather against a per-sample Dataset + DataLoader and against a plain copy of the same bytes.

    python benchmarks/gather.py [--frames 600000] [--rounds 7] [--json FILE]

Each round runs every contender once, in turn, so that drift of the machine hits all alike; medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import machine, passive, write
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from runctl.train.gather import Gather

RECORD_BYTES = 152


class PerSample(Dataset[Tensor]):
    """As lean as one Python call a sample can be: a slice of the same array."""

    def __init__(self, records: Tensor, length: int, starts: list[int]) -> None:
        self.records, self.length, self.starts = records, length, starts

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> Tensor:
        start = self.starts[index]
        return self.records[start : start + self.length]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=600_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write what was found there")
    options = parser.parse_args()
    passive()
    found: dict[str, Any] = {"machine": machine(), "shapes": {}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.bin"
        np.random.default_rng(0).integers(0, 256, (options.frames, RECORD_BYTES), np.uint8).tofile(path)
        records = np.memmap(path, np.uint8, "c", shape=(options.frames, RECORD_BYTES))
        print(f"{torch.get_num_threads()} threads, {options.frames:,} frames of {RECORD_BYTES} bytes, memory-mapped")
        for context, batch in ((10, 4096), (60, 512)):
            found["shapes"][f"K={context}, batch {batch}"] = compare(records, context + 1, batch, options.rounds)
    write(options.json, found)


def compare(records: np.ndarray, length: int, batch: int, rounds: int) -> dict[str, float]:
    windows = len(records) - length + 1
    contenders = {
        "gather": gather(records, length, batch),
        "copy of the same bytes": copy(records.shape[1] * length, batch),
        "DataLoader, 0 workers": loader(records, length, batch, 0, calls=2),
        "DataLoader, 2 workers": loader(records, length, batch, 2, calls=12),
    }
    measured: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, contender in contenders.items():
            rate = contender(windows, turn)
            if turn:  # the first round warms up
                measured[name].append(rate)
    medians = {name: statistics.median(rates) for name, rates in measured.items()}
    print(f"\nK={length - 1}, batch {batch}: windows/s (median of {rounds}; gather ÷ this one)")
    for name, rate in medians.items():
        print(f"  {name:<24}{rate:>14,.0f}   {medians['gather'] / rate:6.2f}")
    return {name: round(rate) for name, rate in medians.items()}


Contender = Callable[[int, int], float]


def gather(records: np.ndarray, length: int, batch: int, calls: int = 40) -> Contender:
    fetch = Gather(records, length, torch.device("cpu"))

    def run(windows: int, seed: int) -> float:
        order = torch.randperm(windows, generator=torch.Generator().manual_seed(seed)).repeat(
            calls * batch // windows + 1
        )
        began = time.perf_counter()
        for call in range(calls):
            fetch(order[call * batch : (call + 1) * batch])
        return calls * batch / (time.perf_counter() - began)

    return run


def copy(window_bytes: int, batch: int, calls: int = 40) -> Contender:
    source = torch.randint(0, 256, (calls // 4, batch, window_bytes), dtype=torch.uint8)
    target = torch.empty(batch, window_bytes, dtype=torch.uint8)

    def run(windows: int, seed: int) -> float:
        began = time.perf_counter()
        for call in range(calls):
            target.copy_(source[call % len(source)])
        return calls * batch / (time.perf_counter() - began)

    return run


def loader(records: np.ndarray, length: int, batch: int, workers: int, calls: int) -> Contender:
    data = torch.from_numpy(records)

    def run(windows: int, seed: int) -> float:
        order = torch.randperm(windows, generator=torch.Generator().manual_seed(seed)).repeat(
            calls * batch // windows + 1
        )
        samples = PerSample(data, length, order[: calls * batch].tolist())
        batches = iter(DataLoader(samples, batch_size=batch, num_workers=workers))
        skipped = 2 if workers else 0  # the start of the worker processes is not counted
        for _ in range(skipped):
            next(batches)
        began = time.perf_counter()
        counted = sum(1 for _ in batches)
        return counted * batch / (time.perf_counter() - began)

    return run


if __name__ == "__main__":
    main()
