"""`runctl data push|ls|check`: the command as a subprocess, with the unmodified client, against the loopback plane."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from plane import Plane

from runctl import config as configs
from runctl.errors import DataError
from runctl.tasks.worldmodel import dataset, encoding, parts

ROOT = Path(__file__).parent.parent
PART = 4096
THERE = "datasets/data/melee"
CONFIG = "name: job\ndata: {encoded: data/melee}\ntraining: {steps: 100, seed: 1}\n"
# The same command with parts so small that a test has some.
RUN = f"from runctl.tasks.worldmodel import parts; parts.PART_BYTES = {PART}; from runctl.cli import main; main()"


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane() as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("modal: {volume: team}\n")
    (tmp_path / "job.yaml").write_text(CONFIG)
    make(tmp_path / "data" / "melee")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def make(folder: Path, games: int = 3, seed: int = 0) -> bytes:
    """A dataset of a hundred frames a game with the default encoding; returns its frames."""
    config = folder.parent.parent / "job.yaml"
    layout = encoding.columns(configs.load(config).config.encoding)
    data = (str(seed).encode() + os.urandom(7)) * (100 * games * layout.record_bytes // 8 + 1)
    data = data[: 100 * games * layout.record_bytes]
    manifest = {
        "schema_version": 1,
        "kind": "encoded-dataset",
        "encoding": encoding.dataset_keys(configs.load(config).config.encoding),
        "encoding_digest": encoding.dataset_digest(configs.load(config).config.encoding),
        "layout": layout.to_manifest(),
        "frames": 100 * games,
        "games": [{"identity": f"g{n}", "start": 100 * n, "frames": 100, "source": f"{n}.slp"} for n in range(games)],
        "created": "2026-11-21T10:00:00Z",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "frames.bin").write_bytes(data)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return data


def runctl(plane: Plane, project: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = plane.environment(PYTHONPATH=str(ROOT), **environment)
    command = [sys.executable, "-c", RUN, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=project, env=given, timeout=60, check=False)


def said(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_what_is_pushed_is_listed_and_checked_and_opens_as_the_same_dataset(plane: Plane, project: Path) -> None:
    frames = (project / "data" / "melee" / "frames.bin").read_bytes()
    assert len(frames) > 3 * PART
    pushed = said(runctl(plane, project, "data", "push", "job.yaml", "--json"))
    count = -(-len(frames) // PART)
    assert (pushed["sent"], pushed["parts"], pushed["up_to_date"]) == (len(frames), count, False)
    puts = [entry.fields() for entry in plane.ledger.of("VolumePutFiles")]
    assert [file["filename"].rpartition("/")[2] for file in puts[-1]["files"]] == ["manifest.json"]  # last, and alone
    (listed,) = said(runctl(plane, project, "data", "ls", "--json"))["datasets"]
    assert (listed["path"], listed["games"], listed["frames"], listed["whole"]) == (THERE, 3, 300, True)
    checked = said(runctl(plane, project, "data", "check", "job.yaml", "--json"))
    assert checked["ok"]
    assert checked["agrees"][1:] == [f"all {count} parts are there", f"every byte of {project / 'data' / 'melee'}"]
    opened = dataset.open(plane.volume("team").folder / THERE)  # as a container sees it
    assert opened.records.tobytes() == frames
    again = said(runctl(plane, project, "data", "push", "job.yaml", "--json"))
    assert (again["sent"], again["up_to_date"]) == (0, True)


def test_a_push_that_breaks_off_leaves_no_dataset_and_goes_on_where_it_was(plane: Plane, project: Path) -> None:
    plane.fail("VolumePutFiles", "INVALID_ARGUMENT", nth=2)
    broken = runctl(plane, project, "data", "push", "job.yaml")
    assert broken.returncode == 5, broken.stderr
    assert "the same command goes on" in broken.stderr
    files = plane.files("team")
    assert len(files) == 4  # one batch of parts
    (listed,) = said(runctl(plane, project, "data", "ls", "--json"))["datasets"]
    assert (listed["path"], listed["whole"]) == (THERE, False)
    pushed = said(runctl(plane, project, "data", "push", "job.yaml", "--json"))
    assert pushed["parts_sent"] == pushed["parts"] - 4
    assert said(runctl(plane, project, "data", "check", "job.yaml", "--json"))["ok"]


def test_blocks_that_fail_on_a_volume_of_version_2_are_sent_again(plane: Plane, project: Path) -> None:
    (project / "runctl.yaml").write_text("modal: {volume: team, volume_version: 2}\n")
    plane.web.fail_next = 2
    assert said(runctl(plane, project, "data", "push", "job.yaml", "--json"))["parts_sent"] > 0
    assert plane.web.fail_next == 0
    assert said(runctl(plane, project, "data", "check", "job.yaml", "--json"))["ok"]


def test_another_dataset_in_the_same_place_is_not_replaced_unasked(plane: Plane, project: Path) -> None:
    said(runctl(plane, project, "data", "push", "job.yaml", "--json"))
    before = plane.files("team")
    make(project / "data" / "melee", games=2, seed=1)
    checked = said(runctl(plane, project, "data", "check", "job.yaml", "--json"))
    assert "frames 300 there, 200 here, games 3 there, 2 here" in checked["faults"][0]
    refused = runctl(plane, project, "data", "push", "job.yaml")
    assert refused.returncode == 4, refused.stderr
    assert "--overwrite" in refused.stderr
    assert plane.files("team") == before
    pushed = said(runctl(plane, project, "data", "push", "job.yaml", "--overwrite", "--json"))
    assert pushed["removed"] == len(before) - 1  # all but the manifest, which was replaced
    assert len(plane.files("team")) == pushed["parts"] + 1


def test_a_dataset_of_another_encoding_is_refused_before_modal_hears_of_it(plane: Plane, project: Path) -> None:
    done = runctl(plane, project, "data", "push", "job.yaml", "--set", "encoding.hitstun=true")
    assert done.returncode == 1, done.stderr
    assert "hitstun is False there and True in the config" in " ".join(done.stderr.split())
    assert plane.ledger.names() == []


def test_looking_makes_no_volume_and_a_wrong_token_is_said(plane: Plane, project: Path) -> None:
    assert said(runctl(plane, project, "data", "ls", "--json"))["datasets"] == []
    checked = runctl(plane, project, "data", "check", "job.yaml")
    assert checked.returncode == 1
    assert "has no whole dataset" in checked.stdout
    assert plane.world.volumes == {}
    wrong = runctl(plane, project, "data", "push", "job.yaml", MODAL_TOKEN_SECRET="as-wrong")
    assert wrong.returncode == 5
    assert "does not take this machine's token" in " ".join(wrong.stderr.split())
    assert plane.world.volumes == {}


def _open(folder: Path) -> bytes:
    return bytes(dataset.open(folder).records.tobytes())


def in_parts(project: Path) -> Path:
    """The project's dataset as a push leaves it."""
    folder = project / "data" / "melee"
    found = list(parts.cut(folder / "frames.bin"))
    data = (folder / "frames.bin").read_bytes()
    (folder / parts.FOLDER).mkdir()
    for part in found:
        (folder / part.name).write_bytes(data[part.start : part.start + part.size])
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, "parts": parts.named(found)}))
    (folder / "frames.bin").unlink()
    return folder


def test_processes_that_open_the_parts_at_once_put_them_together_once(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", PART)
    data = (project / "data" / "melee" / "frames.bin").read_bytes()
    folder = in_parts(project)
    with get_context("fork").Pool(4) as pool:
        assert pool.map(_open, [folder] * 4) == [data] * 4
    assert len(list(project.glob("runctl-frames-*"))) == 1


def test_a_damaged_or_missing_part_is_no_dataset(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", PART)
    folder = in_parts(project)
    second = sorted((folder / parts.FOLDER).iterdir())[1]
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match="is damaged"):
        dataset.open(folder)
    second.unlink()
    with pytest.raises(DataError, match="is missing"):
        dataset.open(folder)
    second.write_bytes(whole)
    assert len(dataset.open(folder).records) == 300
