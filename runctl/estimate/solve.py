"""From traces to polynomials: what is held at each moment of a step, in terms of the shape's dimensions.

A form is traced twice, with three layers and with four, in a shape whose dimensions are all different: so every
length of a tensor betrays which dimension it is, or which product of them. The moments of the two traces belong
together one by one (the last but one layer of either is the same place), and their difference is what a layer adds.
Of the thousands of moments only those are kept that are the highest for one of many shapes.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from runctl.config.model import Encoding, Model, RunConfig, Training
from runctl.estimate import trace, traced
from runctl.estimate.tracker import Block
from runctl.train.sums import KEPT_STEPS

Term = tuple[str, ...]
Polynomial = Mapping[Term, int]

VOCABS = {"action": 401, "jumps": 131, "character": 139, "l_cancel": 149, "hurtbox": 151, "ground": 157}
VOCABS |= {"last_attack": 163, "state_age_embed": 167, "stage": 173}
WIDTHS = dict(zip(VOCABS, (233, 239, 241, 269, 271, 277, 281, 283, 293), strict=True))
BATCH, CHUNK, CHUNKS, FILL, NOISY, SAMPLE = 1009, 509, 251, 257, 229, 9973
MODEL: dict[str, Any] = {"d_model": 211 * 223, "expand": 3, "headdim": 211, "d_state": 227, "d_conv": 4}
CONSTANTS = (*range(129), trace.LOOKUP, KEPT_STEPS)  # lengths that depend on no shape: players, buttons, bits
TIE = 2e-4  # a moment that is higher by a smaller share is not kept
COMPOSED = ("B", "K", "K+1", "Q", "c", "H", "N", "P", "S")
FORMS = [
    dict(zip(("precision", "scan", "dropout", "age", "flags", "corrupt"), values, strict=True))
    for values in itertools.product(
        ("fp32", "bf16"), ("one chunk", "chunks", "filled chunks"), ("none", "cpu", "cuda"), *[(False, True)] * 3
    )
]


@dataclass(frozen=True)
class Moment:
    """What is held right after an allocation, by category: (fixed, for each layer but the last)."""

    phase: str
    parts: Mapping[str, tuple[Polynomial, Polynomial]]


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
            precision=form["precision"],  # type: ignore[arg-type]
            scheduled_sampling=0.5 if form["corrupt"] else 0.0,
            ss_corrupt_frames=NOISY,
            delta_target="residual",
        ),
    )


def moments(form: Mapping[str, object]) -> list[Moment]:
    """All moments of a step of that form, equal ones once."""
    device = "cuda" if form["dropout"] == "cuda" else "cpu"
    less, more = (_Held(config(form, layers), device) for layers in (3, 4))
    pairs = [*_aligned(less, more), _highest(less, more, "optimizer")]
    found: dict[object, Moment] = {}
    for phase, here, there in pairs:
        moment = _moment(phase, here, there)
        key = tuple((name, *(frozenset(p.items()) for p in both)) for name, both in moment.parts.items())
        found.setdefault(key, moment)
    return list(found.values())


def winners(form: Mapping[str, object], candidates: list[Moment], *, count: int = 1500, seed: int = 0) -> list[Moment]:
    """The moments that are the highest for one of many shapes, in training alone or over all phases."""
    names = sorted({term for moment in candidates for both in moment.parts.values() for p in both for term in p})
    place = {name: index for index, name in enumerate(names)}
    fixed, each = (np.zeros((len(candidates), len(names))) for _ in range(2))
    for row, moment in enumerate(candidates):
        for both in moment.parts.values():
            for table, polynomial in zip((fixed, each), both, strict=True):
                for term, factor in polynomial.items():
                    table[row, place[term]] += factor
    drawn = list(shapes(form, count, seed))
    sizes = [traced.atoms(shape) for shape in drawn]
    atoms = {name: np.array([float(one[name]) for one in sizes]) for name in sizes[0]}
    values = np.stack([np.prod([atoms[name] for name in term] or [np.ones(count)], axis=0) for term in names])
    totals = fixed @ values + (each @ values) * np.array([shape.model.n_layers - 1 for shape in drawn])
    kept: list[int] = []
    for test in _TESTS:
        rows = np.array([index for index, moment in enumerate(candidates) if test(moment.phase)], dtype=int)
        chosen = [index for index in kept if test(candidates[index].phase)]
        best = totals[rows].max(0)
        while (short := (totals[chosen].max(0) if chosen else 0 * best) < (1 - TIE) * best).any():
            at = int(np.flatnonzero(short)[0])
            chosen.append(int(rows[np.argmax(totals[rows, at])]))
            kept.append(chosen[-1])
    return [candidates[index] for index in sorted(kept)]


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
        )


_State = Mapping[str, Polynomial]  # what is held, by category


class _Held:
    """A trace, read moment by moment in polynomials."""

    def __init__(self, config: RunConfig, device: str) -> None:
        self.trace = trace.trace(config, device=device, sample=SAMPLE, brief=True)
        corrupt = config.training.ss_corrupt_frames if config.training.scheduled_sampling else 0
        shape = traced.Shape(
            config.encoding, config.model, config.training.batch_size, config.training.precision, 2, corrupt, SAMPLE
        )
        self.sizes = traced.atoms(shape)
        self.lengths = _lengths(self.sizes, traced.scan(config.model))
        self.terms = [self._term(block) for block in self.trace.blocks]
        self._places: dict[tuple[str, str], list[_State]] = {}

    def by_place(self) -> dict[tuple[str, str], list[_State]]:
        """What is held after each allocation, by phase and part."""
        if self._places:
            return self._places
        held: dict[str, Counter[Term]] = {name: Counter() for name in trace.CATEGORIES}
        for event in self.trace.events:
            count, names = self.terms[event.block]
            held[self.trace.blocks[event.block].category][names] += event.change * count
            if event.change > 0:
                state = {name: {t: n for t, n in terms.items() if n} for name, terms in held.items()}
                self._places.setdefault((event.phase, event.part), []).append(state)
        return self._places

    def total(self, state: _State) -> int:
        return sum(n * prod(self.sizes[x] for x in term) for terms in state.values() for term, n in terms.items())

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
    found.setdefault(4 * sizes["R"], (4, ("R",)))
    for constant in CONSTANTS:
        found.setdefault(constant, (constant, ()))
    return found


def _aligned(less: _Held, more: _Held) -> Iterator[tuple[str, _State, _State]]:
    """The moments of two traces that belong together: the layer that only the second has is left out."""
    same = {"layer 0": "layer 0", "layer 1": "layer 2", "layer 2": "layer 3"}
    here, there = less.by_place(), more.by_place()
    for (phase, part), states in here.items():
        if phase in ("between", "optimizer", "end") or (phase, part) == ("load", ""):
            continue
        others = there[phase, same.get(part, part)]
        if len(states) != len(others):
            raise ValueError(f"{phase}, {part}: {len(states)} allocations with three layers, {len(others)} with four")
        yield from ((phase, one, other) for one, other in zip(states, others, strict=True))


def _highest(less: _Held, more: _Held, phase: str) -> tuple[str, _State, _State]:
    """The highest moment of a phase whose events depend on the number of layers."""
    one, other = (max(held.by_place()[phase, ""], key=held.total) for held in (less, more))
    return phase, one, other


def _moment(phase: str, less: _State, more: _State) -> Moment:
    """What a layer adds is the difference; what is fixed is what would be held with the last layer alone."""
    parts: dict[str, tuple[Polynomial, Polynomial]] = {}
    for name, held in more.items():
        each = {term: count - less[name].get(term, 0) for term, count in held.items()}
        each |= {term: -count for term, count in less[name].items() if term not in held}
        fixed = {term: held.get(term, 0) - 3 * count for term, count in each.items()}
        fixed, each = ({term: count for term, count in p.items() if count} for p in (fixed, each))
        if fixed or each:
            parts[name] = fixed, each
    return Moment(phase, parts)
