"""Configs of trainers that runctl has no adapter for, written here as such trainers' users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from runctl import preflight, yamldoc
from runctl.cli import build
from runctl.errors import UsageError
from runctl.preflight import Options, Report

RUN = "trainer: {max_steps: 60000, batch_size: 8, lr: 0.0003}\n"


def judge(tmp_path: Path, text: str, gpu: str | None = None, name: str = "run.yaml") -> Report:
    (tmp_path / name).write_text(text)
    return preflight.preflight(tmp_path / name, Options(gpu=gpu))


def severities(report: Report, rule: str) -> list[str]:
    return [str(finding.severity) for finding in report.findings if finding.rule == rule]


def fix(report: Report, rule: str) -> str:
    return next(str(finding.fix) for finding in report.findings if finding.rule == rule)


TAGGED = """\
seed: 11
epochs_in_all: 4
batch: 6
log: !env LOG_FOLDER
__start: !apply:os.system [touch ran]
loader: {batch_size: !ref <batch>, num_workers: 2}
optimizer: !name:torch.optim.AdamW
  lr: 0.0004
counter: !new:lib.Counter {limit: !ref <epochs_in_all>}
callback: !!python/object/apply:os.system ["touch ran"]
max_epochs: !ref <epochs_in_all>
precision: bf16
"""


def test_tags_of_another_program_are_read_as_text_and_never_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = judge(tmp_path, TAGGED)
    assert report.kind == "training"
    assert report.facts.get("training.lr") == 0.0004
    assert report.facts.get("training.batch_size") == 6
    assert report.facts.get("training.epochs") == 4
    assert [one.name for one in tmp_path.iterdir()] == ["run.yaml"]


def test_a_tagged_value_keeps_its_tag_as_text() -> None:
    document = yamldoc.parse("a: !env HOME\nb: !include [x.yaml]\nc: !later\n", tags=True)
    assert document.data == {"a": "!env HOME", "b": ["x.yaml"], "c": "!later"}
    assert [tag for tag, _ in document.tagged] == ["!env", "!include", "!later"]


def test_a_config_of_runctl_itself_has_no_tags(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"run\.yaml:2:7: the tag !env is not allowed"):
        judge(tmp_path, "task: worldmodel\nname: !env RUN\n")


def test_a_config_with_tags_can_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        'folder: !env OUT\ntrain: {max_steps: 500, batch_size: 8, lr: 0.0003, grad_checkpointing: "false"}\n'
    )
    CliRunner().invoke(build(["preflight"]), ["preflight", str(path), "--fix"])
    assert path.read_text().endswith("grad_checkpointing: false}\n")
    assert path.read_text().startswith("folder: !env OUT\n")


def test_a_key_that_quotes_the_sign_of_a_merge_is_a_key() -> None:
    assert yamldoc.parse("'<<': [1]\n").data == {"<<": [1]}


def test_a_value_that_names_another_key_is_that_keys_value(tmp_path: Path) -> None:
    text = "width: 512\nmodel: {d_model: '${width}', n_layers: '${model.gone}'}\n" + RUN
    facts = judge(tmp_path, text).facts
    assert facts.get("declares.d_model") == 512
    assert facts.get("declares.n_layers") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method: grid\nprogram: go.py\nparameters: {lr: {values: [0.1, 0.2]}, epochs: {value: 3}}\n", "a sweep"),
        ("name: a\nresources: {gpu: 1}\nenvs: {EPOCHS: 3, BATCH_SIZE: 4}\nrun: go\nsetup: pip\n", "SkyPilot"),
        ("apiVersion: v1\nkind: Pod\nspec: {epochs: 3, batch_size: 8, lr: 0.1}\n", "Kubernetes"),
        ("services: {train: {environment: {EPOCHS: 3, BATCH_SIZE: 4, LR: 0.1}}}\n", "Docker Compose"),
        ("theme: {name: plain}\nhook: !!python/name:a.b\nnav: [a.md]\n", "nothing of a training run"),
    ],
)
def test_what_starts_or_describes_programs_is_no_training_config(text: str, words: str, tmp_path: Path) -> None:
    report = judge(tmp_path, text)
    assert (report.verdict, words in report.why) == ("other", True)


def test_a_config_whose_defaults_name_the_parts_is_not_whole(tmp_path: Path) -> None:
    report = judge(tmp_path, "defaults: [_self_, {model: small}, {data: books}, {trainer: one}]\nseed: 1\n")
    assert (report.verdict, "model, data, trainer" in report.why) == ("incomplete", True)


NAMED = "model_name: someone/Great-7B\nmixed_precision: bf16\nepochs: 2\nbatch_size: 1\nlr: 0.00001\nnum_gpus: 8\n"


def test_shards_that_only_the_launcher_knows_of_do_not_block_a_large_model(tmp_path: Path) -> None:
    assert severities(judge(tmp_path, NAMED, "A100-80GB:8"), "ME101") == ["warning"]
    assert severities(judge(tmp_path, NAMED, "A100-80GB"), "ME101") == ["error"]
    assert severities(judge(tmp_path, NAMED + "strategy: ddp\n", "A100-80GB:8"), "ME101") == ["error"]


CADENCES = "iters: {train_iters: %d, batch_size: 8, lr: 0.0003}\nlog_interval: 10\neval_interval: 500\n%s"


@pytest.mark.parametrize(
    ("steps", "more", "wanted"),
    [
        (90_000, "", ["warning"]),  # some trainers save whenever they validate
        (900, "", []),
        (90_000, "keep_last: 2\n", ["warning"]),
        (90_000, "checkpoint_style: fast\n", []),
    ],
)
def test_a_config_that_says_every_cadence_but_that_of_saving_is_not_blocked(
    steps: int, more: str, wanted: list[str], tmp_path: Path
) -> None:
    assert severities(judge(tmp_path, CADENCES % (steps, more)), "CK101") == wanted


def test_a_cadence_of_just_the_whole_run_saves_at_its_end(tmp_path: Path) -> None:
    saves = RUN + "save_steps: %d\n"
    assert severities(judge(tmp_path, saves % 60000), "CK102") == ["warning"]
    assert severities(judge(tmp_path, saves % 60001), "CK102") == ["error"]


def test_advice_is_written_in_the_units_of_the_config(tmp_path: Path) -> None:
    report = judge(tmp_path, RUN.replace("max_steps: 60000", "max_duration: 60000ba") + "save_interval: 70000ba\n")
    assert fix(report, "CK102") == "set save_interval: 2000ba (the run has 60,000 steps)"
    report = judge(tmp_path, RUN + "precision: 16-mixed\n", "A100-80GB")
    assert fix(report, "PR106") == "set precision: bf16-mixed"


def test_a_switch_that_names_no_precision_is_noted_and_not_told_to_be_one(tmp_path: Path) -> None:
    report = judge(tmp_path, RUN + "amp: true\n", "A100-80GB")
    assert severities(report, "PR106") == ["note"]
    assert "set amp" not in fix(report, "PR106")


@pytest.mark.parametrize("more", ["wrapper: {type: AmpWrapper}\n", "compute_precision: {backbone: {reduce: half}}\n"])
def test_a_precision_that_may_be_said_is_not_called_missing(more: str, tmp_path: Path) -> None:
    assert severities(judge(tmp_path, RUN, "A100-80GB"), "PR105") == ["warning"]
    assert "may say it" in judge(tmp_path, RUN + more, "A100-80GB").coverage.not_checked["PR105"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("evaluation: {period_iterations: 500}\n", "may say it"),
        ("monitor: val/loss\n", "what that is computed on"),
        ("env_id: Cart-v1\nnum_envs: 8\n", "makes its own data"),
    ],
)
def test_a_validation_that_may_take_place_is_not_called_missing(more: str, words: str, tmp_path: Path) -> None:
    assert severities(judge(tmp_path, RUN), "DA108") == ["warning"]
    assert words in judge(tmp_path, RUN + more).coverage.not_checked["DA108"]


def test_quoted_false_is_an_error_where_the_key_is_plainly_a_switch(tmp_path: Path) -> None:
    assert severities(judge(tmp_path, RUN + 'fp16: "false"\n'), "CF104") == ["error"]
    assert severities(judge(tmp_path, RUN + 'label: "false"\n'), "CF104") == ["warning"]


def test_a_library_that_accumulates_by_itself_is_not_contradicted(tmp_path: Path) -> None:
    text = (
        "trainer: {max_steps: 900, accumulate_grad_batches: %d}\n"
        "model: {micro_batch_size: 2, global_batch_size: 64, lr: 0.0003}\n"
    )
    assert "by itself" in judge(tmp_path, text % 1, "A100-80GB:4").coverage.not_checked["OP105"]
    assert severities(judge(tmp_path, text % 2, "A100-80GB:4"), "OP105") == ["warning"]


def test_ddp_is_not_spoken_of_where_the_gpus_share_the_weights(tmp_path: Path) -> None:
    text = RUN + "gradient_checkpointing: true\n"
    assert severities(judge(tmp_path, text, "A100-80GB:4"), "EN105") == ["warning"]
    assert severities(judge(tmp_path, text + "fsdp_config: {shard: full}\n", "A100-80GB:4"), "EN105") == []


def test_a_folder_is_judged_though_some_of_its_files_have_tags(tmp_path: Path) -> None:
    (tmp_path / "docs.yml").write_text("hook: !!python/name:a.b\n")
    (tmp_path / "train.yaml").write_text(TAGGED)
    result = CliRunner().invoke(build(["preflight"]), ["preflight", str(tmp_path)])
    assert result.exit_code == 0, result.output


def test_a_cadence_that_counts_epochs_is_not_told_a_number_of_steps(tmp_path: Path) -> None:
    text = "epochs: 3\nbatch_size: 256\nlr: 0.1\nnum_train_examples: 1300000\nsave_every: 1\n"
    assert "not by save_every" in fix(judge(tmp_path, text), "CK104")


def test_a_switch_that_is_off_is_told_to_be_on(tmp_path: Path) -> None:
    report = judge(tmp_path, RUN + "amp: false\n", "A100-80GB")
    assert fix(report, "PR101") == "set amp: true, and see that it computes in bf16"


def test_a_published_tokenizers_vocabulary_is_no_key_to_set(tmp_path: Path) -> None:
    text = RUN + "tokenizer: {tokenizer_path: gpt2}\nmodel: {d_model: 512, n_layers: 4, n_heads: 8}\nprecision: bf16\n"
    report = judge(tmp_path, text, "A100-80GB")
    assert "tokenizer_path: " not in "".join(str(finding.fix) for finding in report.findings)


def test_accumulation_stands_where_it_is_written_though_the_model_is_known(tmp_path: Path) -> None:
    text = RUN + "gradient_accumulation_steps: 4\nmodel: {d_model: 512, n_layers: 4, n_heads: 8, vocab_size: 320}\n"
    source = judge(tmp_path, text + "seq_len: 64\n").facts.source("training.accumulation")
    assert source is not None
    assert str(source).endswith("run.yaml:2:1")


def test_what_is_not_known_of_a_model_is_said_in_words_of_the_config(tmp_path: Path) -> None:
    report = judge(tmp_path, RUN + "model: {d_model: 500, n_layers: 4, n_heads: 12}\n", "A100-80GB")
    assert "model.flops" not in " ".join(report.coverage.not_checked.values())
    report = judge(tmp_path, RUN + "model: {d_model: 512, n_layers: 4, n_heads: 8}\n", "A100-80GB")
    assert "declares.batch_size" not in " ".join(report.coverage.not_checked.values())


def test_a_number_whose_tag_says_so_is_not_taken_for_a_text(tmp_path: Path) -> None:
    assert severities(judge(tmp_path, RUN + "budget: 1e7\n"), "CF104") == ["warning"]
    assert severities(judge(tmp_path, RUN + "budget: !!float 1e7\n"), "CF104") == []


@pytest.mark.parametrize(
    "key", ["_base_: [../base.py]", "_BASE_: base.yaml", "extends: base.yaml", "base: !include base.yaml"]
)
def test_a_config_that_builds_on_another_file_is_not_whole_without_it(key: str, tmp_path: Path) -> None:
    report = judge(tmp_path, f"{key}\nmodel: {{depth: 101}}\n")
    assert (report.verdict, "base." in report.why) == ("incomplete", True)
    assert judge(tmp_path, f"{key}\nepochs: 90\n").verdict == "incomplete"
    assert judge(tmp_path, f"{key}\n{RUN}").kind == "training"
