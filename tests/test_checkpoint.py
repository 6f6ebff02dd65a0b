from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from runctl import record
from runctl.config.model import Checkpoint
from runctl.errors import CheckpointError
from runctl.train import checkpoint, retention
from runctl.train.checkpoint import Contents
from runctl.train.sums import NonFinite
from runctl.train.writer import Writer

IDENTITY = {"model.d_model": "64", "encoding.projectiles": "false", "dataset": "abc"}


def contents(step: int, **changes: Any) -> Contents:
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model": {"w": torch.randn(33, 7, generator=generator), "b": torch.randn(5, generator=generator).bfloat16()},
        "optimizer": {"w/step": torch.tensor(float(step)), "w/exp_avg": torch.randn(33, 7, generator=generator)},
        "state": {"rng/torch": torch.get_rng_state(), "empty": torch.empty(0, dtype=torch.float64)},
    }
    return replace(Contents(step, tensors, {"step": step}, IDENTITY, "d" * 64), **changes)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def run(tmp_path: Path) -> record.RunDir:
    return record.RunDir(tmp_path / "run")


def test_what_is_saved_comes_back_bit_for_bit(run: record.RunDir) -> None:
    saved = contents(12)
    path = checkpoint.save(run, saved)
    loaded = checkpoint.load(path, IDENTITY)
    for file, tensors in saved.tensors.items():
        assert loaded.tensors[file].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded.tensors[file][name].dtype == tensor.dtype
            assert torch.equal(loaded.tensors[file][name], tensor)
    assert loaded.state == {"step": 12}
    assert run.latest.read_text() == "step-000000012\n"


def test_weights_are_plain_safetensors(run: record.RunDir) -> None:
    path = checkpoint.save(run, contents(3))
    assert torch.equal(safetensors.torch.load_file(path / "model.safetensors")["w"], contents(3).tensors["model"]["w"])


def test_the_manifest_is_written_last_and_the_folder_appears_whole(
    run: record.RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, list[str]]] = []
    write_json, rename = record.write_json, os.rename

    def watched(path: Path, data: Any, **options: Any) -> None:
        seen.append((run.checkpoint(3).exists(), sorted(file.name for file in path.parent.iterdir())))
        write_json(path, data, **options)

    def renamed(source: Path, target: Path) -> None:
        assert (Path(source) / "manifest.json").exists()
        rename(source, target)

    monkeypatch.setattr(record, "write_json", watched)
    monkeypatch.setattr(os, "rename", renamed)
    checkpoint.save(run, contents(3))
    assert seen == [(False, ["model.safetensors", "optimizer.safetensors", "state.json", "state.safetensors"])]


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.safetensors", "state.json"])
def test_a_damaged_file_is_refused_by_name(run: record.RunDir, file: str) -> None:
    path = checkpoint.save(run, contents(3))
    damage(path / file)
    with pytest.raises(CheckpointError, match=f"step-000000003 is damaged: {file} differs from its sha256"):
        checkpoint.load(path, IDENTITY)
    (path / file).unlink()
    with pytest.raises(CheckpointError, match=f"{file}: No such file"):
        checkpoint.load(path, IDENTITY)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"kind": "checkpoint"}', '{"kind": "dataset", "files": {}}'])
def test_a_damaged_manifest_is_refused(run: record.RunDir, text: str) -> None:
    path = checkpoint.save(run, contents(3))
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="no readable manifest"):
        checkpoint.load(path, IDENTITY)


@pytest.mark.parametrize("entry", [{}, {"model.safetensors": None}])
def test_files_that_the_manifest_does_not_vouch_for_are_not_loaded(run: record.RunDir, entry: dict[str, Any]) -> None:
    for step in (3, 4):
        path = checkpoint.save(run, contents(step))
    manifest = json.loads((path / "manifest.json").read_text())
    record.write_json(path / "manifest.json", manifest | {"files": entry})
    loaded = checkpoint.load_newest(run, IDENTITY)
    assert loaded is not None
    assert loaded.path.name == "step-000000003"


def test_a_foreign_checkpoint_is_refused_naming_each_key_that_differs(run: record.RunDir) -> None:
    checkpoint.save(run, contents(3))
    other = IDENTITY | {"model.d_model": "128", "dataset": "xyz", "model.n_layers": "2"}
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_newest(run, other)
    message = caught.value.message
    assert "model.d_model is 64 there, 128 here" in message
    assert "dataset is abc there, xyz here" in message
    assert "model.n_layers is absent there, 2 here" in message
    assert "projectiles" not in message
    assert run.checkpoint(3).is_dir(), "what is foreign is left alone"


def test_a_damaged_newest_falls_back_to_the_newest_whole_one_and_says_so(run: record.RunDir) -> None:
    for step in (10, 20, 30):
        checkpoint.save(run, contents(step))
    damage(run.checkpoint(30) / "model.safetensors")
    loaded = checkpoint.load_newest(run, IDENTITY)
    assert loaded is not None
    assert loaded.path.name == "step-000000020"
    (passed,) = loaded.passed_over
    assert passed.checkpoint == "step-000000030"
    assert passed.why.startswith("checkpoint step-000000030 is damaged: model.safetensors")
    assert run.latest.read_text() == "step-000000020\n"
    assert [path.name for path in checkpoint.folders(run)] == ["step-000000010", "step-000000020"]
    assert (run.checkpoints / "damaged-step-000000030").is_dir()


def test_a_run_with_only_damaged_checkpoints_does_not_start_over(run: record.RunDir) -> None:
    for step in (10, 20):
        checkpoint.save(run, contents(step))
        damage(run.checkpoint(step) / "state.json")
    for why in ("state.json differs from its sha256", "damaged-step-000000010, damaged-step-000000020 were found"):
        with pytest.raises(CheckpointError, match=f"no whole checkpoint is left .*{why}"):
            checkpoint.load_newest(run, IDENTITY)
    assert not run.latest.exists()


def test_no_checkpoint_is_none(run: record.RunDir) -> None:
    assert checkpoint.load_newest(run, IDENTITY) is None


def test_a_folder_without_manifest_does_not_exist_and_is_cleaned(run: record.RunDir) -> None:
    checkpoint.save(run, contents(10))
    half = run.checkpoint(20)
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    stale = run.checkpoints / ".tmp-step-000000030-77"
    stale.mkdir()
    loaded = checkpoint.load_newest(run, IDENTITY)
    assert loaded is not None
    assert loaded.path.name == "step-000000010"
    assert sorted(checkpoint.clean(run)) == [".tmp-step-000000030-77", "step-000000020"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step-000000010"]


def test_a_full_disk_leaves_the_older_checkpoint_whole_and_no_half(
    run: record.RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(run, contents(10))
    real = os.fsync
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        checkpoint.save(run, contents(20))
    assert str(caught.value.filename).endswith("optimizer.safetensors")
    monkeypatch.undo()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["latest", "step-000000010"]
    assert checkpoint.load(run.checkpoint(10), IDENTITY).state == {"step": 10}
    assert run.latest.read_text() == "step-000000010\n"


def test_retention_keeps_the_last_and_the_best(run: record.RunDir) -> None:
    values = {1: 0.5, 2: 0.1, 3: 0.3, 4: None, 5: 0.9, 6: float("nan")}
    for step, value in values.items():
        metrics = None if value is None else {"val/loss": None if value != value else value}
        checkpoint.save(run, contents(step, metrics=metrics))
    gone = retention.prune(run, Checkpoint(keep_last=1, keep_best=2))
    assert [checkpoint.read_manifest(path)["step"] for path in checkpoint.folders(run)] == [2, 3, 6]  # type: ignore[index]
    assert len(gone) == 3
    retention.prune(run, Checkpoint(keep_last=1, keep_best=1, mode="max"))
    assert [path.name[-1] for path in checkpoint.folders(run)] == ["3", "6"]


def test_retention_never_deletes_the_newest(run: record.RunDir) -> None:
    for step in (1, 2, 3):
        checkpoint.save(run, contents(step, metrics={"val/loss": float(step)}))
    retention.prune(run, Checkpoint(keep_last=1, keep_best=0))
    assert [path.name for path in checkpoint.folders(run)] == ["step-000000003"]


def test_a_better_value_is_finite_and_beats_the_old_one_in_its_mode() -> None:
    assert retention.better(1.0, None, "min")
    assert retention.better(1.0, 2.0, "min")
    assert not retention.better(1.0, 1.0, "min")
    assert retention.better(2.0, 1.0, "max")
    assert not retention.better(float("nan"), None, "min")
    assert not retention.better(None, None, "max")


def test_the_writer_saves_the_snapshot_not_what_became_of_it(run: record.RunDir) -> None:
    writer = Writer(run, Checkpoint())
    given = contents(5)
    expected = given.tensors["model"]["w"].clone()
    writer.submit(given)
    given.tensors["model"]["w"].zero_()
    saved = writer.wait(lambda: None)
    assert saved == run.checkpoint(5)
    assert torch.equal(checkpoint.load(saved, IDENTITY).tensors["model"]["w"], expected)
    assert writer.poll() is None


def test_the_writer_saves_no_weight_that_is_not_finite_but_any_buffer(run: record.RunDir) -> None:
    poisoned = contents(5)
    poisoned.tensors["model"]["b"][3] = float("-inf")  # bfloat16
    writer = Writer(run, Checkpoint(), ["w"])
    writer.submit(poisoned)
    assert writer.wait(lambda: None) == run.checkpoint(5)
    writer = Writer(run, Checkpoint(), ["w", "b"])
    writer.submit(replace(poisoned, step=6))
    with pytest.raises(NonFinite, match="non-finite weights at step 6"):
        writer.wait(lambda: None)
    writer.submit(contents(7))
    assert writer.wait(lambda: None) == run.checkpoint(7)
    assert not run.checkpoint(6).exists()


def test_the_writer_raises_what_its_thread_met(run: record.RunDir) -> None:
    run.path.mkdir()
    run.checkpoints.write_text("a file where the folder should be")
    writer = Writer(run, Checkpoint())
    writer.submit(contents(5))
    with pytest.raises(OSError, match=r"exists|Not a directory"):
        writer.wait(lambda: None)


def test_latest_never_names_a_checkpoint_that_is_gone(run: record.RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the same step is saved again and the process dies between the old one and the new one."""
    checkpoint.save(run, contents(10))
    rename = os.rename

    def killed(source: Path, target: Path) -> None:
        if Path(target) == run.checkpoint(10):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(run, contents(10))
    assert not run.latest.exists()


def test_nothing_in_a_checkpoint_is_pickled(run: record.RunDir) -> None:
    path = checkpoint.save(run, contents(3))
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    json.loads((path / "manifest.json").read_text())
