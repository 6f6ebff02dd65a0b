"""The encode verb: parallel, continued, strict, duplicates, dying workers, full disks."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slp_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from slp_writer import Replay

from runctl import record
from runctl.config.model import Encoding, Simulate
from runctl.errors import DataError, PlaceError, UsageError
from runctl.tasks.worldmodel import dataset, encode, partial, sources, workers
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel.games import Array, Game, Player, Skip
from runctl.tasks.worldmodel.pack import dtype, pack
from runctl.tasks.worldmodel.sources import Source

pytest.importorskip("peppi_py")
ENCODING = Encoding(state_age_as_embed=True)
EVERYTHING = Encoding(state_age_as_embed=True, projectiles=True, state_flags=True, hitstun=True)
GAMES = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six small games; the fourth is compressed, the fifth lies deeper."""
    root = tmp_path / "replays"
    (root / "sub").mkdir(parents=True)
    for seed in range(GAMES):
        name = ("a.slp", "b.slp", "c.slp", "d.slp.gz", "sub/e.slp", "z.slp")[seed]
        slp_writer.write(root / name, game(seed))
    return root


def game(seed: int) -> Replay:
    return Replay(frames=250 + seed, seed=seed, started=f"2023-01-0{seed + 1}T00:00:00Z")


def run(folder: Path, out: Path, encoding: Encoding = ENCODING, **more: object) -> encode.EncodeReport:
    return encode.encode(sources.replays([folder]), encoding, out, **{"workers": 2, **more})  # type: ignore[arg-type]


def contents(out: Path) -> dict[str, str]:
    """Digest of every file of a dataset; of the manifest, of everything but the time it was made."""
    found = {}
    for path in sorted(out.iterdir()):
        data = path.read_bytes()
        if path.name == dataset.MANIFEST:
            data = json.dumps({key: value for key, value in json.loads(data).items() if key != "created"}).encode()
        found[path.name] = hashlib.sha256(data).hexdigest()
    return found


# --- workers' stand-ins: they must be importable by a spawned process ----------------------------------------------


def killed_on_c(source: Source, encoding: Encoding) -> workers.Result:
    if source.name == "c.slp":
        os.kill(os.getpid(), signal.SIGKILL)
    return workers.work(source, encoding)


def killed_once_on_c(source: Source, encoding: Encoding) -> workers.Result:
    if source.name == "c.slp" and isinstance(source, sources.Replay):
        mark = source.path.with_name("was-here")
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return workers.work(source, encoding)


def hangs_on_c(source: Source, encoding: Encoding) -> workers.Result:
    while source.name == "c.slp":
        time.sleep(1)
    return workers.work(source, encoding)


def defective(source: Source, encoding: Encoding) -> workers.Result:
    raise ZeroDivisionError("a defect of runctl")


def tells_whether_ctrl_c_is_held_off(source: Source, encoding: Encoding) -> workers.Result:
    return workers.Result(str(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])), "")


def aborts_on_every(source: Source, encoding: Encoding) -> workers.Result:
    os.abort()


# --- the plain way -------------------------------------------------------------------------------------------------


def test_encode_stores_every_game_and_says_what_it_did(folder: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int, int]] = []
    report = run(folder, tmp_path / "out", progress=lambda *step: steps.append(step))
    frames = sum(250 + seed for seed in range(GAMES))
    assert (report.games, report.frames, report.skipped) == (GAMES, frames, ())
    assert steps[0] == (0, GAMES, 0)
    assert steps[-1] == (GAMES, GAMES, frames)
    opened = dataset.open(tmp_path / "out")
    assert [entry.source for entry in opened.games] == ["a.slp", "b.slp", "c.slp", "d.slp.gz", "sub/e.slp", "z.slp"]
    assert opened.digest == encodings.dataset_digest(ENCODING)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["frames.bin", "manifest.json"]
    assert not partial.folder(tmp_path / "out").exists()


def test_the_number_of_workers_changes_no_byte(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "one", workers=1)
    run(folder, tmp_path / "three", workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_stored_values_are_the_ones_in_the_replay(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", EVERYTHING)
    opened = dataset.open(tmp_path / "out")
    rows = np.array(opened.records).view(dtype(opened.layout))[:, 0]
    for seed, entry in enumerate(opened.games):
        ids = range(slp_writer.FIRST, slp_writer.FIRST + entry.frames)
        for index, port in enumerate((1, 2)):
            mine = rows[entry.start : entry.start + entry.frames]
            for name in ("x", "percent", "hitlag", "action", "stocks", "last_attack"):
                want = [slp_writer.truth(game(seed), port, frame)[name] for frame in ids]
                assert np.array_equal(mine[f"p{index}_{name}"], np.array(want, mine[f"p{index}_{name}"].dtype)), name


def test_sources_carry_their_sha256_and_the_copy_to_commit_names_no_file(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for entry in manifest["games"]:
        assert entry["sha256"] == hashlib.sha256((folder / entry["source"]).read_bytes()).hexdigest()
    copy = (tmp_path / "out.manifest.json").read_text()
    assert ".slp" not in copy
    assert json.loads(copy)["encoding_digest"] == manifest["encoding_digest"]
    assert json.loads(copy)["columns"] == manifest["columns"]
    assert (json.loads(copy)["games"], json.loads(copy)["split"]["validation"]) == (GAMES, 1)


def test_no_player_name_is_kept_anywhere(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    for path in [*(tmp_path / "out").iterdir(), tmp_path / "out.manifest.json"]:
        for secret in (slp_writer.NAME.encode(), b"SOME", "ＴＡＧ".encode("shift-jis")):
            assert secret not in path.read_bytes()


def test_the_audit_is_that_of_the_stored_values(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", EVERYTHING)
    opened = dataset.open(tmp_path / "out")
    rows = np.array(opened.records).view(dtype(opened.layout))[:, 0]
    for name in opened.layout.names():
        facts, values = opened.manifest["columns"][name], rows[name].astype(np.float64)
        assert (facts["min"], facts["max"]) == (values.min(), values.max()), name
        assert facts["mean"] == pytest.approx(values.mean(), rel=1e-9, abs=1e-12), name
        assert (facts["zeros"], facts["nan"], facts["inf"]) == (int((values == 0).sum()), 0, 0), name
        assert facts["constant"] is bool(values.min() == values.max()), name
    assert opened.manifest["columns"]["p0_ground"]["clipped"] > 0
    assert opened.manifest["columns"]["p0_items"]["constant"] is True


def test_simulated_games_are_encoded_and_marked(tmp_path: Path) -> None:
    spec = Simulate(games=70, seconds=2)
    reports = [
        encode.encode(sources.simulated(spec), ENCODING, tmp_path / name, workers=count)
        for name, count in (("one", 1), ("two", 2))
    ]
    assert all(report.simulated and report.games == 70 and report.frames == 70 * 120 for report in reports)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert json.loads((tmp_path / "one.manifest.json").read_text())["simulated"] is True


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_pack_and_view_give_back_every_number(data: st.DataObject) -> None:
    """Whatever values a game has, each column is read back exactly (ids within their vocabularies)."""
    flags = data.draw(st.tuples(*[st.booleans()] * 4))
    encoding = Encoding(state_age_as_embed=flags[0], projectiles=flags[1], state_flags=flags[2], hitstun=flags[3])
    layout = encodings.columns(encoding)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    frames = data.draw(st.integers(1, 40))
    players = tuple(Player(port, 2, random_columns(layout, player, frames, rng)) for player, port in ((0, 1), (1, 4)))
    stage = data.draw(st.integers(0, 32))
    game = Game("made", stage, (players[0], players[1]), None, "made")
    records, _ = pack(game, encoding, layout)
    assert records.shape == (frames, layout.record_bytes)
    rows = records.view(dtype(layout))[:, 0]
    for column in layout.columns:
        if column.player is not None:
            want = game.players[column.player].columns[column.field]
            assert np.array_equal(
                rows[column.name], want.astype(rows[column.name].dtype), equal_nan=column.vocab is None
            )
    assert (rows["stage"] == stage).all()


def made(seed: int = 0) -> Game:
    layout, rng = encodings.columns(EVERYTHING), np.random.default_rng(seed)
    players = tuple(Player(port, 2, random_columns(layout, port - 1, 7, rng)) for port in (1, 2))
    return Game("made", 31, (players[0], players[1]), None, "1.2.3")


def test_ids_beyond_a_vocabulary_become_its_last_id_and_are_counted() -> None:
    game = made()
    game.players[0].columns["action"] = np.array([0, 398, 399, 400, 500, 65_535, 1], np.uint16)
    game.players[0].columns["state_age"] = np.array([-1, 0, 2.75, 149, 150, np.nan, np.inf], np.float32)
    layout = encodings.columns(EVERYTHING)
    records, audit = pack(game, EVERYTHING, layout)
    rows = records.view(dtype(layout))[:, 0]
    assert rows["p0_action"].tolist() == [0, 398, 399, 399, 399, 399, 1]
    assert rows["p0_state_age"].tolist() == [0, 0, 2, 149, 149, 0, 149]
    assert audit.columns["p0_action"].clipped == 3
    assert (audit.columns["p0_state_age"].clipped, audit.columns["p0_state_age"].nan) == (2, 1)


def test_floors_beyond_the_vocabulary_stay_apart() -> None:
    game = made()
    game.players[0].columns["ground"] = np.array([0, 30, 34, 35, 36, 54, 65_535], np.uint16)
    layout = encodings.columns(EVERYTHING)
    records, audit = pack(game, EVERYTHING, layout)
    assert records.view(dtype(layout))[:, 0]["p0_ground"].tolist() == [0, 30, 3, 4, 5, 23, 31]
    assert audit.columns["p0_ground"].clipped == 5


def test_a_game_without_a_needed_column_is_refused_by_name() -> None:
    game = made()
    for player in game.players:
        del player.columns["hitlag"], player.columns["self_y"], player.columns["attack_x"]
    with pytest.raises(Skip, match="too old: lacks velocities, hitlag"):
        pack(game, ENCODING, encodings.columns(ENCODING))


def random_columns(layout: encodings.Layout, player: int, frames: int, rng: np.random.Generator) -> dict[str, Array]:
    columns: dict[str, Array] = {}
    for column in layout.columns:
        if column.player != player:
            continue
        if column.vocab is not None:
            columns[column.field] = rng.integers(0, column.vocab, frames).astype(np.uint16)
        elif column.dtype == "f32":
            columns[column.field] = rng.integers(0, 2**32, frames, dtype=np.uint32).view(np.float32)
        else:
            columns[column.field] = rng.integers(0, 256, frames).astype(np.uint8)
    return columns


# --- what is skipped -----------------------------------------------------------------------------------------------


def test_what_cannot_be_encoded_is_counted_and_listed_with_its_reason(folder: Path, tmp_path: Path) -> None:
    slp_writer.write(folder / "old.slp", Replay(version=(3, 5, 0)))
    slp_writer.write(folder / "three.slp", Replay(ports=(1, 2, 3)))
    slp_writer.write(folder / "cut.slp", Replay(), cut=20_000)
    (folder / "empty.slp").touch()
    (folder / "text.slp").write_text("hello")
    (folder / "readme.txt").write_text("not looked at")
    report = run(folder, tmp_path / "out")
    assert report.games == GAMES
    assert report.skipped_counts == {
        "empty file": 1, "not a replay": 1, "not two players": 1, "too old: lacks hitlag": 1, "truncated": 1,
    }  # fmt: skip
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["skipped_counts"] == report.skipped_counts
    assert {"source": "three.slp", "reason": "not two players", "detail": "3 players"} in manifest["skipped"]


def test_the_same_game_twice_is_stored_once_and_the_first_is_named(folder: Path, tmp_path: Path) -> None:
    slp_writer.write(folder / "b-again.slp.gz", replace(game(1), names=False))
    slp_writer.write(folder / "c-stream.slp", replace(game(2), started=None, closed=False))
    report = run(folder, tmp_path / "out")
    assert report.games == GAMES
    assert [(skip.source, skip.reason) for skip in report.skipped] == [("b.slp", "duplicate"), ("c.slp", "duplicate")]
    assert [skip.detail for skip in report.skipped] == ["same game as b-again.slp.gz", "same game as c-stream.slp"]


def test_no_game_is_on_both_sides_of_the_split(folder: Path, tmp_path: Path) -> None:
    for seed in range(GAMES):
        slp_writer.write(folder / f"copy-{seed}.slp.gz", replace(game(seed), names=False))
    run(folder, tmp_path / "out")
    opened = dataset.open(tmp_path / "out")
    sides = [{opened.games[index].identity for index in side} for side in dataset.split(opened.games, 0.5)]
    assert len(sides[0]) == len(sides[1]) == 3
    assert not sides[0] & sides[1]


def test_strict_refuses_any_skip_and_the_work_is_not_lost(folder: Path, tmp_path: Path) -> None:
    (folder / "empty.slp").touch()
    with pytest.raises(DataError, match=r"--strict: 1 of 7 replays would be skipped: 1 empty file"):
        run(folder, tmp_path / "out", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.partial", "replays"]
    report = run(folder, tmp_path / "out")
    assert (report.continued, report.frames_encoded) == (7, 0)


def test_no_game_at_all_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "replays").mkdir()
    with pytest.raises(UsageError, match="no replays in"):
        run(tmp_path / "replays", tmp_path / "out")
    (tmp_path / "replays" / "empty.slp").touch()
    with pytest.raises(DataError, match="none of 1 replay could be encoded: 1 empty file"):
        run(tmp_path / "replays", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["replays"]


def test_a_missing_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it does not exist"):
        sources.replays([tmp_path / "nowhere"])


def test_max_games_takes_the_first_ones(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out", max_games=2)
    assert report.games == 2
    assert [entry.source for entry in dataset.open(tmp_path / "out").games] == ["a.slp", "b.slp"]
    assert run(folder, tmp_path / "out", max_games=2).up_to_date
    with pytest.raises(UsageError, match="other sources"):
        run(folder, tmp_path / "out", max_games=3)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_an_unreadable_file_is_skipped(folder: Path, tmp_path: Path) -> None:
    (folder / "a.slp").chmod(0)
    assert run(folder, tmp_path / "out").skipped_counts == {"unreadable": 1}


def test_a_file_that_vanishes_is_skipped(folder: Path, tmp_path: Path) -> None:
    found = sources.replays([folder])
    stamps = [source.stamp() for source in found]
    (folder / "a.slp").unlink()
    result = workers.work(found[0], ENCODING)
    assert stamps
    assert [skip.reason for skip in result.skipped] == ["unreadable"]


# --- what is there already -----------------------------------------------------------------------------------------


def test_a_second_encode_of_the_same_does_nothing(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    before = (tmp_path / "out" / "manifest.json").stat().st_mtime_ns
    report = run(folder, tmp_path / "out")
    assert report.up_to_date
    assert report.games == GAMES
    assert (tmp_path / "out" / "manifest.json").stat().st_mtime_ns == before


def test_another_encoding_or_other_bytes_are_refused_unless_overwritten(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out")
    with pytest.raises(UsageError, match="another encoding"):
        run(folder, tmp_path / "out", EVERYTHING)
    slp_writer.write(folder / "b.slp", replace(game(1), seed=9))
    with pytest.raises(UsageError, match="other sources"):
        run(folder, tmp_path / "out")
    assert run(folder, tmp_path / "out", EVERYTHING, overwrite=True).record_bytes == 204
    assert dataset.open(tmp_path / "out").digest == encodings.dataset_digest(EVERYTHING)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.manifest.json", "replays"]


def test_a_folder_that_is_no_dataset_is_never_overwritten(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    (tmp_path / "out" / "manifest.json").write_text('{"name": "my web site"}')
    for overwrite in (False, True):
        with pytest.raises(UsageError, match="not an encoded dataset"):
            run(folder, tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


# --- interrupted, killed, out of room ------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 4])
def test_an_interrupted_encode_continues_to_the_identical_dataset(folder: Path, tmp_path: Path, after: int) -> None:
    def interrupt(done: int, total: int, frames: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    run(folder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", progress=interrupt)
    assert not (tmp_path / "out").exists()
    assert run(folder, tmp_path / "out").continued == after
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_torn_journal_costs_only_its_last_source(folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, frames: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    run(folder, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", progress=interrupt)
    journal = partial.folder(tmp_path / "out") / partial.JOURNAL
    journal.write_bytes(journal.read_bytes()[:-30])
    with (partial.folder(tmp_path / "out") / dataset.FRAMES).open("ab") as frames:
        frames.write(b"half a game")
    assert run(folder, tmp_path / "out").continued == 3
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_source_that_changed_meanwhile_is_done_again(folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, frames: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", progress=interrupt)
    slp_writer.write(folder / "b.slp", replace(game(1), seed=9))
    assert run(folder, tmp_path / "out").continued == 1
    run(folder, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_an_encode_may_be_interrupted_again_and_again(folder: Path, tmp_path: Path) -> None:
    def interrupt_at(number: int) -> Callable[[int, int, int], None]:
        def interrupt(done: int, total: int, frames: int) -> None:
            if done == number:
                raise KeyboardInterrupt

        return interrupt

    for number, changed in ((5, "c.slp"), (3, "b.slp"), (2, None)):
        with pytest.raises(KeyboardInterrupt):
            run(folder, tmp_path / "out", progress=interrupt_at(number))
        if changed:
            slp_writer.write(folder / changed, replace(game(2), seed=10 + number, started=None))
    assert run(folder, tmp_path / "out").continued == 2
    run(folder, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_partial_of_another_encoding_is_begun_anew(folder: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int, frames: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "out", progress=interrupt)
    assert run(folder, tmp_path / "out", EVERYTHING).continued == 0
    assert dataset.open(tmp_path / "out").digest == encodings.dataset_digest(EVERYTHING)


def test_two_encodes_do_not_write_to_one_place(folder: Path, tmp_path: Path) -> None:
    def also(done: int, total: int, frames: int) -> None:
        with pytest.raises(UsageError, match="another encode is writing"):
            run(folder, tmp_path / "out")

    assert run(folder, tmp_path / "out", progress=also).games == GAMES


def test_a_killed_worker_costs_only_the_file_that_killed_it(folder: Path, tmp_path: Path) -> None:
    report = run(folder, tmp_path / "out", do=killed_on_c)
    assert report.games == GAMES - 1
    assert [(skip.source, skip.reason) for skip in report.skipped] == [("c.slp", "crashed the parser")]
    assert [entry.source for entry in dataset.open(tmp_path / "out").games] == [
        "a.slp", "b.slp", "d.slp.gz", "sub/e.slp", "z.slp",
    ]  # fmt: skip


def test_a_worker_killed_by_chance_costs_nothing(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "whole")
    assert run(folder, tmp_path / "out", do=killed_once_on_c).skipped == ()
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_file_that_takes_too_long_is_skipped(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hurry(done: int, total: int, frames: int) -> None:
        if done == 2:  # the workers are awake by now
            monkeypatch.setattr(workers, "LIMIT_SECONDS", 3.0)

    report = run(folder, tmp_path / "out", do=hangs_on_c, progress=hurry)
    assert [(skip.source, skip.reason) for skip in report.skipped] == [("c.slp", "took too long")]
    assert report.games == GAMES - 1


def test_a_defect_in_a_worker_is_raised_not_skipped(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        run(folder, tmp_path / "out", do=defective)


def test_ctrl_c_is_left_to_the_parent(folder: Path) -> None:
    results = workers.results(sources.replays([folder]), ENCODING, 2, tells_whether_ctrl_c_is_held_off)
    assert [result.source for result in results] == ["True"] * GAMES
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_no_worker_outlives_an_interrupted_encode(folder: Path) -> None:
    results = workers.results(sources.replays([folder]), ENCODING, 2)
    next(results)
    children = multiprocessing.active_children()
    assert len(children) == 2
    results.close()
    assert not any(child.is_alive() for child in children)


def test_workers_that_all_die_leave_a_message_and_no_dataset(folder: Path, tmp_path: Path) -> None:
    for path in ("c.slp", "d.slp.gz", "sub/e.slp", "z.slp"):
        (folder / path).unlink()
    with pytest.raises(DataError, match="2 crashed the parser"):
        run(folder, tmp_path / "out", do=aborts_on_every)


def test_a_full_disk_is_an_error_of_the_disk_and_the_encode_continues(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = partial.Partial.append

    def full(self: partial.Partial, row: dict[str, object], blocks: list[object]) -> None:
        if self.size > 100_000:
            raise OSError(28, "No space left on device", str(self.path / "frames.bin"))
        append(self, row, blocks)

    run(folder, tmp_path / "whole")
    with monkeypatch.context() as patched:
        patched.setattr(partial.Partial, "append", full)
        with pytest.raises(PlaceError, match="no space left on") as caught:
            run(folder, tmp_path / "out")
    assert "run the same command again" in str(caught.value.hint)
    assert run(folder, tmp_path / "out").continued > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_crash_before_the_manifest_leaves_no_dataset(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(path: Path, data: object) -> None:
        raise OSError(5, "Input/output error", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(record, "write_json", crash)
        with pytest.raises(DataError, match="Input/output error"):
            run(folder, tmp_path / "out")
    with pytest.raises(DataError, match="not finished"):
        dataset.open(tmp_path / "out")
    assert run(folder, tmp_path / "out").continued == GAMES
