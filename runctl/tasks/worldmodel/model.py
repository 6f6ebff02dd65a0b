"""The world model: K frames and the next controller values in, the next frame out.

    floats + embeddings → linear → N × (RMSNorm → Mamba-2 block, residual)
        → RMSNorm of the last position + linear(next controller values) → one linear head for each group

Floats are standardised by constants measured on training frames (`measure`): in scaled units a velocity is a hundredth
of a position, and an optimizer whose steps have one size would need long to find weights a hundred times as large.
After 256,000 windows of real games the loss was 3.51 with it and 3.64 without (one seed). Both players share the
constants, and binaries and controllers stay as they are: a rare button would become a huge number. The constants are
buffers, saved with the weights; they are no parameters.

The heads of numbers start at zero, so an untrained model repeats the last frame, or with `delta_target: residual`
the last movement: training begins at the baseline that it has to beat. The last block is computed at its last
position only. `estimate/parameters.py` counts all of this in closed form.

With `recompute` a block keeps nothing of its forward pass but its input, and runs again in the backward pass (Chen et
al. 2016, "Training Deep Nets with Sublinear Memory Cost"), with the same dropout: loss and gradients are the same bits.
The last block is left as it is: its backward pass comes first, so that there is nothing to save.

Positions of a few hundred units differ by fractions from frame to frame, which bf16 cannot hold: the first linear
layer therefore runs in float32 also under autocast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from runctl.config.model import Encoding, Model
from runctl.models.mamba2 import Mamba2, RMSNorm
from runctl.tasks.worldmodel.dataset import Windows
from runctl.tasks.worldmodel.encoding import BINARIES, CONTROLLER, IDS, Layout, columns
from runctl.tasks.worldmodel.features import Features
from runctl.tasks.worldmodel.games import Array
from runctl.tasks.worldmodel.targets import NUMBERS, PREDICTED_IDS, Spread, Targets, sample, usable

_AS_THEY_ARE = {*BINARIES, *CONTROLLER, "stocks"}  # floats that are not standardised, and the flags


@dataclass(frozen=True)
class Predictions:
    """Of one batch. `outputs`: by group, (B, width) as the heads give them, and (B, 2, vocabulary) logits of ids.
    `origin`: by group of numbers, (B, width) in scaled units: what an output of zero stands for. With `every`, of the
    frame after each of the K that were given: (B, K, …)."""

    outputs: dict[str, Tensor]
    origin: dict[str, Tensor]
    every: bool = False


class WorldModel(nn.Module):
    """records (B, K+1, R) → `Predictions` of the last frame, of which only the controller values are read. With
    `every` the frame after each given one is predicted from those up to it, by the same weights."""

    def __init__(
        self,
        encoding: Encoding,
        model: Model,
        layout: Layout | None = None,
        *,
        delta_target: str = "delta",
        recompute: bool = False,
        kernel: str = "eager",
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.features = Features(layout or columns(encoding), encoding)
        self.targets = Targets(self.features, encoding, delta_target)
        self.register_buffer("_pad", torch.tensor(self.features.columns(CONTROLLER)), persistent=False)
        sizes = {kind: (getattr(encoding, f"{kind}_vocab"), getattr(encoding, f"{kind}_embed_dim")) for kind in IDS}
        if encoding.state_age_as_embed:
            sizes["state_age"] = (encoding.state_age_embed_vocab, encoding.state_age_embed_dim)
        sizes["stage"] = (encoding.stage_vocab, encoding.stage_embed_dim)
        self.embeddings = nn.ModuleDict({kind: nn.Embedding(*size) for kind, size in sizes.items()})
        embedded = sum(width * (1 if kind == "stage" else 2) for kind, (_, width) in sizes.items())
        floats = len(self.features.float_names)
        fields = dict.fromkeys(name[3:] for name in self.features.float_names)
        self._measured = [name for name in fields if name not in _AS_THEY_ARE and not name.startswith("flag")]
        self.register_buffer("input_mean", torch.zeros(floats))
        self.register_buffer("input_scale", torch.ones(floats))
        self.frame = nn.Linear(floats + embedded, model.d_model)
        shape = {"d_state": model.d_state, "headdim": model.headdim, "expand": model.expand}
        shape |= {"d_conv": model.d_conv, "chunk_size": model.chunk_size}
        self.norms = nn.ModuleList(RMSNorm(model.d_model) for _ in range(model.n_layers))
        self.blocks = nn.ModuleList(Mamba2(model.d_model, **shape) for _ in range(model.n_layers))
        for block in self.blocks:
            block.kernel = kernel
        self.dropout = nn.Dropout(model.dropout)
        self.norm = RMSNorm(model.d_model)
        self.controller = nn.Linear(len(CONTROLLER) * 2, model.d_model)
        self.vocabs = {kind: sizes[kind][0] for kind in PREDICTED_IDS}
        widths = {**self.targets.widths, **{kind: 2 * vocab for kind, vocab in self.vocabs.items()}}
        self.heads = nn.ModuleDict({name: nn.Linear(model.d_model, width) for name, width in widths.items()})
        self._initialise()

    def forward(
        self, records: Tensor, corrupt: Callable[[Tensor], Tensor] | None = None, *, every: bool = False
    ) -> Predictions:
        """`corrupt` changes the floats (B, K, F) of the given frames: what the model reads and what its origins
        are made of."""
        floats, ids = self.features(records)
        given, pad = floats[:, :-1], (floats[:, 1:] if every else floats[:, -1]).index_select(-1, self._pad)
        if corrupt is not None:
            given = corrupt(given)
        hidden = self.norm(self.positions(given, ids[:, :-1], every=every)) + self.controller(pad)
        outputs = {name: head(hidden) for name, head in self.heads.items()}
        for kind, vocab in self.vocabs.items():
            outputs[kind] = outputs[kind].unflatten(-1, (2, vocab))
        return Predictions(outputs, {name: self.targets.origin(given, name, every=every) for name in NUMBERS}, every)

    def measure(self, records: Array, starts: Array | Windows, context: int) -> None:
        """Set the scales of inputs and targets from the training windows at `starts` of `records` (N, R)."""
        device = self.frame.weight.device
        pair = torch.tensor([self.features.columns((name,)) for name in self._measured], device=device)
        inputs, aways = Spread(), [Spread() for _ in NUMBERS]
        for frames in sample(records, starts, context):
            floats, _ = self.features(frames.to(device))
            inputs.add(floats[:, :-1][..., pair].double().movedim(2, -1).flatten(0, 2))  # (W · 2 · players, fields)
            for away, name in zip(aways, NUMBERS, strict=True):
                away.add(self.targets.away(floats, name).double().abs())
        self.input_mean[pair] = inputs.mean.nan_to_num(0.0, 0.0, 0.0).float()[:, None]
        self.input_scale[pair] = usable(inputs.variance.sqrt()).float()[:, None]
        for away, name in zip(aways, NUMBERS, strict=True):
            self.targets.scale(name).copy_(usable(away.mean))

    def positions(self, floats: Tensor, ids: Tensor, *, every: bool = False) -> Tensor:
        """floats (B, K, F), ids (B, K, I) → what the blocks make of the last frame, (B, d_model), or of every one."""
        pairs = [
            F.embedding(ids[..., self.features.id_columns(kind)], self.embeddings[kind].weight).flatten(-2)
            for kind in self.features.kinds
        ]
        floats = (floats - self.input_mean) / self.input_scale
        inputs = torch.cat([floats, *pairs, self.embeddings["stage"](ids[..., -1])], -1)
        with torch.autocast(inputs.device.type, enabled=False):
            x = self.frame(inputs)
        for norm, block in zip(self.norms[:-1], self.blocks[:-1], strict=True):
            x = x + self._added(norm, block, x)
        added = self.dropout(self.blocks[-1](x, self.norms[-1], last=not every))
        return (x if every else x[:, -1]) + added

    def _added(self, norm: nn.Module, block: nn.Module, x: Tensor) -> Tensor:
        """What a layer adds to its input x (B, K, d_model)."""

        def run(x: Tensor) -> Tensor:
            return self.dropout(block(x, norm))

        if self.recompute and torch.is_grad_enabled():
            return checkpoint(run, x, use_reentrant=False, preserve_rng_state=self.dropout.p > 0)
        return run(x)

    def _initialise(self) -> None:
        for name in NUMBERS:
            nn.init.zeros_(self.heads[name].weight)
            nn.init.zeros_(self.heads[name].bias)
