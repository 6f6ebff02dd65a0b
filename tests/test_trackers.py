from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_job
import torch
from test_loop import place, run_tiny
from tiny_job import TinyJob

from runctl import config as configs
from runctl import record
from runctl.train.loop import train
from runctl.train.trackers import start
from runctl.train.trackers.local import Local


class FakeWandb:
    """Stands where the package is imported; each call can be made to fail or to hang."""

    def __init__(self, **calls: Callable[..., Any]) -> None:
        self.rows: list[dict[str, Any]] = []
        self.given: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.calls = calls

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **given: Any) -> FakeWandb:
        self.given = given
        self.calls.get("init", lambda: None)()
        return self

    def define_metric(self, *names: str, **options: str) -> None:
        pass

    def log(self, row: dict[str, Any]) -> None:
        self.calls.get("log", lambda: None)()
        self.rows.append(row)

    def finish(self, exit_code: int) -> None:
        self.calls.get("finish", lambda: None)()
        self.exit_code = exit_code


def fail(message: str) -> Callable[[], None]:
    def call() -> None:
        raise ConnectionError(message)

    return call


def train_with(folder: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Train the tiny job with `fake` in wandb's place; returns (outcome, trackers)."""
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = tiny_job.config(tracking={"wandb": "online"})
    where = place(record.RunDir(folder), config)
    torch.manual_seed(0)
    ended = train(TinyJob(), config, where)
    where.trackers.finish(ended.outcome, timeout=5.0)
    return ended, where


def test_the_record_gets_every_row_and_names_itself_when_it_cannot(tmp_path: Path) -> None:
    run = record.RunDir(tmp_path / "run")
    Local(run).log({"step": 1, "train/loss": 0.5})
    assert list(record.read_lines(run.metrics)) == [{"step": 1, "train/loss": 0.5}]
    run.metrics.unlink()
    run.metrics.mkdir()
    with pytest.raises(OSError, match="directory") as caught:
        Local(run).log({"step": 2})
    assert caught.value.filename == str(run.metrics)


def test_rows_reach_wandb_as_they_stand_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb()
    ended, where = train_with(tmp_path / "run", fake, monkeypatch)
    assert ended.outcome == "succeeded"
    rows = record.read_lines(where.run.metrics)
    assert fake.rows == [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert fake.exit_code == 0
    assert where.trackers.status() == {"wandb": "online"}
    assert where.heartbeat.facts["tracking"] == {"wandb": "online"}


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_a_failure_of_wandb_is_said_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    fake = FakeWandb(**{call: fail("no route to host")})
    ended, where = train_with(tmp_path / "run", fake, monkeypatch)
    assert ended.outcome == "succeeded"
    assert len(list(record.read_lines(where.run.metrics))) == 13
    assert where.trackers.status() == {"wandb": "failed: ConnectionError: no route to host"}
    warning = "warning: wandb failed, the run goes on without it: ConnectionError: no route to host\n"
    assert capsys.readouterr().err == warning


def test_a_missing_package_is_said_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, where = train_with(tmp_path / "run", None, monkeypatch)  # None in sys.modules makes the import fail
    assert ended.outcome == "succeeded"
    assert where.trackers.status()["wandb"].startswith("failed: ModuleNotFoundError")


def test_a_wandb_that_hangs_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("runctl.train.trackers.wandb_.STUCK_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(init=lambda: released.wait(30)))
    config = tiny_job.config(tracking={"wandb": "online"})
    where = place(record.RunDir(tmp_path / "run"), config)
    ended = train(TinyJob(), config, where)
    began = time.monotonic()
    where.trackers.finish(ended.outcome, timeout=0.2)
    assert time.monotonic() - began < 5
    assert ended.outcome == "succeeded"
    assert where.trackers.status()["wandb"].startswith("failed: no answer for")
    released.set()


def test_wandb_is_told_the_config_and_no_command_code_or_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = tiny_job.config(tracking={"wandb": "online"}, command={"argv": ["x"], "env": {"TOKEN": "s3cret"}})
    trackers = start(config, configs.to_effective(config), record.RunDir(tmp_path / "run"))
    trackers.finish("succeeded", timeout=5.0)
    assert "s3cret" not in repr(fake.given)
    assert fake.given["config"]["training"]["steps"] == 40
    settings = fake.given["settings"]
    assert all(settings[name] for name in ("disable_code", "disable_git", "x_disable_meta", "x_disable_machine_info"))
    assert (settings["console"], settings["host"]) == ("off", "runctl")


def test_disabled_imports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    ended = run_tiny(tmp_path)
    assert ended.outcome == "succeeded"


def run_real(tmp_path: Path, mode: str, **environment: str) -> record.RunDir:
    """An attempt with the real package, without network, in a home of its own."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = tiny_job.make_run(tmp_path / "run", tiny_job.config(tracking={"wandb": mode}))
    home = tmp_path / "home"
    home.mkdir()
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    given |= {"HTTPS_PROXY": "http://127.0.0.1:9", "WANDB_BASE_URL": "http://127.0.0.1:9", **environment}
    command = [sys.executable, tiny_job.__file__, str(run.path), "--attempt", "1"]
    with run.attempt(1).log.open("wb") as log:
        ended = subprocess.run(command, env=given, cwd=tmp_path, stdout=log, stderr=log, timeout=120, check=False)
    assert ended.returncode == 0, run.attempt(1).log.read_text()
    return run


def test_the_real_package_offline_needs_no_network_and_stays_in_the_run(tmp_path: Path) -> None:
    run = run_real(tmp_path, "offline", SECRET="s3cret-value")
    assert record.read_json(run.attempt(1).heartbeat)["tracking"] == {"wandb": "offline"}
    stored = list((run.path / "wandb").rglob("*.wandb"))
    assert len(stored) == 1
    data = stored[0].read_bytes()
    assert b"train/loss" in data
    for secret in ("s3cret-value", "--attempt", str(tmp_path), f"\x02{socket.gethostname()}"):
        assert secret.encode() not in data, secret
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "run"]
    assert list((tmp_path / "home").iterdir()) == []


def test_the_real_package_online_without_a_login_fails_visibly_and_the_run_succeeds(tmp_path: Path) -> None:
    run = run_real(tmp_path, "online")
    assert record.read_json(run.attempt(1).heartbeat)["tracking"]["wandb"].startswith("failed: UsageError")
    assert record.read_json(run.attempt(1).result)["outcome"] == "succeeded"


def test_wandb_continues_the_run_itself_and_never_one_of_the_same_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, ids = tiny_job.config(tracking={"wandb": "online"}), []
    for folder, created in (("mine", 1.0), ("mine", 1.0), ("theirs", 2.0)):
        fake = FakeWandb()
        monkeypatch.setitem(sys.modules, "wandb", fake)
        run = record.RunDir(tmp_path / folder / "quickstart")
        record.write_json(run.run, {"created": created})
        start(config, {}, run).finish("succeeded", timeout=5.0)
        ids.append(fake.given["id"])
    assert ids[0] == ids[1] != ids[2]
