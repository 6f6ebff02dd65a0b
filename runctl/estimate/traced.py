"""Peak memory from traces that were made before: the shipped polynomials of `data/memory.json`, without torch.

A trace (`estimate/trace.py`) runs the training step on tensors without data and follows every storage. The size of
each storage is a product of the shape's dimensions, so what is held at a moment of the step is a polynomial in
them, affine in the number of layers. `python -m runctl.estimate.generate` traces every form that a step can take
(`form`), keeps the moments that are the highest for some shape, and writes their polynomials; the peak is the
largest of them. Steps that predict after every frame (`training.targets: all`) have a file of their own. The numbers
are bytes of tensors: what an allocator adds is the business of `estimate/memory.py`.

A polynomial is written as text, `4 B K D + 8 B`. A moment is its phase and, for each category, the numbers of two
polynomials, of which the second counts for every layer but the last (that one is computed at its last position only):
`backward 1: 0 1, 2 3, , 40 41`. The moments of one form alone are taken apart: preflight needs no more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, lru_cache
from math import prod
from pathlib import Path
from typing import Any, Literal

from runctl.config.model import Encoding, Model
from runctl.estimate import parameters
from runctl.light import dataclass
from runctl.tasks.worldmodel import encoding as encodings

FILE = Path(__file__).parents[1] / "data" / "memory.json"
EVERY = FILE.with_name("memory-every.json")  # of steps with `training.targets: all`
PART = 8_192  # windows that the trainer measures the scales on at a time, before it trains
STEP = ("pass", "backward", "optimizer")  # the phases of training alone
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Shape:
    """All that the memory of a step depends on. `corrupt` is the number of frames that scheduled sampling changes,
    0 for none; `windows` that of the training windows, if it is known; `recompute` stands for activation
    checkpointing, `every` for `training.targets: all`. `kernel` is `training.kernel`: only the eager path is traced."""

    encoding: Encoding
    model: Model
    batch: int
    precision: str
    accumulation: int = 1
    corrupt: int = 0
    windows: int | None = None
    recompute: bool = False
    every: bool = False
    kernel: str = "auto"


@dataclass(frozen=True)
class Peak:
    """Bytes of tensors at the highest moment, by category; `phase` says when that is."""

    total: int
    parts: Mapping[str, int]
    phase: str


@lru_cache(maxsize=1024)
@lru_cache(maxsize=4096)
def peak(shape: Shape, device: Device, phases: tuple[str, ...] = ()) -> Peak:
    """The highest moment of all, or of the phases that begin with one of `phases`.

    Raises ValueError for a shape that no model has (heads that do not divide), and for a form without a trace."""
    sizes = atoms(shape)
    layers = shape.model.n_layers - 1
    values: dict[int, int] = {}

    def value(polynomial: int) -> int:
        if polynomial not in values:
            values[polynomial] = _value(polynomial, shape.every, sizes)
        return values[polynomial]

    best = Peak(0, {}, "")
    for phase, moment in _moments(form(shape, device), shape.every):
        if phase.endswith("2") and shape.accumulation == 1:
            continue
        if phases and not phase.startswith(phases):
            continue
        parts = {name: value(fixed) + layers * value(each) for name, fixed, each in moment}
        if (total := sum(parts.values())) > best.total:
            best = Peak(total, parts, phase)
    return best


def outside(shape: Shape) -> list[str]:
    """What of the shape lies beyond what the traces were checked for; empty if nothing does."""
    model = shape.model
    limits = {
        "model.d_conv": (model.d_conv, 4, 4),
        "model.n_layers": (model.n_layers, 2, 1_000),
        "model.context_len": (model.context_len, 4, 1_000_000),
    }
    found = [
        f"{key} is {value}, traced {f'with {low}' if low == high else f'from {low} to {high}'}"
        for key, (value, low, high) in limits.items()
        if not low <= value <= high
    ]
    if shape.kernel not in ("auto", "eager"):
        found.append(f"training.kernel is {shape.kernel}, whose memory was not measured: traced is the eager path")
    return found


def form(shape: Shape, device: Device) -> str:
    """Which operations the step has: the name of its polynomials."""
    return name_of(
        precision=shape.precision,
        scan=scan(shape.model),
        dropout=device if shape.model.dropout else "none",
        age=shape.encoding.state_age_as_embed,
        flags=shape.encoding.state_flags,
        corrupt=bool(shape.corrupt),
        recompute=shape.recompute,
    )


def scan(model: Model) -> str:
    """Which form of the scan runs: see `models/ssd.py`."""
    if model.context_len <= model.chunk_size:
        return "one chunk"
    return "filled chunks" if model.context_len % model.chunk_size else "chunks"


def name_of(*, precision: str, scan: str, dropout: str, age: bool, flags: bool, corrupt: bool, recompute: bool) -> str:
    words = [precision, scan, f"dropout {dropout}"]
    options = (("age ids", age), ("flags", flags), ("corrupt", corrupt), ("recomputed", recompute))
    return ", ".join([*words, *(word for word, on in options if on)])


def atoms(shape: Shape) -> dict[str, int]:
    """The dimensions that polynomials are made of. Raises ValueError where the heads do not divide."""
    encoding, model = shape.encoding, shape.model
    inner, channels, projected = parameters.widths(model)
    layout = encodings.columns(encoding)
    chunk = min(model.context_len, model.chunk_size)
    filled = -(-model.context_len // chunk) * chunk  # L, in whole chunks
    small = 28 if encoding.projectiles else 26
    numbers = len(layout.names("f32"))
    sizes = {
        "B": shape.batch,
        "K": model.context_len,
        "K+1": model.context_len + 1,
        "K+3": model.context_len + 3,  # the convolution sees three frames more
        "K-1": model.context_len - 1,
        "K-2": max(0, model.context_len - 2),
        "K-3": max(0, model.context_len - 3),
        "L-1": filled - 1,
        "L-2": max(0, filled - 2),
        "L-3": max(0, filled - 3),
        "L+3": filled + 3,
        "Q": model.chunk_size,
        "c": -(-model.context_len // model.chunk_size),
        "c-1": max(0, -(-model.context_len // model.chunk_size) - 1),
        "X": min(shape.corrupt, model.context_len),
        "S": min(PART, PART if shape.windows is None else shape.windows),
        "M": model.d_model,
        "D": inner,
        "H": inner // model.headdim,
        "P": model.headdim,
        "N": model.d_state,
        "C": channels,
        "J": projected,
        "J-D": projected - inner,
        "I": parameters.inputs(encoding),
        "F": parameters.floats(encoding),
        "f": numbers + small,
        "f32": numbers,
        "u8": small,
        "U": small + 12 + (3 if encoding.state_age_as_embed else 1) + 10 * encoding.state_flags,
        "R": layout.record_bytes // 4,
    }
    for name, (vocabulary, width) in parameters.tables(encoding).items():
        sizes[f"{name}#"], sizes[f"{name}:"] = vocabulary, width
    return sizes


@cache
def _moments(form: str, every: bool) -> list[tuple[str, list[tuple[str, int, int]]]]:
    """(phase, (category, fixed, for each layer)) of each moment of a form."""
    data = _data(every)
    written = data["forms"].get(form)
    if written is None:
        raise ValueError(f"no trace was made of a step with {form}")
    found = []
    for moment in written:
        phase, _, numbers = moment.partition(": ")
        pairs = zip(data["categories"], (pair.split() for pair in numbers.split(",")), strict=False)
        found.append((phase, [(name, int(pair[0]), int(pair[1])) for name, pair in pairs if pair]))
    return found


@cache
def _data(every: bool = False) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((EVERY if every else FILE).read_text(encoding="utf-8"))
    return data


def source() -> str:
    """With what the shipped polynomials were made."""
    return str(_data()["made_with"])


@dataclass(frozen=True)
class Slack:
    """What the allocator's model needs beyond the tensors: `likely` and `most` for each byte of tensors, and
    `extra` bytes at most besides, which tell in small runs alone."""

    likely: float
    most: float
    extra: int


def slack(recompute: bool = False) -> Slack:
    """From a spread of traced shapes, with or without activation checkpointing; see `generate.spread`."""
    return Slack(**_data()["slack"]["recomputed" if recompute else "kept"])


def _value(polynomial: int, every: bool, sizes: Mapping[str, int]) -> int:
    return sum(count * prod(sizes[name] for name in names) for count, names in _terms(polynomial, every))


@cache
def _terms(polynomial: int, every: bool) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(factor, dimensions) of each term."""
    text: str = _data(every)["polynomials"][polynomial]
    terms = [term.split(" ") for term in text.split(" + ")] if text else []
    return tuple((int(term[0]), tuple(term[1:])) for term in terms)
