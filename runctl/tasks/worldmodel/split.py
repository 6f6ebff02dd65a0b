"""Which games are trained on and which are held out: whole games, by the rank of their identities' hashes."""

from __future__ import annotations

from collections.abc import Sequence


def sides(identities: Sequence[str], train_split: float) -> tuple[list[int], list[int]]:
    """(training, validation) indices into `identities`.

    The last `1 − train_split` of the ranks are held out, at least one game on each side where there are two.
    The order of the files plays no part. A game's side may change only when games are added or removed.
    """
    ranked = sorted(range(len(identities)), key=lambda index: (identities[index], index))
    count = training_games(len(identities), train_split)
    return sorted(ranked[:count]), sorted(ranked[count:])


def training_games(games: int, train_split: float) -> int:
    """How many of so many games are trained on."""
    count = round(games * train_split)
    return min(max(count, 1), games - 1) if games > 1 else count
