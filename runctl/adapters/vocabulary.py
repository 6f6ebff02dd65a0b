"""The facts that an adapter may give, each with the kind of its value: the words that rules and adapters share.

`declares.*` are the fields of `config.Declares`: what a trainer's config says of its model's family and widths.
A kind turns what a config wrote into the fact's value, or raises ValueError saying what is accepted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from runctl.config.declares import FAMILIES, OPTIMIZERS, Declares, parse_count
from runctl.config.every import Every
from runctl.light import dataclass, pattern
from runctl.units import parse_bytes, parse_duration

MAX_NUMBER = 10**18
EITHER = "bf16-or-fp16"
_PRECISIONS = {
    "fp32": ("fp32", "float32", "32", "32-true", "torch.float32", "f32", "full", "no"),
    "bf16": ("bf16", "bfloat16", "bf16-mixed", "bf16-true", "amp_bf16", "torch.bfloat16", "mixed_bf16"),
    "fp16": ("fp16", "float16", "half", "16", "16-mixed", "16-true", "amp_fp16", "torch.float16", "f16"),
    "fp8": ("fp8", "float8", "amp_fp8", "fp8-hybrid", "transformer-engine"),
}
_PRECISION = {spelling: name for name, spellings in _PRECISIONS.items() for spelling in spellings}
_NAMED = ("path", "name", "file", "files", "data_files", "glob", "dataset", "repo_id", "url")
_BATCHES = pattern(r"\s*(\d+)\s*(ba|ep)\s*")  # as MosaicML's composer counts
_NUMBER = pattern(r"[-+]?(\d[\d_]*)?\.?\d[\d_]*([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Amount:
    """A number of what only the rest of the config turns into optimizer steps (`adapters/settle.py`): `share` (of the
    whole run), `micro_steps`, `samples`, `tokens` or `epochs`."""

    value: float
    unit: str


@dataclass(frozen=True)
class Word:
    """One fact: how its value is read, and what it means."""

    parse: Callable[[Any], Any]
    meaning: str

    @property
    def nested(self) -> bool:
        """Whether a section or a list can be its value."""
        return self.parse in (texts, presence, section)


def number(value: Any) -> float:
    """A finite number; text such as `1e-4` or `1_000` is read as one."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value.replace("_", ""))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{_shown(value)} is no number")
    if not math.isfinite(value) or abs(value) > MAX_NUMBER:
        raise ValueError(f"{_shown(value)} is no usable number")
    return value


def whole(value: Any) -> int:
    """A whole number, zero or more; `2e4` and `20_000` are."""
    found = number(value)
    if found != int(found) or found < 0:
        raise ValueError(f"{_shown(value)} is no whole number")
    return int(found)


def count(value: Any) -> int:
    """A whole number above zero."""
    found = whole(value)
    if found == 0:
        raise ValueError("it is 0")
    return found


def switch(value: Any) -> bool:
    """A yes or no; text that YAML does not read as one is refused, since every text is true to a program."""
    if value is None:
        return False
    if not isinstance(value, bool):
        raise ValueError(f"{_shown(value)} is neither true nor false")
    return value


def text(value: Any) -> str:
    if isinstance(value, dict | list) or value is None:
        raise ValueError(f"{_shown(value)} is no text")
    return str(value)


def texts(value: Any) -> tuple[str, ...]:
    """One text or a list of them, or of mappings that name a path; a section that names none is refused."""
    items = value if isinstance(value, list) else [value]
    found = (
        next((item[key] for key in _NAMED if key in item), None) if isinstance(item, dict) else item for item in items
    )
    named = tuple(item for item in found if isinstance(item, str) and item.strip())
    if not named and value:
        raise ValueError(f"{_shown(value)} names nothing")
    return named


def section(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{_shown(value)} is no section")
    return value


def one_of(known: tuple[str, ...]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in known:
            raise ValueError(f"{_shown(value)} is none of {', '.join(known)}")
        return str(value)

    return check


def precision(value: Any) -> str:
    """One of four, or what adapters say of `auto`, settled by what the GPU has."""
    if value == EITHER:
        return EITHER
    found = _PRECISION.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{_shown(value)} is no precision that runctl knows: {', '.join(_PRECISIONS)}")
    return found


def optimizer_steps(value: Any) -> int | Amount:
    """A whole number of steps, or an amount that is settled later."""
    return value if isinstance(value, Amount) else whole(value)


def cadence(value: Any) -> Every | Amount | None:
    """How often: an `Every`, or None for never."""
    if value is None or value is False or value == "never" or (not isinstance(value, str) and value == 0):
        return None
    if isinstance(value, Every | Amount):
        return value
    if isinstance(value, float) and value == int(value):
        value = int(value)
    if isinstance(value, str) and (match := _BATCHES.fullmatch(value)):
        return Every(steps=int(match[1])) if match[2] == "ba" else Every(epochs=float(match[1]))
    return Every.model_validate(value)


def share(value: Any) -> float:
    """A number from 0 to 1."""
    found = number(value)
    if not 0 <= found <= 1:
        raise ValueError(f"{_shown(value)} is no share of a whole, from 0 to 1")
    return found


def parameters(value: Any) -> int:
    return count(parse_count(value))


def presence(value: Any) -> bool:
    """Whether anything is named here: a path, a list, a section."""
    if isinstance(value, str) and value.lower() in ("none", "null", "false", "no", "off"):
        return False
    return value not in (None, False, "", [], {}, 0)


WORDS: dict[str, Word] = {
    "training.batch_size": Word(count, "examples on one device in one forward pass"),
    "training.global_batch": Word(count, "examples in one optimizer step, on all devices together"),
    "training.step_tokens": Word(count, "tokens in one optimizer step, on all devices together"),
    "training.accumulation": Word(count, "forward passes in one optimizer step"),
    "training.steps": Word(whole, "optimizer steps in total"),
    "training.micro_steps": Word(whole, "forward passes in total, of which `accumulation` make a step"),
    "training.epochs": Word(number, "passes over the data in total"),
    "training.samples": Word(count, "examples trained on in total"),
    "training.tokens": Word(count, "tokens trained on in total"),
    "training.time_limit": Word(parse_duration, "seconds after which the trainer itself ends the run"),
    "training.precision": Word(precision, "fp32, bf16, fp16 or fp8"),
    "training.tf32": Word(switch, "fp32 products on the tensor cores"),
    "training.loss_scaling": Word(switch, "the loss is scaled, as fp16 needs"),
    "training.activation_checkpointing": Word(switch, "blocks are run again in the backward pass"),
    "training.reentrant": Word(switch, "activation checkpointing of the re-entrant kind"),
    "training.compile": Word(switch, "torch.compile"),
    "training.dynamic_shapes": Word(switch, "batches differ in shape from step to step"),
    "training.optimizer": Word(text, "the optimizer's name"),
    "training.lr": Word(number, "peak learning rate"),
    "training.lrs": Word(number, "one of several learning rates, of parameter groups"),
    "training.weight_decay": Word(number, "weight decay"),
    "training.grad_clip": Word(number, "the norm to which gradients are clipped; 0: never"),
    "training.schedule": Word(text, "the shape of the learning rate over time"),
    "training.warmup_steps": Word(optimizer_steps, "optimizer steps of warm-up"),
    "training.warmup_ratio": Word(share, "warm-up as a share of the run"),
    "training.seed": Word(whole, "the seed"),
    "training.log_every": Word(cadence, "how often metrics are written"),
    "training.validate_every": Word(cadence, "how often it validates"),
    "training.early_stopping": Word(presence, "whether the run ends early where it no longer improves"),
    "training.frozen_by_lr": Word(number, "the learning rate of a group that is 0 to freeze it"),
    "training.distributed": Word(text, "how several devices share the work: ddp, fsdp, deepspeed; none: they do not"),
    "training.schedule_steps": Word(optimizer_steps, "optimizer steps after which the schedule has run out"),
    "training.patience": Word(count, "validations without progress after which the run ends early"),
    "training.flash_attention": Word(switch, "the flash-attn kernels, which have no fallback"),
    "training.adapter": Word(text, "lora, qlora: only added weights are trained"),
    "training.weight_bytes": Word(number, "bytes of a weight that an adapter leaves alone: 2, or 0.5 in 4 bits"),
    "training.frozen": Word(presence, "whether a part of the weights is not trained, and so has no gradients"),
    "training.sharded": Word(presence, "whether devices share out the weights' state, or the host keeps some of it"),
    "model.names": Word(texts, "the known models that it begins with, by name or path"),
    "data.train": Word(texts, "files, globs or names of the training data"),
    "data.validation": Word(texts, "files, globs or names of the held-out data"),
    "data.validation_share": Word(share, "the share of the data that is held out"),
    "data.samples": Word(count, "different examples in the training data"),
    "data.clip_frames": Word(count, "pictures in one example, a clip for instance; at most, where they differ"),
    "data.frames_per_batch": Word(count, "pictures in one forward pass, at most"),
    "data.workers": Word(whole, "loader processes of each device"),
    "data.sample_bytes": Word(parse_bytes, "host memory of one prepared example"),
    "data.loaded_bytes": Word(parse_bytes, "host memory of the data that each process loads as a whole"),
    "data.prefetch": Word(whole, "batches that each loader process keeps ready"),
    "checkpoint.every": Word(cadence, "how often a checkpoint is written; none: never"),
    "checkpoint.keep_last": Word(whole, "checkpoints kept"),
    "checkpoint.keep_best": Word(whole, "best checkpoints kept"),
    "checkpoint.metric": Word(text, "the metric that says which checkpoint is best"),
    "run.name": Word(text, "the name under which the run is tracked"),
    "run.output": Word(text, "the folder that the run writes to"),
    "run.resume": Word(text, "auto, or what the run goes on from"),
    "run.init_from": Word(text, "the weights that the run begins with"),
    "tracking.project": Word(text, "the tracker's project"),
    "tracking.wandb": Word(text, "online, offline or disabled"),
    "run.hub": Word(presence, "whether the run uploads to a hub that wants a token"),
    "compute.backend": Word(text, "where it runs"),
    "compute.gpu": Word(text, "NAME or NAME:COUNT of the catalogue"),
    "compute.timeout": Word(parse_duration, "the longest time of one attempt"),
    "compute.memory": Word(parse_bytes, "host memory"),
    "compute.disk": Word(parse_bytes, "room for checkpoints and data"),
    "compute.cpu": Word(number, "CPU cores"),
    "compute.retries": Word(whole, "how often an attempt that failed is tried again"),
    "compute.nodes": Word(count, "machines that share the work"),
    "compute.world_size": Word(count, "processes that share the work, one for each device"),
    "training.device": Word(text, "cpu, cuda or auto"),
    "budget.max_cost_usd": Word(number, "the most that the run may cost"),
    "budget.max_hours": Word(number, "the most hours that it may take"),
}
_DECLARES: dict[str, Callable[[Any], Any]] = {
    "parameters": parameters,
    "measured": section,
    "family": one_of(FAMILIES),
    "optimizer": one_of(OPTIMIZERS),
    "kernels": one_of(("fused", "plain", "custom")),
    "precision": precision,
    "dropout": number,
    "bytes_per_parameter": number,
    **dict.fromkeys(
        ("gated_ffn", "biases", "learned_positions", "tied_embeddings", "half_weights", "activation_checkpointing"),
        switch,
    ),
}
for _name, _field in Declares.model_fields.items():
    WORDS[f"declares.{_name}"] = Word(_DECLARES.get(_name, count), _field.description or "")


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else shown[:39] + "…"
