"""What a person meets who has just heard of runctl: other trainers' configs, slips of the fingers, wrong places."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
import test_gallery
from typer.testing import CliRunner

from runctl import cli, preflight, surveys
from runctl.adapters.vocabulary import WORDS
from runctl.facts import Unknown
from runctl.preflight import Options, Report

ROOT = Path(__file__).parents[1]
SFT = """\
model_name_or_path: Qwen/Qwen2.5-1.5B
output_dir: out/sft
per_device_train_batch_size: 4
learning_rate: 2.0e-5
num_train_epochs: 3
bf16: true
save_strategy: "no"
eval_strategy: epoch
seed: 42
"""
OWN = """\
plan: {updates: 90000, batch_size: 64, learning_rate: 1.0e-3}
snapshots: {save_every: 0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft.yaml").write_text(SFT)
    (tmp_path / "own.yaml").write_text(OWN)
    return tmp_path


def runctl(*words: str, code: int = 0) -> tuple[str, str]:
    """Standard output and error of a command that ends with `code`."""
    done = CliRunner().invoke(cli.build(), words)
    assert done.exit_code == code, done.output
    return done.stdout, done.stderr


# --- why something is unknown


def reasons(report: Report) -> set[str]:
    unknown = {one.why for one in report.estimates.values() if isinstance(one, Unknown)}
    return unknown | set(report.coverage.not_checked.values())


@pytest.mark.parametrize("adapter", [None, "generic"])
def test_a_reason_names_only_what_a_person_can_write_or_give(adapter: str | None) -> None:
    files = preflight.expand([ROOT / "examples" / "trainers"])
    for report in surveys.survey(files, Options(adapter=adapter)):
        assert isinstance(report, Report)
        if report.kind != "training":
            continue
        keys = {".".join(map(str, path)) for path in report.document.keys} if report.document else set()
        keys |= set(report.facts.spelled.values())
        for why in reasons(report):
            for name in re.findall(r"(?<![\w./-])[a-z_]+\.[a-z_]+(?![\w/])", why):
                assert name in WORDS or name in keys or name.endswith((".yaml", ".yml", ".csv")), why


def test_what_a_config_does_not_say_is_asked_for_in_words_that_can_be_typed(folder: Path) -> None:
    told, _ = runctl("preflight", "sft.yaml")
    assert "no GPU is named: --gpu NAME[:N]" in told
    assert "--set compute.backend=modal" in told
    given = ["--gpu", "L4", "--set", "compute.backend=modal", "--set", "budget.max_cost_usd=50"]
    given += ["--set", "compute.timeout=24h", "--set", "data.samples=20000"]
    told, _ = runctl("preflight", "sft.yaml", *given, code=1)
    assert "is not said" not in told
    assert "no GPU is named" not in told


def test_a_rule_is_checked_where_a_known_dialect_has_no_such_thing(folder: Path) -> None:
    (report,) = surveys.survey([Path("sft.yaml")])
    assert isinstance(report, Report)
    assert {"CK109", "OP104", "OP105", "OP106"} <= set(report.coverage.checked)


# --- short enough to read


def test_the_coverage_of_a_foreign_config_is_a_few_lines(folder: Path) -> None:
    told, _ = runctl("preflight", "own.yaml")
    coverage = told.partition("not checked")[2].splitlines()[1:]
    assert 5 < len(coverage) < 16
    said = [line for line in coverage if "no key was recognised as " in line]
    assert len(said) == 1
    assert "(CK109)" in said[0]


def test_the_coverage_of_many_configs_is_told_once(folder: Path) -> None:
    for number in range(5):
        text = SFT.replace("2.0e-5", f"{number + 1}.0e-6").replace("sft", f"s{number}")
        (folder / f"lr{number}.yaml").write_text(text)
    told, _ = runctl("preflight", ".", "--gpu", "A100-80GB")
    assert told.count("no training code was given") == 1
    assert "not checked in 7 configs:" in told
    assert "ok  lr0.yaml\nok  lr1.yaml" in told


def test_a_config_that_is_not_valid_is_told_briefly(folder: Path) -> None:
    (folder / "mine.yaml").write_text("training: {steps: 100, batchsize: 5}\n")
    told, _ = runctl("preflight", "mine.yaml", code=1)
    assert "nothing is estimated: the config is not valid" in told
    assert max(map(len, told.splitlines())) < 300


def test_a_finding_on_the_whole_file_shows_no_line_of_it(folder: Path) -> None:
    (folder / "twin.yaml").write_text(SFT.replace("out/sft", "out/twin"))
    told, _ = runctl("preflight", "sft.yaml", "twin.yaml")
    after = told.partition("warning EX105")[2].splitlines()
    assert after[1:2] == ["  --> sft.yaml"]
    assert after[2].startswith("  why: ")


def test_long_lines_are_moved_in_on_a_terminal(folder: Path) -> None:
    command = f"{sys.executable} -m runctl preflight sft.yaml --set max_steps=40000 --select CK101"
    main, other = pty.openpty()
    plain = {**os.environ, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    plain.pop("FORCE_COLOR", None)
    done = subprocess.run(command.split(), stdout=other, stderr=other, env=plain, timeout=60, check=False)
    os.close(other)
    told = re.sub(r"\x1b\[[\d;]*m|\r", "", os.read(main, 100_000).decode()).splitlines()
    os.close(main)
    assert done.returncode == 1
    assert max(map(len, told)) <= 80
    at = next(index for index, line in enumerate(told) if line.startswith("  why: "))
    assert told[at + 1].startswith("       ")
    assert told[at - 1].rstrip().endswith("| ^")


def test_the_reason_of_a_rule_is_told_once(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "train.py").write_text(
        "import yaml\nconfig = yaml.safe_load(open('own.yaml'))\nconfig['plan']\n"
    )
    told, _ = runctl("preflight", "own.yaml", "--source", "code", "--select", "CF108")
    assert told.count("warning CF108 ") == 4  # three of plan, and snapshots without what is in it
    assert told.count("  why: ") == 1


def test_advice_names_the_keys_that_the_dialect_has(folder: Path) -> None:
    told, _ = runctl("preflight", "sft.yaml", "--set", "max_steps=40000", "--select", "CK101", code=1)
    assert "fix: set save_strategy: steps, and save_steps: 2000 (the run has 40,000 steps)" in told


# --- slips of the fingers


@pytest.mark.parametrize(
    ("given", "meant"),
    [("learning_rat=3e-4", "learning_rate"), ("data.sample=10", "data.samples"), ("max_step=5", "max_steps")],
)
def test_a_misspelt_set_on_a_foreign_config_is_refused(folder: Path, given: str, meant: str) -> None:
    _, told = runctl("preflight", "sft.yaml", "--set", given, code=2)
    assert f"did you mean '{meant}'?" in told


def test_a_set_that_only_the_trainer_knows_is_let_through(folder: Path) -> None:
    runctl("preflight", "sft.yaml", "--set", "lora_dropout=0.1", "--set", "max_steps=100")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--select", ""], "--select names no rule"),
        (["--json", "--format", "sarif"], "--format json --format sarif --output FILE"),
        (["--format", "json", "--output", "."], "is a folder"),
        (["--format", "json", "--output", "own.yaml/x.json"], "own.yaml is a file, not a folder"),
        (["--explain", "CK101"], "runctl rules CK101"),
        (["--create-baseline", "--baseline", "."], "is a folder"),
    ],
)
def test_a_wrong_option_is_told_with_what_to_do(folder: Path, words: list[str], told: str) -> None:
    _, said = runctl("preflight", "sft.yaml", *words, code=2)
    assert told in said


def test_a_link_to_itself_is_no_defect(folder: Path) -> None:
    os.symlink("loop.yaml", folder / "loop.yaml")
    _, told = runctl("preflight", "loop.yaml", code=2)
    assert "cannot read loop.yaml" in told


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"a: {b: 1\nc: {d: 2}\n", "the brace { that opens at line 1, column 4 is perhaps not closed"),
        (b"a: b: c\n", "wants quotes"),
        ("a: 1\n".encode("utf-16"), "it is UTF-16: save it as UTF-8"),
        (b"a: 1\n---\nb: 2\n", "give each config a file of its own"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_how_to_be(folder: Path, raw: bytes, told: str) -> None:
    (folder / "odd.yaml").write_bytes(raw)
    _, said = runctl("preflight", "odd.yaml", code=2)
    assert told in said


def test_a_number_in_quotes_is_mended(folder: Path) -> None:
    (folder / "mine.yaml").write_text('training: {steps: 100, batch_size: "256"}  # kept\n')
    told, _ = runctl("preflight", "mine.yaml", code=1)
    assert "fix: write it without quotes: 256" in told
    runctl("preflight", "mine.yaml", "--fix")
    assert (folder / "mine.yaml").read_text() == "training: {steps: 100, batch_size: 256}  # kept\n"


@pytest.mark.parametrize(
    ("written", "fix"),
    [("lr: -1.0", "write a number greater than 0"), ("precision: bfloat", "write 'fp32' or 'bf16'")],
)
def test_a_value_that_cannot_be_is_told_what_can(folder: Path, written: str, fix: str) -> None:
    (folder / "mine.yaml").write_text(f"training: {{steps: 100, {written}}}\n")
    told, _ = runctl("preflight", "mine.yaml", code=1)
    assert f"fix: {fix}" in told


def test_a_key_that_was_commented_out_is_still_a_secret(folder: Path) -> None:
    key = "3f9c0a7e51b2d84f" + "6a0e9c3d7b1f2a8e4c5d6f70"
    (folder / "mine.yaml").write_text(
        f"training: {{steps: 100}}\n# WANDB_API_KEY={key}\n# tokenizer: Qwen2.5-1.5B-Instruct\n"
    )
    told, _ = runctl("preflight", "mine.yaml", "--select", "CF109", code=1)
    assert told.count("error CF109 ") == 1
    assert "--> mine.yaml:2:17" in told
    assert key not in told


# --- files of other kinds


@pytest.mark.parametrize("command", [["launch"], ["probe"], ["encode"], ["config", "show"]])
def test_a_foreign_config_is_named_as_one_where_only_own_ones_run(folder: Path, command: list[str]) -> None:
    _, told = runctl(*command, "sft.yaml", code=2)
    assert "is read as hf" in told
    assert "docs/any-program.md" in told
    assert "unknown key" not in told


def test_the_folder_that_init_made_holds_one_config(folder: Path) -> None:
    runctl("init", "mine")
    told, _ = runctl("preflight", "mine", "--json")
    assert [one["path"] for one in json.loads(told)["reports"]] == ["mine/configs/first.yaml"]
    told, _ = runctl("preflight", "mine/schema/config.json", "mine/schema/project.json")
    assert "it is a JSON schema" in told
    assert "no training config among them" in told


def test_the_readme_shows_what_preflight_says(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text()
    scene = next(part for part in test_gallery.scenes(page) if part.startswith("## Preflight"))
    assert test_gallery.played(scene, tmp_path) == scene, "stale: run the command of the page anew"
