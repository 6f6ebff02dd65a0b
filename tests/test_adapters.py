"""Configs of trainers that nobody described: what the generic adapter recognises, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runctl import preflight, yamldoc
from runctl.adapters import pretrained
from runctl.adapters import spec as specs
from runctl.adapters.vocabulary import WORDS
from runctl.config.declares import Declares
from runctl.config.every import Every
from runctl.errors import UsageError
from runctl.estimate import families
from runctl.preflight import Options, Report
from runctl.project import Project

EXAMPLES = Path(__file__).parents[1] / "examples" / "adapters"


@pytest.fixture
def judged(tmp_path: Path) -> Callable[..., Report]:
    def judge(text: str, **options: Any) -> Report:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return preflight.preflight(path, Options(**{"adapter": "generic", **options}), Project(tmp_path))

    return judge


def found(report: Report, *rules: str) -> list[tuple[str, str | None]]:
    return [(one.rule, one.severity) for one in report.findings if one.rule in rules]


# What the same thing is called by different people.
@pytest.mark.parametrize(
    ("text", "fact", "value"),
    [
        ("trainer: {per_device_train_batch_size: 4}", "training.batch_size", 4),
        ("data: {train: {batch-size: 12}}", "training.batch_size", 12),
        ("hparams: {batchSize: 6}", "training.batch_size", 6),
        ("optim: {accumulate_grad_batches: 3}", "training.accumulation", 3),
        ("train: {max_iters: 900}", "training.steps", 900),
        ("train: {steps: 2e4}", "training.steps", 20000),
        ("max_duration: 4800ba", "training.steps", 4800),
        ("max_duration: 3ep", "training.epochs", 3),
        ("training: {num_epochs: 20}", "training.epochs", 20),
        ("training: {total_samples: 1_000_000}", "training.samples", 1_000_000),
        ("train: {token_budget: 2e9}", "training.tokens", 2_000_000_000),
        ("run: {max_hours: 24}", "training.time_limit", 86400.0),
        ("runtime: {precision: bfloat16}", "training.precision", "bf16"),
        ("trainer: {precision: 16-mixed}", "training.precision", "fp16"),
        ("fp16: false\nbf16: true", "training.precision", "bf16"),
        ("fp16: false\nbf16: false", "training.precision", "fp32"),
        ("amp: true", "training.precision", "fp16"),
        ("optimizer: {lr: 0.001}", "training.lr", 0.001),
        ("lr_backbone: 0.0", "training.frozen_by_lr", 0),
        ("optim: {sched: {warmup_steps: 50}}", "training.warmup_steps", 50),
        ("train: {warmup: 0.03}", "training.warmup_ratio", 0.03),
        ("train: {warmup: 300}", "training.warmup_steps", 300),
        ("save_every_steps: 1000", "checkpoint.every", Every(steps=1000)),
        ("checkpoint: {interval: 250}", "checkpoint.every", Every(steps=250)),
        ("checkpoint: {every_minutes: 15}", "checkpoint.every", Every(seconds=900.0)),
        ("save_every_n_epochs: 2", "checkpoint.every", Every(epochs=2)),
        ("epochs: 9\nsave_every: 3", "checkpoint.every", Every(epochs=3)),
        ("epochs: 9\nmax_steps: 500\nsave_every: 30", "checkpoint.every", Every(steps=30)),
        ("epochs: 9\nsave_every: 3000", "checkpoint.every", Every(steps=3000)),
        ("save_strategy: epoch", "checkpoint.every", Every(epochs=1)),
        ("logging: {save_every: 0}", "checkpoint.every", None),
        ("trainer: {callbacks: [{init_args: {every_n_train_steps: 70}}]}", "checkpoint.every", Every(steps=70)),
        ("eval: {every_steps: 200}", "training.validate_every", Every(steps=200)),
        ("data: {val_shards: 'data/val/*.tar'}", "data.validation", ("data/val/*.tar",)),
        ("data: {datasets: [{path: a}, {path: b}]}", "data.train", ("a", "b")),
        ("data: {val_ratio: 0.1}", "data.validation_share", 0.1),
        ("checkpoint: {save_dir: out/x}", "run.output", "out/x"),
        ("wandb: {run_name: first}", "run.name", "first"),
        ("resume: true", "run.resume", "auto"),
        ("resume_from_checkpoint: out/x/last", "run.resume", "out/x/last"),
        ("model: {init_from: out/x/best.pt}", "run.init_from", "out/x/best.pt"),
        ("model: {gradient_checkpointing: true}", "training.activation_checkpointing", True),
        ("precision: {grad_checkpoint: false}", "training.activation_checkpointing", False),
        ("train: {compile: max-autotune}", "training.compile", True),
        ("model: {n_embd: 768}", "declares.d_model", 768),
        ("model: {num_key_value_heads: 4}", "declares.n_kv_heads", 4),
        ("data: {tokenizer: openai-community/gpt2}", "declares.vocab_size", 50257),
        ("dataloader_num_workers: 8", "data.workers", 8),
        ("seed_everything: 7", "training.seed", 7),
    ],
)  # fmt: skip
def test_a_setting_is_recognised_by_its_common_spellings(
    text: str, fact: str, value: object, judged: Callable[..., Report]
) -> None:
    report = judged(text)
    assert report.facts.get(fact) == value
    assert fact in {name for name, _, _ in report.facts.get("adapter.recognised")} or value is None
    source = report.facts.source(fact)
    assert source is not None
    assert source.kind == "file"


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("warmup: {steps: 500}", "training.steps"),
        ("eval: {steps: 500, batch_size: 64, seed: 3}", "training.steps"),
        ("eval: {steps: 500, batch_size: 64, seed: 3}", "training.batch_size"),
        ("val_loader: {batch_size: 64}", "training.batch_size"),
        ("validation: {max_samples: 1000, num_samples: 5}", "training.samples"),
        ("diffusion: {steps: 1000}", "training.steps"),
        ("lr_scheduler: {epochs: 5}", "training.epochs"),
        ("profiler: {warmup_steps: 3}", "training.warmup_steps"),
        ("optimizer: {type: AdamW, lr: {base: 3}}", "training.lr"),
        ("dtype: {compute: x}", "training.precision"),
        ("min_lr: 0.0\nend_lr: 0.0\nlr_min: 0", "training.frozen_by_lr"),
        ("save_dir: 5\nsave_total_limit: 3", "checkpoint.every"),
        ("resume: false", "run.resume"),
        ("compile: {mode: fast}", "training.compile"),
        ("tokenizer: ours.json", "declares.vocab_size"),
        ("batch_size: auto", "training.batch_size"),
        ("max_steps: -1", "training.steps"),
    ],
)
def test_what_means_something_else_is_left_alone(text: str, fact: str, judged: Callable[..., Report]) -> None:
    report = judged(text)
    assert report.facts.get(fact) is None
    assert report.facts.get("config.odd") == ()


def test_a_value_that_is_surely_meant_and_cannot_be_is_odd(judged: Callable[..., Report]) -> None:
    report = judged('train: {batch_size: "{{BATCH}}", compile: "false", lr: 0.1}\n')
    assert [key for key, _, _ in report.facts.get("config.odd")] == ["train.batch_size", "train.compile"]
    assert "train.batch_size" in report.facts.why("training.batch_size")


def test_what_was_recognised_is_said_with_its_key(judged: Callable[..., Report]) -> None:
    recognised = judged("optim: {lr: 0.1, epochs: 3}\nx: {bs: 4}\n").facts.get("adapter.recognised")
    assert ("training.epochs", "optim.epochs", 3) in recognised
    assert ("training.lr", "optim.lr", 0.1) in recognised


def test_a_long_run_that_never_speaks_of_checkpoints_is_a_warning(judged: Callable[..., Report]) -> None:
    text = "train: {max_steps: 50000, batch_size: 8, lr: 0.001, log_every: 10%s}\n"
    assert found(judged(text % ""), "CK101") == [("CK101", "warning")]
    assert found(judged(text % ", save_every: 0"), "CK101") == [("CK101", "error")]
    assert found(judged(text % ", save_every: 500"), "CK101") == []


def test_a_key_that_may_say_when_it_saves_leaves_the_question_open(judged: Callable[..., Report]) -> None:
    text = "train: {max_steps: 50000, batch_size: 8, lr: 0.001, log_every: 10}\nckpt: {each: 2000}\n"
    report = judged(text)
    assert found(report, "CK101") == []
    assert "ckpt.each" in report.coverage.not_checked["CK101"]
    text = "train: {max_steps: 50000, batch_size: 8, lr: 0.001}\nhooks: [{type: CheckpointHook}]\n"
    assert "hooks.0.type" in judged(text).coverage.not_checked["CK101"]


@pytest.mark.parametrize(
    "text",
    [
        "source: a\noutput_dir: data/raw\nnum_workers: 16\nmax_samples: 1000\nbatch_size: 64\nresume: true\n",
        "seed: 7\ntrain_ratio: 0.9\nval_ratio: 0.05\ninput: all.jsonl\noutput_dir: data/split\n",
        "model: facebook/dinov2-base\ndtype: bfloat16\nbatch_size: 64\nnum_samples: 5000\noutput_dir: data/features\n",
        "task: hellaswag\nmodel: {model_id: gpt2, dtype: float32, device: cpu}\nscoring: {seed: 7}\n",
        "prompt: a cat\nsteps: 50\nguidance_scale: 7.5\nbatch_size: 4\nseed: 3\nprecision: fp16\n",
        "services: {web: {image: nginx}}\n",
    ],
)
def test_what_is_no_training_is_recognised_and_not_judged(text: str, judged: Callable[..., Report]) -> None:
    report = judged(text, adapter=None)
    assert (report.kind, report.verdict, report.errors) == ("other", "other", [])


def test_a_fragment_is_incomplete(judged: Callable[..., Report]) -> None:
    report = judged("model: {dim: 64, n_heads: 4}\ntrain: {lr: 0.0003, warmup_steps: 50, max_grad_norm: 1.0}\n")
    assert (report.kind, report.verdict) == ("incomplete", "incomplete")
    assert "batch size" in report.why
    report = judged("model: {dim: 64, n_layers: 2, n_heads: 4, dropout: 0.1}\n")
    assert (report.kind, "describes a model" in report.why) == ("incomplete", True)


def test_another_trainers_config_is_not_taken_for_runctls(judged: Callable[..., Report]) -> None:
    for text in (
        "model: {arch: resnet50, pretrained: true}\ntraining: {batch_size: 64, epochs: 9, lr: 0.1}\n",
        "encoding: {type: positional, levels: 10}\ntraining: {batch_size: 4, steps: 900, lr: 0.001}\n",
        "task: detect\nmodel: small.pt\nbatch: 16\nepochs: 10\nlr0: 0.01\n",
        "model: {d_model: 64, n_layers: 2, n_heads: 4}\ndata: {train: a, val: b}\n"
        "training: {batch_size: 8, lr: 0.001, epochs: 3, weight_decay: 0.1, seed: 1}\n",
    ):
        report = judged(text, adapter=None)
        assert (report.facts.dialect, report.errors) == ("generic", []), text


# Known models by their names.
@pytest.mark.parametrize("model", [one for one in pretrained.catalogue().values() if "d_model" in one.given])
def test_the_counts_of_known_models_are_those_of_their_widths(model: pretrained.Pretrained) -> None:
    declared = Declares.model_validate({**model.given, "seq_len": 1024})
    assert families.parameters(declared)[0] == pytest.approx(model.parameters, rel=0.001)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("HuggingFaceTB/SmolLM2-1.7B-Instruct", "SmolLM2-1.7B"),
        ("/models/SmolLM2-135M-Instruct/checkpoint-500/", "SmolLM2-135M"),
        ("openai-community/gpt2-medium", "gpt2-medium"),
        ("meta-llama/Llama-2-7b-chat-hf", "Llama-2-7b"),
        ("EleutherAI/pythia-160m-deduped", "pythia-160m"),
        ("sshleifer/tiny-gpt2", None),
        ("gpt2-custom-tiny", None),
        ("runs/gpt2000/model", None),
    ],
)
def test_a_model_is_known_by_its_name_and_no_other(text: str, name: str | None) -> None:
    model = pretrained.find(text)
    assert (model.name if model else None) == name


BASE = (
    "data: {train: a, val_ratio: 0.1}\n"
    "train: {batch_size: 1, max_steps: 900, lr: 0.00001, bf16: true, save_steps: 90}\n"
)


def test_a_name_gives_the_count_of_the_parameters_and_says_so(judged: Callable[..., Report]) -> None:
    facts = judged(f"{BASE}model: {{llm: models/SmolLM2-1.7B-Instruct, dino: models/dinov2-small}}\n").facts
    assert facts.get("model.parameters") == 1711376384 + 22056576
    assert "names: SmolLM2-1.7B, dinov2-small" in str(facts.source("model.parameters"))
    facts = judged(f"{BASE}model: {{name_or_path: acme/our-model-3.2B}}\nmodel_name: acme/our-model-3.2B\n").facts
    assert facts.get("model.parameters") == 3_200_000_000
    assert "number in the model's name" in str(facts.source("model.parameters"))
    facts = judged(f"{BASE}model: {{llm: 'models/${{SIZE}}', dino: models/dinov2-small}}\n").facts
    assert facts.get("model.parameters") is None


def test_weights_gradients_and_optimizer_alone_may_be_too_much(judged: Callable[..., Report]) -> None:
    text = f"{BASE}model: {{llm: models/SmolLM2-1.7B-Instruct, dino: models/dinov2-small}}\n"
    report = judged(text, gpu="RTX5090")
    assert found(report, "ME101") == [("ME101", "error")]
    assert "1,733,432,960 parameters" in report.facts.get("estimate.memory").basis
    assert found(judged(text, gpu="A100-80GB"), "ME101") == []


@pytest.mark.parametrize(
    "more", ["lora: {r: 8}", "fsdp: full_shard", "freeze_llm: true", "zero_stage: 3", "load_in_4bit: true"]
)
def test_what_is_trained_in_part_or_shared_out_is_not_estimated(more: str, judged: Callable[..., Report]) -> None:
    report = judged(f"{BASE}model: {{name: meta-llama/Llama-2-7b-hf}}\n{more}\n", gpu="RTX4090")
    assert report.errors == []
    assert "not modelled" in report.coverage.not_checked["ME101"]


def test_a_clips_frames_take_memory_in_the_image_encoder(judged: Callable[..., Report]) -> None:
    text = (
        "model: {llm: SmolLM2-135M-Instruct, dino: dinov2-small}\ndata: {max_frames: 64, frame_size: 224}\n"
        "train: {batch_size: %d, max_steps: 900, lr: 0.0001, dtype: bfloat16, save_steps: 90%s}\n"
    )
    few, many = judged(text % (8, ""), gpu="RTX5090"), judged(text % (16, ""), gpu="RTX5090")
    assert found(few, "ME101") == []
    assert few.facts.get("estimate.memory").low >= 16 * (134515008 + 22056576)
    parts = [one.facts.get("estimate.memory").parts["weights, gradients, optimizer"] for one in (few, many)]
    assert parts == pytest.approx([16 * (134515008 + 22056576)] * 2, rel=0.05)
    assert found(many, "ME101") == [("ME101", "error")]
    assert "1,024 pictures" in many.facts.get("estimate.memory").basis
    assert found(judged(text % (16, ", gradient_checkpointing: true"), gpu="RTX5090"), "ME101") == []
    assert found(judged(text % (16, ", max_total_frames: 256"), gpu="RTX5090"), "ME101") == []


def test_widths_of_two_models_are_not_one_model(judged: Callable[..., Report]) -> None:
    text = (
        f"{BASE}model: {{vision: {{hidden_size: 1024, num_heads: 16}}, text: {{num_layers: 48, vocab_size: 32000}}}}\n"
        "seq_len: 128\n"
    )
    assert judged(text).facts.get("model.parameters") is None


# A peak that was measured once.
def test_other_batches_follow_from_a_measured_peak(tmp_path: Path) -> None:
    text = (
        "task: command\ncommand: {argv: [python, train.py]}\ncompute: {gpu: A100-80GB}\n"
        "declares:\n  parameters: 1.7B\n  batch_size: %d\n  precision: bf16\n  activation_checkpointing: %s\n"
        "  measured: {batch_size: 16, peak: 53GiB}\n"
    )
    path = tmp_path / "config.yaml"
    peaks = {}
    for batch in (8, 16, 32):
        path.write_text(text % (batch, "false"))
        peaks[batch] = preflight.preflight(path, project=Project(tmp_path)).facts.get("estimate.memory")
    assert peaks[16].likely == 53 << 30
    assert peaks[32].likely - peaks[16].likely == pytest.approx(2 * (peaks[16].likely - peaks[8].likely), rel=1e-6)
    assert peaks[32].low < peaks[32].likely < peaks[32].high
    assert "measured once" in peaks[8].basis
    path.write_text(text % (16, "true"))
    assert preflight.preflight(path, project=Project(tmp_path)).facts.get("estimate.memory") is None


# The two adapters that are shipped as examples.
def test_the_sparse_attention_adapter_knows_its_trainers_silence(judged: Callable[..., Report]) -> None:
    text = (
        "model: {dim: 96, n_heads: 6, n_kv_groups: 2}\nnsa: {w: 32}\nruntime: {precision: fp32}\n"
        "train: {steps: 300, seq_len: 64, batch_size: 4, lr: 0.0003, seed: 5, out_dir: out/toy}\n"
    )
    options = {"adapter": str(EXAMPLES / "nsa.yaml")}
    assert judged(text, **options).errors == []
    long = judged(text, overrides=("train.steps=60000",), gpu="A100-80GB:2", **options)
    assert {("CK101", "error"), ("PR101", "error")} <= set(found(long, "CK101", "PR101"))
    assert any(rule == "ME103" for rule, _ in found(long, "ME103"))
    assert long.facts.get("model.parameters") == 148_032


def test_the_sparse_attention_adapter_measures_by_what_its_team_saw(judged: Callable[..., Report]) -> None:
    text = (
        "model: {dim: 768, n_layers: 12, n_heads: 12}\nnsa: {w: 512}\n"
        "runtime: {precision: bf16, gradient_checkpointing: %s}\n"
        "train: {steps: 90000, seq_len: 4096, batch_size: 6, lr: 0.0002, save_every: 500, seed: 5, out_dir: out/x}\n"
    )
    options = {"adapter": str(EXAMPLES / "nsa.yaml"), "gpu": "A100-80GB"}
    assert found(judged(text % "false", **options), "ME101") == [("ME101", "error")]
    assert found(judged(text % "true", **options), "ME101") == []


def test_the_vision_language_adapter_counts_frames(judged: Callable[..., Report]) -> None:
    text = (
        "model: {llm: hub/SmolLM2-1.7B, dino: hub/dinov2-small, gradient_checkpointing: false}\n"
        "data: {train_shards: a, val_shards: b, max_frames: 64, frame_size: 224}\n"
        "training: {total_samples: 64000, batch_size: 24, dynamic_batching: true, max_total_frames: %d, lr_dino: 0.0,"
        " lr_llm: 0.0001, dtype: bfloat16, seed: 3}\ncheckpoint: {save_every_steps: 5000}\n"
    )
    options = {"adapter": str(EXAMPLES / "vlm.yaml"), "gpu": "A100-80GB"}
    few, many = judged(text % 192, **options), judged(text % 900, **options)
    assert found(few, "ME101", "CK102", "OP107") == [("OP107", "warning"), ("CK102", "warning")]
    assert found(many, "ME101") == [("ME101", "error")]
    assert few.facts.get("run.steps") == 2667


# An adapter that cannot be, and documents that nobody would write.
def test_a_mistake_in_an_adapter_is_told_with_its_place() -> None:
    for text, words in (
        ("name: x\nfacts: {training.batch_size: {key: a, only: 3}}\n", "only is true or false"),
        ("name: x\nfacts: {training.batch_size: {key: a, nott: [b]}}\n", "unknown key 'nott'"),
        ("name: x\nnot: {a: b}\n", "not must be a text or a list"),
        ("name: x\nfacts: {training.batch: a}\n", "there is no fact 'training.batch'"),
    ):
        document = yamldoc.parse(text, "ours.yaml")
        with pytest.raises(UsageError, match=words) as caught:
            specs.read(document.data, document)
        assert "ours.yaml:" in str(caught.value)


_KEYS = st.sampled_from(sorted({name.rpartition(".")[2] for name in WORDS} | {"lr", "model", "train", "llm", "0", ""}))
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**25), 10**25),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(
        ["bf16", "gpt2", "SmolLM2-135M", "{{X}}", "0", "-1", "1e400", "A100:2", "10ba", "5m", "never", "unknown"]
    ),
)
_TREES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=8), max_leaves=30
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.dictionaries(_KEYS, _TREES, max_size=10), gpu=st.sampled_from([None, "A100-80GB:2", "T4", "none"]))
def test_no_document_makes_the_generic_adapter_fail(data: dict[str, Any], gpu: str | None) -> None:
    document = yamldoc.Document("x.yaml", "", data)
    options = Options(adapter="generic", gpu=gpu)
    report = preflight.check(*preflight.gather("x.yaml", options, Project(Path("/nowhere")), document))
    assert [one.message for one in report.findings if "crashed" in one.message] == []
