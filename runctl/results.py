"""What a run measured, as one number with a noise band, and whether two such numbers may be compared at all.

One statistic for all: the last evaluation, the best, or the mean of the last N. The best of one run against the last of
another is how an inferior window length once won; here the statistic is named and taken of every run alike.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import record, status
from runctl.cards.contract import Metric
from runctl.fields import number, whole
from runctl.gathering import sweeps
from runctl.light import dataclass
from runctl.supervisor.summary import validation_rows

FEWEST = 5  # evaluations that have a spread
MOST = 8  # of the last evaluations that it is taken of
# Student's t, two-sided 95 %, by degrees of freedom; beyond the table the normal's 1.96
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_FREE = ("name", "card", "tracking", "budget", "guards", "compute", "checkpoint", "training.seed")
_LOSS = ("loss_weights", "training.delta_target")  # what a loss means besides


@dataclass(frozen=True)
class Noise:
    """A value would lie within ± `band` (95 %) if nothing but chance differed; `basis` says what chance."""

    band: float
    basis: str

    def to_json(self) -> dict[str, Any]:
        return {"band": self.band, "basis": self.basis}


@dataclass(frozen=True)
class Result:
    """One statistic of one metric of one run. `value` is None where it measured none, and `why` says so."""

    run: str
    state: str
    metric: Metric
    value: float | None
    step: int | None
    evaluations: int
    noise: Noise | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "state": self.state,
            "metric": self.metric.name,
            "statistic": self.metric.statistic,
            "value": self.value,
            "step": self.step,
            "evaluations": self.evaluations,
            "noise": self.noise.to_json() if self.noise else None,
            "why": self.why or None,
        }


def of_run(run: record.RunDir, metric: Metric, project: Path | None = None) -> Result:
    """The statistic of a run; its noise band is of repeated seeds in the project where there are any."""
    state = status.observe(run).state
    rows = [(whole(row, "step"), number(row, metric.name)) for row in validation_rows(run)]
    series = [(step, value) for step, value in rows if step is not None and value is not None]
    if not series:
        return Result(run.name, state, metric, None, None, 0, None, f"it measured no {metric.name}")
    step, value = _statistic(series, metric)
    noise = of_seeds(run, metric, project) if project is not None else None
    noise = noise or of_evaluations([value for _, value in series], metric)
    return Result(run.name, state, metric, value, step, len(series), noise)


def of_evaluations(values: Sequence[float], metric: Metric) -> Noise | None:
    """From the run's own last evaluations, by second differences, which a steady fall does not move (Gasser, Sroka and
    Jennen-Steinmetz 1986). It says how unsteady the evaluations are, and nothing of other seeds."""
    last = values[-MOST:]
    if len(last) < FEWEST or not all(map(math.isfinite, last)):
        return None
    bends = [before - 2 * here + after for before, here, after in zip(last, last[1:], last[2:], strict=False)]
    spread = math.sqrt(sum(bend * bend for bend in bends) / (6 * len(bends)))
    band = t(len(bends)) * spread / math.sqrt(min(metric.last or 1, len(values)))
    return Noise(band, f"its own last {len(last)} evaluations; other seeds may differ by more")


def of_seeds(run: record.RunDir, metric: Metric, project: Path) -> Noise | None:
    """From runs of the same config but its seed that succeeded as well."""
    own = _without_seed(run)
    if own is None:
        return None
    found: dict[Any, float] = {}  # of one seed the last one counts: the same again is no other chance
    for other in record.list_runs(project):
        if _without_seed(other) != own:
            continue
        one = of_run(other, metric) if other.name != run.name else of_run(run, metric)
        if one.value is not None and one.state == "succeeded":
            found[(_config(other) or {}).get("training.seed")] = one.value
    if len(found) < 2:
        return None
    band = t(len(found) - 1) * statistics.stdev(found.values())
    return Noise(band, f"{len(found)} runs that differ in their seed only")


def t(freedom: int) -> float:
    """Student's t for a two-sided 95 % interval."""
    return _T[freedom - 1] if 1 <= freedom <= len(_T) else 1.96


def together(one: Noise | None, other: Noise | None) -> float | None:
    """The band of the difference of two values; None where one of them is unknown."""
    return None if one is None or other is None else math.hypot(one.band, other.band)


def incomparable(one: record.RunDir, other: record.RunDir, metric: str) -> str | None:
    """Why the metric of two runs may not be compared: other data, or another definition of it. None where it may."""
    mine, theirs = _config(one), _config(other)
    if mine is None or theirs is None:
        return f"the config of {one.name if mine is None else other.name} is not on record"
    keys = ["task", "data", "training.validation_windows"]
    if "loss" in metric:
        keys += _LOSS
    for key in keys:
        for name in dict.fromkeys((*_under(mine, key), *_under(theirs, key))):
            if name != "data.max_games" and mine.get(name) != theirs.get(name):
                what = "another dataset" if name.startswith("data") else f"another definition of {metric}"
                return f"{what}: {name} is {mine.get(name)} in {one.name} and {theirs.get(name)} in {other.name}"
    frames = [next((number(row, "val/frames") for row in validation_rows(run)), None) for run in (one, other)]
    same_windows = mine.get("model.context_len") == theirs.get("model.context_len")
    if None not in frames and frames[0] != frames[1] and same_windows:
        return f"other held-out frames: {frames[0]:,.0f} in {one.name} and {frames[1]:,.0f} in {other.name}"
    return None


def better(value: float, than: float, mode: str) -> bool:
    return value < than if mode == "min" else value > than


def _statistic(series: Sequence[tuple[int, float]], metric: Metric) -> tuple[int, float]:
    last = metric.last
    if last is None:
        pick = min if metric.mode == "min" else max
        return pick(series, key=lambda one: one[1])
    chosen = series[-last:]
    return series[-1][0], statistics.fmean(value for _, value in chosen)


def _config(run: record.RunDir) -> Mapping[str, Any] | None:
    found = record.content(run).get("config")
    return sweeps.flat(found) if isinstance(found, dict) else None


def _under(flat: Mapping[str, Any], key: str) -> list[str]:
    return [name for name in flat if name == key or name.startswith(f"{key}.")]


def _without_seed(run: record.RunDir) -> str | None:
    flat = _config(run)
    if flat is None:
        return None
    return repr(sorted((key, value) for key, value in flat.items() if not key.startswith(_FREE)))
