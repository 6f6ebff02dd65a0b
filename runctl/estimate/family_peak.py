"""Peak memory of a declared model on a GPU: the traced tensors of its family, and a bar for what is not known.

What the declaration leaves open is spanned: the low end takes the choice that needs least, the high end the one that
needs most (dropout or none, an attention of one's own that is fused or gathers keys and values, an optimizer's step in
place or by torch's default that holds one number a parameter more, DistributedDataParallel's buckets). On top, the
program is not the reference that was traced: activations may be a fifth less or two fifths more, and logits may be
copied twice more (as fp32, and shifted). Not measured on CUDA.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from runctl.config.declares import Declares
from runctl.estimate import families, family_memory, memory, traced
from runctl.estimate.families import Dims, Incomplete
from runctl.estimate.family_memory import Form
from runctl.estimate.memory import Memory
from runctl.hardware import Gpu
from runctl.units import format_bytes

ANOTHER = (0.8, 1.4)  # activations of another implementation, as shares of the reference's
COPIES = 2  # of the logits in fp32, that other losses make
STATE = {"adamw": 2, "adamw_fused": 2, "lion": 1, "momentum": 1, "sgd": 0, "adafactor": 0.05}  # numbers a parameter


@dataclass(frozen=True)
class Request:
    """What is asked about. `gpu` None stands for the CPU; `count` GPUs hold everything each. `counted` says by what
    the parameters are known, where that is not the declaration. `encoder` is the part of the model that looks at
    pictures, with as many of them as a forward pass has; its parameters are among those declared. `frozen_bytes` are
    those of a weight that is not trained, where only an adapter beside it is."""

    declared: Declares
    gpu: Gpu | None
    count: int = 1
    counted: str = ""
    encoder: Declares | None = None
    frozen_bytes: float | None = None

    @property
    def precision(self) -> str:
        return self.declared.precision

    def change(self, gpu: Gpu | None = None, *, batch: int | None = None, **declared: Any) -> Request:
        """The same with another GPU, batch or declaration."""
        changed = declared | ({} if batch is None else {"batch_size": batch})
        encoder, before = self.encoder, self.declared.batch_size
        if encoder is not None and batch is not None and before:
            encoder = encoder.model_copy(update={"batch_size": max(1, (encoder.batch_size or 1) * batch // before)})
        return replace(self, declared=self.declared.model_copy(update=changed), gpu=gpu or self.gpu, encoder=encoder)

    def _with(self, key: str, value: object) -> Request:
        encoder = self.encoder
        if encoder is not None and key in ("activation_checkpointing", "precision"):
            encoder = encoder.model_copy(update={key: value})
        return replace(self, declared=self.declared.model_copy(update={key: value}), encoder=encoder)

    def alternatives(self) -> Iterator[list[tuple[dict[str, object], Request]]]:
        """Changes that may make it fit, the least intrusive first; of each list the first that does is told."""
        said, batch, accumulation = self.declared, self.declared.batch_size or 1, self.declared.accumulation
        halves = []
        while batch % 2 == 0:
            batch, accumulation = batch // 2, accumulation * 2
            settings: dict[str, object] = {"batch_size": batch, "accumulation": accumulation}
            halves.append(
                (
                    {f"declares.{key}": value for key, value in settings.items()},
                    self.change(batch=batch, accumulation=accumulation),
                )
            )
        yield halves
        choices: list[tuple[str, object]] = [("kernels", "fused"), ("activation_checkpointing", True)]
        if said.precision == "fp32" and self.gpu is not None and "bf16" in self.gpu.peak:
            choices.append(("precision", "bf16"))
        if said.optimizer == "adamw":
            choices.append(("optimizer", "adamw_fused"))
        for key, value in choices:
            if getattr(said, key) != value and not (key == "kernels" and said.family == "mlp"):
                shown = str(value).lower() if isinstance(value, bool) else value
                yield [({f"declares.{key}": shown}, self._with(key, value))]


def peak(request: Request) -> Memory:
    """The peak of a training step. Raises Incomplete with what is missing; without dimensions a lower bound is given
    where that alone is too much for the GPU."""
    if request.frozen_bytes is not None:
        return _frozen(request, request.frozen_bytes)
    if request.declared.measured is not None:
        from runctl.estimate import family_measured  # most declare none

        if family_measured.applies(request.declared):
            return family_measured.peak(request)
    if request.encoder is not None:
        from runctl.estimate import family_encoder  # few have one

        return family_encoder.peak(request)
    try:
        dims = families.dims(request.declared, memory=True)
    except Incomplete as missing:
        return _floor(request, str(missing))
    found = [_tensors(request, dims, form, step) for form, step in choices(request.declared, dims)]
    low, high = min(found, key=lambda one: one.low), max(found, key=lambda one: one.high)
    likely = next(one for one in found if one.default)
    slack = traced.slack(recompute=request.declared.activation_checkpointing)
    gpu = request.gpu
    spaces = memory.workspaces(gpu) if gpu else 0
    context = memory.CUDA_CONTEXT if gpu else (0, 0, 0)
    buckets = memory.ddp_buckets(likely.parameters, likely.size) if request.count > 1 else 0
    parts = dict(likely.parts) | {"DDP buckets": buckets, "cuBLAS workspaces": spaces, "CUDA context": context[1]}
    tensors = sum(likely.parts.values()) + buckets + spaces
    most = float(high.high + buckets + spaces)
    if gpu:
        parts["allocator"] = round(tensors * slack.likely) - tensors
        most = most * slack.most * memory.SCRATCH + slack.extra + context[2]
    return Memory(
        request=request,
        parts={name: size for name, size in parts.items() if size},
        low=low.low + spaces + context[0],
        likely=sum(parts.values()),
        high=round(most),
        phase=likely.phase,
        basis=_basis(request, dims),
    )


@dataclass(frozen=True)
class _Step:
    """Bytes of tensors at the highest moment of a step in one form."""

    parts: dict[str, int]
    low: int
    high: int
    phase: str
    default: bool
    parameters: int
    size: int


def choices(declared: Declares, dims: Dims) -> Iterator[tuple[Form, bool]]:
    """(form, whether the optimizer's step needs a number for each parameter), the likely one first."""
    kernels = ["plain", "fused", "custom"] if declared.kernels == "custom" else [declared.kernels or "fused"]
    drops = [False, True] if declared.dropout is None else [bool(declared.dropout)]
    if dims.family == "mamba":
        drops = [False]
    precision = "fp32" if declared.precision == "fp32" else "half" if declared.half_weights else "mixed"
    for kernel, dropout, extra in itertools.product(kernels, drops, (True, False)):
        checkpoint = declared.activation_checkpointing
        yield Form(dims.family, precision, kernel, dims.gated, dropout, checkpoint, dims.tied), extra


def _tensors(request: Request, dims: Dims, form: Form, extra: bool) -> _Step:
    declared = request.declared
    size = 2 if form.precision == "half" else 4
    counted, _ = families.parameters(declared)
    weights = gradients = size * counted
    state = state_bytes(declared, counted)
    one = min(size * families.block(dims), gradients // max(1, families.blocks(dims)))
    sizes = family_memory.atoms(
        batch=declared.batch_size or 1,
        tokens=dims.tokens,
        width=dims.width,
        heads=dims.heads,
        groups=dims.groups,
        inner=dims.inner,
        vocab=dims.vocab,
        inputs=dims.inputs,
        state=declared.d_state,
        rank=dims.rank,
        chunks=-(-dims.tokens // 2048),
    )
    passes = family_memory.tensors(form, sizes, families.blocks(dims), (one, gradients), declared.accumulation > 1)
    update = gradients + (update_bytes(declared, counted) if extra else 0)
    fixed, highest = weights + state, max(passes.total, update)
    texts = dims.family in ("transformer", "mamba")
    logits = COPIES * 4 * sizes["B"] * sizes["T"] * sizes["V"] if texts else 0
    held = passes.gradients
    moving = passes.total - held
    low = fixed + max(held + round(ANOTHER[0] * moving), gradients)
    high = fixed + max(held + round(ANOTHER[1] * moving) + logits, update)
    if update >= passes.total:
        parts, phase = {"gradients": gradients, "optimizer's step": update - gradients}, "optimizer"
    else:
        parts = {"gradients": held, "activations": passes.activations, "workspace": passes.rest}
        phase = passes.phase
    parts = {"weights": weights, "optimizer": state, **parts}
    first = next(choices(declared, dims))
    return _Step(parts, low, fixed + max(high - fixed, highest), phase, (form, extra) == first, counted, size)


def state_bytes(declared: Declares, parameters: int) -> int:
    """Of the optimizer: what `bytes_per_parameter` leaves beyond weights and gradients, else what it keeps, in the
    dtype of the weights as torch's optimizers do."""
    size = 2 if declared.half_weights else 4
    if declared.bytes_per_parameter is not None:
        return round((declared.bytes_per_parameter - 2 * size) * parameters)
    if declared.optimizer == "adam8bit":
        return 2 * parameters
    return round(STATE[declared.optimizer] * size * parameters)


def update_bytes(declared: Declares, parameters: int) -> int:
    """What torch's optimizers hold at once beyond their state, where they update all weights together (`foreach`, the
    default on a GPU): one number for each parameter, in the dtype of the state. Fused ones do not."""
    numbers = 0 if declared.optimizer == "adamw_fused" else STATE.get(declared.optimizer, 0)
    return min(round(state_bytes(declared, parameters) / numbers), 4 * parameters) if numbers >= 1 else 0


def _frozen(request: Request, size: float) -> Memory:
    """The frozen weights alone: an answer where they are too much already."""
    counted, basis = families.parameters(request.declared)
    gpu, least = request.gpu, round(size * counted)
    each = f"{size:g} bytes for each of {counted:,} frozen weights ({request.counted or basis})"
    parts = {"frozen weights": least, "CUDA context": memory.CUDA_CONTEXT[0]}
    likely = sum(parts.values())
    if gpu is None or likely <= gpu.usable_bytes:
        where = f" of {format_bytes(gpu.usable_bytes)} on {gpu.name}" if gpu else ""
        raise Incomplete(f"training of an adapter is not modelled; at least {format_bytes(least)}{where}: {each}")
    basis = f"at least: {each}, without the adapter and activations"
    return Memory(request, parts, likely, likely, likely, "load", basis)


def _floor(request: Request, missing: str) -> Memory:
    """Weights, gradients and optimizer alone: an answer where they are too much already."""
    try:
        counted, basis = families.parameters(request.declared)
    except Incomplete:
        raise Incomplete(missing) from None
    declared, gpu, basis = request.declared, request.gpu, request.counted or basis
    size = 2 if declared.half_weights else 4
    parts = {"weights": size * counted, "gradients": size * counted, "optimizer": state_bytes(declared, counted)}
    least = sum(parts.values())
    each = f"{least / counted:.3g} bytes for each of {counted:,} parameters ({basis})"
    # who says how much a parameter takes has counted the optimizer's step, if there is anything to count
    step = 0 if declared.bytes_per_parameter is not None else update_bytes(declared, counted)
    parts |= {"optimizer's step": step, "CUDA context": memory.CUDA_CONTEXT[0]}
    likely = sum(parts.values())
    if gpu is None or likely <= gpu.usable_bytes:
        where = f" of {format_bytes(gpu.usable_bytes)} on {gpu.name}" if gpu else ""
        raise Incomplete(f"{missing}; at least {format_bytes(least)}{where}: {each}, without activations")
    parts = {name: size for name, size in parts.items() if size}
    more = ", with what torch's optimizers hold in their step" if step else ""
    return Memory(request, parts, likely, likely, likely, "optimizer", f"at least: {each}{more}, without activations")


def _basis(request: Request, dims: Dims) -> str:
    declared = request.declared
    words = [f"traced on a reference {dims.family}, a bar for other implementations, not measured on CUDA"]
    if dims.assumed and declared.parameters is not None:  # else the basis of the count says so
        words.append(f"assumed {', '.join(dims.assumed)}")
    if declared.dropout is None and dims.family != "mamba":
        words.append("with and without dropout")
    if declared.kernels == "custom":
        words.append(
            "kernels: custom: the range goes from fused attention to one that gathers keys and values for every query"
        )
    if request.count > 1:
        words.append("each GPU holds everything: sharding is not modelled")
    return "; ".join(words)
