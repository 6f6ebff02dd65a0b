"""From traces to polynomials: what is held at each moment of a step, in terms of the shape's dimensions.

A form is traced twice, with three layers and with four, in a shape whose dimensions are all different: so every
length of a tensor betrays which dimension it is, or which product of them. The moments of the two traces belong
together one by one (the last but one layer of either is the same place), and their difference is what a layer adds.
Of the thousands of moments only those are kept that are the highest for one of many shapes.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from runctl.config.model import Encoding, Model, RunConfig, Training
from runctl.estimate import trace, traced
from runctl.estimate.tracker import Block
from runctl.tasks.worldmodel.targets import PART
from runctl.train.sums import KEPT_STEPS

Term = tuple[str, ...]
Column = tuple[str, Term]  # category, product of dimensions
Polynomial = Mapping[Term, int]

VOCABS = {"action": 401, "jumps": 131, "character": 139, "l_cancel": 149, "hurtbox": 151, "ground": 157}
VOCABS |= {"last_attack": 163, "state_age_embed": 167, "stage": 173}
WIDTHS = dict(zip(VOCABS, (233, 239, 241, 269, 271, 277, 281, 283, 293), strict=True))
BATCH, CHUNK, CHUNKS, FILL, NOISY = 1009, 509, 137, 257, 229
MODEL: dict[str, Any] = {"d_model": 211 * 223, "expand": 3, "headdim": 211, "d_state": 227, "d_conv": 4}
CONSTANTS = (*range(129), trace.LOOKUP, KEPT_STEPS)  # lengths that depend on no shape: players, buttons, bits
TIE = 2e-4  # a moment that is higher by a smaller share is not kept
COMPOSED = ("B", "K", "K+1", "Q", "c", "H", "N", "P", "S")
FORMS = [
    dict(zip(("precision", "scan", "dropout", "age", "flags", "corrupt", "recompute"), values, strict=True))
    for values in itertools.product(
        ("fp32", "bf16"), ("one chunk", "chunks", "filled chunks"), ("none", "cpu", "cuda"), *[(False, True)] * 4
    )
]
EVERY = [{**form, "every": True} for form in FORMS]  # the same with `training.targets: all`
TIE_OF_EVERY = 1e-3  # fewer moments: nothing but a share of a thousandth is lost


@dataclass(frozen=True)
class Moment:
    """What is held right after an allocation, by category: (fixed, for each layer but the last)."""

    phase: str
    parts: Mapping[str, tuple[Polynomial, Polynomial]]


@dataclass(frozen=True)
class Candidates:
    """Moments as rows of factors, `fixed` and for `each` layer but the last: one column for each (category, term)."""

    phases: list[str]
    columns: list[Column]
    fixed: Any
    each: Any

    def moment(self, row: int) -> Moment:
        """One of them in words."""
        parts: dict[str, tuple[dict[Term, int], dict[Term, int]]] = {}
        for index, (category, term) in enumerate(self.columns):
            for number, table in enumerate((self.fixed, self.each)):
                if table[row, index]:
                    parts.setdefault(category, ({}, {}))[number][term] = int(table[row, index])
        return Moment(self.phases[row], parts)


def config(form: Mapping[str, object], layers: int) -> RunConfig:
    """A config of that form, with a shape in which no two dimensions are equal."""
    context = CHUNK * CHUNKS - (FILL if form["scan"] == "filled chunks" else 0)
    widths = {f"{name}_vocab": size for name, size in VOCABS.items()}
    widths |= {f"{name.removesuffix('_embed')}_embed_dim": size for name, size in WIDTHS.items()}
    return RunConfig(
        name="trace",
        encoding=Encoding(
            state_age_as_embed=bool(form["age"]),
            state_flags=bool(form["flags"]),
            projectiles=True,
            hitstun=True,
            **widths,
        ),
        model=Model(
            **MODEL,
            n_layers=layers,
            context_len=context,
            chunk_size=context + 1 if form["scan"] == "one chunk" else CHUNK,
            dropout=0.0 if form["dropout"] == "none" else 0.1,
        ),
        training=Training(
            batch_size=BATCH,
            accumulation=2,
            precision=form["precision"],
            activation_checkpointing=bool(form["recompute"]),
            scheduled_sampling=0.5 if form["corrupt"] else 0.0,
            ss_corrupt_frames=NOISY,
            delta_target="residual",
            targets="all" if form.get("every") else "last",
        ),
    )


def moments(form: Mapping[str, object]) -> Candidates:
    """All moments of a step of that form, equal ones once."""
    device = "cuda" if form["dropout"] == "cuda" else "cpu"
    columns: dict[Column, int] = {}
    less, more = (_Held(config(form, layers), device, columns) for layers in (3, 4))
    pairs = [*_aligned(less, more), _highest(less, more, "optimizer")]
    phases = [phase for phase, here, _ in pairs for _ in here]
    here, there = (
        np.concatenate([held.states(len(columns), rows) for rows in places])
        for held, places in ((less, [pair[1] for pair in pairs]), (more, [pair[2] for pair in pairs]))
    )
    each = there - here  # what a layer adds; fixed is what would be held with the last layer alone
    fixed = there - 3 * each
    _, first = np.unique(np.concatenate([fixed, each], 1), axis=0, return_index=True)
    kept = sorted(first)
    return Candidates([phases[index] for index in kept], list(columns), fixed[kept], each[kept])


def winners(form: Mapping[str, object], found: Candidates, *, count: int = 1000, seed: int = 0) -> list[Moment]:
    """The moments that are the highest for one of many shapes, in training alone or over all phases."""
    drawn = list(shapes(form, count, seed))
    sizes = [traced.atoms(shape) for shape in drawn]
    atoms = {name: np.array([float(one[name]) for one in sizes]) for name in sizes[0]}
    terms = {term: np.prod([np.ones(count), *(atoms[name] for name in term)], axis=0) for _, term in found.columns}
    values = np.stack([terms[term] for _, term in found.columns])
    totals = found.fixed @ values + (found.each @ values) * np.array([shape.model.n_layers - 1 for shape in drawn])
    tie = TIE_OF_EVERY if form.get("every") else TIE
    kept: list[int] = []
    for test in _TESTS:
        rows = np.array([index for index, phase in enumerate(found.phases) if test(phase)], dtype=int)
        chosen = [index for index in kept if test(found.phases[index])]
        best = totals[rows].max(0)
        while (short := (totals[chosen].max(0) if chosen else 0 * best) < (1 - tie) * best).any():
            at = int(np.flatnonzero(short)[0])
            chosen.append(int(rows[np.argmax(totals[rows, at])]))
            kept.append(chosen[-1])
    return [found.moment(index) for index in sorted(kept)]


_TESTS: tuple[Callable[[str], bool], ...] = (
    lambda phase: phase.endswith("2"),  # only with gradient accumulation
    lambda phase: phase.startswith(traced.STEP) and not phase.endswith("2"),
    lambda phase: phase == "evaluate",
    lambda phase: phase == "load",
)


def total(moment: Moment, shape: traced.Shape) -> int:
    """Bytes that are held at that moment in a step of that shape."""
    sizes, layers = traced.atoms(shape), shape.model.n_layers - 1
    held = 0
    for fixed, each in moment.parts.values():
        held += sum(count * prod(sizes[name] for name in term) for term, count in fixed.items())
        held += layers * sum(count * prod(sizes[name] for name in term) for term, count in each.items())
    return int(held)


def accumulated(shape: traced.Shape) -> traced.Shape:
    """The same shape with gradient accumulation."""
    return replace(shape, accumulation=2)


def shapes(form: Mapping[str, object], count: int, seed: int) -> Iterator[traced.Shape]:
    """Shapes of that form, from tiny to absurd: 2 to 64 layers, widths 32 to 8,192, K 4 to 4,096, batch 1 to 8,192."""
    rng = random.Random(seed)

    def size(low: int, high: int) -> int:
        return round(float(low * (high / low) ** rng.random()))

    for _ in range(count):
        headdim = rng.choice((16, 32, 64, 128))
        chunk = size(2, 512)
        scan = form["scan"]
        context = chunk if scan == "one chunk" else chunk * size(2, 64) - (1 if scan == "filled chunks" else 0)
        yield traced.Shape(
            encoding=Encoding(
                state_age_as_embed=bool(form["age"]),
                state_flags=bool(form["flags"]),
                projectiles=rng.random() < 0.5,
                hitstun=rng.random() < 0.5,
            ),
            model=Model(
                d_model=headdim * size(1, 64),
                n_layers=size(2, 64),
                d_state=rng.choice((16, 32, 64, 128, 256)),
                headdim=headdim,
                expand=rng.choice((1, 2, 2, 4)),
                context_len=max(4, context),
                chunk_size=max(4, context) if scan == "one chunk" else chunk,
                dropout=0.0 if form["dropout"] == "none" else 0.1,
            ),
            batch=size(1, 8192),
            precision=str(form["precision"]),
            corrupt=3 if form["corrupt"] else 0,
            windows=rng.choice((None, 1_000)),
            recompute=bool(form["recompute"]),
            every=bool(form.get("every")),
        )


class _Held:
    """A trace, read moment by moment: `states` counts what is held, by category and product of dimensions."""

    def __init__(self, config: RunConfig, device: str, columns: dict[Column, int]) -> None:
        self.trace = trace.trace(config, device=device, sample=2 * PART, brief=True)
        corrupt = config.training.ss_corrupt_frames if config.training.scheduled_sampling else 0
        shape = traced.Shape(
            config.encoding, config.model, config.training.batch_size, config.training.precision, 2, corrupt, 2 * PART
        )
        self.sizes = traced.atoms(shape)
        self.lengths = _lengths(self.sizes, traced.scan(config.model))
        terms = [self._term(block) for block in self.trace.blocks]
        place = [
            columns.setdefault((block.category, names), len(columns))
            for block, (_, names) in zip(self.trace.blocks, terms, strict=True)
        ]
        self._changes = [(place[event.block], event.change * terms[event.block][0]) for event in self.trace.events]
        self.by_place: dict[tuple[str, str], list[int]] = {}  # (phase, part) → the events that are allocations
        for index, event in enumerate(self.trace.events):
            if event.change > 0:
                self.by_place.setdefault((event.phase, event.part), []).append(index)

    def states(self, width: int, rows: Sequence[int]) -> Any:
        """(rows, width) int64: the factor of each column after each of these events."""
        if self._states is None:
            changes: Any = np.zeros((len(self._changes), width), np.int64)
            changes[np.arange(len(changes)), [column for column, _ in self._changes]] = [n for _, n in self._changes]
            self._states = changes.cumsum(0)
        return self._states[list(rows)]

    _states: Any = None

    def highest(self, phase: str) -> int:
        """The event of a phase after which most is held."""
        held = np.cumsum([event.change * self.trace.blocks[event.block].size for event in self.trace.events])
        return max(self.by_place[phase, ""], key=lambda index: int(held[index]))

    def _term(self, block: Block) -> tuple[int, tuple[str, ...]]:
        """(constant, dimensions) whose product is the block's size in bytes."""
        constant = block.itemsize
        names: list[str] = []
        for length in block.shape:
            if length not in self.lengths:
                raise ValueError(f"no dimension of the shape explains the length {length} of {block.shape}")
            factor, found = self.lengths[length]
            constant *= factor
            names += found
        if constant * prod(self.sizes[name] for name in names) != block.size:
            raise ValueError(f"a storage of {block.size} bytes was made for a tensor of {block.shape}")
        return constant, tuple(sorted(names))


def _lengths(sizes: Mapping[str, int], scan: str) -> dict[int, tuple[int, tuple[str, ...]]]:
    """Every length that a tensor may have → (factor, dimensions) whose product it is. Raises ValueError where two
    dimensions are equal, which would leave open which one a length is."""
    unused = {"Q", "c", "c-1"} if scan == "one chunk" else set()
    unused |= {"L+3", "L-1", "L-2", "L-3"} if scan != "filled chunks" else set()  # those of K
    unused |= {"f"} if sizes["f"] == sizes["F"] else set()  # without flags the floats are the stored numbers
    single = [name for name in sizes if name not in unused]
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    for name in single:
        if sizes[name] in found:
            raise ValueError(f"{name} and {found[sizes[name]][1]} are both {sizes[name]}")
        found[sizes[name]] = (1, (name,))
    for name in single:
        found.setdefault(2 * sizes[name], (2, (name,)))
    composed = [name for name in COMPOSED if name in single]
    for names in itertools.chain(*(itertools.combinations(composed, count) for count in (2, 3))):
        found.setdefault(prod(sizes[name] for name in names), (1, names))
    found.setdefault(sizes["K+1"] * sizes["R"], (1, ("K+1", "R")))
    found.setdefault(2 * sizes["B"] * sizes["K"], (2, ("B", "K")))  # both players at every position
    found.setdefault(4 * sizes["R"], (4, ("R",)))
    found.setdefault(4 * sizes["S"], (4, ("S",)))
    for constant in CONSTANTS:
        found.setdefault(constant, (constant, ()))
    return found


def _aligned(less: _Held, more: _Held) -> Iterator[tuple[str, list[int], list[int]]]:
    """The moments of two traces that belong together: the layer that only the second has is left out."""
    same = {"layer 0": "layer 0", "layer 1": "layer 2", "layer 2": "layer 3"}
    for (phase, part), here in less.by_place.items():
        if phase in ("between", "optimizer", "end") or (phase, part) == ("load", ""):
            continue
        there = more.by_place[phase, same.get(part, part)]
        if len(here) != len(there):
            raise ValueError(f"{phase}, {part}: {len(here)} allocations with three layers, {len(there)} with four")
        yield phase, here, there


def _highest(less: _Held, more: _Held, phase: str) -> tuple[str, list[int], list[int]]:
    """The highest moment of a phase whose events depend on the number of layers."""
    return phase, [less.highest(phase)], [more.highest(phase)]
