"""Rules on other trainers' configs: checkpoints, precision, memory, data, time, money, in the dialect's own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runctl import preflight
from runctl.facts import Finding
from runctl.preflight import Report
from runctl.project import load

ADAPTER = """
adapters:
  - name: ours
    match: ["*.yaml"]
    facts:
      training.steps: train.steps
      training.batch_size: train.batch
      training.precision: train.precision
      training.log_every: {key: train.log_minutes, unit: minutes}
      training.time_limit: {key: train.max_hours, unit: hours}
      checkpoint.every: {key: train.save, unit: steps}
      checkpoint.keep_last: train.keep
      data.samples: data.count
      data.workers: data.workers
      data.prefetch: data.prefetch
      data.sample_bytes: data.example
      compute.memory: box.memory
      compute.backend: box.provider
      declares.parameters: model.size
      declares.d_model: model.width
      declares.n_layers: model.layers
      declares.n_heads: model.heads
      declares.vocab_size: model.vocab
      declares.seq_len: model.length
      run.name: name
    defaults: {checkpoint.every: never, declares.family: transformer, declares.kernels: fused}
"""
SMALL = "model: {width: 768, layers: 12, heads: 12, vocab: 50257, length: 1024}\n"


def judge(folder: Path, config: str, gpu: str | None = None, project: str = "", name: str = "run.yaml") -> Report:
    """The report of a config in a project; without `project` the generic spellings read it."""
    (folder / name).write_text(config)
    (folder / "runctl.yaml").write_text(project or "policy: {}\n")
    return preflight.preflight(folder / name, preflight.Options(gpu=gpu), load(folder / name))


def found(report: Report, rule: str) -> list[Finding]:
    assert not [one for one in report.findings if "crashed" in one.message]
    return [one for one in report.findings if one.rule == rule]


def severities(report: Report, rule: str) -> list[str]:
    return [str(one.severity) for one in found(report, rule)]


SMOKES = [
    ("trainer: {max_steps: 200, batch_size: 8, lr: 0.0003, precision: fp32}\n", "A100-80GB:2"),
    ("trainer: {max_steps: 200, batch_size: 8, lr: 0.0003, save_steps: 0, eval_every: 0}\n", "RTX4090"),
    ("trainer: {max_steps: 60, per_device_train_batch_size: 2, lr: 0.0002, save_steps: 500, seed: 1}\n", "T4"),
    ("trainer: {max_steps: 20, batch_size: 2, lr: 0.0003, dtype: float32, device: cpu}\n", "none"),
]


@pytest.mark.parametrize(("config", "gpu"), SMOKES)
def test_a_smoke_passes_without_an_error_and_with_no_word_of_checkpoints(config: str, gpu: str, tmp_path: Path) -> None:
    report = judge(tmp_path, config, gpu)
    assert report.errors == []
    assert {one.rule for one in report.findings if one.severity == "warning"} <= {"ME107"}


def test_a_trainer_that_is_known_to_save_nothing_is_an_error_in_its_own_words(tmp_path: Path) -> None:
    (one,) = found(judge(tmp_path, "train: {steps: 50000, batch: 8}\n", project=ADAPTER), "CK101")
    assert one.severity == "error"
    assert one.message.startswith("train.save is not set, and ours then saves no checkpoint")
    assert (one.line, one.fix) == (1, "set train.save: 2000 (the run has 50,000 steps)")


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003}\n", ["warning"]),  # nobody knows what it does then
        ("trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003, log_every: 10}\n", ["warning"]),
        ("trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003, save_steps: 0}\n", ["error"]),
        ("trainer: {max_steps: 300, batch_size: 8, lr: 0.0003}\n", []),
        ("trainer: {num_epochs: 20, batch_size: 8, lr: 0.0003}\n", ["warning"]),
        ("trainer: {max_hours: 24, batch_size: 8, lr: 0.0003}\n", ["warning"]),
        ("trainer: {max_steps: 50000, max_minutes: 20, batch_size: 8, lr: 0.0003, save_steps: 0}\n", []),
    ],
)
def test_what_nobody_says_of_checkpoints_is_a_warning_on_a_long_run(
    config: str, wanted: list[str], tmp_path: Path
) -> None:
    assert severities(judge(tmp_path, config), "CK101") == wanted


def test_a_key_that_may_say_when_it_saves_is_not_called_silence(tmp_path: Path) -> None:
    config = "trainer: {max_steps: 50000, batch_size: 8, lr: 0.0003}\ncheckpointer: {save_cadence_in_blocks: 4}\n"
    assert "save_cadence_in_blocks" in judge(tmp_path, config).coverage.not_checked["CK101"]


@pytest.mark.parametrize(("steps", "wanted"), [(100, "note"), (3000, "warning"), (20000, "error")])
def test_a_cadence_beyond_the_end_weighs_by_the_length_of_the_run(steps: int, wanted: str, tmp_path: Path) -> None:
    config = f"trainer: {{max_steps: {steps}, batch_size: 8, lr: 0.0003}}\ncheckpoint: {{save_steps: 50000}}\n"
    (one,) = found(judge(tmp_path, config), "CK102")
    assert (one.severity, one.line) == (wanted, 2)
    assert "checkpoint.save_steps" in one.message


def test_the_advised_cadence_follows_from_the_pace_where_it_is_known(tmp_path: Path) -> None:
    large = SMALL.replace("layers: 12", "layers: 400")
    config = large + "train: {steps: 500000, batch: 32, precision: bf16, save: 400000}\n"
    (one,) = found(judge(tmp_path, config, "L4", ADAPTER), "CK103")
    assert one.fix is not None
    assert one.fix.startswith("set train.save: ")
    assert "of work)" in one.fix


def test_checkpoints_that_nothing_deletes_are_counted_and_weighed(tmp_path: Path) -> None:
    config = "model: {size: 1.7B}\ntrain: {steps: 50000, batch: 8, save: 100%s}\n"
    (one,) = found(judge(tmp_path, config % "", project=ADAPTER), "CK105")
    assert "500 checkpoints of 19.0 GiB take 9.3 TiB" in one.message
    assert found(judge(tmp_path, config % ", keep: 3", project=ADAPTER), "CK105") == []


def test_a_checkpoint_that_is_elsewhere_is_not_checked_and_starting_weights_only_warn(tmp_path: Path) -> None:
    config = (
        "model: {hidden_size: 768, vocab_size: 50257}\ntrainer: {max_steps: 1000, batch_size: 8, lr: 0.0003}\n%s: old\n"
    )
    assert "old is not on this machine" in judge(tmp_path, config % "resume").coverage.not_checked["CK107"]
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(json.dumps({"hidden_size": 512, "vocab_size": 50257}))
    (one,) = found(judge(tmp_path, config % "resume"), "CK107")
    assert (one.severity, "512 there and 768 here" in one.message) == ("error", True)
    assert severities(judge(tmp_path, config % "init_from"), "CK107") == ["warning"]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, precision: bf16, fp16: true}\n", ["error"]),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, precision: bf16}\nother: {fp16: true}\n", ["warning"]),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, amp: true, dtype: bfloat16}\n", []),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, bf16: true}\nmodel: {torch_dtype: float32}\n", []),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, bf16: true, fp16: false}\n", []),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, bf16: true}\ntext_encoder: {dtype: fp16}\n", []),
        ("t: {lr: 0.0003, max_steps: 900, batch_size: 8, bf16: true}\neval: {dtype: float16}\n", []),
    ],
)
def test_spellings_of_the_precision_are_held_against_each_other(config: str, wanted: list[str], tmp_path: Path) -> None:
    assert severities(judge(tmp_path, config), "PR104") == wanted


def test_the_advised_precision_is_spelled_as_the_config_spells_it(tmp_path: Path) -> None:
    for written, fix in (("fp16: true", "set t.bf16: true"), ("dtype: float16", "set t.dtype: bfloat16")):
        config = f"t: {{lr: 0.0003, max_steps: 900, batch_size: 8, {written}}}\n"
        (one,) = found(judge(tmp_path, config, "RTX3090"), "PR106")
        assert str(one.fix).startswith(fix)


@pytest.mark.parametrize(("steps", "wanted"), [(200, []), (3000, ["PR105"]), (50000, ["PR101"])])
def test_a_trainer_whose_default_is_fp32_is_told_by_the_length_of_the_run(
    steps: int, wanted: list[str], tmp_path: Path
) -> None:
    project = ADAPTER.replace("defaults: {", "defaults: {training.precision: fp32, ")
    report = judge(tmp_path, f"train: {{steps: {steps}, batch: 8, save: 100}}\n", "A100-80GB", project)
    assert [one.rule for one in report.findings if one.rule.startswith("PR")] == wanted


def test_a_misfit_that_rests_on_an_assumption_warns_and_one_that_does_not_refuses(tmp_path: Path) -> None:
    train = "train: {steps: 900, batch: %d, precision: bf16}\n"
    report = judge(tmp_path, SMALL + train % 24, "RTX4090", ADAPTER)
    memory = report.estimates["memory"].value
    gpu = memory.request.gpu.usable_bytes
    assert memory.low < gpu < memory.high
    assert severities(report, "ME101") == ["warning"]
    (one,) = found(judge(tmp_path, SMALL + train % 512, "RTX4090", ADAPTER), "ME101")
    assert one.severity == "error"
    assert "train.batch: " in str(one.fix)
    assert "declares" not in str(one.fix)


@pytest.mark.parametrize(
    ("config", "gpu", "wanted"),
    [
        ("model: {width: 128, layers: 1, heads: 8, vocab: 256, length: 128}\n", "A100-80GB:2", ["error"]),
        ("model: {width: 128, layers: 1, heads: 8, vocab: 256, length: 128}\n", "T4", ["warning"]),
        ("name: pretrain-125m\nmodel: {width: 256, layers: 4, heads: 8, vocab: 256, length: 512}\n", "H100", ["error"]),
        ("name: 20b-tokens\nmodel: {width: 512, layers: 8, heads: 8, vocab: 256, length: 512}\n", "H100", ["warning"]),
    ],
)
def test_a_gpu_that_is_not_used_is_an_error_where_it_is_a_large_one(
    config: str, gpu: str, wanted: list[str], tmp_path: Path
) -> None:
    train = "train: {steps: 50000, batch: 8, precision: bf16, save: 1000}\n"
    assert severities(judge(tmp_path, config + train, gpu, ADAPTER), "ME103") == wanted


def test_batches_that_loaders_keep_ready_are_multiplied_by_everything(tmp_path: Path) -> None:
    config = "train: {steps: 900, batch: 8}\nbox: {memory: 64GiB}\ndata: {workers: %d, prefetch: 8, example: 75MiB}\n"
    (one,) = found(judge(tmp_path, config % 8, "A100-80GB:2", ADAPTER), "ME104")
    assert "8 loaders × 8 batches × 8 of 75.0 MiB in each of 2 processes" in one.message
    assert found(judge(tmp_path, config % 2, "A100-80GB:2", ADAPTER), "ME104") == []


def test_a_missing_shard_folder_is_an_error_only_beside_one_that_is_there(tmp_path: Path) -> None:
    config = 'data: {train_shards: ["shards/good/*.tar", "shards/goood/*.tar"]}\n'
    config += "t: {lr: 0.0003, max_steps: 900, batch_size: 8}\n"
    assert "is not on this machine" in judge(tmp_path, config).coverage.not_checked["DA102"]
    (tmp_path / "shards" / "good").mkdir(parents=True)
    (tmp_path / "shards" / "good" / "0.tar").touch()
    (one,) = found(judge(tmp_path, config), "DA102")
    assert (one.severity, "nothing matches shards/goood/*.tar" in one.message) == ("error", True)
    assert found(judge(tmp_path, config.replace("shards/goood", "/volume/more")), "DA102") == []


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ("train_files: 'x/*.jsonl', val_files: 'x/*.jsonl'", ["error"]),
        ("train_dataset: org/name, val_dataset: org/name", ["warning"]),
        ("train_dataset: org/name, val_dataset: org/name, eval_split: test", []),
        ("train_files: x.jsonl, val_files: x.jsonl, val_ratio: 0.1", []),
    ],
)
def test_the_same_source_on_both_sides(data: str, wanted: list[str], tmp_path: Path) -> None:
    config = f"data: {{{data}}}\nt: {{lr: 0.0003, max_steps: 900, batch_size: 8, eval_every: 100}}\n"
    assert severities(judge(tmp_path, config), "DA106") == wanted


@pytest.mark.parametrize(
    ("train", "count", "wanted"),
    [
        ("steps: 50000, batch: 20", 813, ["error"]),
        ("steps: 300, batch: 16", 18, ["error"]),  # 267 passes: no smoke test needs as many
        ("steps: 200, batch: 16", 100, ["warning"]),
        ("steps: 5000, batch: 16", 100_000, []),
    ],
)
def test_passes_over_counted_data(train: str, count: int, wanted: list[str], tmp_path: Path) -> None:
    config = f"train: {{{train}}}\ndata: {{count: {count}}}\n"
    assert severities(judge(tmp_path, config, project=ADAPTER), "DA107") == wanted


def test_stated_epochs_are_meant_and_hold_the_steps_to_them(tmp_path: Path) -> None:
    config = "data: {dataset_size: 1000}\nt: {lr: 0.0003, num_epochs: 50, batch_size: 10%s}\n"
    assert found(judge(tmp_path, config % ""), "DA107") == []
    assert found(judge(tmp_path, config % ", max_steps: 5000"), "DA107") == []
    (one,) = found(judge(tmp_path, config % ", max_steps: 500000"), "DA107")
    assert "t.num_epochs is 50, but it comes to 5,000 passes" in one.message


def test_made_up_data_on_failure_refuses_a_paid_run_only(tmp_path: Path) -> None:
    config = "data: {fallback_to_synthetic: %s}\nt: {lr: 0.0003, max_steps: 20000, batch_size: 8}\n"
    assert severities(judge(tmp_path, config % "true", "H100"), "DA109") == ["error"]
    assert severities(judge(tmp_path, config % "true", "none"), "DA109") == ["warning"]
    assert severities(judge(tmp_path, config % "false", "H100"), "DA109") == []


@pytest.mark.parametrize(
    ("config", "lacks"),
    [
        ("t: {lr: 0.0003, max_steps: 9000, batch_size: 8}\n", True),
        ("t: {lr: 0.0003, max_steps: 9000, batch_size: 8, eval_every: 500}\n", False),
        ("t: {lr: 0.0003, max_steps: 9000, batch_size: 8, val_ratio: 0.1}\n", False),
        ("t: {lr: 0.0003, max_steps: 9000, batch_size: 8, eval_every: 0, val_files: v.jsonl}\n", True),
    ],
)
def test_a_run_that_never_validates_is_told_so(config: str, lacks: bool, tmp_path: Path) -> None:
    assert bool(found(judge(tmp_path, config), "DA108")) is lacks


def test_a_cadence_of_metrics_in_minutes_is_judged_too(tmp_path: Path) -> None:
    config = "train: {steps: 9000, batch: 8, log_minutes: %d}\n"
    (one,) = found(judge(tmp_path, config % 30, project=ADAPTER), "TM105")
    assert one.message == "train.log_minutes is 30m00s: a row every 30m00s"
    assert found(judge(tmp_path, config % 1, project=ADAPTER), "TM105") == []


def test_a_time_limit_of_its_own_that_comes_before_its_steps_is_said(tmp_path: Path) -> None:
    config = SMALL + "train: {steps: 500000000, batch: 8, max_hours: 2, save: 1000, precision: bf16}\n"
    report = judge(tmp_path, config, "A100-80GB", ADAPTER)
    assert report.estimates["time"].value.high <= 2 * 3600
    (one,) = found(report, "TM106")
    assert (one.severity, one.key) == ("error", "train.max_hours")


def test_several_gpus_share_the_work_of_a_step(tmp_path: Path) -> None:
    config = SMALL + "train: {steps: 50000, batch: %d, precision: bf16, save: 1000}\n"
    alone = judge(tmp_path, config % 32, "A100-80GB", ADAPTER).estimates["time"].value
    shared = judge(tmp_path, config % 8, "A100-80GB:4", ADAPTER).estimates["time"].value
    assert shared.likely < alone.likely / 2


def test_where_it_runs_is_unknown_nothing_is_said_of_money_or_limits(tmp_path: Path) -> None:
    report = judge(tmp_path, SMALL + "train: {steps: 50000, batch: 8, precision: bf16, save: 1000}\n", "H100", ADAPTER)
    for rule in ("BU101", "BU102", "BU103", "BU104", "TM103", "TM104", "CK110"):
        assert rule in report.coverage.not_checked


def test_a_pace_that_nothing_here_could_measure_refuses_nobody(tmp_path: Path) -> None:
    config = SMALL + "train: {steps: 5000000, batch: 32, precision: bf16, save: 500}\nbox: {provider: modal}\n"
    report = judge(tmp_path, config, "H100:8", ADAPTER)
    assert report.estimates["cost"].value.likely > 50
    assert severities(report, "TM104") == ["warning"]


def test_a_paid_backend_that_takes_machines_away_wants_periodic_saves(tmp_path: Path) -> None:
    config = SMALL + "train: {steps: 4900, batch: 512, precision: bf16%s}\nbox: {provider: modal}\n"
    (one,) = found(judge(tmp_path, config % ", save: 4800", "L4", ADAPTER), "CK110")
    assert "modal ends a process 30s after it takes the machine away" in one.message
    assert found(judge(tmp_path, config % ", save: 20", "L4", ADAPTER), "CK110") == []


def test_a_dataset_on_a_volume_without_its_manifest_refuses_a_long_run_only(tmp_path: Path) -> None:
    config = "data: {encoded: /volume/melee}\ntraining: {steps: %d}\n"
    found_by_steps = [severities(judge(tmp_path, config % steps), "DA110") for steps in (200, 2000, 200_000)]
    assert found_by_steps == [[], ["warning"], ["error"]]
