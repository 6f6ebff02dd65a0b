"""runctl's own configs → facts: every setting with its origin, and what the dataset's manifest tells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache, partial
from typing import Any

from runctl import config as configs
from runctl.adapters import native_dataset
from runctl.config import LoadedConfig, RunConfig
from runctl.errors import ConfigError
from runctl.facts import DEFAULT, Fact, Facts, Source
from runctl.light import replace
from runctl.project import Project
from runctl.repeats import Repeats
from runctl.tasks.worldmodel import encoding as encodings
from runctl.tasks.worldmodel import metric_names
from runctl.yamldoc import Document


def read(document: Document, overrides: Sequence[str], project: Project, facts: Facts) -> None:
    """Put the facts of one config. Raises UsageError where the file holds no mapping, or an override is none.

    An invalid config yields `config.problems`, and every other fact is unknown because of them.
    """
    try:
        loaded = configs.validate(document, overrides)
    except ConfigError as error:
        facts.otherwise = "the config is not valid"
        facts.put("config.problems", error.problems, "file")
        return
    facts.put("config.problems", (), "file")
    facts.put("config.whole", loaded.config, "file")
    _settings(loaded, facts)
    if loaded.config.task == "command":
        facts.otherwise = "task: command runs a program of your own"
        for name in [name for name in facts.values if name.partition(".")[0] in _OF_THE_MODEL]:
            facts.miss(name, facts.otherwise)
        from runctl.adapters import native_declares  # most configs declare no model

        native_declares.read(loaded.config.declares, facts)
        return
    facts.put("run.metrics", metric_names.NAMES, "derived", "the task's validation")
    facts.put("training.tf32", False, "derived", "runctl's trainer keeps fp32 products exact")
    native_dataset.read(loaded.config, project, facts)
    kind = "encoded" if loaded.config.data.encoded else "simulated"
    facts.put("data.startup", f"{kind} {facts.get('data.frames') or 0}", "derived", "data")
    _length(loaded.config, facts)
    _model(loaded.config, facts, project)


_OF_THE_MODEL = {"data", "encoding", "model", "training", "loss_weights", "checkpoint"}


def _settings(loaded: LoadedConfig, facts: Facts) -> None:
    """Each setting of the config under its dotted key."""
    values = facts.values
    values.update(_unwritten())
    for key, value, kind, place in loaded.given:
        values[key] = Fact(value, DEFAULT if kind == "default" else Source(kind, "", place))
        values.pop(key.rpartition(".")[0], None)  # what stands there for a section that need not be there


@cache
def _unwritten() -> dict[str, Fact]:
    """The settings of a config that says nothing: most of those of any config, made once for all."""
    empty = replace(configs.validate(Document("", "", {"name": "empty"})), plain=False)
    return {key: Fact(value, DEFAULT) for key, value, *_ in empty.given}


def _length(config: RunConfig, facts: Facts) -> None:
    """Steps and epochs, counted by the arithmetic of the training loop itself."""
    from runctl.train.schedule import plan  # free of torch; imported here because train/ stands above this room

    training = config.training
    asked = training.batch_size * training.accumulation
    windows = facts.get("data.train_windows")
    facts.put("run.step_asked", asked, "derived", "batch_size × accumulation")
    facts.put("run.step_examples", min(asked, windows or asked), "derived", "batch_size × accumulation")
    if windows is not None:
        totals = plan(training, max(1, windows))
        detail = facts.source("data.train_windows").detail  # type: ignore[union-attr]
        facts.put("run.steps_per_epoch", totals.steps_per_epoch, "derived", detail)
        facts.put("run.steps", totals.total_steps, "derived", "training.steps" if training.steps else detail)
        facts.put("run.epochs", totals.epochs, "derived", detail)
        return
    why = "the number of training windows is unknown: " + facts.why("data.train_windows")
    facts.miss("run.steps_per_epoch", why)
    facts.miss("run.epochs", why)
    facts.miss("run.steps", why)
    if training.steps is not None:
        facts.put("run.steps", training.steps, "derived", "training.steps")
    else:
        facts.put("run.epochs", training.epochs or 1.0, "derived", "training.epochs")


def _model(config: RunConfig, facts: Facts, project: Project) -> None:
    """The model's size and widths, from its architecture."""
    from runctl.estimate import calibration

    facts.put("encoding.whole", config.encoding, "derived", "encoding")
    facts.put("model.whole", config.model, "derived", "model")
    Repeats(facts, project).derive(_sizes, project)
    facts.derive("calibration.shape", "the config", lambda: _same(*calibration.shape(config).items()))
    facts.derive("run.processes", "compute.gpu, training.processes", lambda: calibration.sharing(config))


def _sizes(facts: Facts, project: Project) -> None:
    from runctl.estimate import parameters

    encoding, model, every = facts.need("encoding.whole"), facts.need("model.whole"), facts.get("training.targets")
    for name, count in (("parameters", parameters.count), ("flops", partial(parameters.flops, every=every == "all"))):
        try:
            facts.put(f"model.{name}", count(encoding, model), "derived", "the architecture")
        except (ValueError, ArithmeticError) as error:
            facts.miss(f"model.{name}", f"the model cannot be built: {error}")
    if facts.get("training.activation_checkpointing") and facts.get("model.flops"):
        again = parameters.recompute_flops(encoding, model)
        facts.put("model.recompute_flops", again, "derived", "training.activation_checkpointing")
    facts.put("model.inputs", parameters.inputs(encoding), "derived", "encoding")
    facts.put("model.outputs", parameters.outputs(encoding), "derived", "encoding")
    facts.put("encoding.keys", encodings.dataset_keys(encoding), "derived", "encoding")
    facts.put("encoding.digest", encodings.dataset_digest(encoding), "derived", "encoding")
    facts.put("encoding.layout", encodings.columns(encoding), "derived", "encoding")


@lru_cache(maxsize=1024)
def _same(*items: tuple[str, Any]) -> dict[str, Any]:
    """One mapping for equal shapes, so that what follows from it is seen to be the same (`repeats.py`)."""
    return dict(items)
