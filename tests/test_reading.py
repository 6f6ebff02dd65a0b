"""How a trainer gets at its windows: in which order, by which thread, and how much of the machine's memory it takes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_job
import torch
from test_loop import place, rows, run_tiny
from test_resume_worldmodel import config as small

from runctl import record
from runctl.tasks.worldmodel import baselines, dataset, task
from runctl.train import gather as gathers
from runctl.train import loop, mapped, order
from runctl.train.gather import Gather
from runctl.train.order import Order
from runctl.train.reader import Reader
from runctl.train.schedule import Plan

CPU = torch.device("cpu")
MANY = 18_800_000


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def plan(windows: int, size: int) -> Plan:
    per_epoch = -(-windows // size)
    return Plan(windows, size, per_epoch, 3 * per_epoch)


@pytest.mark.parametrize("windows", [2, 3, 101, 1024, 20_011])
def test_a_computed_order_reads_every_window_once_an_epoch_and_another_way_each_time(
    windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "LISTED", 0)
    monkeypatch.setattr(order, "SPAN", 64)
    one = plan(windows, 37)
    unbroken = Order(one, seed=5)
    assert unbroken.way == "computed"
    steps = [unbroken.windows(step) for step in range(one.total_steps)]
    for epoch in range(3):
        read = torch.cat(steps[epoch * one.steps_per_epoch : (epoch + 1) * one.steps_per_epoch])
        assert torch.equal(read.sort().values, torch.arange(windows))
    late = one.total_steps - 1
    assert torch.equal(Order(one, seed=5).windows(late), steps[late]), "the place alone decides, as a resume needs it"
    if windows > 100:
        assert not torch.equal(steps[0], steps[one.steps_per_epoch])
        assert not torch.equal(Order(one, seed=6).windows(0), steps[0])


def test_a_computed_order_leaves_no_trace_of_the_windows_own() -> None:
    """Every part of an epoch holds windows from everywhere, and neighbours have nothing to do with each other."""
    read = order.Computed(1, 0, 2_000_003)[0:200_000].double() / 2_000_003
    counts = torch.histc(read, 50, 0.0, 1.0)
    assert ((counts - 4000).square() / 4000).sum() < 95  # chi-square, 49 degrees of freedom: one in ten thousand
    for lag in (1, 2, 7):
        assert abs(np.corrcoef(read[:-lag], read[lag:])[0, 1]) < 0.01


def test_an_epoch_of_eighteen_million_windows_is_no_list() -> None:
    one = Order(plan(MANY, 4096), seed=0)
    tracemalloc.start()
    seen = torch.cat([one.windows(step) for step in (*range(50), 2000, 4589, 4590, 9000)])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 << 20
    assert one._windows.windows == MANY
    assert len(seen[: 50 * 4096].unique()) == 50 * 4096
    assert seen.max() < MANY


def stopped(folder: Path, at: int) -> None:
    """A tiny run that is asked to stop in its step `at`."""
    torch.manual_seed(0)
    config, job = tiny_job.config(), tiny_job.TinyJob()
    there, loss = place(record.RunDir(folder), config), job.loss

    def asked(*given: Any, **facts: Any) -> Any:
        if job.batches == at - 1:
            there.control._on_stop(15, None)
        return loss(*given, **facts)

    job.loss = asked  # type: ignore[method-assign]
    assert loop.train(job, config, there).step == at


def test_a_run_goes_on_in_the_order_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that was before orders were computed: such a checkpoint does not say which it was."""
    losses = {}
    for limit, name in ((10**6, "listed"), (10, "computed")):
        monkeypatch.setattr(order, "LISTED", limit)
        run_tiny(tmp_path / name)
        losses[name] = rows(tmp_path / name, "train/loss")
        stopped(tmp_path / f"{name}-cut", 19)
    assert losses["listed"] != losses["computed"]
    for limit, name in ((10, "listed"), (10**6, "computed")):  # as another version would decide
        monkeypatch.setattr(order, "LISTED", limit)
        run_tiny(tmp_path / f"{name}-cut", attempt=2)
        assert rows(tmp_path / f"{name}-cut", "train/loss")[40] == losses[name][40]
    old = Order(plan(1000, 10), seed=1)
    old.go_on(None)
    assert torch.equal(old.windows(0), order.permutation(1, 0, 1000)[:10])


def stored(tmp_path: Path, count: int, width: int = 12) -> Any:
    path = tmp_path / "frames.bin"
    np.random.default_rng(0).integers(0, 256, (count, width), np.uint8).tofile(path)
    return np.memmap(path, np.uint8, "r", shape=(count, width))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


def test_what_is_read_ahead_is_what_would_have_been_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SHARE", 0.0)
    records = stored(tmp_path, 400)
    gather = Gather(records, 9, CPU)
    batches = [torch.randperm(390)[:size] for size in (64, 64, 64, 17, 64, 64)]
    for turn, (now, then) in enumerate(pairwise(batches)):
        found = gather(now)
        told = batches[0] if turn == 2 else then  # once something else is asked for than was told
        gather.ahead(told)
        assert all(
            np.array_equal(row, records[first : first + 9])
            for row, first in zip(found.numpy(), now.tolist(), strict=True)
        ), "a batch must stay as it is while the next one is read"
    assert len(readers()) == 1
    gather.ahead(torch.tensor([391, 395]))
    with pytest.raises(IndexError):
        gather(torch.tensor([391, 395]))
    gather.close()
    assert readers() == []


def test_no_thread_outlives_what_it_reads_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "SHARE", 0.0)
    gather = Gather(stored(tmp_path, 400), 9, CPU)
    gather.ahead(torch.arange(8))
    (thread,) = readers()
    del gather
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    idle = Reader()
    idle.close()
    idle.close()


def test_a_dataset_that_stays_in_memory_gets_no_thread_and_keeps_its_pages(tmp_path: Path) -> None:
    gather = Gather(stored(tmp_path, 400), 9, CPU)
    gather.ahead(torch.arange(8))
    assert readers() == []
    assert not gather.map.large


def trained(folder: Path) -> dict[tuple[int, str], Any]:
    chosen = small(30)
    run = record.RunDir(folder)
    torch.manual_seed(4)
    job = task.build(chosen, project=folder, run=run, device=CPU, report=lambda _: None)
    loop.train(job, chosen, place(run, chosen))
    assert readers() == []
    return {
        (row["step"], name): value
        for row in record.read_lines(run.metrics)
        for name, value in row.items()
        if name.startswith(("train/", "val/", "baseline/"))
    }


def test_reading_ahead_changes_nothing_and_leaves_no_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The world model with two passes a step, an epoch's end and validations in between."""
    plain = trained(tmp_path / "plain")
    monkeypatch.setattr(mapped, "SHARE", 0.0)
    calls = []
    monkeypatch.setattr(gathers.Reader, "begin", lambda self, work: calls.append(1) or self._asked.put(work))
    assert trained(tmp_path / "ahead") == plain
    assert len(calls) > 60


def test_the_first_step_does_not_wait_for_the_count_of_the_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted, fit = threading.Event(), baselines.fit

    def slow(*given: Any) -> baselines.Lookup:
        assert counted.wait(20)
        return fit(*given)

    monkeypatch.setattr(baselines, "fit", slow)
    chosen, said = small(30), []
    job = task.build(chosen, project=tmp_path, run=record.RunDir(tmp_path), device=CPU, report=said.append)
    job.rehearsal().update(job.batch(torch.arange(4), validation=True))
    threading.Timer(0.4, counted.set).start()
    job.metrics()
    assert said[-1] == "counting the lookup baseline"
    assert len(job._lookup.keys)


def test_a_lookup_of_a_huge_dataset_is_counted_in_games_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "MOST_FRAMES", 1000)
    games = [(100 * number, 100) for number in range(95)]
    chosen = baselines.some(games)
    assert 9 <= len(chosen) <= 11
    assert chosen[0][0] < 500
    assert chosen[-1][0] > 8000
    assert baselines.some(games[:10]) == games[:10]


SPARSE = """
import json, sys
from pathlib import Path
import torch
from runctl.tasks.worldmodel import dataset
from runctl.train.order import Order
from runctl.train.schedule import Plan
from runctl.train import mapped
from runctl.train.gather import Gather

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines if line.startswith(("Rss", "VmRSS"))}

torch.set_num_threads(1)
mapped.SHARE = (64 << 20) / mapped.machine.memory_bytes()  # 64 MiB
before, most = held(), 0
data = dataset.open(sys.argv[1])
training, _ = dataset.split(data.games, 0.9)
windows = dataset.Windows(data.games, training, 10)
steps = -(-len(windows) // 512)
order = Order(Plan(len(windows), 512, steps, steps), seed=1)
gather = Gather(data.records, 11, torch.device("cpu"))
first = last = None
for step in range(200):
    chosen = torch.from_numpy(windows[order.windows(step).numpy()])
    total = int(gather(chosen).sum())
    assert total == 0
    gather.ahead(torch.from_numpy(windows[order.windows(step + 1).numpy()]))
    first = min(first or 1 << 60, int(chosen.min()))
    last = max(last or 0, int(chosen.max()))
    most = max(most, held()["VmRSS"] - before["VmRSS"])
gather.close()
print(json.dumps({"windows": len(windows), "first": first, "last": last, "most": most, "frames": len(data.records)}))
"""


@pytest.mark.slow
def test_four_hundred_gigabytes_are_read_in_bounded_memory(tmp_path: Path) -> None:
    """A file with nothing in it but its size, and a manifest of 260,000 games: 200 batches from everywhere."""
    games, frames = 263_000, 10_000
    layout = small(1).encoding
    made = task.encodings.columns(layout)
    size = games * frames * made.record_bytes
    assert size > 400e9
    try:
        with (tmp_path / dataset.FRAMES).open("wb") as file:
            file.truncate(size)
    except OSError as error:
        pytest.skip(f"this file system takes no sparse file of 400 GB: {error.strerror}")
    if (tmp_path / dataset.FRAMES).stat().st_blocks * 512 > 1 << 30:
        pytest.skip("this file system gives a sparse file real blocks")
    listed = [
        {"identity": f"g{number}", "start": number * frames, "frames": frames, "source": f"{number}", "sha256": ""}
        for number in range(games)
    ]
    manifest = {"schema_version": dataset.SCHEMA_VERSION, "kind": dataset.KIND, "simulated": True, "games": listed}
    manifest |= {"encoding": task.encodings.dataset_keys(layout), "layout": made.to_manifest()}
    manifest |= {"encoding_digest": task.encodings.dataset_digest(layout), "frames": games * frames}
    record.write_json(tmp_path / dataset.MANIFEST, manifest)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SPARSE, str(tmp_path)], capture_output=True, text=True, env=env, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["frames"] == games * frames
    assert found["windows"] > 2.3e9
    assert found["first"] < 0.001 * found["frames"]
    assert found["last"] > 0.999 * found["frames"]
    assert found["most"] < 400 << 20, "the list of the games, and no more of the frames than 64 MiB at a time"
    assert time.monotonic() - began < 120
