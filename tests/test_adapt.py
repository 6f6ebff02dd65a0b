"""`runctl adapt`, project adapters and overlays: what a team does to have its own trainer's configs read."""

import json
import re
import shutil
from pathlib import Path

import pytest
from test_docs import commands, run

from runctl import adapt, preflight, proposal
from runctl.adapters.vocabulary import WORDS
from runctl.config.every import Every
from runctl.errors import UsageError
from runctl.preflight import Options

ROOT = Path(__file__).parent.parent
OURS = """\
train:
  bsz_per_step: 32
  n_optim_steps: 20000
  lr_peak: 1.0e-4
  dtype: bf16
  ckpt_frequency: 500
  out: results/abc
  shuffle: true
"""


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_yaml", ".yaml")).write_text(text)
    return folder


def test_every_command_of_the_adapters_page_does_what_it_says(tmp_path):
    shutil.copytree(ROOT / "examples", tmp_path / "work")
    page = (ROOT / "docs" / "adapters.md").read_text()
    project = next(block for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.S) if "# runctl.yaml" in block)
    for name, part in zip(
        ("before", "after"), page.split(project), strict=True
    ):  # what is declared there counts below it
        (tmp_path / f"{name}.md").write_text(part)
        (tmp_path / "work" / "runctl.yaml").write_text(project if name == "after" else "{}\n")
        told = list(commands(tmp_path / f"{name}.md"))
        assert len(told) >= 3
        for command, code in told:
            done = run(command, tmp_path / "work")
            assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
            assert "Traceback" not in done.stderr
    shown = run("runctl adapt trainers/sft.yaml", tmp_path / "work").stdout
    assert "is read as cluster-sft (" in shown
    assert "launched by: torchrun --nproc-per-node 4" in shown


def test_every_key_of_the_language_is_told_on_its_page():
    from runctl.adapters import spec

    page = (ROOT / "docs" / "adapters.md").read_text()
    missing = [key for key in (*spec._SECTIONS, *spec._SOURCE, *spec.UNITS) if f"`{key}`" not in page]
    assert missing == []


def test_adapt_says_which_dialect_and_why_and_where_each_fact_stands(tmp_path):
    (tmp_path / "a.yml").write_text("base_model: our/model\nmicro_batch_size: 2\nsaves_per_epoch: 4\nour_key: 3\n")
    done = run("runctl adapt a.yml", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "a.yml is read as axolotl (Axolotl): it has base_model, micro_batch_size, saves_per_epoch" in done.stdout
    assert re.search(r"checkpoint.every +0.25 epochs +saves_per_epoch +a.yml:3:1", done.stdout)
    assert re.search(r"training.seed +42 +default of axolotl", done.stdout)
    assert re.search(r"run.steps +num_epochs counts passes", done.stdout)
    assert re.search(r"our_key +a.yml:4:1", done.stdout)


def test_adapt_as_json_holds_the_same(tmp_path):
    (tmp_path / "a.yaml").write_text(OURS)
    done = run("runctl adapt a.yaml --json", tmp_path)
    told = json.loads(done.stdout)
    assert (told["schema_version"], told["dialect"]) == (1, "generic")
    rows = {row["fact"]: row for row in told["rows"]}
    assert rows["training.precision"]["value"] == "bf16"
    assert rows["training.steps"]["value"] is None
    unread = {one["key"]: one["guess"] for one in told["unread"]}
    assert unread["train.n_optim_steps"] == "training.steps"
    assert unread["train.shuffle"] is None
    (tmp_path / "a.yaml").write_text("batch_size: 4\nlr: 1\nodd: .nan\nx: {y: .inf}\nmy_key: hunter2hunter2\n")
    done = run("runctl adapt a.yaml --json", tmp_path)
    assert (done.returncode, "hunter2" in done.stdout) == (0, False)


def test_the_proposed_adapter_reads_what_nobody_read_before(tmp_path):
    (tmp_path / "a.yaml").write_text(OURS)
    done = run("runctl adapt a.yaml --write adapters/ours.yaml", tmp_path)
    assert done.returncode == 0, done.stderr
    facts, _ = preflight.gather(tmp_path / "a.yaml", Options(adapter=str(tmp_path / "adapters" / "ours.yaml")))
    assert (facts.dialect, facts.get("training.batch_size"), facts.get("run.steps")) == ("ours", 32, 20000)
    assert facts.get("checkpoint.every") == Every(steps=500)
    assert (facts.get("run.output"), facts.get("training.precision")) == ("results/abc", "bf16")


@pytest.mark.parametrize(
    "name", ["sft.yaml", "classifier.json", "qlora.yml", "detector-base.yaml", "detector-long.yaml"]
)
def test_every_proposal_is_an_adapter_that_reads_the_same(tmp_path, name):
    source = ROOT / "examples" / "trainers" / name
    found = adapt.read(source)
    (tmp_path / "ours.yaml").write_text(proposal.adapter(found))
    again = adapt.read(source, Options(adapter=str(tmp_path / "ours.yaml")))
    before = {row.fact: row.value for row in found.rows if row.origin == "file" and row.fact in WORDS}
    after = {row.fact: row.value for row in again.rows}
    assert {fact: after.get(fact) for fact in before} == before


def test_write_never_overwrites_by_itself(tmp_path):
    (tmp_path / "a.yaml").write_text(OURS)
    (tmp_path / "mine.yaml").write_text("precious\n")
    done = run("runctl adapt a.yaml --write mine.yaml", tmp_path)
    assert (done.returncode, (tmp_path / "mine.yaml").read_text()) == (2, "precious\n")
    assert "--force" in done.stderr
    assert run("runctl adapt a.yaml --write mine.yaml --force", tmp_path).returncode == 0
    assert "facts:" in (tmp_path / "mine.yaml").read_text()
    alone = run("runctl adapt a.yaml --write -", tmp_path)
    assert alone.stdout == (tmp_path / "mine.yaml").read_text()


def test_the_facts_are_listed_with_their_meaning(tmp_path):
    done = run("runctl adapt --facts", tmp_path)
    assert all(f"{name} " in done.stdout for name in WORDS)
    assert run("runctl adapt", tmp_path).returncode == 2


def test_adapt_of_runctls_own_config_needs_no_adapter(tmp_path):
    done = run(f"runctl adapt {ROOT / 'configs' / 'quickstart.yaml'}", tmp_path)
    assert "is read as native (runctl's own)" in done.stdout
    assert "Proposed" not in done.stdout


def test_an_adapter_of_the_project_is_found_by_its_globs(tmp_path):
    (tmp_path / "exp").mkdir()
    write(
        tmp_path,
        exp__a_yaml="n: 3000\nbatch: 8\nsave: 0\n",
        exp__b_yaml="n: 3000\nbatch: 8\nsave: 200\n",
        runctl_yaml="""\
adapters:
  - name: ours
    match: ["exp/*.yaml"]
    facts:
      training.steps: n
      training.batch_size: batch
      checkpoint.every: {key: save, unit: steps, values: {0: never}}
    defaults: {training.precision: bf16, compute.gpu: "A100-80GB:2", declares.parameters: 1.2B}
    launch: [torchrun, --nproc-per-node, "2", train.py, "{config}"]
policy: {long_run_steps: 1000}
""",
    )
    found = preflight.preflight(tmp_path / "exp" / "a.yaml")
    (error,) = [one for one in found.errors if one.rule == "CK101"]
    assert (found.facts.dialect, error.key, error.line) == ("ours", "save", 3)
    assert (found.facts.get("gpu.count"), found.facts.get("model.parameters")) == (2, 1_200_000_000)
    assert not preflight.preflight(tmp_path / "exp" / "b.yaml").errors
    told = run("runctl adapt exp/a.yaml", tmp_path).stdout
    assert "runctl.yaml matches exp/*.yaml" in told
    assert "launched by: torchrun --nproc-per-node 2 train.py {config}" in told


def test_an_adapter_of_the_project_may_be_a_file_and_may_recognise(tmp_path):
    write(tmp_path, a_yaml="loop: {n: 700}\nbatch: 8\nlr: 0.1\n", runctl_yaml="adapters: [ours.yaml]\n")
    (tmp_path / "ours.yaml").write_text("name: ours\nrecognise: {all: [loop.n]}\nfacts: {training.steps: loop.n}\n")
    facts, _ = preflight.gather(tmp_path / "a.yaml")
    assert (facts.dialect, facts.get("run.steps")) == ("ours", 700)


def test_an_adapter_extends_a_dialect(tmp_path):
    write(
        tmp_path,
        a_yaml="per_device_train_batch_size: 4\nmax_steps: 90\nours: {cluster: big, every: 30}\n",
        runctl_yaml="""\
adapters:
  - name: ours
    extends: hf
    match: ["*.yaml"]
    facts:
      compute.gpu: {key: ours.cluster, values: {big: "H100:8", small: L4}}
      checkpoint.every: {key: ours.every, unit: steps}
    defaults: {training.seed: 7}
""",
    )
    facts, _ = preflight.gather(tmp_path / "a.yaml")
    assert (facts.get("run.steps"), facts.get("gpu.count"), facts.get("training.seed")) == (90, 8, 7)
    assert facts.get("checkpoint.every") == Every(steps=30)
    assert facts.get("training.weight_decay") == 0


def test_an_adapter_file_that_is_missing_is_told_with_the_line_that_names_it(tmp_path):
    write(tmp_path, a_yaml="b: 1\n", runctl_yaml="adapters:\n  - none.yaml\n")
    with pytest.raises(UsageError) as caught:
        preflight.gather(tmp_path / "a.yaml")
    assert caught.value.message == f"{tmp_path / 'runctl.yaml'}:2:5: no such file: none.yaml"


WRONG = {
    "facts: {training.batchsize: b}": ("2:{column}", "no fact 'training.batchsize'", "training.batch_size"),
    "fact: {training.batch_size: b}": ("2:5", "unknown key 'fact'", "facts"),
    "facts: {training.batch_size: {kee: b}}": ("2:{column}", "a source is a key path", ""),
    "facts: {training.batch_size: {key: b, unti: steps}}": (None, "unknown key 'unti'", "unit"),
    "facts: {training.batch_size: {key: b, unit: parsecs}}": (None, "the unit is 'parsecs'", ""),
    "facts: {training.batch_size: {key: b, least: two}}": (None, "least must be a number", ""),
    "defaults: {training.steps: many}": (None, "training.steps: 'many' is no number", ""),
    "extends: hff": ("2:5", "no adapter 'hff'", "hf"),
    "kind: training_config": (None, "kind is 'training_config'", ""),
    "yields: {training.epochs: training.stepz}": (None, "no fact 'training.stepz'", "training.steps"),
    "recognise: {some: [a]}": (None, "recognise takes", ""),
}


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_in_an_adapter_is_told_with_its_place_and_the_nearest_word(tmp_path, text):
    place, words, hint = WRONG[text]
    write(tmp_path, a_yaml="b: 1\n", runctl_yaml=f"adapters:\n  - {text}\n    name: ours\n")
    with pytest.raises(UsageError) as caught:
        preflight.gather(tmp_path / "a.yaml")
    column = 5 + len("facts: {")
    wanted = f"{tmp_path / 'runctl.yaml'}:" + (place.format(column=column) if place else "2:")
    assert caught.value.message.startswith(wanted)
    assert words in caught.value.message
    assert hint in (caught.value.hint or "")


LANGUAGE = [
    ("training.batch_size: [b.c, a]", "a: 3", "training.batch_size", 3),
    ("training.batch_size: '**.size'", "x: {y: {Size: 5}}", "training.batch_size", 5),
    ("training.batch_size: {key: '**.size', not: [y]}", "x: {y: {size: 5}}", "training.batch_size", None),
    ("training.time_limit: {key: t, unit: minutes}", "t: 2", "training.time_limit", 120),
    ("training.lr: {key: t, factor: 0.001}", "t: 5", "training.lr", 0.005),
    ("checkpoint.every: {key: t, unit: epochs}", "t: 2", "checkpoint.every", Every(epochs=2)),
    ("checkpoint.every: {key: t, unit: hours}", "t: 2", "checkpoint.every", Every(seconds=7200)),
    ("checkpoint.every: {key: t, unit: per_epoch}", "t: 4", "checkpoint.every", Every(epochs=0.25)),
    (
        "{training.steps: n, checkpoint.every: {key: t, unit: share}}",
        "{t: 0.2, n: 50}",
        "checkpoint.every",
        Every(steps=10),
    ),
    (
        "{training.accumulation: a, checkpoint.every: {key: t, unit: micro_steps}}",
        "{t: 40, a: 4}",
        "checkpoint.every",
        Every(steps=10),
    ),
    (
        "{training.batch_size: b, checkpoint.every: {key: t, unit: samples}}",
        "{t: 800, b: 8}",
        "checkpoint.every",
        Every(steps=100),
    ),
    (
        "{training.batch_size: b, declares.seq_len: s, checkpoint.every: {key: t, unit: tokens}}",
        "{t: 1.0e6, b: 10, s: 1000}",
        "checkpoint.every",
        Every(steps=100),
    ),
    ("checkpoint.every: {key: t, unit: samples}", "t: 800", "checkpoint.every", None),
    (
        "{training.accumulation: a, training.warmup_steps: {key: w, unit: micro_steps}}",
        "{w: 400, a: 4}",
        "training.warmup_steps",
        100,
    ),
    ("training.warmup_steps: {key: w, unit: epochs}", "w: 2", "training.warmup_steps", None),
    ("training.steps: {key: n, unit: ba}", "n: 20ba", "training.steps", 20),
    ("training.precision: {key: p, values: {2: bf16}, only: true}", "p: 2", "training.precision", "bf16"),
    ("training.precision: {key: p, values: {2: bf16}, only: true}", "p: fp16", "training.precision", None),
    ("training.precision: {key: p, contains: {mixed: bf16}}", "p: amp-mixed-x", "training.precision", "bf16"),
    ("training.precision: {key: p, values: {a: unknown}}", "p: a", "training.precision", None),
    ("training.seed: {key: s, when: {m: [x, null]}}", "s: 4", "training.seed", 4),
    ("training.seed: {key: s, when: {m: [x, null]}}", "{s: 4, m: y}", "training.seed", None),
    ("training.seed: {value: 9, has: [m]}", "m: 1", "training.seed", 9),
    ("training.seed: {value: 9, has: [m]}", "k: 1", "training.seed", None),
    ("training.distributed: {key: d, value: fsdp}", "d: [full_shard]", "training.distributed", "fsdp"),
    ("training.distributed: {key: d, value: fsdp}", "d: []", "training.distributed", None),
    ("training.steps: {key: n, least: 1}", "n: -1", "training.steps", None),
    ("training.warmup_ratio: {key: w, below: 1}", "w: 0.1", "training.warmup_ratio", 0.1),
    ("training.warmup_ratio: {key: w, below: 1}", "w: 10", "training.warmup_ratio", None),
]


@pytest.mark.parametrize(("facts_", "config", "name", "wanted"), LANGUAGE)
def test_each_word_of_the_language_means_what_its_page_says(tmp_path, facts_, config, name, wanted):
    body = facts_ if facts_.startswith("{") else f"\n  {facts_}"
    (tmp_path / "ours.yaml").write_text(f"name: ours\nfacts: {body}\n")
    (tmp_path / "a.yaml").write_text(config + "\n")
    facts, _ = preflight.gather(tmp_path / "a.yaml", Options(adapter=str(tmp_path / "ours.yaml")))
    assert facts.get(name) == wanted


def test_sections_and_yields(tmp_path):
    (tmp_path / "ours.yaml").write_text(
        "name: ours\nsections: [run.loop]\nfacts: {training.steps: n, training.epochs: e}\n"
        "defaults: {training.epochs: 3}\nyields: {training.epochs: training.steps}\n"
    )
    (tmp_path / "a.yaml").write_text("run: {loop: {n: 40}}\n")
    facts, _ = preflight.gather(tmp_path / "a.yaml", Options(adapter=str(tmp_path / "ours.yaml")))
    assert (facts.get("training.steps"), facts.get("training.epochs")) == (40, None)
    assert facts.key("training.steps") == "run.loop.n"


BASE = "trainer:\n  max_steps: 50000\n  batch_size: 8\n  precision: fp32\nshared: &s {lr: 1}\nother: *s\nlist: [1, 2]\n"


def test_a_finding_points_into_the_file_where_its_value_was_written(tmp_path):
    write(tmp_path, base_yaml=BASE, top_yaml="trainer: {seed: 1}\nlr: 1.0e-4\n")
    done = run("runctl preflight top.yaml --with base.yaml --gpu A100-80GB", tmp_path)
    assert re.search(r"error PR101 .*\n  --> base.yaml:4:3\n +4 \|   precision: fp32\n +\|   \^", done.stdout), (
        done.stdout
    )
    told = json.loads(run("runctl preflight top.yaml --with base.yaml --gpu A100-80GB --json", tmp_path).stdout)
    assert "base.yaml" in json.dumps(told)


def test_overlays_merge_mappings_and_replace_the_rest(tmp_path):
    write(tmp_path, base_yaml=BASE, top_yaml="trainer: {precision: bf16}\nshared: {lr: 2}\nlist: [3]\n")
    facts, document = preflight.gather(tmp_path / "top.yaml", Options(overlays=[tmp_path / "base.yaml"]))
    assert document.data["trainer"] == {"max_steps": 50000, "batch_size": 8, "precision": "bf16"}
    assert (document.data["shared"], document.data["other"], document.data["list"]) == ({"lr": 2}, {"lr": 1}, [3])
    assert facts.source("training.precision").position.file.endswith("top.yaml")
    assert facts.source("training.steps").position.file.endswith("base.yaml")
    assert {one.key for one in facts.get("config.scalars")} >= {"list.0"}
    assert "list.1" not in {one.key for one in facts.get("config.scalars")}


def test_overlays_are_laid_in_order_and_may_be_json(tmp_path):
    write(tmp_path, one_yaml="seed: 1\nlr: 0.1\n", top_yaml="max_steps: 5\nbatch_size: 2\n")
    (tmp_path / "two.json").write_text('{"seed": 2}')
    facts, _ = preflight.gather(tmp_path / "top.yaml", Options(overlays=[tmp_path / "one.yaml", tmp_path / "two.json"]))
    assert (facts.get("training.seed"), facts.get("training.lr")) == (2, 0.1)
    assert facts.source("training.seed").position.file.endswith("two.json")


def test_runctls_own_configs_have_bases_too(tmp_path):
    write(tmp_path, base_yaml=(ROOT / "configs" / "quickstart.yaml").read_text(), top_yaml="training: {seed: 11}\n")
    facts, _ = preflight.gather(tmp_path / "top.yaml", Options(overlays=[tmp_path / "base.yaml"]))
    assert (facts.dialect, facts.get("training.seed")) == ("native", 11)
    assert facts.source("training.seed").position.file.endswith("top.yaml")


@pytest.mark.parametrize(("text", "words"), [("- 1\n", "holds a list"), ("x\n", "holds a single value")])
def test_what_cannot_be_laid_under_a_config_is_told(tmp_path, text, words):
    write(tmp_path, base_yaml=text, top_yaml="a: 1\n")
    done = run("runctl preflight top.yaml --with base.yaml", tmp_path)
    assert done.returncode == 2
    assert f"base.yaml {words}" in done.stderr
    assert run("runctl preflight top.yaml --with nowhere.yaml", tmp_path).returncode == 2


def test_aliases_that_nest_deeply_are_laid_over_without_recursion(tmp_path):
    levels = [
        f"k{number}: &a{number} {'[' * 50}{f'*a{number - 1}' if number else 'x'}{']' * 50}" for number in range(40)
    ]
    write(tmp_path, base_yaml="\n".join(levels) + "\n", top_yaml="lr: 0.1\n")
    assert run("runctl preflight top.yaml --with base.yaml --set k39=1", tmp_path).returncode in (0, 1)
