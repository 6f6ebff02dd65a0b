"""`runctl encode --on modal`: the command as a subprocess, real replays' parser in real containers of the plane."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")
pytest.importorskip("peppi_py", reason="the melee extra is not installed")

import slp_writer
from plane import Plane
from slp_writer import Replay

from runctl import config as configs
from runctl.tasks.worldmodel import dataset, encode, sources

ROOT = Path(__file__).parent.parent
THERE = "datasets/data/melee"
RUN = "from runctl.backends.modal import encoding; encoding.CHUNK = 2; from runctl.cli import main; main()"
ENCODE = ("encode", "job.yaml", "--replays", "replays", "--on", "modal", "--json")


@pytest.fixture
def plane() -> Iterator[Plane]:
    with Plane(grace=0.6) as running:
        if running.way == "links":
            pytest.skip("without mount namespaces only one container at a time can have a mount path")
        yield running


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "runctl.yaml").write_text("modal: {volume: team}\n")
    (tmp_path / "job.yaml").write_text("name: job\ndata: {encoded: data/melee}\ntraining: {steps: 100, seed: 1}\n")
    replays = tmp_path / "replays"
    (replays / "sub").mkdir(parents=True)
    for seed, name in enumerate(("a.slp", "b.slp.gz", "sub/e.slp", "z.slp")):
        started = f"2023-01-0{seed + 1}T00:00:00Z"
        slp_writer.write(replays / name, Replay(frames=250 + seed, seed=seed, started=started))
    again = Replay(frames=250, seed=0, started="2023-01-01T00:00:00Z", names=False)
    slp_writer.write(replays / "y-again.slp", again)  # the game of a.slp, in another chunk than that
    slp_writer.write(replays / "cut.slp", Replay(), cut=20_000)
    return tmp_path


def runctl(plane: Plane, project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    given = plane.environment(PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", RUN, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=project, env=given, timeout=120, check=False)


def here(project: Path) -> dataset.Dataset:
    """The same replays, encoded on this machine."""
    config = configs.load(project / "job.yaml").config
    out = project / "here"
    encode.encode(sources.replays([project / "replays"]), config.encoding, out, workers=1)
    return dataset.open(out)


def facts(manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name not in ("created", "parts")}


def test_containers_make_the_dataset_that_one_machine_makes_and_go_on_where_they_ended(
    plane: Plane, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(project))
    plane.fail("FunctionMap", "FAILED_PRECONDITION", nth=3)  # of three chunks and what puts them together
    broken = runctl(plane, project, *ENCODE, "--containers", "1")
    assert broken.returncode == 5, broken.stdout + broken.stderr
    done = runctl(plane, project, *ENCODE)
    assert done.returncode == 0, done.stderr + plane.log()
    said = json.loads(done.stdout)
    assert (said["chunks"], said["taken_over"], said["replays_sent"]) == (3, 2, 0)
    assert (said["games"], said["skipped"]) == (4, 2)
    opened, local = dataset.open(plane.volume("team").folder / THERE), here(project)
    assert opened.records.tobytes() == local.records.tobytes()
    assert facts(opened.manifest) == facts(local.manifest)
    left = [name for name in plane.files("team") if not name.startswith((THERE + "/", "replays/"))]
    assert left == []
    copy = json.loads((project / "data" / "melee.manifest.json").read_text())
    assert copy == {**json.loads((project / "here.manifest.json").read_text()), "created": copy["created"]}
    (listed,) = json.loads(runctl(plane, project, "data", "ls", "--json").stdout)["datasets"]
    assert (listed["path"], listed["games"], listed["whole"]) == (THERE, 4, True)
    refused = runctl(plane, project, *ENCODE)
    assert refused.returncode == 4
    assert "--overwrite" in refused.stdout


def test_strict_leaves_no_dataset_and_says_what_would_be_skipped(plane: Plane, project: Path) -> None:
    done = runctl(plane, project, *ENCODE, "--strict")
    assert done.returncode == 1, done.stdout + done.stderr
    error = json.loads(done.stdout)["error"]
    assert "2 of 6 replays would be skipped" in error["message"]
    assert "y-again.slp: same game as a.slp" in error["hint"]
    assert not [name for name in plane.files("team") if name.startswith(f"{THERE}/")]
