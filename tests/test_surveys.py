"""Many configs judged in two processes: the same reports as in one, in every format, whatever becomes of the other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runctl import preflight, reporting, surveys
from runctl.errors import RunctlError
from runctl.preflight import Options, Report

NATIVE = "name: {name}\ntraining: {{batch_size: {batch}, lr: {lr}}}\ndata: {{simulate: {{games: 4, seconds: 20}}}}\n"
OTHER = "trainer: {{max_steps: 500, batch_size: {batch}, output_dir: out/shared}}\noptim: {{lr: {lr}}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configs of every kind that a long list has: sweeps, copies, shared folders, waivers, secrets, what is no YAML."""
    monkeypatch.setattr(surveys, "LEAST", 2)
    monkeypatch.chdir(tmp_path)
    files = {f"sweep-lr-{lr}.yaml": OTHER.format(batch=8, lr=lr) for lr in (0.1, 0.01, 0.001, 0.0001)}
    files |= {f"native-{name}.yaml": NATIVE.format(name="same", batch=512, lr="3.0e-4") for name in "abc"}
    files |= {
        "baseline.yaml": OTHER.format(batch=64, lr=0.3),
        "broken.yaml": "a: [1\n",
        "waived.yaml": "# runctl: allow CF113 a test of the folder\n" + OTHER.format(batch=9, lr=0.2),
        "secret.yaml": OTHER.format(batch=9, lr=0.2) + "api_key: sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD\n",
        "no-training.yaml": "services: {web: {image: nginx}}\n",
        "wrong.yaml": "name: wrong\ntraining: {batch_size: many}\n",
        "wide.yaml.bak": OTHER.format(batch=1, lr=1),
        "wide.yaml": OTHER.format(batch=2, lr=1),
        "big.yaml": "name: big\nmodel: {d_model: 4096, n_layers: 48}\ncompute: {backend: modal, gpu: T4}\n",
        "runctl.yaml": "policy: {}\nwaivers: [{rule: CK101, paths: ['sweep-*'], reason: these are short}]\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def told(folder: Path, processes: int) -> tuple[dict[str, str], list[Report]]:
    found = list(surveys.survey(preflight.expand([folder]), Options(), processes=processes))
    reports = [one for one in found if isinstance(one, Report)]
    unreadable = [one for one in found if isinstance(one, RunctlError)]
    return {form: reporting.load(form)(reports, unreadable) for form in reporting.names()}, reports


def test_two_processes_say_what_one_says_in_every_format(folder: Path) -> None:
    one, reports = told(folder, 1)
    two, others = told(folder, 2)
    assert two == one
    assert [other.to_json() for report in others for other in report.findings] == [
        other.to_json() for report in reports for other in report.findings
    ]
    assert {"CF108", "CF113", "CK106"} & {finding.rule for report in reports for finding in report.findings}


@pytest.mark.parametrize("moment", ["at once", "after reading"])
def test_a_helper_that_dies_costs_time_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    expected, _ = told(folder, 1)
    if moment == "at once":
        monkeypatch.setattr(surveys, "_help", lambda *given: os._exit(9))
    else:
        own = os.getpid()
        judged = surveys._judged
        monkeypatch.setattr(surveys, "_judged", lambda *given: judged(*given) if os.getpid() == own else os._exit(9))
    found, _ = told(folder, 2)
    assert found == expected
