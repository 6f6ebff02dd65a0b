"""Why a run ended: real ends of real processes, each with its class, its place in the code and what is saved."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, pids, supervised, until
from test_filling import small_disk  # noqa: F401 - a fixture
from test_launch import runctl

from runctl import record, stop, why

ENDED = ("succeeded", "failed", "stopped", "killed")
DATA = """
rows = [{"input_ids": [1], "labels": [2]}, {"input_ids": [3]}]
def collate(batch):
    return [row["labels"] for row in batch]
print("epoch 1")
collate(rows)
"""
WORKER = """
from torch.utils.data import DataLoader, Dataset
class Shards(Dataset):
    def __len__(self):
        return 8
    def __getitem__(self, index):
        raise ValueError("cannot parse record 5 of shard 3")
if __name__ == "__main__":
    next(iter(DataLoader(Shards(), num_workers=1)))
"""
NAN = """
import runctl
for step, loss in enumerate([2.3, 2.1, 4.8, 31.0, float("nan")], 1):
    runctl.report(step=step, total_steps=9, metrics={"train/loss": loss})
raise FloatingPointError("loss is nan at step 5")
"""
MEMORY = """
import resource, runctl
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
runctl.report(step=1, total_steps=9, memory_bytes=900 << 20)
kept = [bytearray(100 << 20) for _ in range(100)]
"""
ARGUMENTS = """
import argparse
parser = argparse.ArgumentParser(prog="train.py")
parser.add_argument("--lr", type=float)
parser.parse_args(["--lr", "fast"])
"""
HANGS = """
import threading, time, runctl
for step in range(1, 4):
    runctl.report(step=step, total_steps=9)
    time.sleep(0.1)
print("waiting for the other rank", flush=True)
threading.Event().wait()
"""
FILLS = "file = open('runs/run/fill', 'wb', buffering=0)\nwhile True: file.write(bytes(4096))\n"
GOES_ON = "import time\nwhile True: time.sleep(0.1)\n"


def program(project: Path, script: str, **compute: Any) -> record.RunDir:
    (project / "train.py").write_text(script.lstrip("\n"))
    run = make(project, task="command", command={"argv": ["x"]}, compute=compute)
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, str(project / "train.py")]})
    return run


def explained(run: record.RunDir, grace: float = 5.0) -> why.Why:
    with supervised(run, grace=grace):
        until(run, in_state(*ENDED))
    return why.explain(run)


@pytest.mark.parametrize(
    ("script", "kind", "cause", "where", "step"),
    [
        (DATA, "user_error", "did not expect a record of its data", 'train.py:3 in <listcomp>: return [row["lab', None),
        (WORKER, "user_error", "did not expect a record of its data", "train.py:6 in __getitem__: raise Value", None),
        ("import flash_attn_of_old\n", "user_error", "a module is missing", "train.py:1 in <module>", None),
        ("import json\njson.loads('{')\n", "data", "is damaged", "train.py:2 in <module>: json.loads", None),
        (ARGUMENTS, "user_error", "the arguments or the config are wrong", "", None),
        (MEMORY, "out_of_memory", "the machine's memory is full", "train.py:4 in ", 1),
        (
            NAN.replace(', float("nan")', ""),
            "nan",
            "is no finite number",
            'train.py:4 in <module>: raise FloatingPointError("loss',
            4,
        ),
    ],
    ids=["KeyError in data", "loader worker", "import", "library", "arguments", "memory", "nan"],
)
def test_a_program_that_raised_is_explained_with_the_line_that_did(
    tmp_path: Path, script: str, kind: str, cause: str, where: str, step: int | None
) -> None:
    found = explained(program(tmp_path, script))
    assert found.failure is not None
    assert (found.state, found.failure.kind, found.step) == ("failed", kind, step)
    assert cause in found.failure.cause
    assert found.where.startswith(where)
    assert found.failure.advice
    assert found.saved == "no checkpoint of it is known: a resume starts the program again"
    assert not [line for line in found.failure.evidence if line.endswith(tuple(script.strip().splitlines()))]


def test_what_was_measured_last_speaks_for_a_class(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    found = explained(program(tmp_path / "a", NAN))
    losses = "train/loss: 2.3 at step 1, 2.1 at step 2, 4.8 at step 3, 31 at step 4, not finite at step 5"
    assert found.measured == (losses,)
    (tmp_path / "b").mkdir()
    found = explained(program(tmp_path / "b", MEMORY))
    assert found.measured == ("memory at its last heartbeat: 900 MiB",)


def test_a_kill_from_outside_a_stop_and_a_limit_are_told_apart(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    run = make(tmp_path / "a", "--steps", 100_000, "--checkpoint-every", 7)
    with supervised(run):
        until(run, lambda found: found.checkpoint_step is not None)
        os.kill(pids(run)[1], signal.SIGKILL)
        until(run, in_state(*ENDED))
    found = why.explain(run)
    assert found.failure is not None
    assert (found.failure.kind, found.failure.cause) == ("infrastructure", "killed from outside")
    assert found.reason == "signal 9 (SIGKILL): killed from outside"
    assert found.saved.startswith("checkpoint of step ")
    assert f"runctl resume {run.name}" in found.commands
    run = program(tmp_path / "b", GOES_ON, timeout=1.0)
    found = explained(run, grace=1.0)
    assert found.failure is not None
    assert (found.failure.kind, found.state) == ("limit", "failed")
    run = program(tmp_path / "c", GOES_ON)
    with supervised(run):
        until(run, in_state("running"))
        stop.stop(run)
    found = why.explain(run)
    assert (found.state, found.failure) == ("stopped", None)
    assert found.commands[-1] == f"runctl resume {run.name}"


def test_a_hang_is_explained_by_where_it_stood(tmp_path: Path) -> None:
    found = explained(program(tmp_path, HANGS, hang_after=1.0), grace=0.5)
    assert found.failure is not None
    assert found.failure.kind == "hang"
    assert any("train.py" in line for line in found.stacks)
    assert found.context[-1].text == "waiting for the other rank"


def test_a_full_disk_is_explained(small_disk: Path) -> None:  # noqa: F811
    run = make(small_disk, task="command", command={"argv": ["x"]})
    record.write_json(run.run, record.read_json(run.run) | {"command": [sys.executable, "-c", FILLS]})
    found = explained(run)
    assert found.failure is not None
    assert found.failure.cause == "no space left on the disk"
    assert "runctl prune" in found.failure.advice


@pytest.fixture
def little_memory() -> Iterator[Path]:
    """A cgroup of 60 MiB."""
    for root in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        place, limit = root / f"runctl-test-{os.getpid()}", "memory.max"
        try:
            place.mkdir()
            limit = "memory.limit_in_bytes" if (place / "memory.limit_in_bytes").exists() else limit
            (place / limit).write_text("60M")
        except OSError:
            if place.is_dir():
                place.rmdir()
            continue
        yield place
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                place.rmdir()
                return
            except OSError:
                time.sleep(0.1)
        return
    pytest.skip("needs the right to make a memory cgroup")


def test_the_kernels_own_kill_for_lack_of_memory_is_told_from_any_other(tmp_path: Path, little_memory: Path) -> None:
    script = (
        f"import os\nopen({str(little_memory / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "kept = [os.urandom(10 << 20) for _ in range(50)]\n"
    )
    found = explained(program(tmp_path, script))
    assert found.failure is not None
    assert found.failure.kind == "out_of_memory"
    assert found.failure.evidence[0] == "SIGKILL, and the kernel killed a process for lack of memory meanwhile"


def test_a_persons_page_has_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    run = program(tmp_path, DATA)
    explained(run)
    page = runctl("why", "run").stdout
    heads = ["class       user error", "cause  ", "where       train.py:3", "what to do  look at the record", "saved  "]
    assert all(head in page for head in heads), page
    said: dict[str, Any] = json.loads(runctl("why", "run", "--json").stdout)
    assert said["where"].startswith("train.py:3")
    assert said["saved"]
    assert "RUN" not in page.replace("runctl", "")


def test_the_bars_before_an_error_are_shown_as_they_ended(tmp_path: Path) -> None:
    bars = "".join(f"\\r{number}%" for number in range(100))
    found = explained(program(tmp_path, f"print('{bars}')\nraise KeyError('x')\n"))
    assert found.context[0].text == "99%"
