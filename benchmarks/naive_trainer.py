"""A trainer in one file, as most teams write their first: what `benchmarks/train.py` sets the built-in job beside.

    python benchmarks/naive_trainer.py DATASET [--model own|plain] [--workers 0] [--precision fp32|bf16] [--steps 50]

A Dataset that gives one window for one index, a DataLoader that shuffles and stacks, clipping, a cosine schedule and
`loss.item()` in every step. `own` trains runctl's own model on windows of stored records, so that only the trainer
differs. `plain` is the same network written plainly: frames decoded into float and integer tensors beforehand, the
convolution by `conv1d`, the scan by `einsum` in one chunk of the window's length, every layer at every position.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from bench import passive
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from runctl.config.model import Encoding, LossWeights, Model
from runctl.tasks.worldmodel import dataset, losses
from runctl.tasks.worldmodel.encoding import CONTROLLER
from runctl.tasks.worldmodel.features import Features
from runctl.tasks.worldmodel.model import WorldModel
from runctl.tasks.worldmodel.targets import Targets


class Records(Dataset[Tensor]):
    """Windows of stored records, one for each index."""

    def __init__(self, records: Tensor, index: list[int], context: int) -> None:
        self.records, self.index, self.context = records, index, context

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> Tensor:
        start = self.index[number]
        return self.records[start : start + self.context + 1]


class Frames(Dataset[dict[str, Tensor]]):
    """Windows of decoded frames: inputs, the next controllers, and the targets, one window for each index."""

    def __init__(self, floats: Tensor, ids: Tensor, index: list[int], context: int, targets: Targets) -> None:
        self.floats, self.ids, self.index, self.context = floats, ids, index, context
        self.controller = torch.tensor(targets.features.columns(CONTROLLER))
        self.numbers = torch.cat([getattr(targets, f"{name}_columns") for name in NUMBERS])
        self.binary = targets.binary_columns

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        first = self.index[number]
        end = first + self.context
        now, after = self.floats[end - 1], self.floats[end]
        return {
            "floats": self.floats[first:end],
            "ids": self.ids[first:end],
            "controller": after[self.controller],
            "change": after[self.numbers] - now[self.numbers],
            "binary": after[self.binary],
            "next_ids": self.ids[end],
        }


NUMBERS = ("continuous", "velocity", "dynamics")
PREDICTED = ("action", "jumps", "l_cancel", "hurtbox", "ground", "last_attack")


class PlainMamba2(nn.Module):
    """The block as its paper writes it down, in one chunk."""

    def __init__(self, width: int, state: int, headdim: int) -> None:
        super().__init__()
        self.inner, self.state, self.heads = 2 * width, state, 2 * width // headdim
        self.in_proj = nn.Linear(width, 2 * self.inner + 2 * state + self.heads, bias=False)
        self.conv = nn.Conv1d(
            self.inner + 2 * state, self.inner + 2 * state, 4, groups=self.inner + 2 * state, padding=3
        )
        self.a_log = nn.Parameter(torch.log(torch.empty(self.heads).uniform_(1, 16)))
        self.dt_bias = nn.Parameter(torch.full((self.heads,), -4.0))
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = nn.RMSNorm(self.inner)
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[1]
        z, mixed, dt = self.in_proj(u).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        mixed = F.silu(self.conv(mixed.transpose(1, 2))[..., :length].transpose(1, 2))
        x, b, c = mixed.split([self.inner, self.state, self.state], -1)
        x = x.reshape(*x.shape[:2], self.heads, -1)
        dt = F.softplus(dt + self.dt_bias)
        steps = (dt * -torch.exp(self.a_log)).transpose(1, 2).cumsum(-1)  # (B, H, L)
        apart = steps[..., :, None] - steps[..., None, :]
        later = torch.ones(length, length, dtype=torch.bool, device=u.device).triu(1)
        decay = torch.exp(apart.masked_fill(later, -torch.inf))
        b, c = (part[:, :, None].expand(-1, -1, self.heads, -1) for part in (b, c))
        y = torch.einsum("blhn,bshn,bhls,bshp->blhp", c, b, decay.to(c.dtype), x * dt[..., None].to(x.dtype))
        y = (y + x * self.skip[:, None]).flatten(2)
        return self.out_proj(self.norm(y * F.silu(z)))


class PlainModel(nn.Module):
    """The world model's network without any of its shortcuts."""

    def __init__(self, encoding: Encoding, model: Model, features: Features, numbers: int, binaries: int) -> None:
        super().__init__()
        own = WorldModel(encoding, model)
        self.kinds, self.features, self.embeddings = features.kinds, features, own.embeddings
        self.frame = nn.Linear(own.frame.in_features, model.d_model)
        self.norms = nn.ModuleList(nn.RMSNorm(model.d_model) for _ in range(model.n_layers))
        self.blocks = nn.ModuleList(
            PlainMamba2(model.d_model, model.d_state, model.headdim) for _ in range(model.n_layers)
        )
        self.dropout, self.norm = nn.Dropout(model.dropout), nn.RMSNorm(model.d_model)
        self.controller = nn.Linear(len(CONTROLLER) * 2, model.d_model)
        self.numbers, self.binary = nn.Linear(model.d_model, numbers), nn.Linear(model.d_model, binaries)
        self.heads = nn.ModuleDict({kind: nn.Linear(model.d_model, 2 * own.vocabs[kind]) for kind in PREDICTED})

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        ids = batch["ids"]
        pairs = [self.embeddings[kind](ids[..., self.features.id_columns(kind)]).flatten(-2) for kind in self.kinds]
        x = self.frame(torch.cat([batch["floats"], *pairs, self.embeddings["stage"](ids[..., -1])], -1))
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + self.dropout(block(norm(x)))
        hidden = self.norm(x[:, -1]) + self.controller(batch["controller"])
        loss = F.mse_loss(self.numbers(hidden).float(), batch["change"])
        loss = loss + 0.5 * F.binary_cross_entropy_with_logits(self.binary(hidden).float(), batch["binary"])
        for kind, head in self.heads.items():
            logits = head(hidden).float().unflatten(-1, (2, -1)).flatten(0, 1)
            loss = loss + F.cross_entropy(logits, batch["next_ids"][:, self.features.id_columns(kind)].flatten().long())
        return loss


def steps(
    folder: Path,
    encoding: Encoding,
    model: Model,
    *,
    kind: str,
    batch: int,
    workers: int,
    precision: str,
    on: str = "cpu",
) -> Iterator[int]:
    """Train without end on the device `on`; yields the windows of each optimizer step."""

    data = dataset.open(folder)
    games, _ = dataset.split(data.games, 0.9)
    index = [  # a Python integer for each window, as range(len) and a list of (game, frame) pairs make
        start
        for game in games
        for start in range(data.games[game].start, data.games[game].start + data.games[game].frames - model.context_len)
    ]
    records = torch.from_numpy(data.records.copy())
    features = Features(data.layout, encoding)
    targets = Targets(features, encoding, "delta")
    samples: Dataset[Any]
    if kind == "own":
        net: Any = WorldModel(encoding, model, data.layout)
        weights = LossWeights()
        samples = Records(records, index, model.context_len)

        def compute(rows: Any) -> Tensor:
            return losses.loss(net(rows), rows, weights, net.targets)[0]

    else:
        floats, ids = features(records)
        numbers = sum(targets.widths[name] for name in NUMBERS)
        samples = Frames(floats, ids.long(), index, model.context_len, targets)
        net = compute = PlainModel(encoding, model, features, numbers, targets.widths["binary"])
    loader = DataLoader(samples, batch_size=batch, shuffle=True, num_workers=workers, drop_last=True)
    net.to(on)
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(min(1, step / 1e5))))
    net.train()
    while True:
        for rows in loader:
            rows = moved(rows, on)
            cast = torch.autocast(on, torch.bfloat16) if precision == "bf16" else nullcontext()
            with cast:
                loss = compute(rows)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if not math.isfinite(loss.item()):
                raise SystemExit("the loss is not finite")
            yield batch


def moved(rows: Any, on: str) -> Any:
    """A batch on the device: a tensor, or tensors by name."""
    return {name: part.to(on) for name, part in rows.items()} if isinstance(rows, dict) else rows.to(on)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path, help="an encoded dataset")
    parser.add_argument("--model", choices=["own", "plain"], default="own")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--steps", type=int, default=50)
    options = parser.parse_args()
    passive()
    keys = dataset.open(options.dataset).manifest["encoding"]
    encoding = Encoding.model_validate({key: value for key, value in keys.items() if value is not None})
    shape = Model(d_model=384, n_layers=4, context_len=10, dropout=0.1)
    trained = steps(
        options.dataset,
        encoding,
        shape,
        kind=options.model,
        batch=options.batch,
        workers=options.workers,
        precision=options.precision,
    )
    next(trained)
    began = time.perf_counter()
    seen = sum(next(trained) for _ in range(options.steps))
    print(f"{seen / (time.perf_counter() - began):,.0f} examples/s")


if __name__ == "__main__":
    main()
