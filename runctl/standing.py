"""How far a run is, from its newest checkpoint: steps and epochs done of the total, in words. Free of torch.

Totals are totals of the run, never additions: who resumes a run of three epochs with two done trains one more.
"""

from __future__ import annotations

from typing import Any

from runctl import record
from runctl.config.model import Training
from runctl.fields import text, whole
from runctl.light import dataclass
from runctl.train import schedule


@dataclass(frozen=True)
class Standing:
    """Where a checkpoint stands: `windows` are those of an epoch and `step_windows` those of a step as it was written,
    `dataset` names what it was trained on; None where nothing says so."""

    step: int
    position: schedule.Base
    base: schedule.Base
    windows: int | None = None
    step_windows: int | None = None
    dataset: str | None = None

    def plan(self, training: Training) -> schedule.Plan | None:
        """The totals of a run that goes on from here with `training`; None where the data's size is unknown."""
        if self.windows is None or self.step_windows is None:
            return None
        same = training.batch_size * training.accumulation == self.step_windows
        return schedule.plan(training, self.windows, self.base if same else self.position)


def read(run: record.RunDir, checkpoint: dict[str, Any] | None) -> Standing:
    """The standing of a whole checkpoint of `summary.checkpoints`; of None, the start."""
    if checkpoint is None:
        return Standing(0, schedule.Base(), schedule.Base())
    folder, step = run.path / str(checkpoint["path"]), int(checkpoint["step"])
    state = record.read_object(folder / "state.json")
    identity = record.read_object(folder / "manifest.json").get("identity")
    epoch, offset = whole(state, "epoch"), whole(state, "offset")
    sizes = [_number(identity, key) for key in ("training.batch_size", "training.accumulation")]
    windows = _number(identity, "data.train_windows")
    if epoch is None or offset is None or windows is None or sizes[0] is None or sizes[1] is None:
        return Standing(step, schedule.Base(), schedule.Base())
    given = state.get("base")
    known = isinstance(given, list) and len(given) == 3 and all(type(one) is int for one in given)
    base = schedule.Base(*given) if known and isinstance(given, list) else schedule.Base()
    dataset = text(identity, "dataset")
    return Standing(step, schedule.Base(step, epoch, offset), base, windows, sizes[0] * sizes[1], dataset)


def words(training: Training, standing: Standing, total: int | None) -> str:
    """`2 of 3 epochs done, 1 to go; step 200 of 300`; of a total in steps, `step 200 of 300 done, 100 to go`. `total`
    is in steps, where it is known otherwise."""
    step, plan = standing.step, standing.plan(training)
    if training.steps is None and plan is not None:
        goal = 1.0 if training.epochs is None else training.epochs
        done = goal if step == plan.total_steps else plan.epoch(step)
        noun = "epoch" if goal == 1 else "epochs"
        said = f"{amount(done)} of {amount(goal)} {noun} done, {amount(max(0.0, goal - done))} to go"
        return f"{said}; step {step:,} of {plan.total_steps:,}"
    if total is None:
        return f"step {step:,} done"
    return f"step {step:,} of {total:,} done, {max(0, total - step):,} to go"


def amount(epochs: float) -> str:
    """Epochs with at most two digits, cut and not rounded: 2.999 of 3 are not done."""
    return f"{int(epochs * 100 + 1e-6) / 100:g}"


def _number(identity: Any, key: str) -> int | None:
    """A number in a manifest's identity, which holds texts; None for what is none, or is not above 0."""
    said = text(identity, key) or ""
    return int(said) if said.isdecimal() and len(said) < 18 and int(said) > 0 else None
