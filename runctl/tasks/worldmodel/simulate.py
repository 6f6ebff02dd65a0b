"""Simulated games: a small deterministic two-player platform fighter, in the same parsed form as real replays.

It exists so that a first run needs no data, and says of itself that it is simulated. Its games are learnable in the
way that real ones are: what a player does next follows from the controller, which the model sees and a lookup
table does not; how a body moves follows from gravity, friction, drift and knockback, which repeating the last
movement does not know.

Games are simulated in batches of equal width, each from its own seed, so that equal specs give equal bytes and a
longer list of games begins with the shorter one. One batch is at most about 200,000 frames in memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from runctl.config.model import Simulate
from runctl.tasks.worldmodel import arena, policy
from runctl.tasks.worldmodel.games import Array, Game, Player

FRAMES_PER_SECOND = 60
VERSION = "simulated-1"


def frames(spec: Simulate) -> int:
    """Frames of each game."""
    return round(spec.seconds * FRAMES_PER_SECOND)


def batches(spec: Simulate) -> list[tuple[int, int, int]]:
    """(batch number, first game, number of games) for all games; `batch` simulates one of them."""
    width = _width(spec)
    starts = range(0, spec.games, width)
    return [(start // width, start, min(width, spec.games - start)) for start in starts]


def games(spec: Simulate) -> Iterator[Game]:
    """All games of the spec, in order."""
    for number, first, count in batches(spec):
        yield from batch(spec, number, first, count)


def batch(spec: Simulate, number: int, first: int, count: int) -> Iterator[Game]:
    """The first `count` games of batch `number`; `first` is the index of the first of them in the whole list."""
    width, length = _width(spec), frames(spec)
    rng = np.random.default_rng([abs(spec.seed), int(spec.seed < 0), number])
    world = arena.start(rng, width)
    minds = policy.start(width)
    tape: dict[str, Array] = {}
    for frame in range(length):
        pad = policy.act(minds, world, rng)
        arena.step(world, pad, rng)
        for name, values in {**arena.observe(world), **policy.observe(pad)}.items():
            if name not in tape:
                tape[name] = np.empty((width, 2, length), values.dtype)
            tape[name][:, :, frame] = values
    for game in range(count):
        yield _game(first + game, spec.seed, world, tape, game)


def _width(spec: Simulate) -> int:
    return max(1, min(64, 200_000 // frames(spec)))


def _game(index: int, seed: int, world: arena.World, tape: dict[str, Array], row: int) -> Game:
    players = tuple(
        Player(side + 1, int(world.character[row, side]), {name: values[row, side] for name, values in tape.items()})
        for side in (0, 1)
    )
    source = f"simulated/seed-{seed}/game-{index:05d}"
    return Game(source, int(world.stage[row]), (players[0], players[1]), source, VERSION, simulated=True)
