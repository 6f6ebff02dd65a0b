"""Simulated games: deterministic, complete, and worth learning from."""

from __future__ import annotations

import numpy as np
import pytest

from runctl.config.model import Encoding, Simulate
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import simulate
from runctl.tasks.worldmodel.games import Game, content, identity
from runctl.tasks.worldmodel.pack import pack

EVERYTHING = Encoding(state_age_as_embed=True, projectiles=True, state_flags=True, hitstun=True)


@pytest.fixture(scope="module")
def some() -> list[Game]:
    return list(simulate.games(Simulate(games=24, seconds=20, seed=3)))


def column(games: list[Game], name: str) -> np.ndarray:
    return np.stack([player.columns[name] for game in games for player in game.players])


def packed(games: list[Game]) -> bytes:
    layout = encodings.columns(EVERYTHING)
    return b"".join(pack(game, EVERYTHING, layout)[0].tobytes() for game in games)


def test_equal_seeds_give_equal_bytes_and_other_seeds_other_games(some: list[Game]) -> None:
    again = list(simulate.games(Simulate(games=24, seconds=20, seed=3)))
    other = list(simulate.games(Simulate(games=24, seconds=20, seed=4)))
    assert packed(some) == packed(again)
    assert packed(some) != packed(other)


def test_a_longer_list_begins_with_the_shorter_one(some: list[Game]) -> None:
    assert packed(list(simulate.games(Simulate(games=5, seconds=20, seed=3)))) == packed(some[:5])


def test_batches_join_without_gap_or_repetition() -> None:
    spec = Simulate(games=70, seconds=2)
    assert len(simulate.batches(spec)) == 2
    games = list(simulate.games(spec))
    assert [game.source[-5:] for game in games] == [f"{number:05d}" for number in range(70)]
    assert len({identity(game) for game in games}) == len({content(game) for game in games}) == 70


def test_a_game_has_every_column_of_every_encoding_and_says_that_it_is_simulated(some: list[Game]) -> None:
    for encoding in (EVERYTHING, Encoding()):
        for player in some[0].players:
            assert set(encodings.fields(encoding)) <= set(player.columns)
    assert all(game.simulated and game.frames == 1200 for game in some)


def test_nothing_is_nan_and_ids_fit_their_vocabularies(some: list[Game]) -> None:
    layout = encodings.columns(EVERYTHING)
    for game in some:
        _, audit = pack(game, EVERYTHING, layout)
        for name, facts in audit.columns.items():
            assert (facts.nan, facts.inf) == (0, 0), name
            assert facts.clipped == 0 or name.endswith("state_age"), name


def test_positions_follow_from_speeds_wherever_nothing_stops_the_body(some: list[Game]) -> None:
    flying = (column(some, "on_ground")[:, 1:] == 0) & (column(some, "hitlag")[:, 1:] == 0)
    flying &= ~np.isin(column(some, "action")[:, 1:], (0, 12)) & ~np.isin(column(some, "action")[:, :-1], (0, 12))
    struck = column(some, "hitlag")[:, :-1] > 0
    assert flying.sum() > 5000
    for place, own, knocked in (("x", "self_air_x", "attack_x"), ("y", "self_y", "attack_y")):
        speed = (column(some, own) + column(some, knocked))[:, 1:]
        assert np.abs(np.diff(column(some, place)) - speed)[flying & ~struck].max() < 1e-3


def test_the_next_action_follows_from_the_controller_where_a_lookup_cannot_know(some: list[Game]) -> None:
    """On frames that leave standing, the action entered is far better told by the controller than by its odds."""
    action = column(some, "action")
    leaves = (action[:, :-1] == 14) & (action[:, 1:] != 14)
    entered = action[:, 1:][leaves]
    pressed = [column(some, f"button_{name}")[:, 1:][leaves] for name in ("a", "b", "x", "y", "z")]
    keys = np.array([*pressed, np.abs(column(some, "stick_x")[:, 1:][leaves]) > 0.8,
                     np.abs(column(some, "cstick_x")[:, 1:][leaves]) > 0.5,
                     column(some, "shoulder")[:, 1:][leaves] > 0.3]).T  # fmt: skip
    blind = np.mean(entered == np.bincount(entered).argmax())
    right = 0
    for key in np.unique(keys, axis=0):
        same = entered[(keys == key).all(axis=1)]
        right += int(np.sum(same == np.bincount(same).argmax()))
    assert blind < 0.5
    assert right / len(entered) > blind + 0.25


def test_games_have_hits_shields_shots_lost_stocks_and_platforms(some: list[Game]) -> None:
    assert column(some, "hitstun").max() > 0
    assert column(some, "shield").min() < 50
    assert column(some, "items").max() > 0
    assert column(some, "stocks").min() < 4
    assert set(np.unique(column(some, "ground"))) >= {0, 1, 2}
    assert len(np.unique(column(some, "action"))) >= 18
