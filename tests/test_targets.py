"""`training.targets` and `training.kernel` as a run has them: what is trained on, what is measured, what is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from test_resume_worldmodel import config  # noqa: E402

from runctl import changes, preflight, record  # noqa: E402
from runctl.config import to_effective  # noqa: E402
from runctl.errors import RunctlError  # noqa: E402
from runctl.tasks.worldmodel import losses, task  # noqa: E402

torch.set_num_threads(1)


def build(folder: Path, **training: Any) -> Any:
    made = config(steps=2)
    wanted = {"dropout": 0.0}
    chosen = made.model_copy(
        update={
            "training": made.training.model_copy(update={"scheduled_sampling": 0.0, **training}),
            "model": made.model.model_copy(update=wanted),
        }
    )
    torch.manual_seed(0)
    run = record.RunDir(folder)
    return task.build(chosen, project=folder, run=run, device=torch.device("cpu"), report=lambda _: None)


def test_a_run_trains_on_every_position_and_is_measured_on_the_last_one(tmp_path: Path) -> None:
    found = {}
    for targets in ("last", "all"):
        job = build(tmp_path / targets, targets=targets)
        batch = job.batch(torch.arange(40), validation=False)
        given = {"generator": torch.Generator(), "progress_epochs": 0.0}
        with torch.no_grad():
            trained, held_out = (job.loss(batch, train=train, **given)[0] for train in (True, False))
            every = losses.loss(job.model(batch, every=True), batch, job.config.loss_weights, job.model.targets)[0]
            measured = job.metrics()
            measured.update(batch)
        found[targets] = (
            trained,
            held_out,
            every,
            measured.compute(),
            sum(one.numel() for one in job.model.parameters()),
        )
        assert job.kernel == "eager"
    last, every = found["last"], found["all"]
    assert last[3] == every[3]  # the same weights by the seed, so the same metrics, name by name
    assert last[4] == every[4]
    assert torch.equal(last[0], last[1])
    assert torch.equal(last[0], every[1])
    assert torch.equal(every[0], every[2])
    assert every[0] != last[0]


def test_a_path_that_cannot_run_here_ends_the_run_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunctlError, match="trains on the CPU") as refused:
        build(tmp_path, kernel="mamba_ssm")
    assert "training.kernel: auto" in refused.value.hint


def test_a_compiler_that_fails_is_an_error_of_the_start_with_what_to_do(tmp_path: Path, monkeypatch) -> None:
    from runctl.models import kernels

    def broken(*_: Any) -> Any:
        raise RuntimeError("no C++ compiler was found\nand more")

    monkeypatch.setitem(kernels.PATHS, "compiled", broken)
    with pytest.raises(RunctlError, match=r"torch\.compile failed: no C\+\+ compiler was found$") as refused:
        build(tmp_path, kernel="compiled")
    assert "training.kernel: eager" in refused.value.hint


def test_compiling_belongs_to_the_start_and_is_told_with_its_seconds(tmp_path: Path, monkeypatch) -> None:
    from runctl.models import kernels

    seen = []

    def counted(*given: Any) -> Any:
        seen.append(given)
        return kernels.eager(*given)

    monkeypatch.setitem(kernels.PATHS, "compiled", counted)
    job = build(tmp_path, kernel="compiled")
    assert len(seen) == len(job.model.blocks)  # before any step
    assert job.kernel.startswith("compiled (torch ")
    assert job.kernel.endswith(" s")
    assert all(weights.grad is None for weights in job.model.parameters())


@pytest.mark.parametrize(
    ("training", "error"),
    [
        ("{steps: 100, kernel: mamba_ssm, device: cpu}", True),
        ("{steps: 100, kernel: compiled, activation_checkpointing: true}", True),
        ("{steps: 100, kernel: compiled, targets: all}", False),
    ],
)
def test_preflight_refuses_a_kernel_that_cannot_be_and_says_which_can(
    training: str, error: bool, tmp_path: Path
) -> None:
    path = tmp_path / "one.yaml"
    path.write_text(f"data: {{simulate: {{games: 4}}}}\ntraining: {training}\n")
    report = preflight.preflight(path)
    found = [finding for finding in report.findings if finding.rule == "EN105"]
    assert [(one.severity, one.fix.startswith("set training.kernel: ")) for one in found] == [("error", True)] * error


@pytest.mark.parametrize(("key", "weight"), [("kernel", "free"), ("targets", "accepted")])
def test_a_resume_may_change_the_kernel_freely_and_the_targets_with_consent(key: str, weight: str) -> None:
    old = to_effective(config(steps=2))
    new = {**old, "training": {**old["training"], key: {"kernel": "eager", "targets": "all"}[key]}}
    (change,) = changes.between(old, new)
    assert (change.key, change.weight) == (f"training.{key}", weight)
