"""What a resume would change of a run's config: every key with its old and new value, its weight, and what it means.

Three weights: `refused` is another run (its architecture, encoding, data or order of the data), `accepted` alters what
is learned or spent and is only done where a person says so, `free` alters neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runctl import config as configs
from runctl import hardware, yamldoc
from runctl.config.load import validate
from runctl.config.model import Training
from runctl.errors import UsageError
from runctl.fields import text, whole
from runctl.light import asdict, dataclass, replace
from runctl.standing import Standing
from runctl.train import schedule, sharing
from runctl.units import counted

REFUSED = {
    "task": "another task is another run",
    "data": "the data and its order would be others than those that the run has read",
    "encoding": "another encoding is another model",
    "model": "another architecture has other weights",
    "training.seed": "another seed is another order of the data, and the run is within one",
    "training.delta_target": "the weights so far predict another target",
    "checkpoint.metric": "the best checkpoint so far was chosen by the old one",
    "checkpoint.mode": "the best checkpoint so far was chosen by the old one",
    "compute.backend": "its records and checkpoints lie where it was launched",
}
FREE = {
    "name": "a run keeps its name",
    "card": "",
    "tracking": "",
    "declares": "only for estimates",
    "notices": "",
    "model.chunk_size": "the same numbers, another memory",
    "training.log_every": "how often metrics are written",
    "training.validate_every": "how often it is validated",
    "training.threads": "losses may differ in their last digits",
    "training.device": "losses may differ in their last digits",
    "training.activation_checkpointing": "the same numbers, another memory",
    "training.kernel": "losses may differ in their last digits",
    "checkpoint": "how often and how many checkpoints are kept",
    "compute": "where and how long it may run",
}
MEANT = {
    "model.dropout": "the steps from here on are trained otherwise",
    "training.weight_decay": "the steps from here on are trained otherwise",
    "training.grad_clip": "the steps from here on are trained otherwise",
    "training.precision": "the steps from here on are computed otherwise",
    "training.processes": "each process draws its own random numbers: dropout and corruption go on otherwise",
    "training.scheduled_sampling": "the steps from here on are trained otherwise",
    "training.targets": "training losses before and after cannot be compared; those of validations can",
    "training.validation_windows": "losses of validations before and after are of other windows",
    "loss_weights": "losses before and after cannot be compared",
    "budget": "what may be spent, all attempts together",
    "guards": "what ends the run or is noted",
    "command": "the program is started otherwise",
}
_SHARED = "the same windows in every step; losses may differ in their last digits"
CURVE = ("training.lr", "training.min_lr_ratio", "training.warmup_steps")
LENGTH = ("training.epochs", "training.steps")
BATCH = ("training.batch_size", "training.accumulation")


@dataclass(frozen=True)
class Change:
    """One key that a resume would change."""

    key: str
    old: Any
    new: Any
    weight: str
    means: str

    @property
    def words(self) -> str:
        return f"{self.key} {shown(self.old)} → {shown(self.new)}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def wanted(effective: Mapping[str, Any], path: Path | None, settings: Sequence[str], name: str) -> configs.RunConfig:
    """The config that a resume asks for: a file's, else the run's own (as `to_effective` gives it), with `settings`
    (`key.path=value`) laid over it. Raises UsageError and ConfigError as a launch does."""
    document = yamldoc.load(path) if path is not None else own(effective, name)
    return validate(document, settings).config.model_copy(update={"name": name})


def own(effective: Mapping[str, Any], name: str) -> yamldoc.Document:
    """The config of a run as a file that preflight can read."""
    return yamldoc.parse(json.dumps(effective, indent=2, ensure_ascii=False) + "\n", f"{name}.json")


def between(old: Mapping[str, Any], new: Mapping[str, Any], standing: Standing | None = None) -> tuple[Change, ...]:
    """Every key in which two effective configs differ, the weightiest first; the name of a run is its own."""
    before, after = _flat(old), _flat(new)
    found = []
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key), after.get(key)
        if one != other and key != "name":
            weight, means = _weighed(key)
            if key == "training.processes" and not sharing.draws(new):
                weight, means = "free", _SHARED
            if key == "compute.gpu":
                weight, means = _gpus(old, new)
            found.append(Change(key, one, other, weight, means or _means(key, old, new, standing)))
    return tuple(sorted(found, key=lambda change: ("refused", "accepted", "free").index(change.weight)))


def _gpus(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, str]:
    """Other GPUs are free; another number of them is, too, where it changes nothing that is learned: runctl's own
    trainer reads the same windows in every step, but each of its processes draws its own random numbers. What a program
    of one's own makes of more GPUs is not known here: mostly a larger batch."""
    before, after = (max(1, count(config)) for config in (old, new))  # none at all is one process, too
    if before == after:
        return "free", FREE["compute"]
    if new.get("task") == "command":
        return "accepted", f"its program finds {counted(after, 'GPU')}, {before} before: its batch may be another"
    if drawn := sharing.draws(new):
        said = f"{after} processes share the run, {before} before, each with its own random numbers"
        return "accepted", f"{said}: {drawn} go on otherwise"
    return "free", _SHARED


def count(config: Mapping[str, Any]) -> int:
    """How many GPUs a config asks for, of several choices the most; 0 without any."""
    gpu = text(config.get("compute"), "gpu")
    try:
        return max((hardware.split(one.strip())[1] for one in gpu.split(",")), default=0) if gpu else 0
    except UsageError:  # preflight says what is wrong with it
        return 0


def moved(change: Change, project: Path, dataset: str | None) -> Change:
    """The change of `data.encoded`, judged by what lies there: the dataset that the checkpoint was trained on
    (`dataset`, as its manifest names it) may lie elsewhere."""
    from runctl import record
    from runctl.tasks.worldmodel import encoding

    try:
        there = encoding.contents(record.read_object(project / str(change.new) / "manifest.json"))
    except (KeyError, TypeError):
        there = None
    if dataset is None or there != dataset:
        return change
    return replace(change, weight="free", means="the same games in another place")


def shown(value: Any) -> str:
    """A value as YAML writes it, cut where it is long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


def halved(effective: Mapping[str, Any]) -> dict[str, Any] | None:
    """The config with a smaller batch and as many more passes, the same windows in every step; None for a batch of one
    window. A batch is cut by its smallest factor: mostly 2."""
    training = effective.get("training")
    batch, passes = whole(training, "batch_size"), whole(training, "accumulation")
    if batch is None or passes is None or batch < 2 or not isinstance(training, Mapping):
        return None
    by = next(factor for factor in range(2, batch + 1) if batch % factor == 0)
    return {**effective, "training": {**training, "batch_size": batch // by, "accumulation": passes * by}}


def _weighed(key: str) -> tuple[str, str]:
    """The weight of a key and what its change means, by its longest part that is known."""
    parts = key.split(".")
    for length in range(len(parts), 0, -1):
        part = ".".join(parts[:length])
        for weight, table in (("refused", REFUSED), ("free", FREE), ("accepted", MEANT)):
            if part in table:
                return weight, table[part]
    return "accepted", ""


def _means(key: str, old: Mapping[str, Any], new: Mapping[str, Any], standing: Standing | None) -> str:
    """What a change of length, batch or rate does from here on."""
    trainings = [configs.from_effective(dict(config)).training for config in (old, new)]
    plans = [standing.plan(training) if standing else None for training in trainings]
    if key in BATCH:
        reads = [training.batch_size * training.accumulation for training in trainings]
        if reads[0] == reads[1]:
            return f"a step reads the same {reads[0]:,} windows, in other passes"
        at = standing.position if standing and plans[0] else None
        goes_on = f"; epoch {at.epoch + 1} goes on at its window {at.offset + 1:,}" if at else ""
        return f"a step reads {reads[1]:,} windows, {reads[0]:,} before{goes_on}"
    if key in (*CURVE, *LENGTH) and standing is not None:
        rates = [_next_rate(training, plan, standing.step) for training, plan in zip(trainings, plans, strict=True)]
        if None not in rates:
            return f"the next step's learning rate is {rates[1]:.4g}, {rates[0]:.4g} without the change"
    return "the steps from here on are trained otherwise"


def _next_rate(training: Training, plan: schedule.Plan | None, step: int) -> float | None:
    if plan is None and training.steps is None:
        return None
    plan = plan or schedule.plan(training, 1)
    return schedule.learning_rate(training, plan, step + 1)


def _flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
