"""Configs beside each other: the same run twice, shared folders and names, sweeps, copies left lying."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runctl import preflight, surveys
from runctl.facts import Finding
from runctl.gathering import siblings, sweeps
from runctl.preflight import Options, Report
from runctl.project import Project


def survey(folder: Path, files: dict[str, str], **options: object) -> dict[str, Report]:
    """The report of each file, all given in one call."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    paths = [folder / name for name in files]
    reports = surveys.survey(paths, Options(**options), project=Project(folder))  # type: ignore[arg-type]
    return {str(Path(one.path).relative_to(folder)): one for one in reports if isinstance(one, Report)}


def found(report: Report, rule: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.rule == rule]


def config(lr: str = "0.001", **trainer: object) -> str:
    settings = {"max_steps": 500, "batch_size": 8, "seed": 1} | trainer
    return f"trainer: {{{', '.join(f'{key}: {value}' for key, value in settings.items())}}}\noptim: {{lr: {lr}}}\n"


def test_a_run_under_two_names_is_one_run(tmp_path: Path) -> None:
    first = config(run_name="baseline", output_dir="out/baseline")
    reports = survey(
        tmp_path,
        {
            "baseline.yaml": first,
            "lr1.yaml": config(run_name="lr1", output_dir="out/lr1"),
            "lr2.yaml": config("0.003", run_name="lr2", output_dir="out/lr2"),
            "seed2.yaml": config(run_name="seed2", output_dir="out/seed2", seed=2),
        },
    )
    duplicates = {name: [one.message for one in found(report, "EX105")] for name, report in reports.items()}
    assert "lr1.yaml" in duplicates["baseline.yaml"][0]
    assert "baseline.yaml" in duplicates["lr1.yaml"][0]
    assert duplicates["lr2.yaml"] == duplicates["seed2.yaml"] == []


def test_aliases_count_by_what_they_stand_for(tmp_path: Path) -> None:
    text = "sizes: {big: &big {width: 512, depth: 8}, small: &small {width: 64, depth: 2}}\nmodel: *%s\n" + config()
    reports = survey(tmp_path, {"a.yaml": text % "big", "b.yaml": text % "small"})
    assert not any(found(report, "EX105") for report in reports.values())


def test_native_runs_are_compared_too(tmp_path: Path) -> None:
    text = "name: %s\ntraining: {steps: 100, lr: 1e-3, batch_size: 64}\n"
    reports = survey(tmp_path, {"a.yaml": text % "a", "b.yaml": text % "b"})
    assert all(found(report, "EX105") for report in reports.values())


def test_one_config_alone_is_compared_with_nothing_and_says_so(tmp_path: Path) -> None:
    (report,) = survey(tmp_path, {"a.yaml": config()}).values()
    assert {"EX105", "CF113", "CF115"} <= set(report.coverage.not_checked)


@pytest.mark.parametrize(
    ("resume", "other_lr", "severity"),
    [("auto", "0.003", "error"), ("auto", "0.001", "warning"), ("null", "0.003", "warning")],
)
def test_a_shared_output_folder_is_worst_where_runs_resume_by_themselves(
    resume: str, other_lr: str, severity: str, tmp_path: Path
) -> None:
    files = {
        "a.yaml": config(output_dir="ck/wide", resume=resume, run_name="a"),
        "b.yaml": config(other_lr, output_dir="./ck/wide/", resume=resume, run_name="b"),
    }
    for report in survey(tmp_path, files).values():
        (finding,) = found(report, "CK106")
        assert (finding.severity, finding.line) == (severity, 1)
        assert "ck/wide" in finding.message


def test_states_of_one_file_and_templates_share_their_folder_with_nobody(tmp_path: Path) -> None:
    shared = {"output_dir": "ck/wide", "resume": "auto"}
    reports = survey(
        tmp_path,
        {
            "wide.yaml": config(**shared),
            "wide@0123abc.yaml": config("0.003", **shared),
            "template.yaml": config("0.1", **shared, model='"${MODEL}"'),
        },
    )
    assert not any(found(report, "CK106") for report in reports.values())


def test_a_folder_in_use_warns_before_and_refuses_at_launch(tmp_path: Path) -> None:
    (tmp_path / "ck" / "wide").mkdir(parents=True)
    text = config(output_dir="ck/wide")
    (empty,) = survey(tmp_path, {"a.yaml": text}).values()
    assert found(empty, "CK106") == []
    (tmp_path / "ck" / "wide" / "model.pt").write_text("")
    (used,) = survey(tmp_path, {"a.yaml": text}).values()
    assert [finding.severity for finding in found(used, "CK106")] == ["warning"]
    assert "CK106" in {finding.rule for finding in used.at_launch}
    (resumed,) = survey(tmp_path, {"a.yaml": config(output_dir="ck/wide", resume="auto")}).values()
    assert found(resumed, "CK106") == []
    (outside,) = survey(tmp_path, {"a.yaml": config(output_dir=str(tmp_path.parent))}).values()
    assert found(outside, "CK106") == []


def test_a_name_that_two_variants_share(tmp_path: Path) -> None:
    files = {"a.yaml": config(run_name="wide"), "b.yaml": config("0.01", run_name="wide")}
    for report in survey(tmp_path, files).values():
        assert ["wide" in finding.message for finding in found(report, "CF111")] == [True]


def test_members_of_a_sweep_that_differ_in_more_than_the_factor(tmp_path: Path) -> None:
    def member(frames: int, workers: int, **more: object) -> str:
        return config(frames=frames, **more) + f"data: {{num_workers: {workers}}}\n"

    files = {f"frames_{n}.yaml": member(n, 2 if n == 4 else 8) for n in (1, 4, 16)}
    for report in survey(tmp_path, files).values():
        (finding,) = found(report, "CF113")
        assert finding.severity == "warning"
        assert "data.num_workers" in finding.message
        assert "trainer.frames" in finding.message
    many = {f"frames_{n}.yaml": member(n, 2 if n == 4 else 8) for n in (1, 2, 4, 8, 16, 32)}
    severities = {
        name: [one.severity for one in found(report, "CF113")] for name, report in survey(tmp_path, many).items()
    }
    assert severities.pop("frames_4.yaml") == ["warning"]
    assert all(given == ["note"] for given in severities.values())


def test_what_is_no_sweep_is_not_judged_as_one(tmp_path: Path) -> None:
    grid = {f"run_{n:03}.yaml": config(str(10 ** -(n % 3)), batch_size=2 ** (n % 4)) for n in range(1, 13)}
    stages = {f"stage{n}.yaml": config(stage=n, epochs=1 if n < 3 else 2) for n in (1, 2, 3)}
    covarying = {f"bs_{n}.yaml": config(str(n / 1000), batch_size=n) for n in (8, 16, 32)}
    for files in (grid, stages, covarying):
        assert not any(found(report, "CF113") for report in survey(tmp_path, files).values())


@pytest.mark.parametrize(
    ("stem", "value", "wanted"),
    [("lr_1e4", 1e-4, True), ("lr-1e-4", 1e-4, True), ("text_7pct", 0.07, True), ("d_0p1", 0.1, True),
     ("n_2k", 2000, True), ("n_2", 3, False), ("n_2", True, False), ("n_2", "two", False)],
)  # fmt: skip
def test_a_number_in_a_name_says_a_value(stem: str, value: object, wanted: bool) -> None:
    ((_, number, suffix),) = sweeps.numbers(stem)
    assert sweeps.says(number, suffix, value) is wanted


def test_a_config_is_told_of_the_copy_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml.bak").write_text(config("0.1"))
    (report,) = survey(tmp_path, {"base.yaml": config()}).values()
    (finding,) = found(report, "CF114")
    assert finding.severity == "warning"
    assert "optim.lr: 0.001 here, 0.1 there" in finding.message
    (tmp_path / "base.yaml.bak").write_text(config())
    (report,) = survey(tmp_path, {"base.yaml": config()}).values()
    assert [finding.severity for finding in found(report, "CF114")] == ["note"]
    (tmp_path / "base.yaml.bak").write_text("a: [")
    (report,) = survey(tmp_path, {"base.yaml": config()}).values()
    assert [finding.severity for finding in found(report, "CF114")] == ["note"]


def test_a_copy_alone_is_known_by_its_name(tmp_path: Path) -> None:
    (report,) = survey(tmp_path, {"base.yaml.updated": config()}).values()
    (finding,) = found(report, "CF114")
    assert (finding.severity, "base.yaml that" in finding.message) == ("warning", True)
    (tmp_path / "base.yaml").write_text(config("0.1"))
    (report,) = survey(tmp_path, {"base.yaml.updated": config()}).values()
    assert "contradicts base.yaml" in found(report, "CF114")[0].message


def test_an_old_copy_of_a_config_in_a_folder_of_old_ones(tmp_path: Path) -> None:
    reports = survey(tmp_path, {"configs/wide.yaml": config(), "old_configs/wide.yaml": config("0.1")})
    assert [one.severity for report in reports.values() for one in found(report, "CF114")] == ["warning", "warning"]


def test_data_filtered_unlike_what_it_is_validated_on(tmp_path: Path) -> None:
    data = "data: {train_files: data/openvid/*.tar, val_files: data/val/*.tar%s}\n"
    files = {f"{name}.yaml": config(lr) + data % "" for name, lr in (("a", "0.1"), ("b", "0.2"), ("c", "0.3"))}
    files["long.yaml"] = config("0.1") + data % ", min_frames: 30"
    reports = survey(tmp_path, files)
    assert [one.key for one in found(reports["long.yaml"], "CF115")] == ["data.min_frames"]
    assert not found(reports["a.yaml"], "CF115")


def test_the_key_that_only_one_sibling_has_is_what_it_tests(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    words = "max_steps batch_size seed lr trainer optim"
    (tmp_path / "code" / "train.py").write_text("\n".join(f"cfg.{word}" for word in words.split()))
    files = {f"{name}.yaml": config(lr) for name, lr in (("a", "0.1"), ("b", "0.2"), ("c", "0.1"))}
    files["init.yaml"] = config("0.1", init_std=0.02)
    reports = survey(tmp_path, files, source=tmp_path / "code")
    assert [(one.key, one.severity) for one in found(reports["init.yaml"], "CF108")] == [("trainer.init_std", "error")]
    assert not found(reports["a.yaml"], "CF108")


def test_comparing_is_linear_in_the_number_of_configs(tmp_path: Path) -> None:
    """Ten times as many equal configs: pairwise comparing would take a hundred times as long, and hold as many."""

    def compared(count: int) -> tuple[float, int]:
        given = []
        for number in range(count):
            facts, document = preflight.gather(path, project=Project(tmp_path))
            facts.path = str(tmp_path / f"run_{number}.yaml")
            given.append((facts, document))
        begun = time.process_time()
        siblings.compare(given)
        taken = time.process_time() - begun
        return taken, max(len(str(facts.get("siblings.duplicates", ""))) for facts, _ in given)

    path = tmp_path / "a.yaml"
    path.write_text(config(run_name="a", output_dir="ck/a"))
    few, held = compared(60)
    many, held_of_many = compared(600)
    assert many < 40 * few + 0.05
    assert held_of_many < held + 20
