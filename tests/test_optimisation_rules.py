"""Compute, environment, optimisation and model: what the examples on the rules' pages do not already show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from test_rules import repository, without_credentials  # noqa: F401  (a fixture for every test here)

from runctl import preflight, surveys
from runctl.adapters.vocabulary import WORDS
from runctl.estimate import learning_rates
from runctl.preflight import Report
from runctl.project import Project
from runctl.rules import en105, lr_groups

ROOT = Path(__file__).parents[1]
LONG = "data: {simulate: {games: 2000}}\ntraining: {steps: 200000, batch_size: 64}\n"
ADAPTER = """
adapters:
  - name: ours
    match: ["*.yaml"]
    facts: {%s}
"""


def judged(folder: Path, text: str, *, sets: Sequence[str] = (), gpu: str | None = None, **options: object) -> Report:
    path = folder / "given.yaml"
    path.write_text(text)
    given = preflight.Options(tuple(sets), gpu, **options)  # type: ignore[arg-type]
    return preflight.preflight(path, given, None if (folder / "runctl.yaml").exists() else Project(folder))


def found(report: Report, rule: str) -> list[tuple[str, str]]:
    return [(finding.severity or "", finding.message) for finding in report.findings if finding.rule == rule]


def runctl(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runctl", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), **environment},
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_config_cut_short_on_the_command_line_is_warned_and_not_refused(tmp_path: Path) -> None:
    text = "training: {steps: 50000, warmup_steps: 2000}\n"
    assert found(judged(tmp_path, text), "OP101") == []
    assert [severity for severity, _ in found(judged(tmp_path, text, sets=["training.steps=100"]), "OP101")] == [
        "warning"
    ]


@pytest.mark.parametrize(
    ("parameters", "lr", "kind"),
    [
        (130_000_000, 3e-3, "scratch"),  # Mamba
        (135_000_000, 3e-3, "scratch"),  # SmolLM2
        (1_700_000_000, 5e-4, "scratch"),  # SmolLM2
        (65_000_000_000, 1.5e-4, "scratch"),  # Llama
        (12_000_000_000, 1.2e-4, "scratch"),  # Pythia
        (4_282_386, 1e-3, "scratch"),  # the smallest world model
        (7_000_000_000, 2e-5, "finetune"),  # Alpaca
        (7_000_000_000, 5e-7, "finetune"),  # Zephyr's preference tuning
        (135_000_000, 1e-3, "finetune"),  # SmolLM2-Instruct
        (7_000_000_000, 2e-4, "lora"),  # QLoRA
        (1_711_000_000, 5e-4, "unknown"),
    ],
)
def test_rates_that_good_models_were_trained_with_are_usual(parameters: int, lr: float, kind: str) -> None:
    band = learning_rates.band(parameters, kind, "adamw")
    assert band is not None
    assert band.low <= lr <= band.high


@pytest.mark.parametrize(
    ("parameters", "lr", "kind"),
    [(7_000_000_000, 3e-3, "scratch"), (125_000_000, 0.1, "scratch"), (7_000_000_000, 5e-4, "finetune")],
)
def test_rates_ten_times_too_high_are_not(parameters: int, lr: float, kind: str) -> None:
    band = learning_rates.band(parameters, kind, "adamw")
    assert band is not None
    assert lr > band.high


def test_a_rate_for_an_optimizer_that_nobody_named_is_judged_for_large_models_only(tmp_path: Path) -> None:
    facts = "declares.parameters: size, training.lr: lr, training.steps: steps, training.batch_size: batch"
    (tmp_path / "runctl.yaml").write_text(ADAPTER % facts)
    report = judged(tmp_path, "{size: 1M, lr: 0.1, steps: 100, batch: 8}\n")
    assert found(report, "OP102") == []
    assert "training.optimizer" in report.coverage.not_checked["OP102"]
    for rate in ("0.1", "-1e-4", "1e-9"):
        assert found(judged(tmp_path, f"{{size: 7B, lr: {rate}, steps: 100, batch: 8}}\n"), "OP102"), rate


def test_a_schedule_in_forward_passes_says_where_the_rate_ends(tmp_path: Path) -> None:
    """The cosine that stopped at 53 % of its peak: 50,000 forward passes, two of them a step, 2,000 of warm-up."""
    facts = "training.micro_steps: steps, training.schedule_steps: steps, training.accumulation: accumulate, "
    facts += "training.batch_size: batch, training.warmup_steps: warmup"
    (tmp_path / "runctl.yaml").write_text(ADAPTER % facts)
    text = "{steps: 50000, accumulate: %d, batch: 2, warmup: 2000}\n"
    ((severity, message),) = found(judged(tmp_path, text % 2), "OP104")
    assert severity == "error"
    assert "of 2 forward passes each: the schedule counts forward passes" in message
    assert "ends at about 53% of its peak" in message
    assert found(judged(tmp_path, text % 1), "OP104") == []


def test_a_global_batch_may_mean_devices_that_nobody_named(tmp_path: Path) -> None:
    text = "training: {global_batch_size: 256, micro_batch_size: 8, gradient_accumulation_steps: 8, max_steps: 9}\n"
    assert found(judged(tmp_path, text), "OP105") == []  # four devices, perhaps
    assert found(judged(tmp_path, text, gpu="A100-80GB:4"), "OP105") == []
    ((severity, message),) = found(judged(tmp_path, text, gpu="A100-80GB:2"), "OP105")
    assert severity == "warning"  # the keys were guessed
    assert message.endswith("2 devices make 128")
    split = judged(tmp_path, text.replace("max_steps", "tensor_parallel_size: 4, max_steps"), gpu="A100-80GB:8")
    assert found(split, "OP105") == []
    assert "tensor_parallel_size" in split.coverage.not_checked["OP105"]


@pytest.mark.parametrize("key", ["lr_vision", "vision_lr", "text_encoder_lr", "learning_rate_vision", "lr-vision"])
def test_a_group_at_rate_zero_is_found_under_any_spelling(key: str, tmp_path: Path) -> None:
    report = judged(tmp_path, f"training: {{max_steps: 9, batch_size: 8, lr_head: 1e-4, {key}: 0.0}}\n")
    ((severity, message),) = found(report, "OP107")
    assert severity == "warning"
    assert f"training.{key} is 0" in message


@pytest.mark.parametrize("key", ["min_lr", "lr_end", "final_lr_ratio", "lr_warmup_steps", "lr_scheduler_gamma", "lr"])
def test_other_rates_of_zero_freeze_nothing(key: str, tmp_path: Path) -> None:
    report = judged(tmp_path, f"training: {{max_steps: 9, batch_size: 8, lr_head: 1e-4, {key}: 0}}\n")
    assert [name for name, rate, _ in lr_groups.of(report.facts) if rate == 0] == []


def test_the_list_of_bad_combinations_names_facts_that_exist_and_its_sources() -> None:
    known = {*WORDS, "gpu.count", "gpu.capability", "gpu.used", "training.kernel", "dialect"}
    for entry in en105.table():
        assert set(entry.when) <= known, entry.id
        assert entry.sources, entry.id
        assert entry.severity in ("error", "warning")


@pytest.mark.parametrize(
    ("config", "gpu", "severities"),
    [
        ("{flash: true, precision: bf16}", "T4", ["error"]),
        ("{flash: true, precision: fp32}", "A100-80GB", ["error"]),
        ("{flash: true, precision: bf16}", "A100-80GB", []),
        ("{flash: false, precision: fp32}", "T4", []),
        ("{recompute: true, spread: fsdp}", "A100-80GB:4", []),
        ("{recompute: true, spread: ddp}", "A100-80GB:4", ["warning"]),
        ("{recompute: true, spread: ddp}", "A100-80GB", []),
    ],
)
def test_a_bad_combination_needs_all_its_parts(config: str, gpu: str, severities: list[str], tmp_path: Path) -> None:
    facts = "training.flash_attention: flash, training.precision: precision, training.batch_size: batch, "
    facts += "training.steps: steps, training.activation_checkpointing: recompute, training.distributed: spread, "
    facts += "training.lr: lr"
    (tmp_path / "runctl.yaml").write_text(ADAPTER % facts)
    report = judged(tmp_path, config[:-1] + ", batch: 8, steps: 100, lr: 1e-4}\n", gpu=gpu)
    assert [severity for severity, _ in found(report, "EN105")] == severities


def test_how_another_trainer_spreads_over_gpus_is_not_guessed(tmp_path: Path) -> None:
    text = "training: {max_steps: 100, batch_size: 8%s}\n"
    report = judged(tmp_path, text % "", gpu="A100-80GB:2")
    assert found(report, "GP103") == []
    assert "launch command" in report.coverage.not_checked["GP103"]
    ((severity, _),) = found(judged(tmp_path, text % ", world_size: 8", gpu="A100-80GB:2"), "GP103")
    assert severity == "warning"
    assert found(judged(tmp_path, text % ", world_size: 2", gpu="A100-80GB:2"), "GP103") == []
    assert found(judged(tmp_path, text % ", strategy: ddp", gpu="A100-80GB"), "GP103")
    facts = "training.steps: training.max_steps, training.batch_size: training.batch_size"
    (tmp_path / "runctl.yaml").write_text(ADAPTER % facts + "    defaults: {training.distributed: ddp}\n")
    assert found(judged(tmp_path, text % "", gpu="A100-80GB"), "GP103") == []


@pytest.mark.parametrize(
    "values",
    [
        "lr_a: 1%s, lr_b: nan, lr_c: .inf, lr_d: [0], lr_e: {x: 0}" % ("0" * 400),
        "seq_len: many, d_model: true, vocab_size: -3, hidden_size: 1e300, lr: -1",
        "global_batch_size: 7, seq_len: many, tp: -1, tensor_parallel_size: false",
        "warmup_steps: 1e17, warmup_ratio: 5, lr_decay_steps: 0, patience: 0, early_stopping: []",
    ],
)
def test_values_that_nobody_meant_crash_no_rule(values: str, tmp_path: Path) -> None:
    text = f"training: {{max_steps: 20000, batch_size: 8, bf16: true, learning_rate: 1e-4, {values}}}\n"
    report = judged(tmp_path, text, gpu="A100-80GB:2")
    assert [finding.message for finding in report.findings if "crashed" in finding.message] == []


def test_a_batch_that_grew_with_its_rate_is_told_as_two_changes(tmp_path: Path) -> None:
    (tmp_path / "baseline.yaml").write_text("training: {steps: 9, batch_size: 64, lr: 1.0e-4}\n")
    (tmp_path / "same-rate.yaml").write_text("training: {steps: 9, batch_size: 256, lr: 1.0e-4}\n")
    (tmp_path / "wide.yaml").write_text("training: {steps: 9, batch_size: 256, lr: 2.0e-4}\n")
    surveyed = surveys.survey(sorted(tmp_path.glob("*.yaml")), project=Project(tmp_path))
    base, same, wide = [report for report in surveyed if isinstance(report, Report)]
    ((severity, message),) = found(wide, "OP103")
    assert severity == "note"
    assert "256 examples, in baseline.yaml 64: × 4, and the rate × 2" in message
    assert "OP103" in base.coverage.not_checked
    (finding,) = [finding for finding in same.findings if finding.rule == "OP103"]
    assert str(finding.fix).startswith("set training.lr: 0.0002 (Adam) to 0.0004 (SGD)")


def test_a_batch_that_changed_since_the_base_is_told(tmp_path: Path) -> None:
    """The shared config whose batch was changed between the review and the launch."""
    shared = tmp_path / "shared.yaml"
    shared.write_text("training: {steps: 9, batch_size: 1024, lr: 1.0e-4, seed: 1}\n")
    repository(tmp_path, committed=True)
    shared.write_text("training: {steps: 9, batch_size: 4096, lr: 1.0e-4, seed: 1}\n")
    told = runctl("preflight", "shared.yaml", "--base", "HEAD", cwd=tmp_path).stdout
    assert "a step has 4,096 examples, in shared.yaml at HEAD 1,024: × 4 at the same rate" in told
    assert "OP103" not in runctl("preflight", "shared.yaml", "--base", "HEAD", "--ignore", "OP", cwd=tmp_path).stdout
    shared.write_text("training: {steps: 9, batch_size: 1024, lr: 1.0e-4, seed: 2}\n")
    assert "examples, in shared.yaml" not in runctl("preflight", "shared.yaml", "--base", "HEAD", cwd=tmp_path).stdout


def test_work_that_is_not_committed_is_said_at_launch_and_refused_by_policy(tmp_path: Path) -> None:
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    (tmp_path / "given.yaml").write_text("training: {steps: 10, seed: 1}\ndata: {simulate: {games: 2}}\n")
    repository(tmp_path, committed=True)
    launch = ("launch", "given.yaml", "--dry-run")
    assert "EN101" not in runctl(*launch, cwd=tmp_path).stderr
    (tmp_path / "train.py").write_text("pass\n")
    assert "1 file not committed (train.py)" in runctl(*launch, cwd=tmp_path).stderr
    (tmp_path / "runctl.yaml").write_text("policy: {rules: {EN101: error}}\n")
    refused = runctl(*launch, cwd=tmp_path)
    assert refused.returncode == 1
    assert "not committed (runctl.yaml, train.py)" in refused.stderr
    checked = runctl("preflight", "given.yaml", cwd=tmp_path)
    assert checked.returncode == 0
    assert "would be refused at launch here: EN101" in checked.stdout


def test_commits_that_no_remote_has_are_counted(tmp_path: Path) -> None:
    work, remote = tmp_path / "work", tmp_path / "remote.git"
    work.mkdir()
    (work / "given.yaml").write_text("training: {steps: 10}\n")
    repository(work, committed=True)
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(work)]
    subprocess.run(["git", "init", "--quiet", "--bare", str(remote)], check=True)
    subprocess.run([*git, "remote", "add", "origin", str(remote)], check=True)
    subprocess.run([*git, "push", "--quiet", "origin", "HEAD:main"], check=True)
    path = work / "given.yaml"
    look = preflight.Options(online=True)
    assert found(preflight.preflight(path, look, Project(work)), "EN101") == []
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=two"], check=True)
    ((_, message),) = found(preflight.preflight(path, look, Project(work)), "EN101")
    assert "1 commit not pushed" in message


def test_credentials_are_looked_for_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "given.yaml"
    path.write_text("training: {steps: 10, seed: 1}\ntracking: {wandb: online}\n")
    secret = "0123456789abcdef0123456789abcdef01234567"
    plain = json.loads(runctl("preflight", str(path), "--json", cwd=tmp_path).stdout)["reports"][0]
    assert "EN102" in [entry["rule"] for entry in plain["coverage"]["not_checked"]]
    assert [reason["rule"] for reason in plain["launch"]["because"]] == ["EN102"]
    missing = runctl("preflight", str(path), "--online", cwd=tmp_path)
    assert missing.returncode == 1
    assert "wandb login, or set WANDB_API_KEY" in missing.stdout
    given = runctl("preflight", str(path), "--online", "--json", cwd=tmp_path, WANDB_API_KEY=secret)
    assert given.returncode == 0
    assert secret not in given.stdout + given.stderr
    (Path(os.environ["HOME"]) / ".netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {secret}\n")
    kept = runctl("preflight", str(path), "--online", cwd=tmp_path)
    assert kept.returncode == 0
    assert secret not in kept.stdout + kept.stderr


def test_a_long_run_that_is_left_alone_is_said_at_its_launch(tmp_path: Path) -> None:
    (tmp_path / "given.yaml").write_text(LONG + "compute: {gpu: A100-80GB}\n")
    allow = ("--allow", "PR101", "--because", "a test", "--dry-run")
    assert "is left alone" in runctl("launch", "given.yaml", "--detach", *allow, cwd=tmp_path).stderr
    assert "is left alone" not in runctl("launch", "given.yaml", *allow, cwd=tmp_path).stderr


def test_an_environment_is_pinned_by_a_lock_or_by_exact_versions(tmp_path: Path) -> None:
    for name, text, pinned in (
        ("loose", "torch>=2\nnumpy\nrich==15.0.0\n", False),
        ("exact", "# ours\ntorch==2.13.0\nnumpy==2.3.1\n-e .\nrich\n", True),
        ("empty", "# nothing\n", False),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "runctl.yaml").write_text("policy: {}\n")
        (folder / "requirements.txt").write_text(text)
        assert (found(judged(folder, LONG), "EN104") == []) is pinned, name
    (tmp_path / "loose" / "uv.lock").write_text("version = 1\n")
    from runctl.gathering import surroundings

    surroundings.pins.cache_clear()
    assert found(judged(tmp_path / "loose", LONG), "EN104") == []


@pytest.mark.parametrize(
    ("compute", "rule", "words"),
    [
        ('{backend: modal, gpu: "H100:9", cpu: 4}', "GP101", "at most 8"),
        ("{backend: modal, gpu: V100, cpu: 4}", "GP101", "the nearest there by memory: T4"),
        ("{backend: modal, gpu: T4, cpu: 4, retries: 11}", "GP102", "at most 10"),
    ],
)
def test_what_the_provider_does_not_have_is_refused(compute: str, rule: str, words: str, tmp_path: Path) -> None:
    report = judged(tmp_path, f"training: {{steps: 10}}\ncompute: {compute}\n")
    (finding,) = [finding for finding in report.errors if finding.rule == rule]
    assert words in f"{finding.message} {finding.fix}"
