"""Each of the 33 odd files ends encoded or skipped with its reason: the table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

pytest.importorskip("peppi_py")
pytest.importorskip("slippi")

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encode, slp, sources
from runctl.tasks.worldmodel.games import Skip

EVERYTHING = Encoding(state_age_as_embed=True, projectiles=True, state_flags=True, hitstun=True)
OUTCOMES: dict[str, int | str] = {  # file: frames encoded, or the reason
    "04083edfe4405cc2.slp.gz": "not two players",
    "1d1b5371ae481dee.slp.gz": 301,  # no game-end event, but the recording was closed
    "5736a08cb7c25438.slp.gz": "unknown stage",  # adventure mode
    "5b857a8396d8fa9d.slp.gz": "corrupt",
    "5c13834409df83f5.slp.gz": "not two players",
    "5c89a903f54653f5.slp.gz": "unknown stage",  # home-run contest
    "6a5201e1c46efc27.slp.gz": "not two players",
    "71866065699b1c44.slp.gz": "truncated",
    "7a602b7d12eff7b2.slp.gz": "too old: lacks hitlag, velocities, …",
    "7eb41fb71113ce9c.slp.gz": "too old: lacks hitlag",
    "80028148214e32d3.slp.gz": "not two players",  # home-run stadium, alone
    "85944372905f7015.slp.gz": "too old: lacks hitlag, velocities",
    "91106f522ab40ead.slp.gz": "not two players",
    "96c68a75d98cf911.slp.gz": "too short",  # training mode: one frame id, 1343 times
    "98f070ee1ea1be77.slp.gz": "too short",
    "9a863a4227ac21b2.slp.gz": "truncated",  # never closed, and no game end
    "a8ffe0579c1e8ac6.slp.gz": "too old: lacks hitlag",
    "ae9d9ce786e55ca3.slp.gz": "not two players",
    "b1c3770c9ea95b8b.slp.gz": "not two players",
    "cdd6f00365e6372e.slp.gz": "too old: lacks hitlag, velocities, …",
    "d20953d5af08bd8e.slp.gz": "not two players",
    "da2a7dafe8d488d8.slp.gz": "too old: lacks hitlag, velocities",
    "e1ae65c3d2278af0.slp.gz": "too old: lacks hitlag, velocities, …",
    "e8309dfc492660f1.slp.gz": "too old: lacks hitlag, velocities, …",
    "f6a31c97ac204f5d.slp.gz": "not two players",
    "fe66bc516402d304.slp.gz": "unknown stage",
    "fef9f50195344581.slp.gz": 312,  # peppi refuses its placements; the fallback reads it
    "ff03b49caea98fb5.slp.gz": "too old: lacks hitlag, velocities, …",
    "syn_bitflip.slp": "truncated",
    "syn_empty.slp": "empty file",
    "syn_text.slp": "not a replay",
    "syn_truncated.slp.gz": "truncated",
    "syn_truncated_half.slp": "truncated",
}


def manifest(folder: Path) -> list[str]:
    with (folder / "MANIFEST.csv").open(newline="") as file:
        return [row["file"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_an_odd_file_ends_as_it_should(odd_replays: Path, name: str) -> None:
    try:
        outcome: int | str = slp.read(odd_replays / name, name, EVERYTHING).frames
    except Skip as skip:
        outcome = skip.reason
    assert outcome == OUTCOMES[name]


def test_the_table_has_every_odd_file(odd_replays: Path) -> None:
    assert sorted(manifest(odd_replays)) == sorted(OUTCOMES)


def test_the_odd_files_together_are_encoded_or_listed(odd_replays: Path, tmp_path: Path) -> None:
    report = encode.encode(sources.replays([odd_replays]), EVERYTHING, tmp_path / "odd", workers=2)
    assert (report.games, report.frames) == (2, 613)
    assert {skip.source: skip.reason for skip in report.skipped} == {
        name: outcome for name, outcome in OUTCOMES.items() if isinstance(outcome, str)
    }


def test_of_the_real_games_every_full_one_is_encoded_and_every_partial_one_is_too_old(
    replays: Path, tmp_path: Path
) -> None:
    with (replays / "MANIFEST.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    full = {row["file"]: int(row["frames_unique"]) for row in rows if row["set"] == "full"}
    report = encode.encode(sources.replays([replays]), EVERYTHING, tmp_path / "real", workers=2)
    assert (report.games, report.frames) == (len(full), sum(full.values())) == (39, 321_782)
    assert {skip.source for skip in report.skipped} == {row["file"] for row in rows if row["set"] == "partial"}
    assert all(skip.reason.startswith("too old: lacks hitlag") for skip in report.skipped)


def test_a_real_game_under_other_bytes_is_a_duplicate(odd_replays: Path, replays: Path) -> None:
    """Both are too old to be encoded; with the fields they have, they are told to be one game."""
    from runctl.tasks.worldmodel import slp_header, slp_peppi
    from runctl.tasks.worldmodel.games import Game, Player, content
    from runctl.tasks.worldmodel.slp_columns import player_columns

    games = []
    for path in (odd_replays / "7a602b7d12eff7b2.slp.gz", replays / "23f719cf96e1a6f8.slp.gz"):
        data = slp._bytes(path)
        header = slp_header.read(data)
        recording = slp_peppi.read(slp_header.bare(data, header), [1, 2])
        columns = player_columns(recording, slp.kept_rows(recording.ids, recording.whole))
        players = tuple(Player(port, header.players[port], columns[port]) for port in (1, 2))
        games.append(Game(path.name, header.stage, (players[0], players[1]), header.started, header.version))
    assert content(games[0]) == content(games[1])
