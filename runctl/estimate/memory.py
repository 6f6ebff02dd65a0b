"""Peak memory of a training step on its device: a closed form by category, with a wide error bar.

Why a bar: the form counts the tensors that autograd keeps and one layer's gradients, not what an allocator reserves.
On the CPU its likely value was 0.96 to 1.02 of the allocator's peak in a step of the built-in model over nine shapes
(0.2M to 10.6M parameters, K 10 and 60, fp32 and bf16; `tests/test_estimate.py` measures some), and 0.92 to 1.11 for
its layers alone up to K 256. It has not been measured on CUDA.

Weights, gradients and AdamW's two moments are fp32: 4, 4 and 8 bytes a parameter. Activations are kept per layer
for each of the `batch × K` frames of a forward pass, with `D = expand·d_model`, `S = d_state`, `H = D/headdim`,
`Q = min(K, chunk)`:

    norm, residual, dropout   4·d_model            in_proj          2·D + 2·S + H
    conv, SiLU                2·(D + 2·S)          scan             3·D + 3·H·Q in fp32, + 3·D·S/Q if K > chunk
    gated norm                3·D                  the last layer   2·d_model + 3·(D + 2·S)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CUDA_CONTEXT = (300 << 20, 500 << 20, 1000 << 20)  # low, likely, high: context, kernels and libraries of a process
BAR = (0.7, 1.5)  # of activations and workspace
FRAGMENTATION = (1.0, 1.05, 1.2)  # reserved ÷ allocated: 1.006-1.21 in a simulated caching allocator
RESIDENT_SHARE = 0.4  # the trainer keeps a dataset on the GPU up to this share of what is free
BASIS = ("closed form", "closed form, not measured on CUDA")  # on the CPU, on a GPU


@dataclass(frozen=True)
class Shape:
    """What the form needs of a model and its step."""

    parameters: int
    d_model: int
    n_layers: int
    d_state: int
    headdim: int
    expand: int
    context_len: int
    chunk_size: int
    inputs: int  # floats and embedding widths of one frame
    outputs: int  # logits and deltas of one window
    batch: int
    precision: str
    record_bytes: int = 0
    dataset_bytes: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes. `parts` sum to the likely peak; `per_row` of them grow with each row of the batch."""

    parts: Mapping[str, int]
    low: int
    likely: int
    high: int
    per_row: float
    batch: int
    basis: str

    def largest_batch(self, usable: float) -> int:
        """The largest power of two whose likely peak fits into `usable` bytes; 0 if none does."""
        fixed = self.likely - self.per_row * self.batch
        rows = int((usable - fixed) / self.per_row) if self.per_row > 0 else self.batch
        return 1 << (rows.bit_length() - 1) if rows >= 1 else 0


def peak(shape: Shape, usable: int | None) -> Memory:
    """The peak of one training step on a GPU with `usable` bytes; on the CPU (`usable` None) without a context."""
    wide = 4 if shape.precision == "fp32" else 2
    frames = shape.batch * shape.context_len
    state = {"weights": 4 * shape.parameters, "gradients": 4 * shape.parameters, "optimizer": 8 * shape.parameters}
    if shape.precision != "fp32":
        state["weight copies"] = 2 * shape.parameters
    activations = frames * ((shape.n_layers - 1) * _layer(shape, wide) + _last_layer(shape, wide))
    activations += frames * (shape.inputs * 4 + shape.inputs * wide + shape.d_model * wide)
    activations += shape.batch * (shape.outputs * 12 + (shape.context_len + 1) * shape.record_bytes)
    workspace = frames * 3 * shape.expand * shape.d_model * wide
    fixed = sum(state.values())
    context = (0, 0, 0)
    slack = (1.0, 1.0, 1.0)
    if usable is not None:
        context, slack = CUDA_CONTEXT, FRAGMENTATION
        if shape.dataset_bytes and shape.dataset_bytes <= RESIDENT_SHARE * (usable - context[1]):
            state["dataset"] = shape.dataset_bytes
            fixed += shape.dataset_bytes
    grows = activations + workspace
    likely = (fixed + grows) * slack[1] + context[1]
    parts = {**state, "activations": activations, "workspace": workspace, "CUDA context": context[1]}
    parts["fragmentation"] = (fixed + grows) * (slack[1] - 1)
    return Memory(
        parts={name: round(size) for name, size in parts.items() if size},
        low=round((fixed + grows * BAR[0]) * slack[0] + context[0]),
        likely=round(likely),
        high=round((fixed + grows * BAR[1]) * slack[2] + context[2]),
        per_row=grows / shape.batch * slack[1],
        batch=shape.batch,
        basis=BASIS[usable is not None],
    )


def _layer(shape: Shape, wide: int) -> float:
    """Bytes that autograd keeps for one frame in one layer; decays and their products are fp32 in any precision."""
    inner, chunk = shape.expand * shape.d_model, min(shape.context_len, shape.chunk_size)
    heads, channels = inner / shape.headdim, inner + 2 * shape.d_state
    kept = 4 * shape.d_model + (inner + channels + heads) + 2 * channels + 6 * inner
    if chunk < shape.context_len:
        kept += 3 * inner * shape.d_state / chunk  # what each chunk adds to the states, and the states before it
    return kept * wide + 3 * heads * chunk * 4


def _last_layer(shape: Shape, wide: int) -> float:
    """The same for the last layer, which gates, scans and projects at its last position only."""
    channels = shape.expand * shape.d_model + 2 * shape.d_state
    return (2 * shape.d_model + 3 * channels) * wide
