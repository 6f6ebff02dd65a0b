"""The models that stand for a family when the memory of a declared one is asked for: ordinary torch, one of each.

They are traced on meta tensors (`estimate/families_generate.py`) and never trained. What they do with memory is what
the common implementations do: attention is torch's flash operation (`fused`), or keeps its probabilities (`plain`),
or gathers keys and values for each query (`custom`); a gated block is Llama's (RMSNorm by hand in fp32, rotary
positions, SiLU), any other GPT-2's (LayerNorm, GELU). Mamba's fused scan is a stand-in that allocates and saves what
`mamba_inner_fn` of mamba-ssm does at its default recompute level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from runctl.estimate.family_memory import Form


@dataclass(frozen=True)
class Sizes:
    """Dimensions of a reference: batch, tokens, width, heads and their groups, inner width, vocabulary (or outputs),
    input vector, and of mamba the inner width, state, rank of dt and chunks of 2,048 tokens."""

    batch: int
    tokens: int
    width: int
    heads: int
    groups: int
    inner: int
    vocab: int
    inputs: int
    layers: int
    state: int = 16
    rank: int = 1
    chunks: int = 1


class Reference(nn.Module):
    """`region` stands for autocast; `hear(part)` is told when a part begins, forward and backward."""

    def __init__(self, form: Form, sizes: Sizes, region: Any, hear: Any) -> None:
        super().__init__()
        self.form, self.sizes, self.region, self.hear = form, sizes, region, hear
        width = sizes.width
        if form.family in ("transformer", "mamba"):
            self.embed: nn.Module = nn.Embedding(sizes.vocab, width)
        else:
            self.embed = nn.Linear(sizes.inputs, width)
        blocks: dict[str, Any] = {"transformer": Attention, "vit": Attention, "mamba": Mamba, "mlp": Dense}
        self.blocks = nn.ModuleList(blocks[form.family](form, sizes) for _ in range(sizes.layers))
        self.norm = nn.Identity() if form.family == "mlp" else Norm(form, width)
        self.head = nn.Linear(width, sizes.vocab, bias=form.family in ("vit", "mlp"))
        if form.tied:
            self.head.weight = self.embed.weight
        if form.family == "vit" or (form.family == "transformer" and not form.gated):
            self.positions = nn.Parameter(torch.empty(sizes.tokens, width))
        if form.family == "vit":
            self.token = nn.Parameter(torch.empty(1, 1, width))

    def forward(self, examples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """(logits, loss)"""
        x = self.embed(examples)
        if self.form.family == "vit":
            x = torch.cat([self.token.to(x.dtype).expand(len(x), -1, -1), x], 1)
        if hasattr(self, "positions"):
            x = x + self.positions
        if self.form.dropout:
            x = F.dropout(x, 0.1)
        if self.form.family == "mlp":
            x = F.relu(x)
        self._backward(x, "embed")
        for index, block in enumerate(self.blocks):
            self.hear("forward", f"layer {index}")
            x = self._block(block, x)
            self._backward(x, f"layer {index}")
        self.hear("forward", "head")
        x = self.norm(x)
        logits = self.head(x[:, 0] if self.form.family == "vit" else x)
        return logits, F.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())

    def _block(self, block: nn.Module, x: Tensor) -> Tensor:
        def run(x: Tensor) -> Tensor:
            with self.region():
                return block(x)

        if self.form.checkpoint:
            return checkpoint(run, x, use_reentrant=True, preserve_rng_state=False)
        return block(x)

    def _backward(self, x: Tensor, part: str) -> None:
        x.register_hook(lambda _: self.hear("backward", part))


class Norm(nn.Module):
    def __init__(self, form: Form, width: int) -> None:
        super().__init__()
        self.root = form.gated or form.family == "mamba"
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = None if self.root else nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        if not self.root:
            return F.layer_norm(x, (x.shape[-1],), self.weight, self.bias)
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    def __init__(self, form: Form, sizes: Sizes) -> None:
        super().__init__()
        self.form, self.sizes = form, sizes
        width, bias = sizes.width, not form.gated
        kv = width // sizes.heads * sizes.groups
        self.norms = nn.ModuleList(Norm(form, width) for _ in range(2))
        self.q, self.out = (nn.Linear(width, width, bias=bias) for _ in range(2))
        self.k, self.v = (nn.Linear(width, kv, bias=bias) for _ in range(2))
        self.up, self.down = nn.Linear(width, sizes.inner, bias=bias), nn.Linear(sizes.inner, width, bias=bias)
        if form.gated:
            self.gate = nn.Linear(width, sizes.inner, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self._dropped(self.out(self._attend(self.norms[0](x))))
        h = self.norms[1](x)
        h = F.silu(self.gate(h)) * self.up(h) if self.form.gated else F.gelu(self.up(h))
        return x + self._dropped(self.down(h))

    def _attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        heads, groups = self.sizes.heads, self.sizes.groups
        head = width // heads
        q = self.q(x).view(batch, tokens, heads, head).transpose(1, 2)
        k, v = (part(x).view(batch, tokens, groups, head).transpose(1, 2) for part in (self.k, self.v))
        if self.form.gated:
            q, k = _rotated(q), _rotated(k)
        if self.form.kernels == "fused":
            y = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.1 if self.form.dropout else 0.0, True)[0]
        elif self.form.kernels == "plain":
            folded = q.reshape(batch, groups, -1, head)  # (B, G, heads in a group · T, P)
            y = (self._probable(folded @ k.transpose(-1, -2)) @ v).view(batch, heads, tokens, head)
        else:
            y = self._gathered(q, k, v)
        return self.out_of(y, batch, tokens, width)

    @staticmethod
    def out_of(y: Tensor, batch: int, tokens: int, width: int) -> Tensor:
        return y.transpose(1, 2).reshape(batch, tokens, width)

    def _probable(self, scores: Tensor) -> Tensor:
        found = F.softmax(scores.float() * 0.1, -1).to(scores.dtype)
        return self._dropped(found)

    def _gathered(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each query takes its own copies of keys and values, at worst of all, for each head."""
        batch, heads, tokens, head = q.shape
        chosen = torch.empty(batch, heads, tokens, tokens, dtype=torch.int64, device=q.device)
        at = chosen.unsqueeze(-1).expand(-1, -1, -1, -1, head)
        wide = [
            x.unsqueeze(2).expand(-1, -1, heads // x.shape[1], -1, -1).reshape(batch, heads, tokens, head)
            for x in (k, v)
        ]
        k, v = (torch.gather(x.unsqueeze(2).expand(-1, -1, tokens, -1, -1), 3, at) for x in wide)
        return (self._probable(q.unsqueeze(3) @ k.transpose(-1, -2)) @ v).squeeze(3)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.1) if self.form.dropout else x


def _rotated(x: Tensor) -> Tensor:
    cos, sin = (torch.empty(x.shape[-2], x.shape[-1], dtype=x.dtype, device=x.device) for _ in range(2))
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin


class Dense(nn.Module):
    def __init__(self, form: Form, sizes: Sizes) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(sizes.width, sizes.width), form.dropout

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.linear(x))
        return F.dropout(x, 0.1) if self.dropout else x


class Mamba(nn.Module):
    def __init__(self, form: Form, sizes: Sizes) -> None:
        super().__init__()
        width, inner, state = sizes.width, sizes.inner, sizes.state
        self.form, self.sizes, self.norm = form, sizes, Norm(form, width)
        self.into, self.out = nn.Linear(width, 2 * inner, bias=False), nn.Linear(inner, width, bias=False)
        self.conv = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x, self.dt = nn.Linear(inner, sizes.rank + 2 * state, bias=False), nn.Linear(sizes.rank, inner)
        self.log = nn.Parameter(torch.empty(inner, state))
        self.skip = nn.Parameter(torch.empty(inner))

    def forward(self, x: Tensor) -> Tensor:
        both = self.into(self.norm(x))
        if self.form.kernels == "fused":
            weights = (self.conv.weight, self.conv.bias, self.x.weight, self.dt.weight, self.dt.bias)
            y = _Fused.apply(self.sizes, both, *weights, self.log, self.skip)
        else:
            y = self._plain(both)
        return x + self.out(y)

    def _plain(self, both: Tensor) -> Tensor:
        sizes = self.sizes
        x, gate = both.chunk(2, -1)
        x = F.silu(self.conv(x.transpose(1, 2))[..., : sizes.tokens]).transpose(1, 2)
        rank, state_in, state_out = self.x(x).split([sizes.rank, sizes.state, sizes.state], -1)
        dt = F.softplus(self.dt(rank).float()).unsqueeze(-1)  # (B, T, E, 1)
        decay = torch.exp(dt * -self.log.float().exp())  # (B, T, E, N)
        states = _Scan.apply(decay, dt * state_in.float().unsqueeze(-2) * x.float().unsqueeze(-1))
        y = (states @ state_out.float().unsqueeze(-1)).squeeze(-1)
        return ((y + x.float() * self.skip.float()) * F.silu(gate.float())).to(both.dtype)


class _Scan(torch.autograd.Function):
    """The recurrence state by state: all states are kept, (B, T, E, N) in fp32."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, given: Tensor) -> Tensor:
        states = torch.empty_like(given)
        ctx.save_for_backward(decay, states)
        return states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return torch.empty_like(gradients[0]), torch.empty_like(gradients[0])


class _Fused(torch.autograd.Function):
    """Convolution, projections, scan and gate in one, as mamba-ssm does it: the convolution and dt are run again."""

    @staticmethod
    def forward(ctx: Any, sizes: Sizes, both: Tensor, *weights: Tensor) -> Tensor:
        (batch, tokens, _), inner = both.shape, sizes.inner
        convolved, dt, out, gated = (both.new_empty(batch, inner, tokens) for _ in range(4))
        small = both.new_empty(batch * tokens, sizes.rank + 2 * sizes.state)
        marks = both.new_empty(batch, inner, sizes.chunks, 2 * sizes.state, dtype=torch.float32)
        del convolved, dt
        ctx.sizes = sizes
        ctx.save_for_backward(both, small, marks, out, *weights)
        return gated.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        both, small, _, out, *weights = ctx.saved_tensors
        again = [torch.empty_like(out) for _ in range(4)]  # convolved, dt, their gradients
        found = torch.empty_like(both), torch.empty_like(small), torch.empty_like(out)
        result = (None, found[0], *(torch.empty_like(weight) for weight in weights))
        del again, found
        return result


def batch_of(form: Form, sizes: Sizes, device: str) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one forward pass."""
    batch, tokens = sizes.batch, sizes.tokens
    if form.family in ("transformer", "mamba"):
        return tuple(torch.zeros(batch, tokens, dtype=torch.int64, device=device) for _ in range(2))
    shape = (batch, tokens - 1, sizes.inputs) if form.family == "vit" else (batch, sizes.inputs)
    return torch.zeros(shape, device=device), torch.zeros(batch, dtype=torch.int64, device=device)
