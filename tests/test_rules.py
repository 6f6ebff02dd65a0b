"""The rules, their pages and examples; every rule that is added is covered by being there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runctl import preflight, rules, surveys
from runctl import project as projects
from runctl.backends.modal import online
from runctl.facts import NotChecked
from runctl.gathering import surroundings
from runctl.preflight import Report
from runctl.project import Project
from runctl.rules import Example, Rule, pages
from runctl.team import policy

ROOT = Path(__file__).parents[1]
RULES = list(rules.known().values())


def judge(example: Example, folder: Path, *, launching: bool = False, **given: object) -> Report:
    """The report of an example in a project of its own; its manifest becomes the committed copy."""
    config = folder / example.file
    config.write_text(example.config)
    for name, text in example.beside:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if example.source is not None:
        (folder / "code").mkdir(exist_ok=True)
        (folder / "code" / "train.py").write_text(example.source)
    if example.manifest is not None:
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / "encoded.manifest.json").write_text(example.manifest)
    source = folder / "code" if example.source is not None else None
    if "repository" in example.given:
        repository(folder, committed="uncommitted" not in example.given)
    options = preflight.Options(
        gpu=example.gpu,
        source=source,
        launching=launching or "launch" in example.given,
        detached="detached" in example.given or None,
        online="online" in example.given,
    )
    paths = [config, *(folder / name for name, _ in example.beside if name.endswith((".yaml", ".yml")))]
    own = Project(folder, policy=dict(given))
    if example.project is not None:
        (folder / "runctl.yaml").write_text(example.project)
    if (folder / "runctl.yaml").exists():
        own = projects.load(config)
    if example.modal is not None:
        own.kept[surroundings._modal] = True
        for dataset in (None, "datasets/data/encoded"):
            own.kept[("modal.online", dataset)] = online.Seen(online.parse(example.modal))
    reports = list(surveys.survey(paths, options, project=own))
    judged = reports[-1 if example.file == "runctl.yaml" else 0]  # the report on runctl.yaml comes last
    assert isinstance(judged, Report)
    return judged


def repository(folder: Path, *, committed: bool) -> None:
    """Make the folder a git repository with one commit: of all that is there, or of nothing."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t", "-C", str(folder)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    if committed:
        subprocess.run([*git, "add", "--all"], check=True)
    subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--message=first"], check=True)


@pytest.fixture(autouse=True)
def without_credentials(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home in which nobody has logged in anywhere."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    for name in ("WANDB_API_KEY", "MODAL_TOKEN_ID", "MODAL_CONFIG_PATH", "HF_TOKEN", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)


def examples(section: str) -> list[object]:
    return [
        pytest.param(rule, example, id=f"{rule.id}-{number}")
        for rule in RULES
        for number, example in enumerate(rule.examples(section), 1)
    ]


@pytest.mark.parametrize(("rule", "example"), examples("Fails"))
def test_the_failing_example_fails_with_a_place_and_a_fix(rule: Rule, example: Example, tmp_path: Path) -> None:
    report = judge(example, tmp_path)
    found = [finding for finding in report.findings if finding.rule == rule.id]
    assert found, report.coverage.not_checked.get(rule.id, "checked, and nothing found")
    assert {finding.severity for finding in found} <= {rule.severity, "warning"}
    for finding in found:
        assert finding.line is not None
        assert finding.column is not None
        assert finding.why
        assert finding.fix
        assert "crashed" not in finding.message


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_the_first_failing_example_has_the_severity_of_the_rule(rule: Rule, tmp_path: Path) -> None:
    report = judge(rule.examples("Fails")[0], tmp_path)
    assert rule.severity in {finding.severity for finding in report.findings if finding.rule == rule.id}


@pytest.mark.parametrize(("rule", "example"), examples("Passes"))
def test_the_passing_example_is_checked_and_passes(rule: Rule, example: Example, tmp_path: Path) -> None:
    report = judge(example, tmp_path)
    assert [finding for finding in report.findings if finding.rule == rule.id and finding.severity != "note"] == []
    if rule.id != "TM101" or "timeout" in example.config:
        assert rule.id in report.coverage.checked, report.coverage.not_checked.get(rule.id)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_every_rule_is_documented(rule: Rule) -> None:
    assert rule.page.startswith(f"{rule.id}: ")
    assert rule.title
    assert rule.why
    assert rule.examples("Fails")
    assert rule.examples("Passes")
    assert rule.section("What to do")
    assert rule.severity in ("error", "warning", "note")
    assert bool(rule.policy) == bool(rule.section("Policy"))
    for name in rule.policy:
        assert name in policy.VALUES
        assert f"`{name}`" in rule.section("Policy")


def test_the_rules_of_the_first_catalogue_are_there() -> None:
    wanted = "CF101 CF102 CF103 CK101 CK102 PR101 PR102 ME101 DA101 DA102 DA103 DA104 DA105 MO101 MO102 TM101"
    assert set(wanted.split()) <= set(rules.known())


def test_the_pages_on_disk_are_the_pages_of_the_rules() -> None:
    folder = ROOT / "docs" / "rules"
    on_disk = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.md")}
    assert on_disk == pages.files(), "stale: run python -m runctl.rules.pages docs/rules"


def test_an_unknown_rule_is_refused_with_the_nearest() -> None:
    from runctl.errors import UsageError

    with pytest.raises(UsageError) as caught:
        rules.find("CK120")
    assert "CK1" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("data.encoded", "${DATA}", True),
        ("data.encoded", "{{ data_dir }}", True),
        ("data.encoded", "<X>", True),
        ("data.encoded", "<DATA_DIR>", True),
        ("data.encoded", "<path/to/data>", True),
        ("name", "<your-run-name>", True),
        ("name", "TODO", True),
        ("tracking.project", "changeme", True),
        ("data.encoded", "data/${USER}/x", False),
        ("x", "<pad>", False),
        ("x", "<PAD>", False),
        ("x", "<s>", False),
        ("x", "</s>", False),
        ("x", "<|endoftext|>", False),
        ("x", "<extra_id_0>", False),
        ("x", "<image>", False),
        ("x", "<start_of_turn>", False),
        ("pad_token", "<MY_PAD>", False),
        ("x", "{% for m in messages %}{{ m }}{% endfor %}", False),
        ("x", "todo-list", False),
    ],
)
def test_only_whole_placeholders_are_placeholders(key: str, text: str, wanted: bool) -> None:
    from runctl.rules.cf102 import is_placeholder

    assert is_placeholder(key, text) is wanted


def test_a_placeholder_for_a_number_is_one_finding_not_two(tmp_path: Path) -> None:
    report = judge(Example("training: {steps: TODO}\n"), tmp_path)
    assert [finding.rule for finding in report.findings] == ["CF102"]


def test_fp32_on_a_gpu_without_bf16_warns_and_names_other_gpus(tmp_path: Path) -> None:
    config = "training: {steps: 50000, precision: fp32}\ncompute: {gpu: T4}\n"
    found = [finding for finding in judge(Example(config), tmp_path).findings if finding.rule == "PR101"]
    assert [finding.severity for finding in found] == ["warning"]
    assert "L4" in str(found[0].fix)


def test_what_is_not_encoded_yet_warns_before_and_refuses_at_launch(tmp_path: Path) -> None:
    example = Example("data: {encoded: data/later}\ntraining: {steps: 10}\n")
    assert [(f.rule, f.severity) for f in judge(example, tmp_path).findings] == [("DA102", "warning")]
    assert [(f.rule, f.severity) for f in judge(example, tmp_path, launching=True).findings] == [("DA102", "error")]


def test_a_committed_manifest_stands_in_for_the_arrays_until_launch(tmp_path: Path) -> None:
    example = rules.find("DA101").examples("Passes")[0]
    assert judge(example, tmp_path).findings == ()
    assert [finding.rule for finding in judge(example, tmp_path, launching=True).errors] == ["DA102"]


def test_a_folder_outside_the_project_that_is_not_here_is_not_judged(tmp_path: Path) -> None:
    report = judge(Example("data: {encoded: /nowhere/at/all}\ntraining: {steps: 10}\n"), tmp_path)
    assert report.verdict == "ok"
    assert "outside the project" in report.coverage.not_checked["DA102"]


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data" / "half").mkdir(parents=True)
    report = judge(Example("data: {encoded: data/half}\ntraining: {steps: 10}\n"), tmp_path)
    assert [finding.rule for finding in report.errors] == ["DA102"]


def test_a_damaged_manifest_is_a_finding_or_not_checked_never_a_crash(tmp_path: Path) -> None:
    config = "data: {encoded: data/encoded}\ntraining: {steps: 10}\n"
    for text in ("{", "[]", '{"kind": "other"}', '{"kind": "encoded-dataset", "columns": {"p0_x": 3}, "games": 7.5}'):
        report = judge(Example(config, text), tmp_path)
        assert [finding for finding in report.findings if "crashed" in finding.message] == []
        assert "DA103" in report.coverage.not_checked
        assert "DA103" not in report.coverage.checked


def test_games_too_short_for_one_window_are_an_error_before_they_are_simulated(tmp_path: Path) -> None:
    config = "data: {simulate: {games: 4, seconds: 2}}\nmodel: {context_len: 200}\ntraining: {steps: 10}\n"
    (found,) = [f for f in judge(Example(config, None), tmp_path).findings if f.rule == "DA102"]
    assert (found.severity, found.line) == ("error", 2)
    assert "no training window" in found.message


def test_a_constant_stage_is_a_note_unless_it_is_zero(tmp_path: Path) -> None:
    config = "data: {encoded: data/encoded}\ntraining: {steps: 10}\n"
    manifest = (
        '{"kind": "encoded-dataset", "frames": 9000, "games": 2, "columns": {"stage": {"max": %d, "constant": true}}}'
    )
    assert [f.severity for f in judge(Example(config, manifest % 31), tmp_path).findings] == ["note"]
    assert [f.severity for f in judge(Example(config, manifest % 0), tmp_path).findings] == ["error"]


def test_ids_that_were_cut_warn_above_the_share_of_the_policy(tmp_path: Path) -> None:
    config = "data: {encoded: data/encoded}\ntraining: {steps: 10}\n"
    manifest = (
        '{"kind": "encoded-dataset", "frames": 1000, "games": 2, "columns": {"p1_ground": {"max": 31, "clipped": 5}}}'
    )
    assert [f.severity for f in judge(Example(config, manifest), tmp_path).findings] == ["note"]
    assert [f.severity for f in judge(Example(config, manifest), tmp_path, clipped_ids=0.001).findings] == ["warning"]


def test_the_policy_moves_the_threshold_of_a_long_run(tmp_path: Path) -> None:
    example = Example("training: {steps: 300}\ncheckpoint: {every: never}\n")
    assert judge(example, tmp_path).errors == []
    assert [finding.rule for finding in judge(example, tmp_path, long_run_steps=200).errors] == ["CK101"]


def test_not_checked_is_raised_for_what_is_unknown() -> None:
    from runctl.facts import Facts

    facts = Facts("x")
    facts.miss("data.frames", "no manifest")
    with pytest.raises(NotChecked, match="no manifest"):
        facts.need("data.frames")


@pytest.mark.parametrize("folder", ['"a\\0b"', "a" * 5000, '""', '"."', '"../../up"', '"/"'])
def test_a_folder_name_that_cannot_be_is_a_finding_or_not_checked(folder: str, tmp_path: Path) -> None:
    report = judge(Example(f"data: {{encoded: {folder}}}\ntraining: {{steps: 10}}\n"), tmp_path)
    assert [finding for finding in report.findings if "crashed" in finding.message] == []
    assert "DA102" in {*report.coverage.not_checked, *(finding.rule for finding in report.errors)}
