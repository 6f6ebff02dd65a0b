"""What Modal refuses late or never, said by preflight; and several GPUs in order of preference."""

from __future__ import annotations

from pathlib import Path

import pytest

from runctl import config as configs
from runctl import hardware, preflight
from runctl.backends.modal import place
from runctl.backends.modal.plan import gpus, plan
from runctl.errors import ConfigError
from runctl.estimate import calibration
from runctl.preflight import Report

BIG = "data: {max_games: 22000}\nmodel: {d_model: 1024, n_layers: 12}\n"
LONG = BIG + "training: {epochs: 5, batch_size: 4096, precision: bf16}\ncheckpoint: {every: 10m}\n"


def judged(tmp_path: Path, config: str, project: str = "") -> Report:
    (tmp_path / "runctl.yaml").write_text(project or "{}\n")
    path = tmp_path / "job.yaml"
    path.write_text(config)
    return preflight.preflight(path)


def said(report: Report, rule: str) -> str:
    return "\n".join(finding.message for finding in report.findings if finding.rule == rule)


@pytest.mark.parametrize("written", ['["H100!", "A100-40GB:2"]', '"H100!, A100-40GB:2"'])
def test_gpus_in_order_of_preference_are_one_value_however_they_are_written(tmp_path: Path, written: str) -> None:
    report = judged(tmp_path, f"training: {{steps: 100}}\ncompute: {{backend: modal, gpu: {written}, timeout: 1h}}\n")
    assert report.facts.need("compute.gpu") == "H100!, A100-40GB:2"
    assert gpus(report.facts.need("compute.gpu")) == ("H100!", "A100-40GB:2")
    assert (report.facts.need("gpu").name, report.facts.need("gpu.count")) == ("A100-40GB", 2)  # the least memory
    assert said(report, "GP101") == ""


def test_of_equal_memory_the_first_is_judged_and_the_dearest_is_the_worst_case(tmp_path: Path) -> None:
    compute = "compute: {backend: modal, gpu: [A100-80GB, H100!], cpu: 8, memory: 32GiB, timeout: 10h}\n"
    facts = judged(tmp_path, "training: {steps: 100}\n" + compute).facts
    assert facts.need("gpu").name == "A100-80GB"
    price, worst = facts.need("compute.price").usd, facts.need("estimate.worst_cost").usd
    assert worst == pytest.approx(10 * (price - 2.50 + 3.95))


@pytest.mark.parametrize(
    ("gpu", "why"),
    [
        ("[H100, V100]", "V100-16GB, which modal does not have"),
        ("[H100, 'A10:8']", "8 × A10, but a machine of modal has at most 4"),
        ("[H100, H1000]", "no GPU 'H1000'"),
        ("'H100,'", "names no GPU"),
    ],
)
def test_each_of_several_gpus_must_be_one_that_modal_has(tmp_path: Path, gpu: str, why: str) -> None:
    report = judged(tmp_path, f"training: {{steps: 100}}\ncompute: {{backend: modal, gpu: {gpu}, timeout: 1h}}\n")
    assert why in said(report, "GP101")


@pytest.mark.parametrize("gpu", ["[]", "[1]", "['H100, A10']"])
def test_a_list_of_gpus_holds_names_and_nothing_else(tmp_path: Path, gpu: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(f"name: job\ntraining: {{steps: 1}}\ncompute: {{backend: modal, gpu: {gpu}}}\n")
    with pytest.raises(ConfigError) as refused:
        configs.load(path)
    assert "must name GPUs" in str(refused.value.problems)


def test_several_machines_are_refused_with_the_reason_and_one_is_fine(tmp_path: Path) -> None:
    config = "training: {{steps: 1}}\ncompute: {{backend: modal, gpu: T4, timeout: 1h, nodes: {}}}\n"
    (finding,) = [one for one in judged(tmp_path, config.format(2)).errors if "compute.nodes" in one.message]
    assert "a run is on one machine: one supervisor and one checkpoint folder lead it" in finding.message
    assert finding.line == 2
    assert not judged(tmp_path, config.format(1)).errors


def test_a_swapped_gpu_is_named_wherever_it_stands_in_the_order(tmp_path: Path) -> None:
    compute = "compute: {backend: modal, gpu: ['H100!', A100], timeout: 1h}\n"
    assert "A100: modal may give a A100-80GB" in said(judged(tmp_path, "training: {steps: 1}\n" + compute), "GP104")


def test_attempts_that_go_on_from_each_other_count_together(tmp_path: Path) -> None:
    """One attempt ends after 24 h at most: what counts is all of them, as long as there are checkpoints."""
    compute = "compute: {{backend: modal, gpu: A100-80GB, cpu: 8, timeout: 24h, retries: {}}}\n"
    one = judged(tmp_path, LONG + compute.format(0))
    likely = one.facts.need("estimate.time").likely
    needed = int(likely // 86400)
    assert 1 <= needed <= 9, f"the example must need some attempts, not {likely / 86400:.1f} days"
    assert "compute.timeout is 1d00h, but" in said(one, "TM101")
    many = judged(tmp_path, LONG + compute.format(needed))
    assert said(many, "TM101") == said(many, "TM103") == ""
    if said(many, "TM102"):
        assert f"1d00h for each of {needed + 1} attempts" in said(many, "TM102")
    unsaved = judged(tmp_path, LONG.replace("10m", "never") + compute.format(needed))
    assert said(unsaved, "TM101")
    assert said(unsaved, "TM103")


def test_a_measured_save_is_held_against_the_grace(tmp_path: Path) -> None:
    config = (
        "name: job\ntraining: {steps: 100}\ncompute: {backend: modal, gpu: T4, cpu: 4, memory: 8GiB, timeout: 1h}\n"
    )
    assert said(judged(tmp_path, config), "CK111") == ""
    shape = calibration.shape(configs.load(tmp_path / "job.yaml").config)
    measured = calibration.Measurement(
        "probe", "job", 1, 1.7e9, shape, "A100-80GB", 50, 0.2, 0.01, 512.0, 1e12, 3.0, checkpoint_write_seconds=31.0
    )
    calibration.save(tmp_path, measured)
    told = said(judged(tmp_path, config), "CK111")
    assert "leaves 20s to save (30s of notice), and a save takes about 31s (probe of job, 50 steps)" in told


def test_a_project_says_once_what_all_its_runs_on_modal_have(tmp_path: Path) -> None:
    text = "modal: {volume: team, secrets: [wandb], tags: {team: melee}, python: '3.11', kernels: false}\n"
    report = judged(tmp_path, "name: j\ntraining: {steps: 1}\ncompute: {backend: modal, gpu: T4, timeout: 1h}\n", text)
    assert said(report, "GP106") == ""
    assert report.facts.project is not None
    where = place.of(report.facts.project)
    config = report.facts.need("config.whole")
    asked = plan(config, run="j", attempt=1, digest="d" * 64, version="1.0", grace_seconds=30, place=where)
    assert asked.tags == {"runctl.run": "j", "runctl.config": "d" * 12, "runctl.version": "1.0", "team": "melee"}
    assert (asked.volume["name"], asked.secrets) == ("team", ("wandb",))
    assert set(place.OWN_TAGS) == asked.tags.keys() - {"team"}


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("{tags: {runctl.run: x}}", "runctl's own"),
        ("{volume: 'a b'}", "takes for no name"),
        ("{volume_version: 3}", "it can be 1 or 2"),
        ("{python: 3.1}", "no version of Python"),
        ("{kernels: maybe}", "true or false"),
        ("{packages: einops}", "must be a list"),
        ("[volume]", "must be a mapping"),
    ],
)
def test_what_is_wrong_in_the_modal_section_is_said_with_its_line(tmp_path: Path, section: str, why: str) -> None:
    config = "name: j\ntraining: {steps: 1}\ncompute: {backend: modal, gpu: T4, timeout: 1h}\n"
    told = said(judged(tmp_path, config, f"policy: {{}}\nmodal: {section}\n"), "GP106")
    assert why in told
    assert "runctl.yaml:2:" in told


def test_a_secret_in_place_of_its_name_is_not_repeated(tmp_path: Path) -> None:
    config = "name: j\ntraining: {steps: 1}\ncompute: {backend: modal, gpu: T4, timeout: 1h}\n"
    report = judged(tmp_path, config, "modal: {secrets: ['hush hush 123']}\n")
    assert "no name of a secret" in said(report, "GP106")
    assert "hush" not in said(report, "GP106")


@pytest.mark.parametrize(
    ("encoded", "there"),
    [
        ("data/melee", "datasets/data/melee"),
        ("./data//melee/", "datasets/data/melee"),
        ("/srv/sets/melee", "datasets/melee"),
        ("../other/melee", "datasets/melee"),
        ("data/../../melee", "datasets/melee"),
    ],
)
def test_a_dataset_lies_below_datasets_by_its_path_in_the_project(encoded: str, there: str) -> None:
    assert place.dataset(encoded) == there


def test_the_names_that_modal_takes_are_those_that_the_catalogue_knows() -> None:
    assert hardware.judged("H100!, H200")[0].name == "H100"
