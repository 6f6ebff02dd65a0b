"""The state-space scan of Mamba-2 (SSD), in four forms that agree.

For each head, with a state h of (N, P):

    h_t = exp(dt_t · A) · h_{t-1} + dt_t · B_t ⊗ x_t          y_t = C_t · h_t

Shapes: x (B, L, H, P) · dt (B, L, H), after softplus · A (H,), negative · B and C (B, L, N), shared by all heads.
The skip `D · x` is the block's business. From Dao and Gu 2024, "Transformers are SSMs", sections 3 and 6.

`scan` is the recurrence as it stands: the reference. `one_chunk` is its quadratic form: y = (decay ∘ C·Bᵀ) · x, no
states, best for short windows. `chunks` uses that form within chunks and hands states from chunk to chunk; a length
that the chunk does not divide is filled up with frames of dt = 0, which leave every state as it is. `last` gives
the last position alone, which is linear in L.

Decays are computed in float32 or wider also under autocast; products may then run in bf16.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def ssd(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> Tensor:
    """y (B, L, H, P) in the dtype of x: the quadratic form where L fits into one chunk, else the chunked one."""
    if x.shape[1] <= chunk_size:
        return one_chunk(x, dt, A, B, C)
    return chunks(x, dt, A, B, C, chunk_size)


def scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The recurrence, frame by frame: slow, and what the other forms are tested against."""
    batch, length, heads, width = x.shape
    state = x.new_zeros(batch, heads, B.shape[-1], width)
    out = []
    for t in range(length):
        decay = torch.exp(dt[:, t] * A)[..., None, None]
        entering = B[:, t, None, :, None] * (dt[:, t, :, None] * x[:, t])[:, :, None, :]  # (B, H, N, P)
        state = decay * state + entering
        out.append((C[:, t, None, None, :] @ state).squeeze(2))
    return torch.stack(out, 1)


def one_chunk(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """The quadratic form over the whole length; memory grows with H·L²."""
    batch, length, heads, width = x.shape
    dt = dt.transpose(1, 2)  # (B, H, L)
    weights = _decay(torch.cumsum(dt * A[:, None], -1)) * dt[:, :, None, :]  # (B, H, L, L): to frame, from frame
    weights = weights * torch.bmm(C, B.transpose(1, 2))[:, None]
    mixed = torch.bmm(
        weights.to(x.dtype).view(batch * heads, length, length),
        x.transpose(1, 2).reshape(batch * heads, length, width),
    )
    return mixed.view(batch, heads, length, width).transpose(1, 2)


def chunks(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, size: int) -> Tensor:
    """Chunks of `size` frames: the quadratic form within each, plus what the states before it give."""
    batch, length, heads, width = x.shape
    count = -(-length // size)
    if fill := count * size - length:
        x, dt = F.pad(x, (0, 0, 0, 0, 0, fill)), F.pad(dt, (0, 0, 0, fill))
        B, C = F.pad(B, (0, 0, 0, fill)), F.pad(C, (0, 0, 0, fill))
    x, dt = x.reshape(batch * count, size, heads, width), dt.reshape(batch * count, size, heads)
    B, C = B.reshape(batch * count, size, -1), C.reshape(batch * count, size, -1)
    inside = one_chunk(x, dt, A, B, C)
    reached = torch.cumsum(dt * A, 1)  # (B·c, Q, H): log decay from the chunk's start to each frame, that included
    whole = reached[:, -1]  # (B·c, H)

    # What each chunk adds to the state at its end: (B·c, N, Q) @ (B·c, Q, H·P).
    left = (torch.exp(whole[:, None] - reached) * dt).to(x.dtype)
    added = torch.bmm(B.transpose(1, 2), (x * left[..., None]).flatten(2))

    # The state before each chunk: every earlier chunk's addition, decayed by the chunks between: (B·H, c, c).
    ends = torch.cumsum(whole.view(batch, count, heads).transpose(1, 2), -1)  # (B, H, c)
    passed = F.pad(_decay(ends)[:, :, :-1], (0, 0, 1, 0)).to(x.dtype)  # row i: up to the end of chunk i - 1
    added = added.view(batch, count, -1, heads, width).permute(0, 3, 1, 2, 4).reshape(batch * heads, count, -1)
    before = torch.bmm(passed.reshape(batch * heads, count, count), added)
    before = before.view(batch, heads, count, -1, width).permute(0, 2, 3, 1, 4)
    before = before.reshape(batch * count, -1, heads * width)

    carried = torch.bmm(C, before).view(batch * count, size, heads, width) * torch.exp(reached)[..., None].to(x.dtype)
    return (inside + carried).reshape(batch, count * size, heads, width)[:, :length]


def last(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    """y (B, H, P) of the last frame alone; C (B, N) is that frame's."""
    log_decay = (dt * A)[:, 1:].flip(1).cumsum(1).flip(1)  # after frame s, up to the last one
    weights = torch.exp(F.pad(log_decay, (0, 0, 0, 1))) * dt  # (B, L, H)
    weights = weights * torch.bmm(B, C[:, :, None])
    return torch.matmul(weights.to(x.dtype).transpose(1, 2)[:, :, None], x.transpose(1, 2)).squeeze(2)


def _decay(reached: Tensor) -> Tensor:
    """exp(reached_i - reached_j) for i ≥ j, else 0: (…, L) → (…, L, L). Masked before exp, so that no overflow can
    turn a gradient into NaN."""
    length = reached.shape[-1]
    differences = reached[..., :, None] - reached[..., None, :]
    later = torch.ones(length, length, dtype=torch.bool, device=reached.device).triu(1)
    return torch.exp(differences.masked_fill(later, float("-inf")))
