"""An encoded dataset: opening, the split, and windows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.config.model import Encoding, Simulate
from runctl.errors import DataError
from runctl.tasks.worldmodel import dataset, encode, sources
from runctl.tasks.worldmodel.dataset import GameEntry


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    out = tmp_path / "data"
    encode.encode(sources.simulated(Simulate(games=4, seconds=2)), Encoding(), out, workers=1)
    return out


def entries(names: list[str], frames: int = 100) -> list[GameEntry]:
    return [
        GameEntry(index * frames, frames, hashlib.sha256(name.encode()).hexdigest(), name)
        for index, name in enumerate(names)
    ]


def test_open_maps_the_frames_and_knows_the_games(encoded: Path) -> None:
    opened = dataset.open(encoded)
    assert opened.records.shape == (480, opened.layout.record_bytes)
    assert isinstance(opened.records, np.memmap)
    assert not opened.records.flags.writeable
    assert [game.start for game in opened.games] == [0, 120, 240, 360]
    assert opened.manifest["simulated"] is True


def test_a_missing_dataset_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no encoded dataset at") as caught:
        dataset.open(tmp_path / "nothing")
    assert "runctl encode" in str(caught.value.hint)


def test_an_interrupted_encode_is_not_taken_for_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "data.partial").mkdir()
    with pytest.raises(DataError, match=r"not finished: an interrupted encode left data\.partial"):
        dataset.open(tmp_path / "data")


def test_a_cut_frames_file_is_refused(encoded: Path) -> None:
    frames = encoded / dataset.FRAMES
    frames.write_bytes(frames.read_bytes()[:-1])
    with pytest.raises(DataError, match="its manifest says 480 frames"):
        dataset.open(encoded)


def test_a_missing_frames_file_is_refused(encoded: Path) -> None:
    (encoded / dataset.FRAMES).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        dataset.open(encoded)


@pytest.mark.parametrize(("text", "message"), [
    ("{", "cannot be read"),
    ("[]", "is not the manifest of an encoded dataset"),
    ('{"kind": "other"}', "is not the manifest of an encoded dataset"),
    ('{"kind": "encoded-dataset", "schema_version": 99}', "schema_version 99"),
    ('{"kind": "encoded-dataset", "schema_version": 1}', "is damaged"),
])  # fmt: skip
def test_a_damaged_manifest_is_refused(encoded: Path, text: str, message: str) -> None:
    (encoded / dataset.MANIFEST).write_text(text)
    with pytest.raises(DataError, match=message):
        dataset.open(encoded)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=40, unique=True), st.floats(0.01, 0.99), st.randoms())
def test_the_split_is_of_whole_games_and_the_same_in_any_order(names: list[str], share: float, random: object) -> None:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    sides = []
    for order in (names, shuffled):
        train, validation = dataset.split(entries(order), share)
        assert sorted(train + validation) == list(range(len(order)))
        assert train
        assert validation
        sides.append({order[index] for index in train})
    assert sides[0] == sides[1]


def test_the_split_keeps_to_the_share() -> None:
    train, validation = dataset.split(entries([str(number) for number in range(40)]), 0.9)
    assert (len(train), len(validation)) == (36, 4)


def test_a_lone_game_is_trained_on() -> None:
    assert dataset.split(entries(["only"]), 0.9) == ([0], [])


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 12))
def test_windows_never_leave_their_game(lengths: list[int], context: int) -> None:
    games, start = [], 0
    for length in lengths:
        games.append(GameEntry(start, length, str(start), str(start)))
        start += length
    windows = dataset.Windows(games, range(len(games)), context)
    starts = windows[np.arange(len(windows))]
    game_of = np.repeat(np.arange(len(lengths)), lengths)
    assert starts.dtype == np.int64
    assert len(starts) == sum(max(0, length - context) for length in lengths)
    assert len(set(starts.tolist())) == len(starts)
    for first in starts:
        assert game_of[first] == game_of[first + context]


def test_windows_are_of_the_given_games_only() -> None:
    games = entries(["a", "b", "c"])
    windows = dataset.Windows(games, [1], 10)
    assert windows[np.arange(len(windows))].tolist() == list(range(100, 190))


def test_the_stored_split_is_the_one_that_is_recomputed(encoded: Path) -> None:
    opened = dataset.open(encoded)
    stored = json.loads((encoded / dataset.MANIFEST).read_text())["split"]
    assert (stored["train"], stored["validation"]) == dataset.split(opened.games, stored["train_split"])
