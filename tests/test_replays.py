"""Reading replays: the five faults of real pipelines, and whatever else a file can be."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slp_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slp_writer import Replay

pytest.importorskip("peppi_py")
pytest.importorskip("slippi")

from runctl import install
from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import slp, slp_header, slp_peppi, slp_python
from runctl.tasks.worldmodel.games import Game, Skip, content, identity
from runctl.tasks.worldmodel.pack import dtype, pack
from runctl.tasks.worldmodel.slp_columns import BUTTON_BITS

PLAIN = Encoding(state_age_as_embed=True)
EVERYTHING = Encoding(state_age_as_embed=True, projectiles=True, state_flags=True, hitstun=True)
REASONS = (
    "corrupt", "crashed the parser", "duplicate", "empty file", "frames missing", "not a replay", "not two players",
    "too large", "too old", "too short", "took too long", "truncated", "unknown stage", "unreadable",
)  # fmt: skip


def read(replay: Replay, encoding: Encoding = EVERYTHING) -> Game:
    return slp.parse(slp_writer.build(replay), "game.slp", encoding)


def skipped(data: bytes, encoding: Encoding = EVERYTHING) -> Skip:
    with pytest.raises(Skip) as caught:
        slp.parse(data, "game.slp", encoding)
    return caught.value


def expected(replay: Replay, port: int, name: str) -> np.ndarray:
    frames = range(slp_writer.FIRST, slp_writer.FIRST + replay.frames)
    return np.array([slp_writer.truth(replay, port, frame)[name] for frame in frames])


def check(game: Game, replay: Replay) -> None:
    """Every stored value is the one that was written, for both players."""
    layout = encodings.columns(EVERYTHING)
    records = pack(game, EVERYTHING, layout)[0].view(dtype(layout))[:, 0]
    for index, port in enumerate(sorted(replay.ports)):
        want = {name: expected(replay, port, name) for name in slp_writer.truth(replay, port, 0)}
        got = {name[3:]: records[name] for name in records.dtype.names if name.startswith(f"p{index}_")}
        for name in (*encodings.CORE, *encodings.VELOCITIES, *encodings.STICKS, "shoulder", "hitlag"):
            assert np.array_equal(got[name], want[name].astype(np.float32)), name
        for name in ("action", "jumps", "l_cancel", "hurtbox", "last_attack", "stocks", "combo"):
            assert np.array_equal(got[name], want[name].astype(np.int64)), name
        ground = want["ground"].astype(np.int64)
        assert np.array_equal(got["ground"], np.where(ground == 65_535, 31, ground))
        assert np.array_equal(got["state_age"], np.minimum(want["state_age"], 149))
        assert np.array_equal(got["facing"], want["direction"] > 0)
        assert np.array_equal(got["invulnerable"], want["hurtbox"] != 0)
        assert np.array_equal(got["on_ground"], want["airborne"] == 0)
        assert np.array_equal(got["character"], np.full(replay.frames, replay.characters[replay.ports.index(port)]))
        flags = want["flags"].astype(np.int64)
        for byte in range(5):
            assert np.array_equal(got[f"flags{byte}"], (flags >> (8 * byte)) & 0xFF)
        stunned = (flags >> 25) & 1
        assert np.array_equal(got["hitstun"], np.where(stunned, want["misc"], 0).astype(np.float32))
        for name, bit in BUTTON_BITS.items():
            assert np.array_equal(got[name], (want["buttons"].astype(np.int64) & bit) > 0), name
    assert (records["stage"] == replay.stage).all()


# --- the five faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "lacks"), [
    ((0, 1, 0), "hitlag, velocities, …"), ((2, 0, 1), "hitlag, velocities, …"), ((3, 0, 0), "hitlag, velocities"),
    ((3, 5, 0), "hitlag"), ((3, 7, 0), "hitlag"),
])  # fmt: skip
def test_fault_1_a_game_too_old_is_skipped_by_name(version: tuple[int, int, int], lacks: str) -> None:
    skip = skipped(slp_writer.build(Replay(version=version)), PLAIN)
    assert skip.reason == f"too old: lacks {lacks}"
    assert ".".join(map(str, version)) in skip.detail


def test_fault_1_all_that_an_old_game_lacks_is_in_the_detail() -> None:
    skip = skipped(slp_writer.build(Replay(version=(1, 0, 0))))
    for name in ("hitlag", "velocities", "hurtbox", "l-cancel", "jumps", "ground", "hitstun", "state flags", "items"):
        assert name in skip.detail
    assert "state flags" not in skipped(slp_writer.build(Replay(version=(1, 0, 0))), PLAIN).detail


@pytest.mark.parametrize("version", [(3, 8, 0), (3, 9, 0), (3, 12, 0), (3, 14, 0)])
def test_fault_1_every_version_from_3_8_on_is_read_exactly(version: tuple[int, int, int]) -> None:
    replay = Replay(version=version)
    check(read(replay), replay)


@pytest.mark.parametrize("ports", [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)])
def test_fault_2_players_are_read_from_their_real_ports(ports: tuple[int, int]) -> None:
    replay = Replay(ports=ports, characters=(9, 22))
    game = read(replay)
    assert tuple(player.port for player in game.players) == ports
    assert tuple(player.character for player in game.players) == (9, 22)
    check(game, replay)
    for player in game.players:
        assert player.columns["flags3"].any()
        assert player.columns["hitstun"].any()


def test_fault_3_the_last_row_of_a_rolled_back_frame_is_kept() -> None:
    replay = Replay(rollbacks={0: 3, 50: 7, 51: 1, 200: 40})
    game = read(replay)
    assert game.frames == replay.frames
    check(game, replay)


def test_fault_3_items_of_rolled_back_rows_are_dropped() -> None:
    items = {frame: [(10.0, 20.0)] for frame in range(40, 60)}
    game = read(Replay(items=items, rollbacks={50: 7}))
    count = game.players[0].columns["items"]
    assert count.sum() == 20
    assert count.max() == 1


@pytest.mark.parametrize("version", [(3, 0, 0), (3, 5, 0)])
def test_fault_4_a_panic_of_the_fast_parser_is_a_refusal_and_prints_nothing(
    version: tuple[int, int, int], capfd: pytest.CaptureFixture[str]
) -> None:
    data = slp_writer.build(Replay(version=version))
    with pytest.raises(slp_peppi.Refused, match="PanicException"):
        slp_peppi.read(data, [1, 2])
    assert capfd.readouterr().err == ""
    os.write(2, b"still there\n")
    assert capfd.readouterr().err == "still there\n"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_fault_4_a_wish_to_stop_is_not_taken_for_a_panic(stop: type, monkeypatch: pytest.MonkeyPatch) -> None:
    import peppi_py._peppi

    def interrupted(path: str, skip: bool) -> None:
        raise stop

    monkeypatch.setattr(peppi_py._peppi, "read_slippi", interrupted)
    with pytest.raises(stop):
        slp_peppi.read(b"", [1, 2])


def test_fault_5_the_same_game_under_other_bytes_is_the_same_game() -> None:
    replay = Replay()
    game, renamed = read(replay), read(replace(replay, names=False))
    assert slp_writer.build(replay) != slp_writer.build(replace(replay, names=False))
    assert identity(game) == identity(renamed)
    assert content(game) == content(renamed)


def test_fault_5_a_copy_that_lost_its_metadata_is_known_by_its_frames() -> None:
    game, bare = read(Replay()), read(Replay(started=None, closed=False))
    assert bare.started is None
    assert identity(game) != identity(bare)
    assert content(game) == content(bare)


@pytest.mark.parametrize("other", [
    Replay(started="2022-12-28T02:00:00Z"), Replay(ports=(1, 3)), Replay(characters=(2, 21)), Replay(stage=32),
    Replay(frames=401),
])  # fmt: skip
def test_fault_5_another_game_is_another_game(other: Replay) -> None:
    assert identity(read(Replay())) != identity(read(other))


# --- what else a file can be -------------------------------------------------------------------------------------


def test_the_fallback_parser_reads_what_the_fast_one_refuses() -> None:
    replay = Replay(placement=17, items={5: [(1.0, 2.0), (3.0, 4.0)]}, rollbacks={9: 2}, ports=(2, 4))
    data = slp_writer.build(replay)
    with pytest.raises(slp_peppi.Refused):
        slp_peppi.read(data, [2, 4])
    check(read(replay), replay)


def test_both_parsers_find_the_same() -> None:
    replay = Replay(
        items={5: [(1.0, 2.0), (300.0, 4.0)], 6: [(0.5, 0.25)]},
        rollbacks={9: 2},
        characters=(slp_writer.ICE_CLIMBERS, 2),
    )
    header = slp_header.read(slp_writer.build(replay))
    data = slp_header.bare(slp_writer.build(replay), header)
    fast, slow = slp_peppi.read(data, [1, 2]), slp_python.read(data, [1, 2])
    for recording in (fast, slow):
        rows = slp.kept_rows(recording.ids, recording.whole)
        assert np.array_equal(recording.ids[rows], np.arange(-123, 277))
    assert fast.items is not None
    assert slow.items is not None
    assert len(fast.items.row) == len(slow.items.row) == 3
    for port in (1, 2):
        assert fast.ports[port].keys() == slow.ports[port].keys()
        for name, values in fast.ports[port].items():
            rows = [slp.kept_rows(recording.ids, recording.whole) for recording in (fast, slow)]
            assert np.array_equal(values[rows[0]], slow.ports[port][name][rows[1]]), name


def test_the_nearest_item_is_told_to_each_player() -> None:
    replay = Replay(items={0: [(260.0, 3.0), (495.0, 9.0), (-900.0, 0.0)], 1: [(7.0, 8.0)]})
    game = read(replay)
    row = -slp_writer.FIRST
    for player, near in zip(game.players, [(260.0, 3.0), (495.0, 9.0)], strict=True):
        columns = player.columns
        assert columns["items"][row - 1 : row + 3].tolist() == [0, 3, 1, 0]
        assert columns["item_dx"][row] == np.float32(near[0]) - columns["x"][row]
        assert columns["item_dy"][row] == np.float32(near[1]) - columns["y"][row]
        assert columns["item_dx"][row - 1] == columns["item_dx"][row + 2] == 0


def test_of_ice_climbers_the_leader_is_read() -> None:
    replay = Replay(characters=(slp_writer.ICE_CLIMBERS, 2), rollbacks={30: 4})
    check(read(replay), replay)


@pytest.mark.parametrize("ports", [(1,), (1, 2, 3), (1, 2, 3, 4)])
def test_other_than_two_players_are_skipped(ports: tuple[int, ...]) -> None:
    skip = skipped(slp_writer.build(Replay(ports=ports)))
    assert skip.reason == "not two players"
    assert str(len(ports)) in skip.detail


@pytest.mark.parametrize(("frames", "short"), [(1, True), (123 + 119, True), (123 + 120, False)])
def test_a_game_needs_two_seconds_after_the_countdown(frames: int, short: bool) -> None:
    replay = Replay(frames=frames)
    if short:
        assert skipped(slp_writer.build(replay)).reason == "too short"
    else:
        assert read(replay).frames == frames


def test_a_gap_in_the_frames_is_skipped() -> None:
    assert skipped(slp_writer.build(Replay(missing=(50, 51)))).reason == "frames missing"


def test_a_stage_that_is_no_versus_stage_is_skipped() -> None:
    assert skipped(slp_writer.build(Replay(stage=81))).reason == "unknown stage"


def test_a_recording_without_its_end_event_is_read_if_it_was_closed() -> None:
    check(read(Replay(ended=False)), Replay(ended=False))


def test_a_stream_that_was_never_closed_is_whole_if_the_game_ended_in_it() -> None:
    check(read(Replay(closed=False)), Replay(closed=False))
    assert skipped(slp_writer.build(Replay(closed=False, ended=False))).reason == "truncated"


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.999])
def test_a_cut_file_is_truncated_wherever_it_was_cut(share: float) -> None:
    data = slp_writer.build(Replay(names=False, started=None))
    raw_end = data.rindex(b"U\x08metadata")
    assert skipped(data[: max(int(raw_end * share), 20)]).reason == "truncated"


def test_a_cut_gzip_file_is_truncated_and_a_damaged_one_corrupt(tmp_path: Path) -> None:
    path = slp_writer.write(tmp_path / "game.slp.gz", Replay())
    whole = path.read_bytes()
    reasons = []
    for data in (whole[: len(whole) // 2], whole[:500] + bytes(64) + whole[564:], b"no gzip at all", b""):
        path.write_bytes(data)
        with pytest.raises(Skip) as caught:
            slp.read(path, path.name, PLAIN)
        reasons.append(caught.value.reason)
    assert reasons == ["truncated", "corrupt", "not a replay", "empty file"]


def test_gzip_is_known_by_its_bytes_not_its_name(tmp_path: Path) -> None:
    data = slp_writer.build(Replay())
    (tmp_path / "a.slp").write_bytes(gzip.compress(data))
    (tmp_path / "b.slp.gz").write_bytes(data)
    (tmp_path / "c.slp.gz").write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]))
    games = [slp.read(path, path.name, PLAIN) for path in sorted(tmp_path.iterdir())]
    assert len({content(game) for game in games}) == 1


def test_a_gzip_bomb_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slp, "MAX_BYTES", 1_000_000)
    path = tmp_path / "bomb.slp.gz"
    path.write_bytes(gzip.compress(slp_header.MAGIC + bytes(50_000_000)))
    with pytest.raises(Skip, match="too large"):
        slp.read(path, path.name, PLAIN)


def test_no_name_reaches_a_parser_or_a_game() -> None:
    data = slp_writer.build(Replay())
    assert slp_writer.NAME.encode() in data
    bare = slp_header.bare(data, slp_header.read(data))
    for secret in (slp_writer.NAME.encode(), b"SOME", "ＴＡＧ".encode("shift-jis")):
        assert secret in data
        assert secret not in bare
    assert slp_writer.NAME not in repr(read(Replay()))


def test_without_parsers_a_person_learns_what_to_install(tmp_path: Path) -> None:
    path = slp_writer.write(tmp_path / "game.slp", Replay())
    program = (
        "import sys\n"
        "for name in ('peppi_py', 'slippi'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from runctl.config.model import Encoding\n"
        "from runctl.errors import RunctlError\n"
        "from runctl.tasks.worldmodel import slp\n"
        "try:\n"
        "    slp.read(Path(sys.argv[1]), 'game', Encoding())\n"
        "except RunctlError as error:\n"
        "    print(error.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == install.hint("melee") + "\n"


def test_nan_and_infinity_are_stored_and_counted_not_repaired() -> None:
    game = read(Replay())
    game.players[0].columns["x"] = game.players[0].columns["x"].copy()
    game.players[0].columns["x"][:3] = [np.nan, np.inf, -np.inf]
    layout = encodings.columns(EVERYTHING)
    records, audit = pack(game, EVERYTHING, layout)
    assert np.isnan(records.view(dtype(layout))["p0_x"][0])
    facts = audit.to_manifest()["p0_x"]
    assert (facts["nan"], facts["inf"], facts["constant"]) == (1, 2, False)
    assert facts["max"] == float(game.players[0].columns["x"][3:].max())


# --- anything at all ---------------------------------------------------------------------------------------------

SMALL = slp_writer.build(Replay(frames=123 + 121, rollbacks={3: 2}, items={4: [(1.0, 2.0)]}))
anything = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(data: bytes) -> None:
    try:
        game = slp.parse(data, "game.slp", EVERYTHING)
        pack(game, EVERYTHING, encodings.columns(EVERYTHING))
    except Skip as skip:
        if skip.reason.split(":")[0] not in REASONS:
            raise


@anything
@given(st.binary(max_size=400))
def test_random_bytes_are_skipped_with_a_reason(data: bytes) -> None:
    outcome(data)
    outcome(SMALL[:15] + data)


@anything
@given(st.integers(0, len(SMALL)))
def test_a_file_cut_anywhere_is_skipped_or_read(length: int) -> None:
    outcome(SMALL[:length])


@anything
@given(st.lists(st.tuples(st.integers(0, 2500), st.integers(0, 255)), min_size=1, max_size=6))
def test_damaged_heads_are_skipped_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for place, value in changes:
        data[place] = value
    outcome(bytes(data))


@anything
@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=20))
def test_damaged_bodies_are_skipped_or_read(changes: list[tuple[int, int]]) -> None:
    data = bytearray(SMALL)
    for place, value in changes:
        data[place] = value
    outcome(bytes(data))


# --- real ones ---------------------------------------------------------------------------------------------------


def test_real_replays_are_read_by_both_parsers_alike(replays: Path) -> None:
    path = replays / "97ac00f2cd6ac5b3.slp.gz"
    if not path.exists():
        pytest.skip("that replay is not here")
    data = gzip.decompress(path.read_bytes())
    header = slp_header.read(data)
    bare = slp_header.bare(data, header)
    fast, slow = (parser.read(bare, sorted(header.players)) for parser in (slp_peppi, slp_python))
    kept = [slp.kept_rows(recording.ids, recording.whole) for recording in (fast, slow)]
    for port, columns in fast.ports.items():
        for name, values in columns.items():
            assert np.array_equal(values[kept[0]], slow.ports[port][name][kept[1]]), name
