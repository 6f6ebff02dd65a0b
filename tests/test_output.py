"""What is read from a program's output: patterns, the ready-made ones, what they add up to, and `runctl patterns`."""

from __future__ import annotations

import json
import math
import random
import string
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runctl import config as configs
from runctl.errors import ConfigError
from runctl.output import presets, reader, template

ROOT = Path(__file__).parent.parent
OWN = ("step {step}/{total_steps} | loss {loss}", "{_}loss {loss}", "{a} x {_} y {b:int}", "{mem:bytes} of", "{x}")


@pytest.mark.parametrize(
    ("pattern", "line", "values"),
    [
        (
            OWN[0],
            "12:01 step   1,200/10,000 |  loss 3.1e-2 (best)",
            {"step": 1200, "total_steps": 10000, "loss": 0.031},
        ),
        (OWN[0], "step 1.5/2 | loss 3", None),
        ("acc {acc:percent} at {rate:count} tok/s", "acc 45.5 % at 1.2k tok/s", {"acc": 0.455, "rate": 1200}),
        ("peak {memory_bytes:bytes}", "peak 1.5GiB", {"memory_bytes": 1.5 * 2**30}),
        ("{{{n:int}}}", "{7}", {"n": 7}),
        ("{_} done {n:int}", "all 3 done 4", {"n": 4}),
        ("{x}", "-.5", {"x": -0.5}),
        ("{x}", "about 0.5", None),
        ("auto", "iter 100: loss 2.3456, time 23.10ms, mfu 3.10%", {"step": 100, "loss": 2.3456}),
        ("auto", "step 250: train loss 2.1, val loss 2.2", {"step": 250, "train_loss": 2.1, "val_loss": 2.2}),
        (
            "auto",
            "Epoch [3/10], Step [100/500], Loss: 0.31",
            {"epoch": 3, "epochs": 10, "step": 100, "total_steps": 500, "loss": 0.31},
        ),
        ("auto", "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300000", {"epoch": 1, "loss": 2.3}),
        (
            "auto",
            "{'loss': '2.1', 'learning_rate': 5e-05, 'epoch': 0.5}",
            {"loss": 2.1, "learning_rate": 5e-5, "epoch": 0.5},
        ),
        ("auto", '{"global_step": 3, "train": {"loss": 1.5, "ok": true}}', {"step": 3, "train/loss": 1.5}),
        (
            "auto",
            "\x1b[32mEpoch 2/3\x1b[0m:  45%|████▌     | 450/1000 [00:10<00:12, 43.2it/s, loss=0.31]",
            {"step": 450, "total_steps": 1000, "epoch": 2, "epochs": 3, "loss": 0.31},
        ),
        ("auto", "using batch=32 lr=0.1 on 2 GPUs", None),
        ("auto", "2026-11-21 17:00:01 version: 2.13.0", None),
        ("json", "step=3 loss=1", None),
    ],
)
def test_a_line_gives_the_values_that_it_shows(pattern: str, line: str, values: dict[str, float] | None) -> None:
    row = reader.Reader([pattern]).line(line)
    assert (row.values if row else None) == values


def test_what_is_not_finite_is_null_and_named_in_its_row() -> None:
    row = reader.Reader(["key=value"]).line("step=5 loss=nan acc=inf lr=0.1")
    assert row is not None
    assert row.to_json(2, 9.0) == {
        "step": 5,
        "attempt": 2,
        "time": 9.0,
        "source": "output",
        "loss": None,
        "acc": None,
        "lr": 0.1,
        "nonfinite": ["loss", "acc"],
    }


def test_bars_of_epochs_add_up_and_a_bar_beside_them_says_nothing_of_the_steps() -> None:
    made, steps = reader.Reader(["tqdm"]), []
    made.line("Tokenizing: 100%|###| 9000/9000 [00:01<00:00, 9000.0it/s]")
    for epoch in (1, 2, 3):
        for done in (1, 60, 100):
            made.line(f"Epoch {epoch}/3: {done}%|##  | {done}/100 [00:10<00:12, 43.2it/s, loss=0.3]")
            steps.append(made.step)
        made.line("Validating: 30%|##  | 3/10 [00:10<00:12, 43.2it/s]")
    assert steps == [1, 60, 100, 101, 160, 200, 201, 260, 300]
    assert (made.total_steps, made.epoch) == (300, 3)


def test_a_program_that_counts_only_epochs_has_them_for_steps() -> None:
    made = reader.Reader(["key=value"])
    made.line("Epoch 3/10 val_loss: 0.52")
    assert (made.step, made.total_steps) == (3, 10)


@pytest.mark.parametrize("pattern", [*presets.PRESETS, *OWN])
def test_no_line_takes_long(pattern: str) -> None:
    """Lines made to make matching go back and forth, ten times as long as what is looked at."""
    chance = random.Random(1)
    seeds = [
        "1",
        "a ",
        "loss ",
        "step=1",
        "step 1/1 | loss ",
        "|1/1 [1<",
        "%|",
        "{'a': ",
        "train ",
        "nan",
        "1,",
        " ",
        "x y ",
        "=",
    ]
    lines = [(seed * 20_000)[:20_000] for seed in seeds]
    lines += ["".join(chance.choices(string.printable, k=20_000)) for _ in range(5)]
    made, begun = reader.Reader([pattern]), time.thread_time()
    for line in lines:
        made.line(line)
    assert time.thread_time() - begun < 0.02 * len(lines)


@pytest.mark.parametrize(
    ("pattern", "message", "hint"),
    [
        ("step {step loss", "a single '{'", "write it twice"),
        ("tdqm", "reads no value", "'tqdm'"),
        ("{a}{b}", "nothing stands between", "text that separates them"),
        ("a {loss:flot}", "unknown kind 'flot'", "'float'"),
        ("{loss} {loss}", "'loss' is there twice", "{_}"),
        ("x" * 600, "too long", "500"),
    ],
)
def test_a_pattern_that_cannot_be_is_refused_where_it_stands(
    tmp_path: Path, pattern: str, message: str, hint: str
) -> None:
    path = tmp_path / "a.yaml"
    patterns = json.dumps(["auto", pattern])
    path.write_text(f"task: command\ncommand:\n  argv: [x]\n  progress: {patterns}\n")
    with pytest.raises(ConfigError) as caught:
        configs.load(path)
    (problem,) = caught.value.problems
    assert (problem.line, problem.column) == (4, 22)
    assert message in problem.message
    assert hint in str(problem.hint)


def test_patterns_are_tried_on_what_a_program_printed(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("loading 48 games\nstep 10/100 | loss 2.31\rstep 20/100 | loss 1.5\nval 3 done\n")
    argv = [sys.executable, "-m", "runctl", "patterns", "--log", str(log), "-p", OWN[0]]
    done = subprocess.run([*argv, "--json"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert [(row["line"], row["values"]["loss"]) for row in found["read"]] == [(2, 2.31), (3, 1.5)]
    assert [row["text"] for row in found["not_read"]] == ["loading 48 games", "val 3 done"]
    assert (found["end"]["step"], found["end"]["total_steps"]) == (20, 100)
    done = subprocess.run(
        [*argv[:-1], "{nothing} here"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "0 of 4 lines read" in done.stderr


def test_numbers_are_read_as_programs_print_them() -> None:
    assert [template.number(text) for text in ("1,234", "+3", "1e-4", "2.")] == [1234, 3, 1e-4, 2.0]
    assert math.isinf(template.number("9" * 400))
    assert template.scaled("78.3M") == 78_300_000
