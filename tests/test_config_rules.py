"""Rules about a config itself: what its scalars, comments, names and secrets say, and what its code reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runctl import preflight, reporting
from runctl.errors import UsageError
from runctl.facts import Finding
from runctl.gathering import comments, secrets, sources
from runctl.preflight import Options, Report
from runctl.project import Project

HEAD = "trainer: {max_steps: 500, batch_size: 8, seed: 1, save_every: 100}\n"
TOKEN = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9"


def judge(folder: Path, text: str, name: str = "config.yaml", **options: object) -> Report:
    path = folder / name
    path.write_text(text)
    return preflight.preflight(path, Options(**options), Project(folder))  # type: ignore[arg-type]


def found(report: Report, rule: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == rule]


# --- CF104: what a scalar is


@pytest.mark.parametrize(
    ("line", "severity", "words"),
    [
        ('gradient_checkpointing: "false"', "error", "any text for true"),
        ('gradient_checkpointing: "true"', "warning", "not a switch"),
        ('use_flash: "false"', "warning", "any text for true"),
        ("learning_rate: 1e-4", "warning", "1.0e-4"),
        ("learning_rate: 2E5", "warning", "2.0E+5"),
        ("walltime: 1:30:00", "warning", "5400"),
        ("gradient_accumulation_steps: 010", "warning", "8 to trainers"),
        ('gradient_accumulation_steps: "4"', "warning", "not a number"),
        ("eval_samples: 1,000,", "warning", "comma"),
        ("resume_from_checkpoint: None", "warning", "null"),
        ("eval_strategy: no", "warning", "false"),
        ("python_version: 3.10", "warning", "3.1"),
    ],
)
def test_a_scalar_that_is_not_what_it_looks_like(line: str, severity: str, words: str, tmp_path: Path) -> None:
    (finding,) = found(judge(tmp_path, f"{HEAD}optim:\n  {line}\n"), "CF104")
    assert (finding.severity, finding.line) == (severity, 3)
    assert words in f"{finding.message} {finding.fix}"


@pytest.mark.parametrize(
    "line",
    [
        "learning_rate: 1.0e-4", "learning_rate: 0.0001", "samples: 1_000_000", "wandb: off", "compile: no",
        "beta: .5", 'pattern: "1:30"', "weights: 0", "bias: 0.0", "commit: 12e4567", 'mixed_precision: "no"',
        'env: {DEBUG: "false"}',
        'gradient_checkpointing: "{{CKPT}}"', "norm: none", "shards: train-{000..127}.tar", "steps_label: 1e-4 or less",
    ],
)  # fmt: skip
def test_a_scalar_that_is_what_it_looks_like_is_left_alone(line: str, tmp_path: Path) -> None:
    assert found(judge(tmp_path, f"{HEAD}optim:\n  {line}\n"), "CF104") == []


def test_a_number_that_cannot_be_meant(tmp_path: Path) -> None:
    text = (
        "per_device_train_batch_size: 0\nnum_train_epochs: 3\nlearning_rate: 0.001\noutput_dir: out/a\nmax_steps: -1\n"
    )
    (finding,) = found(judge(tmp_path, text, adapter="hf"), "CF104")
    assert (finding.severity, finding.line) == ("warning", 1)


def test_hydra_and_its_kin_read_1e_4_as_a_number(tmp_path: Path) -> None:
    text = f"{HEAD}optim: {{_target_: torch.optim.AdamW, lr: 1e-4}}\n"
    assert found(judge(tmp_path, text), "CF104") == []


def test_native_configs_read_1e_4_as_a_number_but_a_leading_zero_is_said(tmp_path: Path) -> None:
    report = judge(tmp_path, "training: {steps: 100, lr: 1e-4, batch_size: 0512}\n")
    assert [finding.message for finding in found(report, "CF104")] == [
        "training.batch_size is 0512: 512 here, but 330 to trainers that read YAML 1.1"
    ]


# --- CF105, CF106: names and comments


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("tiny_360M.yaml", "model: {name: org/Small-135M-Instruct}\n", "135M"),
        ("run_seed3.yaml", "", "seed is 1"),
        ("long_ctx4k.yaml", "data: {seq_len: 2048}\n", "2,048"),
        ("wide_bf16.yaml", "precision: fp16\n", "fp16"),
        ("lr_sweep_3e4.yaml", "optim: {lr: 1.0e-4}\n", "0.0001"),
        ("run_5k_steps.yaml", "", "500 steps"),
        ("a1.yaml", "out: {output_dir: ck/a2_wide}\nlog: {run_name: a1_wide}\n", "a2_wide"),
    ],
)
def test_a_name_that_says_what_the_config_is_not(name: str, text: str, words: str, tmp_path: Path) -> None:
    (finding,) = found(judge(tmp_path, HEAD + text, name), "CF105")
    assert finding.severity == "warning"
    assert finding.line is not None
    assert words in finding.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("tiny_135M.yaml", "model: {name: org/Small-135M-Instruct}\n"),
        ("distill_7B_to_1B.yaml", "model: {name: org/Small-1B}\n"),
        ("run_1M_samples.yaml", "model: {name: org/Small-135M}\n"),
        ("openvid-1M.yaml", "model: {name: org/Small-135M}\ndata: {train_files: data/openvid/*.tar}\n"),
        ("lr_sweep_3e4.yaml", "optim: {lr: 3.0e-4}\n"),
        ("run_bs8_seed1.yaml", ""),
        ("effective_bs32.yaml", "gradient_accumulation_steps: 4\n"),
        ("top_k60.yaml", "data: {seq_len: 2048}\n"),
        ("webvid.yaml", "data: {train_files: /mnt/ours/part-*.tar}\n"),
        ("webvid.yaml", "data: {train_files: data/openvid/*.tar, captions: webvid-captions.json}\n"),
        ("T1.yaml", "out: {output_dir: ck/T1_no_text}\nlog: {run_name: T1_no_text_retention}\n"),
        ("x.yaml", "out: {output_dir: outputs}\nlog: {run_name: stage2_7B}\n"),
    ],
)
def test_a_name_that_something_explains_is_left_alone(name: str, text: str, tmp_path: Path) -> None:
    assert found(judge(tmp_path, HEAD + text, name), "CF105") == []


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("# Standard settings, 1M samples.", "1M samples"),
        ("# About 82K steps in 24 hours", "82K steps"),
        ("# Effective batch = 18", "batch = 18"),
        ("# 3 epochs on one A100", None),  # epochs are not written: nothing to contradict
        ("# Data: 5,000 steps; the old run had 500 steps", "5,000 steps"),
        ("# batch_size: 4 -> 16", "4 -> 16"),
    ],
)
def test_a_header_that_the_body_contradicts(comment: str, words: str | None, tmp_path: Path) -> None:
    text = f"{comment}\n\ntrainer: {{max_steps: 500, batch_size: 8, seed: 1}}\n"
    wanted = [words] if words else []
    assert [words in finding.message for finding in found(judge(tmp_path, text), "CF106")] == [True] * len(wanted)
    assert all(finding.line is not None for finding in found(judge(tmp_path, text), "CF106"))


@pytest.mark.parametrize(("dollars", "count"), [("0.50", 1), ("12", 0), ("500", 1), ("2.50/h", 0)])
def test_a_cost_in_a_header_is_held_against_the_estimate(dollars: str, count: int, tmp_path: Path) -> None:
    text = (
        f"# Overnight, total cost ~${dollars}\ntraining: {{steps: 2000000, batch_size: 512}}\n"
        "data: {simulate: {games: 48, seconds: 30}}\ncompute: {backend: modal, gpu: A100-80GB}\n"
    )
    assert len(found(judge(tmp_path, text), "CF106")) == count


@pytest.mark.parametrize(
    "comment",
    [
        "# ~4K samples in 500 steps of 8.",
        "# baseline uses 1M samples",
        "# Smaller dataset (100K samples vs 2M samples)",
        "# eval every 250 steps on 1000 samples per task",
        "# checkpoints at step 2,021 (65K samples per GPU)",
        "# batch_size 4 -> 8",
        "# lr: 1e-3 -> 1e-5, cosine",
        "# 1000 warmup steps would be too many",
        "# effective batch 64 on 8 GPUs",
        "# C4 has 365M samples, of which this run uses few",
        "# 16 tokens per frame, 1,000 diffusion steps",
        "# 70B parameters would not fit",
    ],
)
def test_comments_about_other_things_claim_nothing(comment: str, tmp_path: Path) -> None:
    text = f"{comment}\n\ntrainer: {{max_steps: 500, batch_size: 8, seed: 1}}\noptim: {{lr: 2.0e-4}}\n"
    assert [finding.message for finding in found(judge(tmp_path, text), "CF106")] == []


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("batch_size: 8  # 16 per GPU", True),
        ("batch_size: 8  # global, 2 GPUs => 4 per GPU", False),
        ("batch_size: 8  # 1 per GPU for now", False),
        ("save_every: 100  # Checkpoint every 500 steps", True),
        ("save_every: 100  # every 100 steps, as recommended", False),
        ("grad_accum: 4  # Effective batch = 64 on 2 GPUs", False),
        ("grad_accum: 4  # Effective batch = 30", True),
        ("warmup_steps: 20  # 4% of total steps", False),
        ("warmup_steps: 20  # 4% of the steps of the phase", False),
        ("warmup_steps: 20  # 20% of total steps", True),
        ("max_steps: 500  # use 50000 steps for the full run", False),
        ("max_steps: 500  # ~16 epochs, ~4 hours", False),
    ],
)
def test_a_comment_beside_a_value(line: str, wrong: bool, tmp_path: Path) -> None:
    rest = [one for one in ("max_steps: 500", "batch_size: 8") if one.split(":")[0] not in line]
    text = "trainer:\n" + "".join(f"  {one}\n" for one in [line, *rest])
    findings = found(judge(tmp_path, text), "CF106")
    assert [finding.line for finding in findings] == ([2] if wrong else [])


def test_an_announced_kind_of_data_that_is_not_read(tmp_path: Path) -> None:
    mix = "# 55% video / 30% image / 15% text\n"
    body = HEAD + "data: {text_ratio: 0.15, train_files: [data/openvid/*.tar, %s]}\n"
    (finding,) = found(judge(tmp_path, mix + body % "data/webvid/*.tar"), "CF106")
    assert "30% image" in finding.message
    assert found(judge(tmp_path, mix + body % "data/coco/*.tar"), "CF106") == []
    assert found(judge(tmp_path, mix + body % "data/ours/*.tar"), "CF106") == []


def test_files_without_comments_are_not_parsed_for_them() -> None:
    assert comments.of("a: 1\n", ()) == []
    assert comments.of("# only comments\n# 5 steps\n", [(1, "only comments")]) == [(1, "only comments")]


# --- CF108: keys that the code never reads


def test_only_code_reads_a_key_not_its_comments_and_docstrings() -> None:
    code = '''
"""Reads dropout, it says."""
# and width
def build(cfg, *, heads):
    parser.add_argument("--num-layers")
    return cfg["model.depth"], f"{cfg.rank}", cfg.get('bias'), 'a sentence with scale in it'
'''
    words = sources.of(code)
    assert {"heads", "num_layers", "depth", "rank", "bias"} <= words
    assert not words & {"dropout", "width", "scale", "sentence"}


def test_a_key_that_no_code_reads_is_worse_where_it_is_the_factor(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text("cfg.trainer.max_steps; cfg.trainer.batch_size; cfg.trainer.seed; x['save_every']\n")
    text = HEAD.replace("save_every", "keep_best: 2, save_every") + "model:\n  init_std: 0.02  # <-- ABLATION\n"
    report = judge(tmp_path, text, source=code)
    assert {(one.key, one.severity) for one in found(report, "CF108")} == {
        ("trainer.keep_best", "warning"),
        ("model", "warning"),
        ("model.init_std", "error"),
    }
    assert "no training code" in judge(tmp_path, text).coverage.not_checked["CF108"]
    with pytest.raises(UsageError, match="no such folder"):
        judge(tmp_path, text, source=tmp_path / "nowhere")


# --- CF109: secrets


@pytest.mark.parametrize(
    "line",
    [
        f"token: {TOKEN}", f"notes: use {TOKEN} to log in", "password: hunter2", "db: postgres://me:s3cretpw@host/x",
        "wandb_api_key: 0123456789abcdef0123456789abcdef01234567", f"# login with {TOKEN}",
        "openai_key: sk-" + "a1B2" * 8,
        "aws_access_key_id: AKIA" + "ABCDEFGHIJ234567", "tracker:\n  password:\n    staple-battery",
    ],
)  # fmt: skip
def test_a_secret_is_found_and_never_shown(line: str, tmp_path: Path) -> None:
    report = judge(tmp_path, HEAD + line + "\n")
    assert [finding.severity for finding in found(report, "CF109")] == ["error"]
    value = line.split()[-1]
    kept = ["s3cretpw"] if "@host" in line else [TOKEN] if TOKEN in line else [value]
    for form in ("text", "json", "github", "sarif", "markdown"):
        shown = reporting.load(form)([report])
        assert "CF109" in shown
        assert all(secret not in shown for secret in kept)


@pytest.mark.parametrize(
    "line",
    [
        "api_key: ${API_KEY}", "api_key: OPENAI_API_KEY", "token: <your token>", "pad_token: <pad>",
        'eos_token: "</s>"',
        "hub_token: null", "use_auth_token: true", "tokenizer: org/model-7b-chat-v0-1-abc123", "password: changeme",
        "max_tokens: 2048", "revision: 0123456789abcdef0123456789abcdef01234567", "secret: my-training-secret",
        "key: value", "api_key: EMPTY", "credentials: ~/.config/key.json", "email: a@b.c", "task-id: task-abcdefgh",
        "credentials: gcs-training-reader-01", "path: sk-learn-pipeline-with-a-long-name",
        "proxy: http://user:password@proxy", "model: hf_internaltestingtinyrandom",
    ],
)  # fmt: skip
def test_what_is_no_secret_is_left_alone(line: str, tmp_path: Path) -> None:
    assert found(judge(tmp_path, f"{HEAD}{line}\n"), "CF109") == []


def test_a_native_config_hides_its_secret_in_every_message(tmp_path: Path) -> None:
    report = judge(tmp_path, f"training: {{steps: 10, lr: {TOKEN}}}\n")
    shown = json.dumps([finding.to_json() for finding in report.findings])
    assert "CF109" in shown
    assert TOKEN not in shown


def test_a_line_that_cannot_be_parsed_is_shown_without_its_secret(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        judge(tmp_path, f"a: [{TOKEN}\nb: : c\n")
    assert TOKEN not in str(caught.value)
    assert "***" in secrets.masked(f"token: {TOKEN}")


# --- CF107, CF110, CF111


def test_a_fragment_is_a_note_and_a_launch_of_it_an_error(tmp_path: Path) -> None:
    report = judge(tmp_path, "model: {width: 64}\noptim: {learning_rate: 0.001, warmup_steps: 10}\n")
    assert (report.kind, [finding.severity for finding in found(report, "CF107")]) == ("incomplete", ["note"])
    assert "CF107" in {finding.rule for finding in report.at_launch}


@pytest.mark.parametrize(
    ("text", "severities"),
    [
        ("trainer: {max_steps: 50000, batch_size: 8}\n", ["warning"]),
        ("trainer: {max_steps: 200, batch_size: 8}\n", ["note"]),
        ("trainer: {max_steps: 50000, batch_size: 8}\nrng: {random_seed: 7}\n", []),
        ("training: {steps: 50000}\n", []),
    ],
)
def test_a_seed_is_missed_on_long_runs(text: str, severities: list[str], tmp_path: Path) -> None:
    assert [finding.severity for finding in found(judge(tmp_path, text), "CF110")] == severities


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("wandb: {project: demo}\n", 1),
        ("logging: {wandb_project: demo}\n", 1),
        ("logging: {wandb_project: demo, run_name: wide}\n", 0),
        ("wandb: {project: demo, name: wide}\n", 0),
        ("project: {name: demo}\n", 0),
        ("wandb: {project: null}\n", 0),
        ("wandb: {project: demo, mode: disabled}\n", 0),
    ],
)
def test_a_tracker_wants_a_run_name(text: str, count: int, tmp_path: Path) -> None:
    assert len(found(judge(tmp_path, HEAD + text), "CF111")) == count


def test_a_foreign_config_with_a_key_twice_is_refused_with_both_places(tmp_path: Path) -> None:
    (finding,) = found(judge(tmp_path, f"{HEAD}optim:\n  lr: 0.1\n  lr: 0.2\n"), "CF103")
    assert (finding.severity, finding.line, finding.key) == ("error", 4, "optim.lr")
    assert "line 3" in finding.message


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("length: 512\nmodel: {seq: '${length}'}\n", 0),
        ("variables: {length: 512}\nmodel: {seq: '${length}', more: '${variables.length}'}\n", 0),
        ("model: {home: '${oc.env:HOME}', sum: '${.width}'}\n", 0),
        ("defaults: [model: small]\nmodel: {seq: '${data.length}'}\n", 0),
        ("model: {seq: '${length}'}\n", 1),
        ("model: {seq: '${SEQ}', length: 512}\n", 1),
        ("model: {path: 'models/${MODEL}'}\nlog: {run_name: 'stage1-${SIZE}'}\n", 2),
        ("model: {path: 'models/${size}', size: 7b, home: '${HOME}/x', prompt: 'Ask {{QUESTION}}, ${ANSWER}'}\n", 0),
        ("out: {dir: 'ck/{{NAME}}', file: 'step-{step}.pt', greeting: 'dear {{NAME}}'}\n", 1),
    ],
)
def test_variables_that_the_trainer_resolves_are_no_placeholders(text: str, count: int, tmp_path: Path) -> None:
    assert len(found(judge(tmp_path, HEAD + text), "CF102")) == count


def test_code_that_fills_variables_in_is_believed(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text("path = os.path.expandvars(cfg['model']['path'])\n")
    text = f"{HEAD}model: {{path: 'models/${{MODEL}}'}}\n"
    assert len(found(judge(tmp_path, text), "CF102")) == 1
    assert found(judge(tmp_path, text, source=tmp_path / "code"), "CF102") == []


def test_files_that_are_no_training_configs_are_not_judged_by_their_numbers(tmp_path: Path) -> None:
    report = judge(tmp_path, '# 5 epochs\nservices: {web: {ports: ["80:80"], restart: no, debug: "false"}}\n')
    assert report.kind == "other"
    assert report.findings == ()
