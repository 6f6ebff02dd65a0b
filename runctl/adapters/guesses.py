"""Which fact may a key be that no adapter reads? By the spellings that most trainers share, or nearly so."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING

from runctl import adapters
from runctl.adapters import vocabulary
from runctl.adapters.spec import normal, words
from runctl.adapters.vocabulary import WORDS

if TYPE_CHECKING:
    from runctl.adapters.tree import Leaf

NEAR = 0.82  # of the letters
SHARED = 0.6  # of the words of two keys together
_SAME = {
    "bsz": "batch size", "bs": "batch size", "batchsize": "batch size", "mbs": "micro batch size",
    "lr": "learning rate", "peak": "learning rate", "wd": "weight decay", "ramp": "warmup", "rampup": "warmup",
    "ckpt": "checkpoint", "ckpts": "checkpoint", "snapshot": "checkpoint", "saving": "save", "retain": "keep",
    "iteration": "step", "iter": "step", "update": "step", "optimizer": "optim", "optimiser": "optim",
    "freq": "every", "frequency": "every", "interval": "every", "cadence": "every", "each": "every",
    "out": "output", "folder": "dir", "directory": "dir", "path": "dir", "grad": "gradient",
    "accum": "accumulation", "acc": "accumulation", "val": "eval", "validate": "eval", "validation": "eval",
    "evaluation": "eval", "sequence": "seq", "context": "seq", "len": "length", "layer": "block", "width": "dim",
    "hidden": "dim", "training": "train", "rng": "seed", "proc": "worker", "loader": "dataloader",
    "numeric": "precision", "numerics": "precision",
}  # fmt: skip
_PLACES = frozenset({"dir", "directory", "folder", "out", "output", "path", "root", "save", "to"})
_EMPTY = frozenset({"n", "num", "number", "total", "max", "of", "the", "a", "per", "count", "to", "value", "amount"})
_WEAK = frozenset(
    {"name", "dir", "type", "size", "id", "step", "length", "dim", "model", "data", "every", "train", "eval", "save"}
)
_ELSEWHERE = frozenset({"warmup", "scheduler", "schedule", "eval", "log", "logging", "early", "decay", "diffusion"})


def of(leaf: Leaf, facts: Collection[str]) -> tuple[str, str] | None:
    """(fact, the known spelling that the key resembles) for one of `facts` that could take the value, or None."""
    last = normal(str(leaf.path[-1]))
    known = _spellings()
    near = [last] if last in known else get_close_matches(last, list(known), n=3, cutoff=NEAR)
    above = normal(str(leaf.path[-2])) if len(leaf.path) > 1 else ""
    forms = [_meaning(last), *([_meaning(f"{above}_{last}")] if above else [])]
    alone = not any(words(str(part)) & _ELSEWHERE for part in leaf.path[:-1])
    scored = [(max(_likeness(form, _meaning(one), alone) for form in forms), one) for one in known]
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    near += [one for score, one in scored[:5] if score >= SHARED]
    for spelling in dict.fromkeys(near):
        for fact in known[spelling]:
            if fact == "run.output" and not words(last) & _PLACES and "/" not in str(leaf.value):
                continue  # the name of an experiment is no folder
            if fact in facts and _takes(fact, leaf) and not ("per" in words(last) and fact.startswith("compute.")):
                return fact, spelling.replace(".", "_")
    return None


@cache
def _meaning(spelling: str) -> frozenset[str]:
    """The words of a key that carry its meaning, each in one form: `n_optim_iters` is optim, step."""
    found: set[str] = set()
    for word in spelling.replace(".", "_").split("_"):
        single = word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        found.update(_SAME.get(word, _SAME.get(single, single)).split())
    return frozenset(found - _EMPTY)


def _likeness(one: frozenset[str], other: frozenset[str], alone: bool) -> float:
    """The share of the words of both that both have; 0 where all of those say little, unless they are all that there
    is (and a single one stands `alone`)."""
    both = one & other
    telling = both - _WEAK or (both and one == other and (alone or len(both) > 1))
    return len(both) / len(one | other) if telling else 0.0


def _takes(fact: str, leaf: Leaf) -> bool:
    """Whether the value could be the fact's; a text is none of a number."""
    parse = WORDS[fact].parse
    if isinstance(leaf.value, dict | list) and not WORDS[fact].nested:
        return False
    if parse in (vocabulary.text, vocabulary.texts) and not isinstance(leaf.value, str | list):
        return False
    try:
        parse(leaf.value)
    except (ValueError, OverflowError):
        return False
    return True


@cache
def _spellings() -> dict[str, tuple[str, ...]]:
    """Known ends of key paths, as `normal` spells them, with their facts: the generic adapter's, every dialect's, and
    the names of the facts."""
    found: dict[str, list[str]] = {}
    for spec in reversed(adapters.builtin().values()):
        for fact, takes in spec.facts.items():
            for take in takes:
                if take.key and "~" not in take.key:
                    found.setdefault(".".join(take.suffix), []).append(fact)
    for fact in WORDS:
        found.setdefault(fact.rpartition(".")[2], []).append(fact)
    return {spelling: tuple(dict.fromkeys(facts)) for spelling, facts in found.items()}
