"""What Modal says before a launch (`runctl preflight --online`): the unmodified client against the loopback plane."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

from plane import Plane

from runctl import cli, preflight
from runctl import config as configs
from runctl.backends.modal import online
from runctl.backends.modal.plan import Place
from runctl.tasks.worldmodel import encoding

SECRET = "hush-6b1f-never-shown"
CONFIG = "name: job\ntraining: {steps: 100, seed: 1}\ncompute: {backend: modal, cpu: 2, memory: 4GiB, timeout: 1h}\n"


@pytest.fixture
def plane(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plane]:
    with Plane() as running:
        for name, value in running.environment().items():
            monkeypatch.setenv(name, value)
        yield running


def put(plane: Plane, volume: str, path: str, data: Any) -> None:
    file = plane.volume(volume).folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data))


def about(seen: online.Seen) -> list[tuple[str, str]]:
    return [(one.about, one.state) for one in seen.answers]


def test_asking_finds_what_is_there_and_makes_nothing(plane: Plane) -> None:
    plane.make_secret("wandb", WANDB_API_KEY=SECRET)
    plane.make_volume("team")
    put(plane, "team", "datasets/d/manifest.json", {"kind": "encoded-dataset", "games": [1, 2], "frames": 7})
    seen = online.look(Place(volume="team", secrets=("wandb",), environment="main"), "datasets/d")
    assert about(seen) == [("token", "ok"), ("secret", "ok"), ("volume", "ok"), ("dataset", "ok")]
    assert seen.manifest is not None
    assert (seen.manifest["games"], seen.manifest["frames"]) == (2, 7)
    assert not seen.late
    assert plane.leaks(SECRET) == []
    assert len(plane.world.volumes) == 1
    absent = online.look(Place(volume="taem", secrets=("wnadb",)), "datasets/d")
    assert [one.message for one in absent.faults] == [
        "Modal has no secret 'wnadb'",
        "there is no volume 'taem', and so no dataset on it",
    ]
    assert len(plane.world.volumes) == 1
    assert all("Create" not in name or "GetOrCreate" in name for name in plane.ledger.names())


@pytest.mark.parametrize(
    ("place", "environment", "fault"),
    [
        (Place(), {"MODAL_TOKEN_SECRET": "as-wrong"}, "does not take this machine's token"),
        (Place(), {"MODAL_TOKEN_ID": "", "MODAL_TOKEN_SECRET": ""}, "Token missing"),
        (Place(environment="elsewhere"), {}, "has no environment 'elsewhere'"),
        (Place(volume="team", volume_version=2), {}, "the volume 'team'"),
    ],
)
def test_what_modal_refuses_is_said_in_words(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, place: Place, environment: dict[str, str], fault: str
) -> None:
    plane.make_volume("team")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (found,) = online.look(place).faults
    assert fault in found.message
    assert found.hint


def test_a_service_that_nobody_reaches_costs_the_deadline_and_no_more(plane: Plane) -> None:
    plane.unplug()
    begun = time.monotonic()
    seen = online.look(Place(), seconds=2.0)
    assert time.monotonic() - begun < 4.0
    assert not seen.faults
    assert seen.unknown == ["Modal did not answer within 2 s"]


def test_what_came_before_the_deadline_is_kept(plane: Plane) -> None:
    plane.make_secret("wandb", WANDB_API_KEY=SECRET)
    plane.fail("VolumeGetOrCreate", None, delay=30.0)
    seen = online.look(Place(secrets=("wandb", "nobody")), seconds=3.0)
    assert about(seen) == [("token", "ok"), ("secret", "ok"), ("secret", "fault")]
    assert seen.late


def test_preflight_online_compares_the_dataset_on_the_volume_with_the_config(
    plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runctl.yaml").write_text("modal: {volume: team}\n")
    config = tmp_path / "job.yaml"
    config.write_text(CONFIG + "data: {encoded: data/melee}\n")
    plane.make_volume("team")

    def findings() -> tuple[list[str], str | None]:
        report = preflight.preflight(config, preflight.Options(online=True))
        found = [one.message for one in report.findings if one.rule == "EN107"]
        return found, report.coverage.not_checked.get("EN107")

    assert findings() == (["the volume 'team' has no whole dataset at datasets/data/melee"], None)
    digest = encoding.dataset_digest(configs.load(config).config.encoding)
    manifest = {"kind": "encoded-dataset", "encoding_digest": "f" * 64, "games": 3}
    put(plane, "team", "datasets/data/melee/manifest.json", manifest)
    assert findings() == ([f"data/melee on the volume was encoded otherwise (ffffffffffff, not {digest[:12]})"], None)
    put(plane, "team", "datasets/data/melee/manifest.json", {**manifest, "encoding_digest": digest})
    assert findings() == ([], None)


def test_without_online_nothing_is_asked(plane: Plane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.yaml").write_text(CONFIG)
    done = CliRunner().invoke(cli.build(["preflight"]), ["preflight", "job.yaml", "--json"])
    assert "Modal is asked with --online, and by the launch of a run with a dataset" in done.output
    assert plane.ledger.names() == []


def test_a_launch_with_a_dataset_asks_before_a_gpu_is_asked_for(plane: Plane, tmp_path: Path) -> None:
    config = tmp_path / "job.yaml"
    (tmp_path / "runctl.yaml").write_text("modal: {volume: team}\n")
    config.write_text(CONFIG + "data: {encoded: data/melee}\n")
    report = preflight.preflight(config, preflight.Options(launching=True))
    assert "there is no volume 'team', and so no dataset on it" in [one.message for one in report.errors]
    assert "FunctionCreate" not in plane.ledger.names()


def test_a_port_that_never_answers_is_no_fault_of_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MODAL_SERVER_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("MODAL_TOKEN_ID", "ak-1")
        monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-1")
        seen = online.look(Place(), seconds=2.0)
    assert (seen.faults, about(seen)) == ([], [])
