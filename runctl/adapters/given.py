"""What `--set` says of a foreign config: a key that is nearly one that the config or its adapter has is a slip."""

from __future__ import annotations

from collections.abc import Collection
from difflib import SequenceMatcher

from runctl.adapters.spec import Spec
from runctl.adapters.vocabulary import WORDS
from runctl.errors import UsageError
from runctl.yamldoc import Document, Path

SLIP = 0.9  # how near a slip of the fingers is
MOST_KEYS = 1_000


def check(document: Document, spec: Spec, overrides: Collection[Path]) -> None:
    """Raise UsageError where a `--set` names no key, and one is so near that it was plainly meant: it would change
    nothing, and nobody would see it. A key that only the trainer knows is let through."""
    if not overrides:
        return
    written = {".".join(map(str, path)) for path in document.keys}
    takes = (take for listed in spec.facts.values() for take in listed)
    known = {*WORDS, *written, *(".".join(take.suffix) if take.guess else take.key for take in takes)}
    for path in overrides:
        dotted = ".".join(map(str, path))
        if dotted in known or any(key.startswith(f"{dotted}.") for key in written) or len(known) > MOST_KEYS:
            continue
        near = max(known, key=lambda one: _nearness(dotted, one))
        if _nearness(dotted, near) >= SLIP:
            message = f"--set {dotted}: neither {document.file} nor the adapter {spec.name} has this key"
            raise UsageError(message, hint=f"did you mean '{near}'?")


def _nearness(one: str, other: str) -> float:
    """From 0 to 1; names that differ in their numbers alone are no slips of each other."""
    plain = [name.translate(_NO_DIGITS) for name in (one, other)]
    if plain[0] == plain[1] or abs(len(one) - len(other)) > 2:
        return 0.0
    return SequenceMatcher(None, one, other).ratio()


_NO_DIGITS = str.maketrans("", "", "0123456789")
