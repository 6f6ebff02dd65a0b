"""Metrics and baselines against their definitions, spelled out in plain loops."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from frames import ALL, pack, random_columns

from runctl.config.model import Encoding, LossWeights, Model
from runctl.tasks.worldmodel import baselines, losses, metric_names
from runctl.tasks.worldmodel.encoding import columns
from runctl.tasks.worldmodel.metrics import Metrics
from runctl.tasks.worldmodel.model import Predictions, WorldModel

torch.set_num_threads(1)
AGE = Encoding(state_age_as_embed=True)
NUMBERS = Encoding()
SHAPE = Model(d_model=16, headdim=8, n_layers=1, d_state=4, context_len=4, chunk_size=4, dropout=0.0)
PLAYERS = ("p0", "p1")


def play(encoding, frames, seed=0):
    """One game by column name: four actions that mostly follow each other, and bodies that walk."""
    rng = np.random.default_rng(seed)
    values = random_columns(encoding, (frames,), seed)
    for player in PLAYERS:
        lengths = rng.integers(1, 4, frames)
        actions = np.cumsum(rng.choice([1, 2], frames, p=[0.8, 0.2])) % 4
        values[f"{player}_action"] = np.repeat(actions, lengths)[:frames]
        ages = np.concatenate([np.arange(length) for length in lengths])[:frames]
        values[f"{player}_state_age"] = ages.astype(values[f"{player}_state_age"].dtype)
        values[f"{player}_character"][:] = PLAYERS.index(player)
        for axis in ("x", "y"):
            values[f"{player}_{axis}"] = np.cumsum(rng.normal(0, 1, frames)).astype(np.float32)
    return values


def windows(records, context):
    return torch.stack([records[start : start + context + 1] for start in range(len(records) - context)])


def measured(encoding, batches, games, *, train=()):
    """`Metrics.compute` over batches of windows, with a table counted over `games` of one long record array."""
    torch.manual_seed(0)
    model = WorldModel(encoding, SHAPE, delta_target="residual").eval()
    torch.nn.init.normal_(model.heads["continuous"].weight, std=0.01)
    records = torch.cat(train).numpy() if train else np.zeros((0, columns(encoding).record_bytes), np.uint8)
    metrics = Metrics(model, LossWeights(), encoding, baselines.fit(records, games, columns(encoding), encoding))
    seen = []
    with torch.no_grad():
        for batch in batches:
            predictions = model(batch)
            metrics.update(predictions, batch)
            seen.append(predictions)
    return model, metrics, seen


@pytest.mark.parametrize("encoding", [AGE, NUMBERS, Encoding(**ALL)])
def test_metrics_and_baselines_equal_their_definitions(encoding):
    layout = columns(encoding)
    first, second, held_out = (play(encoding, frames, seed) for seed, frames in enumerate((200, 150, 60)))
    training = [pack(layout, first), pack(layout, second)]
    batches = windows(pack(layout, held_out), 4).split(25)
    model, metrics, seen = measured(encoding, batches, [(0, 200), (200, 150)], train=training)
    found = metrics.compute()

    following = {}
    for game in (first, second):
        for player in PLAYERS:
            key = (game[f"{player}_{name}"].tolist() for name in ("action", "character", "state_age"))
            for now, after in pairwise(zip(*key, strict=True)):
                following.setdefault((now[0], now[1], int(now[2])), Counter())[after[0]] += 1
    table = {key: min(nexts, key=lambda action: (-nexts[action], action)) for key, nexts in following.items()}

    rows = []
    guesses = torch.cat([prediction.outputs["action"].argmax(-1) for prediction in seen])
    moved = torch.cat([p.origin["continuous"] + p.outputs["continuous"] for p in seen])
    for window in range(56):
        for player in PLAYERS:
            side, end = PLAYERS.index(player), window + 4
            action = held_out[f"{player}_action"]
            key = tuple(int(held_out[f"{player}_{name}"][end - 1]) for name in ("action", "character", "state_age"))
            x, y = held_out[f"{player}_x"], held_out[f"{player}_y"]
            rows.append({
                "changed": action[end] != action[end - 1],
                "model": guesses[window, side].item() == action[end],
                "lookup": table.get(key, action[end - 1]) == action[end],
                "position": sum(
                    abs(moved[window, 4 * side + place].item() / encoding.xy_scale - axis[end])
                    for place, axis in ((1, x), (2, y))
                ) / 2,
                "no_motion": sum(abs(axis[end] - axis[end - 1]) for axis in (x, y)) / 2,
                "last_delta": sum(abs(axis[end] - 2 * axis[end - 1] + axis[end - 2]) for axis in (x, y)) / 2,
            })  # fmt: skip

    def mean(name, only_changed=False):
        chosen = [row[name] for row in rows if row["changed"] or not only_changed]
        return pytest.approx(sum(chosen) / len(chosen), rel=1e-4)

    assert found["val/frames"] == 56
    assert found["val/changes"] == sum(row["changed"] for row in rows) > 0
    assert found["val/action_acc"] == mean("model")
    assert found["val/change_acc"] == mean("model", True)
    assert found["val/pos_mae"] == mean("position")
    assert found["baseline/no_motion/pos_mae"] == mean("no_motion")
    assert found["baseline/no_motion/action_acc"] == pytest.approx(1 - found["val/changes"] / 112)
    assert found["baseline/last_delta/pos_mae"] == mean("last_delta")
    assert found["baseline/lookup/action_acc"] == mean("lookup")
    assert found["baseline/lookup/change_acc"] == mean("lookup", True)
    assert 0 < found["baseline/lookup/change_acc"] < 1

    whole = torch.cat(list(batches))
    with torch.no_grad():
        total, parts = losses.loss(model(whole), whole, LossWeights(), model.targets)
    assert found["val/loss"] == pytest.approx(total.item(), rel=1e-5)
    for name, part in parts.items():
        assert found[f"val/loss/{name}"] == pytest.approx(part.item(), rel=1e-5)


def test_how_the_windows_are_cut_into_batches_changes_nothing():
    layout, values = columns(AGE), play(AGE, 60)
    records = pack(layout, values)
    results = [
        measured(AGE, windows(records, 4).split(size), [(0, 60)], train=[records])[1].compute() for size in (56, 7, 25)
    ]
    for other in results[1:]:
        assert other == pytest.approx(results[0], rel=1e-5)


def test_the_names_that_preflight_knows_are_those_that_are_computed():
    _, metrics, _ = measured(AGE, [], [])
    assert set(metrics.compute()) == set(metric_names.NAMES)


def test_a_perfect_prediction_has_no_error():
    records = windows(pack(columns(AGE), play(AGE, 30)), 4)
    model, metrics, _ = measured(AGE, [], [])
    floats, ids = model.features(records)
    outputs = {name: torch.zeros(len(records), width) for name, width in model.targets.widths.items()}
    for kind, vocab in model.vocabs.items():
        wanted = ids[:, -1, model.features.id_columns(kind)].long()
        outputs[kind] = 100.0 * torch.nn.functional.one_hot(wanted, vocab)
    outputs["binary"] = 100.0 * (model.targets.of(floats[:, -1], "binary") - 0.5)
    origin = {name: model.targets.of(floats[:, -1], name) for name in ("continuous", "velocity", "dynamics")}
    metrics.update(Predictions(outputs, origin), records)
    found = metrics.compute()
    assert (found["val/action_acc"], found["val/change_acc"]) == (1.0, 1.0)
    assert found["val/pos_mae"] == pytest.approx(0, abs=1e-6)
    assert found["val/loss"] == pytest.approx(0, abs=1e-6)


def test_where_nothing_changes_change_accuracy_is_no_number():
    values = play(AGE, 30)
    for player in PLAYERS:
        values[f"{player}_action"][:] = 3
    records = windows(pack(columns(AGE), values), 4)
    found = measured(AGE, [records], [])[1].compute()
    assert found["val/changes"] == 0
    assert math.isnan(found["val/change_acc"])
    assert found["baseline/no_motion/action_acc"] == 1.0


def test_a_triple_never_seen_keeps_its_action():
    held_out, other = play(AGE, 60), play(AGE, 60)
    for player in PLAYERS:
        other[f"{player}_action"] += 10
    layout = columns(AGE)
    batch = windows(pack(layout, held_out), 4)
    found = measured(AGE, [batch], [(0, 60)], train=[pack(layout, other)])[1].compute()
    assert found["baseline/lookup/action_acc"] == found["baseline/no_motion/action_acc"]
    assert found["baseline/lookup/change_acc"] == 0.0


def count(actions, ages=None, games=None):
    """A table over one character's game, both players alike."""
    values = random_columns(AGE, (len(actions),))
    for player in PLAYERS:
        values[f"{player}_action"] = np.array(actions)
        values[f"{player}_character"][:] = 0
        values[f"{player}_state_age"] = np.array(ages or [0] * len(actions))
    records = pack(columns(AGE), values).numpy()
    table = baselines.fit(records, games or [(0, len(actions))], columns(AGE), AGE)
    keys = (table.keys // AGE.state_age_embed_vocab // AGE.character_vocab).tolist()
    return dict(zip(keys, table.actions.tolist(), strict=True))


def test_among_equally_common_actions_the_smallest_wins():
    assert count([1, 7, 1, 2, 1, 7, 1, 2, 1])[1] == 2


def test_no_transition_crosses_from_one_game_to_the_next():
    assert count([1, 1, 1, 9, 9, 9], games=[(0, 3), (3, 3)]) == {1: 1, 9: 9}


def test_the_age_tells_two_moments_of_one_action_apart():
    values = count([1, 1, 2, 1, 1, 2], ages=[0, 1, 0, 0, 1, 0])
    assert values[2] == 1
    table = {1: 2}  # the later of the two keys of action 1 is the one with age 1
    assert values[1] == table[1]


def test_counting_in_pieces_changes_nothing(monkeypatch):
    records = pack(columns(AGE), play(AGE, 200)).numpy()
    whole = baselines.fit(records, [(0, 120), (120, 80)], columns(AGE), AGE)
    monkeypatch.setattr(baselines, "CHUNK", 7)
    pieces = baselines.fit(records, [(0, 120), (120, 80)], columns(AGE), AGE)
    np.testing.assert_array_equal(pieces.keys, whole.keys)
    np.testing.assert_array_equal(pieces.actions, whole.actions)


def test_games_of_a_single_frame_and_no_games_give_an_empty_table():
    records = pack(columns(AGE), play(AGE, 2)).numpy()
    assert len(baselines.fit(records, [(0, 1), (1, 1)], columns(AGE), AGE).keys) == 0
    assert len(baselines.fit(records, [], columns(AGE), AGE).keys) == 0
