"""Facts: values with where they came from, or unknown with why."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runctl import preflight
from runctl.adapters import native_dataset
from runctl.facts import Facts, NotChecked
from runctl.project import Project


def gather(folder: Path, text: str, *overrides: str) -> Facts:
    path = folder / "config.yaml"
    path.write_text(text)
    return preflight.gather(path, preflight.Options(overrides), Project(folder))[0]


def games(*frames: int) -> list[dict[str, object]]:
    return [
        {"identity": f"{index:02d}", "start": 0, "frames": count, "source": "x"} for index, count in enumerate(frames)
    ]


def encoded(folder: Path, **manifest: object) -> None:
    (folder / "data" / "encoded").mkdir(parents=True, exist_ok=True)
    data = {"schema_version": 1, "kind": "encoded-dataset", **manifest}
    (folder / "data" / "encoded" / "manifest.json").write_text(json.dumps(data))


def test_every_value_knows_its_line_its_default_or_its_override(tmp_path: Path) -> None:
    facts = gather(tmp_path, "training:\n  lr: 0.001\n  num_epochs: 2\n", "training.batch_size=64")
    assert str(facts.source("training.lr")).endswith("config.yaml:2:3")
    assert str(facts.source("training.epochs")).endswith("config.yaml:3:3")
    assert str(facts.source("training.batch_size")) == "--set"
    assert facts.says("training.precision") == "training.precision is fp32 (the default)"
    assert facts.says("training.batch_size") == "training.batch_size is 64 (--set)"
    assert facts.says("compute.gpu") == "compute.gpu is not set (the default)"


def test_what_is_unknown_says_why(tmp_path: Path) -> None:
    facts = gather(tmp_path, "training: {epochs: 2}\n")
    with pytest.raises(NotChecked, match="names no dataset"):
        facts.need("dataset.columns")
    with pytest.raises(NotChecked, match="number of training windows is unknown"):
        facts.need("run.steps")
    with pytest.raises(NotChecked, match=r"does not say no\.such"):
        facts.need("no.such")


def test_steps_and_windows_come_from_the_games_of_the_manifest(tmp_path: Path) -> None:
    encoded(tmp_path, frames=1000, games=games(100, 200, 300, 5, 395))
    text = "data: {encoded: data/encoded, train_split: 0.6}\ntraining: {epochs: 2, batch_size: 64}\n"
    facts = gather(tmp_path, text)
    assert facts.get("data.train_windows") == 90 + 190 + 290
    assert facts.get("data.validation_windows") == 0 + 385
    assert facts.get("run.steps_per_epoch") == 9
    assert facts.get("run.steps") == 18
    assert "3 of 5 games" in str(facts.source("data.train_windows"))


def test_the_split_is_the_split_of_the_dataset(tmp_path: Path) -> None:
    dataset = pytest.importorskip("runctl.tasks.worldmodel.dataset")
    listed = [{**game, "identity": f"{(7 * number) % 23:02d}"} for number, game in enumerate(games(*range(20, 43)))]
    entries = [dataset.GameEntry(game["start"], game["frames"], game["identity"], "x") for game in listed]
    for split in (0.05, 0.5, 0.9, 0.99):
        train, validation = dataset.split(entries, split)
        encoded(tmp_path, frames=sum(entry.frames for entry in entries), games=listed)
        facts = gather(tmp_path, f"data: {{encoded: data/encoded, train_split: {split}}}\ntraining: {{steps: 1}}\n")
        assert facts.get("data.train_windows") == sum(entries[index].frames - 10 for index in train)
        assert facts.get("data.validation_windows") == sum(entries[index].frames - 10 for index in validation)


def test_a_committed_copy_gives_about_the_same_counts(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = {"kind": "encoded-dataset", "frames": 1000, "games": 5}
    (tmp_path / "data" / "encoded.manifest.json").write_text(json.dumps(data))
    facts = gather(tmp_path, "data: {encoded: data/encoded, train_split: 0.5}\ntraining: {epochs: 1}\n")
    assert facts.get("dataset.place") == "committed"
    assert facts.get("data.train_windows") == 475
    assert "about" in str(facts.source("data.train_windows"))


def test_without_a_manifest_the_number_of_games_tells_the_order_of_size(tmp_path: Path) -> None:
    facts = gather(tmp_path, "data: {max_games: 2000}\ntraining: {epochs: 1}\n")
    assert facts.get("data.frames") == 2000 * native_dataset.FRAMES_PER_GAME
    assert "about" in str(facts.source("run.steps"))


def test_simulated_games_are_counted_from_the_config(tmp_path: Path) -> None:
    facts = gather(tmp_path, "data: {simulate: {games: 5, seconds: 10.0}, train_split: 0.9}\ntraining: {epochs: 1}\n")
    assert facts.get("data.frames") == 3000
    assert facts.get("data.train_windows") == 4 * 590
    assert facts.get("data.validation_windows") == 590


def test_a_gpu_that_is_not_used_is_no_gpu(tmp_path: Path) -> None:
    facts = gather(tmp_path, "training: {steps: 1, device: cpu}\ncompute: {gpu: A100}\n")
    assert facts.get("gpu.used") is False
    with pytest.raises(NotChecked, match="uses no GPU"):
        facts.need("gpu")


def test_a_program_of_ones_own_leaves_the_model_unknown(tmp_path: Path) -> None:
    facts = gather(tmp_path, "task: command\ncommand: {argv: [python, train.py]}\n")
    for name in ("model.context_len", "data.encoded", "training.precision", "checkpoint.every", "run.steps"):
        with pytest.raises(NotChecked, match="program of your own"):
            facts.need(name)
    assert facts.get("compute.backend") == "local"
