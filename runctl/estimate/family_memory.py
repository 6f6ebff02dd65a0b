"""Peak memory of a declared model, from traces of a reference of its family; without torch.

`data/families.json` holds polynomials in the dimensions, in bytes of tensors: of a block what it keeps after its
forward pass (`kept`), what of that is still there when the backward pass comes to it (`saved`), and the highest
moments of either pass; of the rest what stands before the blocks (`before`), the highest moments of head and loss,
what remains of them while the blocks go backward (`after`), and the highest moments of the embedding's gradient.
The peak is the highest of a few such sums (`tensors`). Weights, gradients and the optimizer's state are counted.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "data" / "families.json"


@dataclass(frozen=True)
class Form:
    """Which operations a step has. `precision` is fp32, mixed (autocast) or half (weights too)."""

    family: str
    precision: str = "fp32"
    kernels: str = "fused"
    gated: bool = False
    dropout: bool = False
    checkpoint: bool = False
    tied: bool = False

    @property
    def block(self) -> str:
        """The name of its block's polynomials; a vit's blocks are a transformer's."""
        family = "transformer" if self.family == "vit" else self.family
        words = [family, self.precision] + ([self.kernels] if family != "mlp" else [])
        flags = (("gated", self.gated), ("dropout", self.dropout), ("checkpoint", self.checkpoint))
        return " ".join(words + [word for word, on in flags if on])

    @property
    def ends(self) -> str:
        """The name of the polynomials of embedding, head and loss."""
        flags = (("gated", self.gated), ("tied", self.tied))
        return " ".join([self.family, self.precision, *(word for word, on in flags if on)])


PRECISIONS = ("fp32", "mixed", "half")


def blocks() -> Iterator[Form]:
    """All forms of a block that are traced."""
    flags = (False, True)
    for precision, checkpoint in itertools.product(PRECISIONS, flags):
        for kernels, gated, dropout in itertools.product(("fused", "plain", "custom"), flags, flags):
            yield Form("transformer", precision, kernels, gated, dropout, checkpoint)
        for kernels in ("fused", "plain"):
            yield Form("mamba", precision, kernels, checkpoint=checkpoint)
        for dropout in flags:
            yield Form("mlp", precision, dropout=dropout, checkpoint=checkpoint)


def ends() -> Iterator[Form]:
    """All forms of the rest that are traced."""
    for precision in PRECISIONS:
        for gated, tied in itertools.product((False, True), (False, True)):
            yield Form("transformer", precision, gated=gated, tied=tied)
        for tied in (False, True):
            yield Form("mamba", precision, tied=tied)
        yield from (Form("vit", precision, gated=gated) for gated in (False, True))
        yield Form("mlp", precision)


def atoms(
    *,
    batch: int,
    tokens: int,
    width: int,
    heads: int = 1,
    groups: int = 1,
    inner: int = 1,
    vocab: int = 1,
    inputs: int = 1,
    state: int = 1,
    rank: int = 1,
    chunks: int = 1,
) -> dict[str, int]:
    """The dimensions that polynomials are made of."""
    head = width // heads
    return {
        "B": batch,
        "T": tokens,
        "t": tokens - 1,
        "u": tokens + 3,
        "D": width,
        "H": heads,
        "G": groups,
        "r": heads // groups,
        "P": head,
        "K": groups * head,
        "p": head // 2,
        "F": inner,
        "V": vocab,
        "I": inputs,
        "N": state,
        "R": rank,
        "J": rank + 2 * state,
        "c": chunks,
    }


@dataclass(frozen=True)
class Tensors:
    """Bytes of tensors at the highest moment, without weights and optimizer state. `gradients` are whole ones; `rest`
    is what comes and goes, in `phase`."""

    activations: int
    gradients: int
    rest: int
    phase: str

    @property
    def total(self) -> int:
        return self.activations + self.gradients + self.rest


def tensors(form: Form, sizes: Mapping[str, int], layers: int, gradients: tuple[int, int], keep: bool) -> Tensors:
    """The highest moment of the passes. `gradients` are bytes: of a block, of everything; `keep`: those of an earlier
    pass are still there, and new ones are added to them."""
    block, rest = _data()["blocks"][form.block], _data()["ends"][form.ends]

    def of(number: int) -> int:
        return sum(count * prod(sizes[name] for name in names) for count, names in _terms(number))

    def most(numbers: list[int]) -> int:
        return max(map(of, numbers), default=0)

    one, whole = gradients
    held = whole if keep else 0
    before, kept, saved, after = of(rest["before"]), of(block["kept"]), of(block["saved"]), of(rest["after"])
    if keep:
        after = max(0, after - (whole - layers * one))  # its gradients are those that are there already
    found = [
        Tensors(before + (layers - 1) * kept, held, most(block["forward"]), "pass"),
        Tensors(before + layers * kept, held, most(rest["forward"]), "pass"),
        Tensors(before + layers * saved, held, most(rest["backward"]), "backward"),
        Tensors(before + layers * saved, held, after + most(block["backward"]), "backward"),
        Tensors(before + saved, held or (layers - 1) * one, after + most(block["backward"]), "backward"),
        Tensors(before, held or layers * one, most(rest["embed"]), "backward"),
    ]
    return max(found, key=lambda moment: moment.total)


@cache
def _data() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return data


@cache
def _terms(polynomial: int) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """(factor, dimensions) of each term of `+4BDT-8DD`."""
    found = re.findall(r"([+-]\d+)([A-Za-z]*)", _data()["polynomials"][polynomial])
    return tuple((int(factor), tuple(names)) for factor, names in found)
