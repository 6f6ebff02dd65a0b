"""The two dialects that runctl brings, by what their trainers do: every value, default and refusal that differs."""

import json
import shutil
from pathlib import Path

import pytest

from runctl import preflight
from runctl.config.every import Every
from runctl.preflight import Options

EXAMPLES = Path(__file__).parent.parent / "examples"
HF = "per_device_train_batch_size: 4\nlearning_rate: 1.0e-4\noutput_dir: out\n"
AXOLOTL = "base_model: our/model\nmicro_batch_size: 2\ngradient_accumulation_steps: 4\nlearning_rate: 1.0e-4\n"
EIGHT = "base_model: meta-llama/Llama-3.1-8B\nmicro_batch_size: 1\nsequence_len: 2048\nmax_steps: 100\n"
EIGHT += "flash_attention: true\n"


def read(tmp_path, text, name="config.yaml", gpu=None):
    (tmp_path / name).write_text(text)
    facts, _ = preflight.gather(tmp_path / name, Options(gpu=gpu))
    return facts


def report(tmp_path, text, name="config.yaml", gpu=None):
    (tmp_path / name).write_text(text)
    return preflight.preflight(tmp_path / name, Options(gpu=gpu))


def test_hf_has_the_defaults_of_its_trainer(tmp_path):
    facts = read(tmp_path, "num_train_epochs: 3\noutput_dir: out\n")
    assert facts.dialect == "hf"
    found = {name: facts.get(name) for name in ("training.batch_size", "training.accumulation", "training.lr")}
    assert found == {"training.batch_size": 8, "training.accumulation": 1, "training.lr": 5e-5}
    assert facts.get("training.precision") == "fp32"
    assert facts.get("checkpoint.every") == Every(steps=500)
    assert facts.need("training.validate_every") is None
    assert (facts.get("training.seed"), facts.get("data.workers"), facts.get("training.grad_clip")) == (42, 0, 1.0)
    assert facts.source("training.seed").kind == "default"


@pytest.mark.parametrize("section", [None, "training_arguments", "training_args"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_hf_is_read_flat_or_one_level_down_in_yaml_and_json(tmp_path, section, form):
    data = {"per_device_train_batch_size": 4, "max_steps": 100, "save_steps": 20}
    data = {section: data, "model_args": {"model_name_or_path": "gpt2"}} if section else data
    facts = read(tmp_path, json.dumps(data, indent=2), f"config.{form}")
    assert (facts.dialect, facts.get("training.batch_size"), facts.get("run.steps")) == ("hf", 4, 100)
    assert facts.get("checkpoint.every") == Every(steps=20)
    place = facts.source("checkpoint.every").position
    assert (place.file, place.line) == (str(tmp_path / f"config.{form}"), 5 if section else 4)
    assert facts.key("checkpoint.every") == (f"{section}.save_steps" if section else "save_steps")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('save_strategy: "no"\nsave_steps: 50', None),
        ("save_strategy: no", None),
        ("save_strategy: epoch", Every(epochs=1)),
        ("save_strategy: steps\nsave_steps: 50", Every(steps=50)),
        ("save_steps: 0.1\nmax_steps: 1000", Every(steps=100)),
        ("save_steps: 0.1\nnum_train_epochs: 5", Every(epochs=0.5)),
        ("save_strategy: steps", Every(steps=500)),
    ],
)
def test_hf_saves_as_its_strategy_says(tmp_path, text, wanted):
    assert read(tmp_path, f"{HF}{text}\n").need("checkpoint.every") == wanted


def test_hf_that_saves_when_it_is_best_has_no_cadence_and_says_why(tmp_path):
    assert "save_strategy is best" in read(tmp_path, f"{HF}save_strategy: best\n").why("checkpoint.every")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("eval_strategy: steps\neval_steps: 200", Every(steps=200)),
        ("evaluation_strategy: steps\nlogging_steps: 25", Every(steps=25)),
        ("eval_strategy: epoch\neval_steps: 200", Every(epochs=1)),
        ("eval_steps: 200", None),
        ("eval_strategy: steps\neval_steps: 0.25\nmax_steps: 400", Every(steps=100)),
    ],
)
def test_hf_validates_as_its_strategy_says(tmp_path, text, wanted):
    assert read(tmp_path, f"{HF}{text}\n").need("training.validate_every") == wanted


def test_max_steps_overrides_epochs_and_minus_one_says_nothing(tmp_path):
    facts = read(tmp_path, f"{HF}max_steps: 700\nnum_train_epochs: 2\n")
    assert facts.get("run.steps") == 700
    assert "max_steps is given" in facts.why("training.epochs")
    facts = read(tmp_path, f"{HF}max_steps: -1\nnum_train_epochs: 2\n")
    assert (facts.get("training.steps"), facts.get("training.epochs")) == (None, 2)
    facts, _ = preflight.gather(tmp_path / "config.yaml", Options(["max_steps=60"]))
    assert facts.get("run.steps") == 60


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("bf16: true", "bf16"),
        ("fp16: true", "fp16"),
        ("bf16: false\nfp16: false", "fp32"),
        ("", "fp32"),
        ("torch_dtype: bfloat16", "bf16"),
        ("model_init_kwargs: {torch_dtype: bfloat16}", "bf16"),
        ("torch_dtype: auto", None),
        ("packing: true", None),
        ("packing: true\nbf16: true", "bf16"),
    ],
)
def test_hf_precision(tmp_path, text, wanted):
    facts = read(tmp_path, f"{HF}{text}\n")
    assert facts.get("training.precision") == wanted
    assert facts.get("training.loss_scaling") == (True if wanted == "fp16" else None)


def test_what_depends_on_the_version_of_trl_is_unknown_and_says_so(tmp_path):
    facts = read(tmp_path, f"{HF}packing: true\n")
    assert "TRL" in facts.why("training.precision")
    assert "PR101" not in {one.rule for one in report(tmp_path, f"{HF}packing: true\nmax_steps: 50000\n").findings}


def test_a_warm_up_below_one_is_a_share(tmp_path):
    facts = read(tmp_path, f"{HF}warmup_steps: 0.1\n")
    assert facts.get("training.warmup_ratio") == 0.1
    facts = read(tmp_path, f"{HF}warmup_steps: 100\nwarmup_ratio: 0.1\n")
    assert (facts.get("training.warmup_steps"), facts.get("training.warmup_ratio")) == (100, None)


def test_a_long_run_without_checkpoints_is_refused_in_the_words_of_its_dialect(tmp_path):
    found = report(tmp_path, f'{HF}bf16: true\nmax_steps: 50000\nsave_strategy: "no"\n', gpu="A100-80GB")
    (error,) = [one for one in found.errors if one.rule == "CK101"]
    assert (error.key, error.line) == ("save_strategy", 6)


def test_axolotl_has_the_defaults_of_its_trainer(tmp_path):
    facts = read(
        tmp_path,
        "base_model: our/model\ndatasets: [{path: a/b, type: alpaca}]\nsequence_len: 512\nlearning_rate: 1e-4\n",
    )
    assert facts.dialect == "axolotl"
    assert (facts.get("training.batch_size"), facts.get("training.epochs"), facts.get("checkpoint.keep_last")) == (
        1,
        1,
        4,
    )
    assert facts.get("checkpoint.every") == Every(epochs=1)
    assert facts.get("training.precision") == "bf16"
    assert facts.need("training.validate_every") is None
    assert facts.get("data.train") == ("a/b",)


@pytest.mark.parametrize(
    ("text", "gpu", "wanted"),
    [
        ("bf16: auto", "A100-80GB", "bf16"),
        ("bf16: auto", "T4", "fp16"),
        ("", "T4", "fp16"),
        ("bf16: full", None, "bf16"),
        ("bf16: false\nfp16: true", "A100-80GB", "fp16"),
        ("bf16: false", "A100-80GB", "fp32"),
        ("fp8: true\nbf16: false", "H100", "fp8"),
    ],
)
def test_axolotl_precision_auto_is_what_the_gpu_can_do(tmp_path, text, gpu, wanted):
    facts = read(tmp_path, f"{AXOLOTL}{text}\n", gpu=gpu)
    assert facts.get("training.precision") == wanted


def test_auto_is_never_refused_for_a_gpu_without_bf16(tmp_path):
    found = report(tmp_path, f"{AXOLOTL}bf16: auto\nnum_epochs: 1\n", gpu="T4")
    assert not {"PR101", "PR102", "PR103", "CF102", "CF112"} & {one.rule for one in found.findings}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("saves_per_epoch: 2", Every(epochs=0.5)),
        ("save_steps: 50", Every(steps=50)),
        ("save_steps: 0.25\nmax_steps: 100", Every(steps=25)),
        ("save_steps: 0.25\nnum_epochs: 2", Every(epochs=0.5)),
        ("save_strategy: no", None),
        ("saves_per_epoch:", Every(epochs=1)),
    ],
)
def test_axolotl_saves(tmp_path, text, wanted):
    assert read(tmp_path, f"{AXOLOTL}{text}\n").need("checkpoint.every") == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("val_set_size: 0", None),
        ("evals_per_epoch: 4\nval_set_size: 0.0", None),
        ("evals_per_epoch: 4\nval_set_size: 0.05", Every(epochs=0.25)),
        ("eval_steps: 20\ntest_datasets: [{path: a}]", Every(steps=20)),
    ],
)
def test_axolotl_validates_only_on_what_is_held_out(tmp_path, text, wanted):
    assert read(tmp_path, f"{AXOLOTL}{text}\n").need("training.validate_every") == wanted


@pytest.mark.parametrize("adapter", ["adapter: lora", "adapter: qlora\nload_in_4bit: true"])
def test_lora_is_not_estimated_as_full_training(tmp_path, adapter):
    full = report(tmp_path, EIGHT, gpu="L4")
    assert "ME101" in {one.rule for one in full.errors}
    found = report(tmp_path, f"{EIGHT}{adapter}\n", gpu="A100-40GB")
    assert "ME101" not in {one.rule for one in found.findings}
    assert "adapter" in found.facts.why("estimate.memory")
    assert found.facts.get("model.parameters") == 8_030_261_248


@pytest.mark.parametrize(
    ("text", "gpu", "least"),
    [
        ("adapter: qlora\nload_in_4bit: true\n", "RTX-4090", "33.1 GiB"),
        ("adapter: lora\n", "A100-80GB", "132 GiB"),
        ("adapter: qlora\nload_in_4bit: true\n", "A100-80GB", None),
        ("adapter: lora\n", "A100-80GB:8", None),
        ("adapter: qlora\nfsdp: [full_shard]\n", "RTX-4090", None),
    ],
)
def test_frozen_weights_that_do_not_fit_by_themselves_are_an_error(tmp_path, text, gpu, least):
    found = report(tmp_path, EIGHT.replace("-8B", "-70B") + text, gpu=gpu)
    errors = [one.message for one in found.errors if one.rule == "ME101"]
    assert [f"at least {least}" in message for message in errors] == ([True] if least else [])


def test_several_gpus_may_share_a_model_as_their_launcher_says(tmp_path):
    text = f"{HF}model_name_or_path: meta-llama/Llama-3.1-8B\nmax_length: 2048\nbf16: true\nattn_implementation: sdpa\n"
    assert "ME101" in {one.rule for one in report(tmp_path, text, gpu="A100-80GB").errors}
    found = report(tmp_path, text, gpu="A100-80GB:8")
    assert not found.errors
    assert "launcher" in found.facts.why("estimate.memory")


@pytest.mark.parametrize(
    "text",
    [
        f'{AXOLOTL}special_tokens: {{pad_token: "<|end_of_text|>", bos_token: "<s>"}}\neot_tokens: [<end_of_turn>]\n',
        f'{AXOLOTL}chat_template_jinja: "{{{{ bos_token }}}}{{% for m in messages %}}{{{{ m }}}}{{% endfor %}}"\n',
        f"{AXOLOTL}bf16: auto\ndevice_map: auto\ntorch_compile: auto\nbatch_flattening: auto\n",
        f'{HF}chat_template: "{{% for m in all %}}{{{{ m }}}}{{% endfor %}}"\ndeepspeed: {{train_batch_size: auto}}\n',
        f"{HF}pad_token: <pad>\neos_token: <|im_end|>\n",
    ],
)
def test_what_the_dialect_fills_in_itself_is_no_placeholder(tmp_path, text):
    found = report(tmp_path, text)
    assert "CF102" not in {one.rule for one in found.findings}
    assert not found.errors


NOT_OF_TRAINING = "nothing of a training run"
OTHERS = {
    "zero.json": (
        '{"zero_optimization": {"stage": 3}, "train_batch_size": "auto", "gradient_accumulation_steps": 1,'
        ' "optimizer": {"params": {"lr": 1e-4}}}',
        "DeepSpeed",
    ),
    "accelerate.yaml": ("distributed_type: MULTI_GPU\nnum_processes: 8\nmixed_precision: bf16\n", "Accelerate"),
    "merge.yml": ("merge_method: slerp\nbase_model: a/b\nslices: []\ndtype: bfloat16\n", "merging"),
    "trainer_state.json": (
        '{"log_history": [], "global_step": 9, "max_steps": 90, "num_train_epochs": 3, "save_steps": 5}',
        "state of a run",
    ),
    "config.json": ('{"architectures": ["X"], "model_type": "x", "hidden_size": 64}', "description of a model"),
    "serve.yaml": ("model: a/b\nmax_new_tokens: 64\ntemperature: 0.7\nbatch_size: 8\n", NOT_OF_TRAINING),
    "prepare.yaml": ("base_model: a/b\ndatasets: [{path: x}]\nsequence_len: 20\n", NOT_OF_TRAINING),
}


@pytest.mark.parametrize("name", OTHERS)
def test_files_beside_training_configs_are_recognised_as_none(tmp_path, name):
    text, words = OTHERS[name]
    found = report(tmp_path, text, name)
    assert (found.verdict, found.findings) == ("other", ())
    assert words in found.why


def test_a_folder_is_searched_for_yaml_and_for_json_that_looks_like_training(tmp_path):
    training = '{"learning_rate": 1e-4, "max_steps": 10}'
    files = {
        **dict.fromkeys(("a.yaml", "b.yml", ".hidden/e.yaml", "runs/f/g.yaml", ".i.yaml"), "x: 1\n"),
        **dict.fromkeys(("c.json", "deep/er/h.json", "node_modules/d.json"), training),
        "package.json": '{"name": "x", "devDependencies": {}}',
        "zero.json": OTHERS["zero.json"][0],
        "broken.json": '{"lr": ',
        "runctl.yaml": "{}\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = [str(path.relative_to(tmp_path)) for path in preflight.expand([tmp_path])]
    assert sorted(found) == ["a.yaml", "b.yml", "c.json", "deep/er/h.json"]


def test_json_may_have_tabs_and_characters_in_two_halves(tmp_path):
    text = '{\n\t"run_name": "caf\\u00e9 \\ud83d\\ude00",\n\t"per_device_train_batch_size":4,"learning_rate":1e-4}'
    facts = read(tmp_path, text, "config.json")
    assert facts.get("run.name") == "café 😀"
    assert (facts.source("training.batch_size").position.line, facts.source("training.batch_size").position.column) == (
        3,
        2,
    )
    assert "CF104" not in {one.rule for one in report(tmp_path, text, "config.json").findings}


def test_the_examples_of_both_dialects_pass(tmp_path):
    shutil.copytree(EXAMPLES / "trainers", tmp_path / "configs")
    for name in ("sft.yaml", "classifier.json", "qlora.yml"):
        found = preflight.preflight(tmp_path / "configs" / name, Options(gpu="A100-80GB"))
        assert (found.kind, found.counts["error"]) == ("training", 0), found.findings


def test_another_trainer_that_shares_a_word_is_not_taken_for_the_dialect(tmp_path):
    text = "num_train_epochs: 5\nmax_train_steps: 900\ntrain_batch_size: 4\nlearning_rate: 1.0e-5\n"
    assert read(tmp_path, text).dialect == "generic"
    assert read(tmp_path, "base_model: a/b\nlearning_rate: 1.0e-5\nbatch_size: 4\nmax_steps: 9\n").dialect == "generic"
