"""--fix: what rules can mend is mended, and no other character of the file changes."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from runctl import preflight, yamldoc
from runctl.cli import build
from runctl.errors import UsageError
from runctl.facts import Edit, Facts, Finding
from runctl.mending import advised, fix, yamledit
from runctl.preflight import Options
from runctl.rules import Rule

CONFIG = """\
# what this run is for
name: big   # a name

training: {steps: 50000, seed: 1, log_every: 40}  # long
checkpoint:
  # two are enough
  keep_last: 2
  every: never  # for now
model: {context_len: 60, chunk_size: 32}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runctl(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(build(["preflight"]), ["preflight", *arguments])
    return done.exit_code, done.stdout, done.stderr


def write(text: str, name: str = "a.yaml") -> Path:
    Path(name).write_bytes(text.encode())
    return Path(name)


def changed(text: str, *arguments: object, **words: object) -> str:
    return yamledit.changed(yamldoc.parse(text), Edit(*arguments, **words))  # type: ignore[arg-type]


def test_only_what_is_asked_for_is_mended_and_the_rest_stays_to_the_character() -> None:
    file = write(CONFIG)
    assert runctl("a.yaml")[0] == 1
    code, _, told = runctl("a.yaml", "--fix")
    assert (code, file.read_text()) == (1, CONFIG)
    assert "with --unsafe" in told
    code, _, told = runctl("a.yaml", "--fix", "--unsafe")
    assert code == 0
    assert "fixed CK101 a.yaml:8:3: checkpoint.every: 10m" in told
    wanted = CONFIG.replace("every: never", "every: 10m").replace("chunk_size: 32", "chunk_size: 30")
    assert file.read_text() == wanted


def test_diff_shows_the_change_and_makes_none() -> None:
    file = write(CONFIG)
    code, told, _ = runctl("a.yaml", "--diff", "--unsafe")
    assert code == 1
    lines = told.splitlines()
    assert {
        "-  every: never  # for now",
        "+  every: 10m  # for now",
        "+model: {context_len: 60, chunk_size: 30}",
    } <= set(lines)
    assert file.read_text() == CONFIG
    runctl("a.yaml", "--fix", "--unsafe")
    assert runctl("a.yaml", "--diff", "--unsafe")[:2] == (0, "")


def test_a_safe_fix_needs_no_asking_and_other_dialects_are_mended_in_their_own_keys() -> None:
    file = write('per_device_train_batch_size: "8"  # each\nmax_steps: 1000\nlearning_rate: 1e-4\nsave_steps: 5000\n')
    runctl("a.yaml", "--fix", "--gpu", "none")
    assert file.read_text().splitlines()[:3:2] == ["per_device_train_batch_size: 8  # each", "learning_rate: 1.0e-4"]
    runctl("a.yaml", "--fix", "--unsafe", "--gpu", "none")
    assert yamldoc.parse(file.read_text()).data["save_steps"] < 1000


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_endings_and_the_byte_order_mark_are_kept(newline: str, mark: bytes) -> None:
    text = "training: {steps: 50000, seed: 1}\ncheckpoint:\n  keep_last: 2\n  every: never\n".replace("\n", newline)
    Path("a.yaml").write_bytes(mark + text.encode())
    runctl("a.yaml", "--fix", "--unsafe", "--select", "CK101,TM105")
    raw = Path("a.yaml").read_bytes()
    assert raw.startswith(mark + b"training")
    assert raw.count(b"\n") == text.count("\n")
    assert raw.count(b"\r\n") == text.count("\r\n")
    assert b"every: 10m" in raw


@pytest.mark.parametrize(
    ("text", "edit", "wanted"),
    [
        ("a: {b: 1}  # c\n", ("a.c", "2"), "a: {b: 1, c: 2}  # c\n"),
        ("a: {}\n", ("a.c", "2"), "a: {c: 2}\n"),
        ("a:\n  b: 1  # b\nd: 3\n", ("a.c", "2"), "a:\n  b: 1  # b\n  c: 2\nd: 3\n"),
        ("a:\n    b: 1", ("a.c", "2"), "a:\n    b: 1\n    c: 2"),
        ("a:\r\n  b: 1\r\n", ("a.c", "2"), "a:\r\n  b: 1\r\n  c: 2\r\n"),
        ("a: 1\r\n", ("x.y", "2"), "a: 1\r\nx:\r\n  y: 2\r\n"),
        ("a:\n  b: |\n    text\n\nd: 3\n", ("a.c", "2"), "a:\n  b: |\n    text\n\n  c: 2\nd: 3\n"),
        ("a:  # empty\nd: 3\n", ("a.c", "2"), "a: {c: 2}  # empty\nd: 3\n"),
        ("a: null\n", ("a.c", "2"), "a: {c: 2}\n"),
        ("a: 1\n", ("x.y", "2"), "a: 1\nx:\n  y: 2\n"),
        ("a: {b: 1}\n", ("x.y", "2"), "a: {b: 1}\nx: {y: 2}\n"),
        ("# nothing yet\n", ("x.y", "2"), "# nothing yet\nx:\n  y: 2\n"),
        ("a: 'it''s'\n", ("a", "that's"), "a: 'that''s'\n"),
        ('a: "x"  # c\n', ("a", "y"), 'a: "y"  # c\n'),
        ("a: [1, 2]\n", ("a", "3"), "a: 3\n"),
        ("a: 1\nb: 2  # gone\nc: 3\n", ("b", None), "a: 1\nc: 3\n"),
        ("{a: 1, b: 2, c: 3}\n", ("b", None), "{a: 1, c: 3}\n"),
        ("{a: 1, b: 2}\n", ("b", None), "{a: 1}\n"),
        ("l:\n  - {a: 1}\n  - {b: 2}\n", ("l.1.b", "3"), "l:\n  - {a: 1}\n  - {b: 3}\n"),
        ('{\n  "a": 1\n}\n', ("b.c", "10m"), '{\n  "a": 1,\n  "b": {"c": "10m"}\n}\n'),
        ('{"a": {"b": true}}', ("a.c", "x"), '{"a": {"b": true, "c": "x"}}'),
        ("x.y: {z: 1}\n", ("x.y.z", "2"), "x.y: {z: 2}\n"),
        ("é: 1  # 😀\nb: 2\n", ("b", "3"), "é: 1  # 😀\nb: 3\n"),
    ],
)
def test_an_edit_changes_its_span_and_nothing_else(text: str, edit: tuple[str, str | None], wanted: str) -> None:
    assert changed(text, *edit) == wanted


@pytest.mark.parametrize(
    ("text", "edit", "why"),
    [
        ("a: &x {b: 1}\nc: *x\n", ("a.b", "2"), "alter more than it should"),
        ("a: &x {b: 1}\nc: *x\n", ("c.b", "2"), "alias"),
        ("a: &x 1\n", ("a", "2"), "anchor"),
        ("a: |\n  text\n", ("a", "2"), "several lines"),
        ("a:\n  b: 1\n", ("a", "2"), "several lines"),
        ("a: 1\n", ("a.b", "2"), "no section"),
        ("a:\n  b: 1\n", ("a.b", None), "only key"),
        ("- a: 1\n  b: 2\n", ("0.a", None), "begin its line"),
        ("{a: 1, # c\n b: 2}\n", ("b", None), "comment"),
        ("a: 1\n", ("b", None), "not in this file"),
        ("a: {b: 1}\n", ("a.c", "x, y: {"), "read as YAML"),
        ("a: {b: 1}\n", ("a.c", "x, y"), "alter more"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_in_words(text: str, edit: tuple[str, str | None], why: str) -> None:
    with pytest.raises((yamledit.CannotEdit, yamldoc.YamlError), match=why):
        changed(text, *edit)


def test_a_key_is_renamed_where_it_stands_unless_its_new_name_is_taken() -> None:
    assert changed("a: {'b': 1}  # c\n", "a.b", rename="d") == "a: {'d': 1}  # c\n"
    with pytest.raises(yamledit.CannotEdit, match="is there too"):
        changed("a: {b: 1, d: 2}\n", "a.b", rename="d")


def test_a_key_given_twice_is_taken_out_once_if_both_say_the_same() -> None:
    at = yamldoc.Position("<text>", 3, 3)
    assert changed("t:\n  lr: 0.1\n  lr: 1e-1  # again\n", "t.lr", at=at) == "t:\n  lr: 0.1\n"
    with pytest.raises(yamledit.CannotEdit, match="the two differ"):
        changed("t:\n  lr: 0.1\n  lr: 0.2\n", "t.lr", at=at)


def test_misspelt_keys_and_keys_given_twice_are_safe_fixes_where_there_is_no_choice() -> None:
    text = (
        "training: {steps: 100, batch_sise: 64, lr: 1.0e-3, lr: 0.001}\ncheckpoint:\n  keep_last: 2\n  keep_last: 3\n"
    )
    file = write(text)
    code, _, told = runctl("a.yaml", "--fix")
    assert code == 1
    assert file.read_text() == text.replace("batch_sise", "batch_size").replace(", lr: 0.001", "")
    assert "fixed CF101 a.yaml:1:24: training.batch_sise is now training.batch_size" in told
    assert "not fixed CF103 a.yaml:4:3: the two differ: keep the one that is meant" in told


def test_a_name_that_is_merely_near_is_not_a_safe_fix() -> None:
    (found,) = preflight.preflight(write("training: {steps: 9, btchsz: 3}\n")).errors
    assert found.fix == "did you mean 'batch_size'?"
    assert found.edit == Edit("training.btchsz", rename="batch_size", safe=False)


def test_memory_and_timeout_are_mended_with_all_the_keys_that_belong_together() -> None:
    text = (
        "data: {simulate: {games: 400, seconds: 600, seed: 1}}\n"
        "model: {d_model: 1024, n_layers: 12, context_len: 60, chunk_size: 60}\n"
        "training: {steps: 2000, batch_size: 8192, precision: bf16, seed: 1}\n"
        "compute: {gpu: A100-40GB, timeout: 2m}\n"
    )
    file = write(text)
    assert {"ME101", "TM101"} <= {one.rule for one in preflight.preflight(file).errors}
    runctl("a.yaml", "--fix", "--unsafe", "--select", "ME101,TM101")
    after = yamldoc.load(file).data
    assert after["training"]["batch_size"] * after["training"]["accumulation"] == 8192
    assert "ME101" not in {one.rule for one in preflight.preflight(file).errors}
    assert "TM101" not in {one.rule for one in preflight.preflight(file).errors}


@pytest.mark.parametrize(
    ("fix", "wanted"),
    [
        ("set checkpoint.every: 10m", ("checkpoint.every", "10m")),
        ("set save_steps: 500 (about 10m of work)", ("save_steps", "500")),
        ("set checkpoint.every: 500 steps", ("checkpoint.every", "500 steps")),
        ("set tracking.wandb: online, or follow it", None),
        ("set compute.timeout above 5h", None),
        ("set budget.max_cost_usd: 50 or less", None),
        ("set bf16: true and fp16: false", None),
        ("correct the key", None),
        (None, None),
    ],
)
def test_advice_that_leaves_no_choice_is_an_unsafe_edit(fix: str | None, wanted: tuple[str, str] | None) -> None:
    found = advised.edit(Finding("m", fix=fix), Facts("x"), yamldoc.parse("save_steps: 5\n"))
    assert found == (Edit(*wanted, safe=False) if wanted else None)


def test_in_another_trainers_config_only_what_is_written_is_changed() -> None:
    facts, document = Facts("x", dialect="hf"), yamldoc.parse("save_steps: 5\n")
    assert advised.edit(Finding("m", fix="set save_steps: 50"), facts, document) is not None
    assert advised.edit(Finding("m", fix="set save_total_limit: 3"), facts, document) is None


def test_an_old_spelling_is_mended_where_it_stands() -> None:
    text = "training: {steps: 50000, seed: 1, log_interval: 100000}\n"
    file = write(text)
    runctl("a.yaml", "--fix", "--unsafe", "--select", "TM105")
    assert list(yamldoc.load(file).data["training"]) == ["steps", "seed", "log_interval"]
    assert file.read_text() != text


def test_a_file_that_changed_meanwhile_is_left_as_it_is() -> None:
    file = write(CONFIG)
    mended = fix.mend(file, Options(), unsafe=True)
    file.write_text(CONFIG + "# somebody's note\n")
    with pytest.raises(UsageError, match="changed meanwhile"):
        fix.write(mended)
    assert file.read_text() == CONFIG + "# somebody's note\n"
    assert [entry.name for entry in Path().iterdir()] == ["a.yaml"]


def test_a_link_stays_a_link_and_the_mode_stays(here: Path) -> None:
    write(CONFIG, "real.yaml")
    os.chmod("real.yaml", 0o640)
    Path("a.yaml").symlink_to("real.yaml")
    runctl("a.yaml", "--fix", "--unsafe")
    assert Path("a.yaml").is_symlink()
    assert "every: 10m" in Path("real.yaml").read_text()
    assert stat.S_IMODE(os.stat("real.yaml").st_mode) == 0o640


def test_a_fix_that_would_make_a_new_error_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def advise(facts: Facts) -> list[Finding]:
        return [Finding("too many steps", at="training.steps", edit=Edit("checkpoint.every", "never"))]

    from runctl import rules

    wrong = Rule("AA101", "error", "AA101: x\n\n## Why\n\ny\n", (), advise)
    monkeypatch.setattr(rules, "known", lambda known=rules.known(): {**known, "AA101": wrong})
    monkeypatch.setattr(rules, "concerning", rules.concerning.__wrapped__)
    text = CONFIG.replace("never", "10m").replace("32", "30")
    mended = fix.mend(write(text), Options())
    assert not mended.changed
    ((_, why),) = mended.refused
    assert "it would make a new error: CK101" in why


def test_only_the_rules_that_are_selected_are_mended() -> None:
    file = write(CONFIG)
    runctl("a.yaml", "--fix", "--unsafe", "--select", "MO101")
    assert file.read_text() == CONFIG.replace("chunk_size: 32", "chunk_size: 30")


def test_what_is_waived_is_not_mended() -> None:
    text = CONFIG.replace("# for now", "# runctl: allow CK101 keeps nothing").replace("32", "30")
    assert not fix.mend(write(text), Options(), unsafe=True).changed


@pytest.mark.parametrize(
    "arguments", [["--fix", "--set", "training.steps=3"], ["--unsafe"], ["--fix", "--create-baseline"]]
)
def test_what_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    file = write(CONFIG)
    code, _, told = runctl("a.yaml", *arguments)
    assert code == 2
    assert "hint:" in told
    assert file.read_text() == CONFIG


def test_a_secret_is_not_shown_in_a_diff() -> None:
    secret = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gH2k"
    write(f"per_device_train_batch_size: '8'\nhub_token: {secret}\nmax_steps: 10\nlearning_rate: 1e-3\n")
    _, told, _ = runctl("a.yaml", "--diff")
    assert "per_device_train_batch_size: 8" in told
    assert secret not in told


def test_json_configs_stay_json() -> None:
    data = {"per_device_train_batch_size": "8", "max_steps": 100, "learning_rate": 1e-4, "output_dir": "o"}
    file = write(json.dumps(data, indent=2), "a.json")
    runctl("a.json", "--fix")
    assert json.loads(file.read_text()) == {**data, "per_device_train_batch_size": 8}


WORDS = st.sampled_from(["alpha", "b c", "10m", "3", "true", "x-y", "[1, 2]", "{q: 1}", '"quoted"', "'one'", "null"])
NAMES = st.sampled_from(["steps", "every", "lr", "name", "seed", "k1", "k2"])


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A config-like text: sections in both styles, comments, blank lines, any line ending, an end with or without."""
    lines = []
    for section in draw(
        st.lists(st.sampled_from(["training", "checkpoint", "model", "extra"]), unique=True, max_size=4)
    ):
        lines += draw(st.lists(st.sampled_from(["", "# a comment", "   # another"]), max_size=2))
        keys = draw(st.lists(NAMES, unique=True, max_size=4))
        pairs = [(key, draw(WORDS)) for key in keys]
        note = draw(st.sampled_from(["", "  # why"]))
        if draw(st.booleans()):
            lines.append(f"{section}: {{{', '.join(f'{key}: {value}' for key, value in pairs)}}}{note}")
        else:
            indent = " " * draw(st.sampled_from([1, 2, 4]))
            lines.append(f"{section}:{note}")
            lines += [f"{indent}{key}: {value}{note}" for key, value in pairs]
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return newline.join(lines) + draw(st.sampled_from(["", newline]))


@given(documents(), st.sampled_from(["training", "checkpoint", "new"]), NAMES, WORDS)
@settings(max_examples=300, deadline=None)
def test_any_edit_does_what_was_meant_keeps_every_comment_and_changes_nothing_twice(
    text: str, section: str, name: str, value: str
) -> None:
    try:
        document = yamldoc.parse(text)
    except yamldoc.YamlError:
        return
    edit = Edit(f"{section}.{name}", value)
    home = document.data.get(section) if isinstance(document.data, dict) else None
    if not isinstance(home, dict | None):
        with pytest.raises(yamledit.CannotEdit, match="no section"):
            yamledit.changed(document, edit)
        return
    once = yamledit.changed(document, edit)
    after = yamldoc.parse(once)
    assert yamledit.same(after.data[section][name], yamldoc.parse(value).data)
    assert once.count("#") == text.count("#")
    assert ("\r" in once) <= ("\r" in text)
    assert yamledit.changed(after, edit) == once


def _configs() -> st.SearchStrategy[str]:
    return st.builds(
        "training: {{steps: {}, seed: 1, {}}}  # t\n{}model:\n  context_len: {}\n  chunk_size: {} # m\n{}".format,
        st.sampled_from([100, 5001, 50000]),
        st.sampled_from(["batch_size: 64", "batch_sise: 64", "log_every: 50", "precision: fp32"]),
        st.sampled_from(["", "checkpoint: {every: never}\n", "checkpoint:\n  every: 90000 steps # e\n"]),
        st.sampled_from([10, 60, 61]),
        st.sampled_from([7, 10, 32]),
        st.sampled_from(["", "compute: {gpu: A100, timeout: 2m}\n", "compute:\n  gpu: T4\n"]),
    )


@given(_configs(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_second_run_changes_nothing(text: str, unsafe: bool) -> None:
    file = write(text)
    first = fix.mend(file, Options(), unsafe=unsafe)
    file.write_text(first.after)
    again = fix.mend(file, Options(), unsafe=unsafe)
    assert not again.changed
    assert again.fixed == ()
    before = {(one.rule, one.key) for one in preflight.preflight(write(text)).errors}
    report = preflight.preflight(write(first.after))
    if "CF101" not in {rule for rule, _ in before}:  # an unreadable config hides its other errors
        assert {(one.rule, one.key) for one in report.errors} <= before
