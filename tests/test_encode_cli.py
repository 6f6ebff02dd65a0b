"""`runctl encode` from the outside: output, exit codes, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slp_writer
from slp_writer import Replay

CONFIG = """
name: test
data: {encoded: data/games}
encoding: {state_age_as_embed: true}
"""
SIMULATED = CONFIG.replace("data: {", "data: {simulate: {games: 3, seconds: 2}, ")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "runctl.yaml").touch()
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "real.yaml").write_text(CONFIG)
    (tmp_path / "configs" / "simulated.yaml").write_text(SIMULATED)
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "runctl", "encode", *words]


def runctl(project: Path, *words: str, inside: str = ".") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=project / inside,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )


def test_simulated_games_go_where_the_config_says_from_any_folder(project: Path) -> None:
    done = runctl(project, "simulated.yaml", "--json", inside="configs")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["schema_version"], report["games"], report["frames"], report["simulated"]) == (1, 3, 360, True)
    assert Path(report["path"]).resolve() == (project / "data" / "games").resolve()
    assert (project / "data" / "games" / "manifest.json").is_file()


def test_the_table_is_data_and_the_skips_are_prose(project: Path) -> None:
    pytest.importorskip("peppi_py")
    (project / "replays").mkdir()
    slp_writer.write(project / "replays" / "good.slp", Replay())
    (project / "replays" / "empty.slp").touch()
    done = runctl(project, "configs/real.yaml", "--replays", "replays", "--set", "encoding.hitstun=true")
    assert done.returncode == 0, done.stderr
    for word in ("games", "frames", "bytes/frame", "frames/s", "empty file", "data/games"):
        assert word in done.stdout
    assert "skipped empty.slp: empty file" in done.stderr
    manifest = json.loads((project / "data" / "games" / "manifest.json").read_text())
    assert manifest["encoding"]["hitstun"] is True
    again = runctl(project, "configs/real.yaml", "--replays", "replays", "--set", "encoding.hitstun=true")
    assert "up to date" in again.stdout


@pytest.mark.parametrize(("words", "code", "message"), [
    (["configs/real.yaml", "--replays", "nowhere"], 2, "no replays at nowhere: it does not exist"),
    (["configs/real.yaml", "--replays", "none"], 2, "no replays in none"),
    (["configs/real.yaml", "--replays", "bad"], 1, "none of 1 replay could be encoded: 1 empty file"),
    (["configs/real.yaml"], 2, "nothing to encode"),
    (["configs/absent.yaml"], 2, "absent.yaml"),
    (["configs/simulated.yaml", "--workers", "0"], 2, "workers"),
    (["configs/simulated.yaml", "--set", "data.encoded=null"], 2, "has no data.encoded"),
    (["configs/simulated.yaml", "--out", "none"], 2, "not an encoded dataset"),
])  # fmt: skip
def test_bad_input_is_one_message_and_its_exit_code(project: Path, words: list[str], code: int, message: str) -> None:
    (project / "none").mkdir()
    (project / "bad").mkdir()
    (project / "bad" / "empty.slp").touch()
    done = runctl(project, *words)
    assert done.returncode == code, done.stderr
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (project / "data" / "games").exists()


def test_strict_exits_with_1_and_leaves_no_dataset(project: Path) -> None:
    pytest.importorskip("peppi_py")
    (project / "replays").mkdir()
    slp_writer.write(project / "replays" / "good.slp", Replay())
    (project / "replays" / "empty.slp").touch()
    done = runctl(project, "configs/real.yaml", "--replays", "replays", "--strict")
    assert done.returncode == 1
    assert "--strict: 1 of 2 replays would be skipped" in done.stderr
    assert not (project / "data" / "games").exists()


def test_ctrl_c_says_that_the_work_is_kept_and_the_same_command_continues_it(project: Path) -> None:
    pytest.importorskip("peppi_py")
    (project / "replays").mkdir()
    first = slp_writer.write(project / "replays" / "game-000.slp", Replay(frames=2000))
    data = first.read_bytes()
    for number in range(1, 150):
        (project / "replays" / f"game-{number:03d}.slp").write_bytes(data)
    words = ("configs/real.yaml", "--replays", "replays", "--workers", "1")
    running = subprocess.Popen(
        command(*words), cwd=project, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    journal = project / "data" / "games.partial" / "journal.jsonl"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not (journal.exists() and journal.read_bytes().count(b"\n") > 3):
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGINT)
    _, prose = running.communicate(timeout=30)
    assert running.returncode == 130, prose
    assert "the same command continues it" in prose
    assert "Traceback" not in prose
    assert not (project / "data" / "games").exists()
    done = runctl(project, *words, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sources_taken_over"] >= 3
    assert (report["games"], report["skipped_counts"]) == (1, {"duplicate": 149})
