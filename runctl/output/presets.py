"""Ready-made patterns for what training programs commonly print. Each reads one line: values by name, or None.

A line counts where it says a step, an epoch or a loss: a program prints many other numbers.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from runctl.light import pattern
from runctl.output.template import MOST_LETTERS, NUMBER, number, scaled

Values = dict[str, float | int]
BAR = "\0bar"  # among the values of a progress bar: which bar it is (its text), not a metric
SURE = "\0sure"  # 0: a bar beside the training; 1: perhaps the training; 2: surely
_STEP = {"step", "global_step", "iter", "iteration", "it", "update", "num_updates"}
_TOTAL = {"total_steps", "max_steps", "num_steps"}
_MOST_VALUES = 100
_PAIR = pattern(
    r"(?<![\w/.\-])(?:((?i:train|training|val|valid|validation|eval|test))[ \t]++)?([A-Za-z_][\w/\-]*+)"
    r"[ \t]*+(?:([=:])[ \t]*+)?\[?(" + NUMBER + r")(?![-:]\d)(?:[ \t]?/[ \t]?(\d{1,15})(?![\d/]))?"
)
_SAID_ALONE = pattern(r"(?i)(?:global_)?step|iter(?:ation)?|epoch|lr|ppl|perplexity|acc(?:uracy)?|\w*loss")
_QUOTED = pattern(r"'([^'\\]{1,100})':[ \t]?'?(" + NUMBER + r")'?(?=[,}])")
_BAR = pattern(r"%\|[^|]*\|[ \t]*+([\d.]++[kMGT]?)/([\d.]++[kMGT]?)[ \t]*+\[[\d:]++<([^,\]]{0,20})(?:,([^\]]*+))?\]?")
_OPEN_BAR = pattern(r"(?<![\w.])([\d.]++[kMGT]?)\w{0,8}[ \t]\[[\d:]{4,12},([^\]]*+)\]")
_BESIDE = pattern(
    r"(?i)\b(?:val|eval|test|infer|predict|generat|map|download|token|load|filter|prepar|extract|fetch|read|cach)"
)
_EPOCH = pattern(r"(?i)\bepochs?[ \t:#]*+(\d{1,6})(?:[ \t]?/[ \t]?(\d{1,6}))?")


def pairs(line: str) -> Values | None:
    """`step=100 loss=0.31`, `iter 100: train loss 2.31, lr 3e-4`, `Epoch 3/10 val_loss: 0.52`."""
    found = _pairs(line)
    return found if _counts(found) else None


def rows(line: str) -> Values | None:
    """A JSON object on a line: `{"step": 100, "train": {"loss": 0.31}}`."""
    text = line.strip()
    if not text.startswith("{") or not text.endswith("}"):
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found: Values = {}
    for key, value in list(data.items())[:_MOST_VALUES]:
        inner = list(value.items())[:_MOST_VALUES] if isinstance(value, dict) else [("", value)]
        for name, one in inner:
            if isinstance(one, int | float) and not isinstance(one, bool):
                _add(found, f"{key}/{name}" if name else key, one)
    return found if _counts(found) else None


def trainer(line: str) -> Values | None:
    """The Trainer of Hugging Face: `{'loss': 2.1, 'learning_rate': 5e-05, 'epoch': 0.5}`, and its bar."""
    text = line.strip()
    if not (text.startswith("{'") and text.endswith("}")):
        return bar(line)
    found: Values = {}
    for match in _QUOTED.finditer(text[:MOST_LETTERS]):
        _add(found, match[1], number(match[2]))
    return found or None


def bar(line: str) -> Values | None:
    """A bar of tqdm: ` 45%|████▌     | 450/1000 [00:10<00:12, 43.2it/s, loss=0.31]`."""
    match = _BAR.search(line[:MOST_LETTERS])
    if match is not None:
        found: Values = {"step": _whole(match[1]), "total_steps": _whole(match[2])}
        before, said = line[: match.start()].rpartition("\r")[2].rstrip(" 0123456789"), match[4] or ""
    else:
        match = _OPEN_BAR.search(line[:MOST_LETTERS])
        if match is None:
            return None
        found, before, said = {"step": _whole(match[1])}, line[: match.start()], match[2]
    if epoch := _EPOCH.search(before):
        found |= {"epoch": int(epoch[1]), **({"epochs": int(epoch[2])} if epoch[2] else {})}
    for name, value in _pairs(said.partition(",")[2] if "/" in said.partition(",")[0] else said).items():
        found.setdefault(name, value)
    name = re.sub(r"\d+", "", before)
    sure = "epoch" in found or any(one.lower().endswith("loss") for one in found)
    return {**found, BAR: zlib.crc32(name.encode()), SURE: 2 if sure else 0 if _BESIDE.search(name) else 1}


def any_of(line: str) -> Values | None:
    """Whichever of the others reads the line."""
    return rows(line) or trainer(line) or pairs(line)


PRESETS: dict[str, Callable[[str], Values | None]] = {
    "auto": any_of,
    "key=value": pairs,
    "json": rows,
    "hf": trainer,
    "tqdm": bar,
}


def _pairs(line: str) -> Values:
    found: Values = {}
    for match in _PAIR.finditer(line[:MOST_LETTERS]):
        prefix, name, sign, text, total = match.groups()
        if not sign and not _SAID_ALONE.fullmatch(name):
            continue
        if len(found) >= _MOST_VALUES:
            break
        of_run = name.lower() in _STEP or name.lower() == "epoch"
        if prefix and not (of_run and prefix.lower().startswith("train")):
            name = f"{prefix}_{name}"
        _add(found, name, number(text))
        if total and (name.lower() in _STEP or name.lower() == "epoch"):
            _add(found, "epochs" if name.lower() == "epoch" else "total_steps", int(total))
    return found


def _add(found: Values, name: str, value: Any) -> None:
    """A value under the name that runctl has for it, where it has one; of two the first counts."""
    low = name.lower()
    name = "step" if low in _STEP else "total_steps" if low in _TOTAL else low if low in ("epoch", "loss") else name
    if isinstance(value, float) or value.bit_length() < 64:
        found.setdefault(name[:100], value)


def _counts(found: Values) -> bool:
    return any(name in ("step", "epoch") or name.lower().endswith("loss") for name in found)


def _whole(text: str) -> int:
    try:
        return round(scaled(text))
    except ValueError:  # 1.2.3
        return 0
