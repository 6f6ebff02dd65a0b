"""`python -m runctl.estimate.families_generate`: trace the reference models and write `data/families.json`.

A reference of three blocks is traced on meta tensors in a shape whose dimensions are all different, so that every
length of a tensor betrays which dimension it is. The middle block gives what a block keeps and the highest moments
of its passes; what stands before and after the blocks gives the rest (`family_memory.py` puts them together).
`--check` writes nothing and exits 1 where the file is stale. Needs torch; some seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

from runctl import record
from runctl.estimate import family_memory, reference
from runctl.estimate.family_memory import Form
from runctl.estimate.reference import Sizes
from runctl.estimate.tracker import Block, Casting, Tracker

SIZES = Sizes(1009, 509, 131 * 137 * 278, 131 * 137, 131, 10_007, 50_021, 769, 3, 251, 241, 257)
COMPOSED = ("B", "T", "H", "G", "r", "P")
TIE = 0.03  # a moment that is higher by a smaller share is not kept

Term = tuple[str, ...]
Polynomial = dict[Term, int]


@dataclass(frozen=True)
class Traced:
    """`moments`: where it is, and what is held right after an allocation there; `begins`: what is held where a part
    begins; `weights` of the whole and of the middle `block`."""

    moments: list[tuple[tuple[str, str], Polynomial]]
    begins: Mapping[tuple[str, str], Polynomial]
    weights: Polynomial
    block: Polynomial

    def at(self, phase: str, part: str, base: Polynomial) -> list[Polynomial]:
        """The moments of a part, beyond `base`."""
        return [_minus(held, base) for place, held in self.moments if place == (phase, part)]


def run(form: Form, sizes: Sizes, passes: int = 1) -> tuple[Tracker, Any]:
    """Trace forward passes, loss and backward passes; gradients of an earlier pass stay."""
    tracker = Tracker()
    casting = Casting("cuda", lambda copy: None)
    mixed = form.precision == "mixed"
    with casting, tracker:
        with torch.device("meta"):
            model = reference.Reference(form, sizes, lambda: casting.region(mixed), tracker.enter)
        if form.precision == "half":
            model.to(torch.bfloat16)
        for parameter in model.parameters():
            tracker.label(parameter, "weights")
        tracker.relabel("workspace", "before")
        dtype = torch.bfloat16 if form.precision == "half" else None
        for number in range(passes):
            last = number == passes - 1
            tracker.enter("forward" if last else "earlier", "embed")
            model.hear = tracker.enter if last else (lambda phase, part: None)
            examples, targets = reference.batch_of(form, sizes, "meta")
            if dtype and examples.is_floating_point():
                examples = examples.to(dtype)
            with casting.region(mixed):
                logits, loss = model(examples, targets)
            if last:
                tracker.enter("backward", "head")
            loss.backward()
            del logits, loss
        tracker.enter("end", "")
    return tracker, model


def peak(tracker: Tracker) -> int:
    """Bytes held at the highest moment of the last passes, weights included."""
    held = highest = 0
    for event in tracker.events:
        held += event.change * tracker.blocks[event.block].size
        if event.phase in ("forward", "backward"):
            highest = max(highest, held)
    return highest


def trace(form: Form) -> Traced:
    """The reference in the shape that betrays its dimensions, as polynomials."""
    tracker, model = run(form, SIZES)
    atoms = atoms_of(SIZES)
    lengths = _lengths(atoms)
    terms = [_term(block, lengths, atoms) for block in tracker.blocks]
    held: Counter[Term] = Counter()
    moments, begins = [], {}
    place = ("load", "")
    for event in tracker.events:
        if (event.phase, event.part) != place:
            place = event.phase, event.part
            begins[place] = dict(held)
        count, names = terms[event.block]
        held[names] += event.change * count
        if event.change > 0:
            moments.append((place, {t: n for t, n in held.items() if n}))
    begins["end", ""] = dict(held)
    size = 2 if form.precision == "half" else 4

    def weights(module: torch.nn.Module) -> Polynomial:
        found: Counter[Term] = Counter()
        for parameter in module.parameters():
            count, names = _term(Block(size * parameter.numel(), tuple(parameter.shape), size, 0), lengths, atoms)
            found[names] += count
        return dict(found)

    return Traced(moments, begins, weights(model), weights(model.blocks[1]))


def block_data(form: Form) -> dict[str, Any]:
    """What a block of this form keeps and needs: see `family_memory`."""
    found = trace(form)
    begins = found.begins
    kept = _minus(begins["forward", "layer 2"], begins["forward", "layer 1"])
    # In the backward pass a block gives back what it kept and leaves its gradients. "layer 0" is the output of the
    # first block: its hook fires where the middle block is done.
    spent = _minus(begins["backward", "layer 1"], begins["backward", "layer 0"])
    saved = _plus(spent, found.block)
    return {
        "kept": kept,
        "saved": saved,
        "forward": highest(form, found.at("forward", "layer 1", begins["forward", "layer 1"])),
        "backward": highest(form, found.at("backward", "layer 1", begins["backward", "layer 1"])),
    }


def ends_data(form: Form) -> dict[str, Any]:
    """What the parts before and after the blocks hold: see `family_memory`."""
    found, block = trace(form), block_data(form)
    begins = found.begins
    before = _minus(begins["forward", "layer 0"], found.weights)
    ready = _plus(_plus(found.weights, before), _times(block["saved"], 3))
    spent = _plus(_plus(found.weights, before), _times(found.block, 3))

    def of(phase: str, part: str, base: Polynomial) -> list[Polynomial]:
        return highest(form, found.at(phase, part, base))

    return {
        "before": before,
        "forward": of("forward", "head", begins["forward", "head"]),
        "backward": of("backward", "head", ready),
        "after": _minus(begins["backward", "layer 2"], ready),
        "embed": of("backward", "embed", spent),
    }


def highest(form: Form, candidates: list[Polynomial]) -> list[Polynomial]:
    """Those of the candidates that are the highest for one of many shapes."""
    drawn = [atoms_of(sizes) for sizes in shapes(form, 300, 0)]
    unique = {tuple(sorted(p.items())): p for p in candidates}
    rows = [(p, [value(p, atoms) for atoms in drawn]) for p in unique.values()]
    kept: list[tuple[Polynomial, list[int]]] = []
    for column in range(len(drawn)):
        best = max(rows, key=lambda row: row[1][column])
        if not kept or max(row[1][column] for row in kept) < (1 - TIE) * best[1][column]:
            kept.append(best)
    return [row[0] for row in kept]


def shapes(form: Form, count: int, seed: int) -> Iterable[Sizes]:
    """Shapes of the form's family, from small to very large."""
    rng = random.Random(seed)

    def size(low: int, high: int) -> int:
        return round(float(low * (high / low) ** rng.random()))

    for _ in range(count):
        groups, ratio, head = size(1, 16), rng.choice((1, 1, 4, 8)), rng.choice((32, 64, 128))
        heads = groups * ratio
        width = heads * head
        tokens = 1 if form.family == "mlp" else size(32, 8192)
        inner = 2 * width if form.family == "mamba" else width * rng.choice((2, 3, 4))
        vocab = size(256, 150_000) if form.family in ("transformer", "mamba") else size(2, 20_000)
        inputs = 3 * rng.choice((8, 14, 16)) ** 2
        layers, batch = size(4, 48), size(1, 4096 if form.family == "mlp" else 128)
        rank, chunks = -(-width // 16), -(-tokens // 2048)
        yield Sizes(batch, tokens, width, heads, groups, inner, vocab, inputs, layers, 16, rank, chunks)


def atoms_of(sizes: Sizes) -> dict[str, int]:
    return family_memory.atoms(
        batch=sizes.batch,
        tokens=sizes.tokens,
        width=sizes.width,
        heads=sizes.heads,
        groups=sizes.groups,
        inner=sizes.inner,
        vocab=sizes.vocab,
        inputs=sizes.inputs,
        state=sizes.state,
        rank=sizes.rank,
        chunks=sizes.chunks,
    )


def value(polynomial: Polynomial, atoms: Mapping[str, int]) -> int:
    return sum(count * prod(atoms[name] for name in names) for names, count in polynomial.items())


def _lengths(atoms: Mapping[str, int]) -> dict[int, tuple[int, Term]]:
    found: dict[int, tuple[int, Term]] = {}
    for name, size in atoms.items():
        if size in found:
            raise ValueError(f"{name} and {found[size][1]} are both {size}")
        found[size] = (1, (name,))
    for name, size in atoms.items():
        found.setdefault(2 * size, (2, (name,)))
    for names in itertools.chain(*(itertools.combinations(COMPOSED, count) for count in (2, 3))):
        found.setdefault(prod(atoms[name] for name in names), (1, names))
    found.setdefault(atoms["B"] * atoms["t"], (1, ("B", "t")))
    for constant in range(129):
        found.setdefault(constant, (constant, ()))
    return found


def _term(block: Block, lengths: Mapping[int, tuple[int, Term]], atoms: Mapping[str, int]) -> tuple[int, Term]:
    """(constant, dimensions) whose product is the block's size in bytes."""
    constant = block.itemsize
    names: list[str] = []
    for length in block.shape:
        if length not in lengths:
            raise ValueError(f"no dimension of the shape explains the length {length} of {block.shape}")
        factor, found = lengths[length]
        constant *= factor
        names += found
    if constant * prod(atoms[name] for name in names) != block.size:
        raise ValueError(f"a storage of {block.size} bytes was made for a tensor of {block.shape}")
    for two, one in ((("G", "r"), "H"), (("H", "P"), "D"), (("G", "P"), "K")):  # the same number by one name
        while all(name in names for name in two):
            for name in two:
                names.remove(name)
            names.append(one)
    return constant, tuple(sorted(names))


def _minus(one: Polynomial, other: Polynomial) -> Polynomial:
    return _plus(one, _times(other, -1))


def _plus(one: Polynomial, other: Polynomial) -> Polynomial:
    return {t: n for t in {**one, **other} if (n := one.get(t, 0) + other.get(t, 0))}


def _times(one: Polynomial, factor: int) -> Polynomial:
    return {term: factor * count for term, count in one.items()}


def text(polynomial: Polynomial) -> str:
    """`4BDT+8DD`, the terms in order, without single vectors (biases) and single numbers."""
    terms = sorted((names, count) for names, count in polynomial.items() if len(names) > 1)
    return "".join(f"{count:+d}{''.join(names)}" for names, count in terms)


def document() -> dict[str, Any]:
    """The file's contents: polynomials by number, blocks and ends by the names of their forms."""
    numbers: dict[str, int] = {}

    def numbered(data: Mapping[str, Any]) -> dict[str, Any]:
        def one(p: Polynomial) -> int:
            return numbers.setdefault(text(p), len(numbers))

        return {key: [one(p) for p in found] if isinstance(found, list) else one(found) for key, found in data.items()}

    blocks = {form.block: numbered(block_data(form)) for form in family_memory.blocks()}
    ends = {form.ends: numbered(ends_data(form)) for form in family_memory.ends()}
    version = torch.__version__.partition("+")[0]
    head = {"schema_version": 1, "made_with": f"torch {version}"}
    return head | {"polynomials": list(numbers), "blocks": blocks, "ends": ends}


def render(data: Mapping[str, Any]) -> str:
    """JSON with a line for each polynomial and each form."""

    def part(found: Any) -> str:
        if isinstance(found, list):
            return "[\n" + ",\n".join(json.dumps(item) for item in found) + "\n]"
        if isinstance(found, dict):
            return (
                "{\n"
                + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in found.items())
                + "\n}"
            )
        return json.dumps(found)

    return "{\n" + ",\n".join(f"{json.dumps(key)}: {part(found)}" for key, found in data.items()) + "\n}\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m runctl.estimate.families_generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    options = parser.parse_args(arguments)
    found = render(document())
    if options.check:
        stale = found != family_memory.FILE.read_text(encoding="utf-8")
        print(f"{family_memory.FILE.name} is {'stale' if stale else 'up to date'}")
        return int(stale)
    record.write_text(family_memory.FILE, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
