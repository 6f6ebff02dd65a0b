"""Parameters and arithmetic of a declared model, in closed form, by family.

    transformer   GPT-2 (LayerNorm, GELU, biases, learned positions, tied) or with `gated_ffn` Llama (RMSNorm, gated
                  SiLU, rotary positions, untied), with fewer heads of keys and values if `n_kv_heads` says so
    vit           the same blocks over patches and a class token, all with biases (Dosovitskiy et al. 2021)
    mamba         Mamba-1: Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling", as in mamba-ssm
    mlp           n_layers hidden layers of d_model, ReLU

The counts of GPT-2, Llama-2-7B, ViT-B/16 and Mamba-130M come out to the last weight.
"""

from __future__ import annotations

from runctl.config.declares import Declares
from runctl.light import dataclass

_NEEDS = {
    "transformer": ("d_model", "n_layers", "vocab_size"),
    "mamba": ("d_model", "n_layers", "vocab_size"),
    "vit": ("d_model", "n_layers", "image_size", "patch_size", "outputs"),
    "mlp": ("d_model", "n_layers", "inputs", "outputs"),
}
_MEMORY_NEEDS = {
    "transformer": ("n_heads", "seq_len", "batch_size", "kernels"),
    "mamba": ("seq_len", "batch_size", "kernels"),
    "vit": ("n_heads", "batch_size", "kernels"),
    "mlp": ("batch_size",),
}
APART = 0.05  # a declared count further from that of the dimensions is remarked on


class Incomplete(Exception):
    """Something that is not declared is needed; the message names it."""


@dataclass(frozen=True)
class Dims:
    """A declared model with everything that its family assumes filled in; `assumed` says what that was."""

    declared: Declares
    family: str
    width: int
    layers: int
    heads: int
    groups: int
    inner: int
    vocab: int
    tokens: int
    inputs: int
    gated: bool
    biases: bool
    positions: bool
    tied: bool
    rank: int
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Flops:
    """Of one example, two for each multiply-add; `recompute` is the second forward pass of checkpointed blocks."""

    forward: int
    backward: int
    recompute: int


def dims(declared: Declares, *, memory: bool = False) -> Dims:
    """The dimensions, for counting or with `memory` for a step. Raises Incomplete with all that is missing."""
    family = declared.family
    if family is None:
        raise Incomplete("declares says no family (transformer, mamba, mlp or vit)")
    needed = _NEEDS[family] + (_MEMORY_NEEDS[family] if memory else ())
    gated = declared.gated_ffn
    assumed = []

    def habit(name: str, value: bool) -> bool:
        given = getattr(declared, name)
        if given is None and family == "transformer":
            assumed.append(f"{name}: {str(value).lower()}")
        return value if given is None else bool(given)

    positions = family == "vit" or (family == "transformer" and habit("learned_positions", not gated))
    biases = family in ("vit", "mlp") or (family == "transformer" and habit("biases", not gated))
    if family == "vit" and declared.biases is not None:
        biases = declared.biases
    tied = family in ("transformer", "mamba") and habit("tied_embeddings", not gated)
    if family == "transformer" and positions:
        needed += ("seq_len",)
    if family == "transformer" and declared.n_kv_heads:
        needed += ("n_heads",)
    missing = [name for name in dict.fromkeys(needed) if getattr(declared, name) is None]
    if missing:
        raise Incomplete(f"a {family} needs {', '.join(f'declares.{name}' for name in missing)}")
    width, inner = declared.d_model or 1, declared.d_ff or 4 * (declared.d_model or 1)
    if declared.d_ff is None and family in ("transformer", "vit"):
        assumed.append(f"d_ff: {inner}")
    if family == "mamba":
        inner = declared.expand * width
    heads = declared.n_heads or 1
    tokens, inputs = declared.seq_len or 1, declared.inputs or 1
    if family == "vit" and declared.image_size and declared.patch_size:
        tokens = (declared.image_size // declared.patch_size) ** 2 + 1
        inputs = declared.channels * declared.patch_size**2
    return Dims(
        declared=declared,
        family=family,
        width=width,
        layers=declared.n_layers or 1,
        heads=heads,
        groups=declared.n_kv_heads or heads,
        inner=inner,
        vocab=(declared.vocab_size if family in ("transformer", "mamba") else declared.outputs) or 1,
        tokens=1 if family == "mlp" else tokens,
        inputs=inputs,
        gated=gated and family in ("transformer", "vit"),
        biases=biases,
        positions=positions,
        tied=tied,
        rank=-(-width // 16),
        assumed=tuple(assumed),
    )


def parameters(declared: Declares) -> tuple[int, str]:
    """(count, basis): as declared, or else from the dimensions. Raises Incomplete."""
    try:
        found = dims(declared)
    except Incomplete:
        if declared.parameters is None:
            raise
        return declared.parameters, "declared"
    counted = count(found)
    if declared.parameters is None:
        assumed = f", assumed {', '.join(found.assumed)}" if found.assumed else ""
        return counted, f"exact for a {found.family} of these dimensions{assumed}"
    if abs(counted / declared.parameters - 1) > APART:
        return declared.parameters, f"declared; a {found.family} of these dimensions has {counted:,}"
    return declared.parameters, "declared, and the dimensions agree"


def count(dims: Dims) -> int:
    """Parameters of the dimensions."""
    return block(dims) * blocks(dims) + _ends(dims)


def blocks(dims: Dims) -> int:
    """Blocks of equal shape: of an mlp the hidden layers after the first."""
    return dims.layers - (dims.family == "mlp")


def block(dims: Dims) -> int:
    """Parameters of one block."""
    width, inner = dims.width, dims.inner
    if dims.family == "mlp":
        return width * width + width
    if dims.family == "mamba":
        state, conv = dims.declared.d_state, dims.declared.d_conv
        projections = 2 * width * inner + inner * (dims.rank + 2 * state) + dims.rank * inner + inner
        return projections + inner * (conv + 1) + inner * state + inner + inner * width + width
    biases = (2 * width + 2 * _kv(dims) + inner * (2 if dims.gated else 1) + width) if dims.biases else 0
    return _products(dims) + biases + 2 * _norm(dims)


def flops(declared: Declares) -> Flops:
    """Of one example. A backward pass multiplies twice for each product of the forward pass (Kaplan et al. 2020,
    section 2.1); attention is counted over all pairs of tokens, causal or not. Raises Incomplete."""
    found = dims(declared)
    if found.family in ("transformer", "mamba") and declared.seq_len is None:
        raise Incomplete(f"a {found.family} needs declares.seq_len")
    inside = blocks(found) * found.tokens * _block_flops(found)
    ends = 2 * found.width * found.vocab * (found.tokens if found.family in ("transformer", "mamba") else 1)
    ends += (
        2
        * found.inputs
        * found.width
        * (found.tokens - 1 if found.family == "vit" else 1)
        * (found.family in ("vit", "mlp"))
    )
    forward = inside + ends
    return Flops(forward, 2 * forward, inside if declared.activation_checkpointing else 0)


def _block_flops(dims: Dims) -> int:
    """Forward, of one token in one block."""
    if dims.family == "mlp":
        return 2 * dims.width**2
    if dims.family == "mamba":
        state, inner = dims.declared.d_state, dims.inner
        products = 3 * dims.width * inner + inner * (dims.rank + 2 * state) + dims.rank * inner
        return 2 * (products + inner * dims.declared.d_conv) + 9 * inner * state  # the scan: as mamba-ssm counts it
    return 2 * _products(dims) + 4 * dims.tokens * dims.width


def _products(dims: Dims) -> int:
    """Weights that a token of an attention block is multiplied with."""
    width = dims.width
    return 2 * width * width + 2 * width * _kv(dims) + (3 if dims.gated else 2) * width * dims.inner


def _kv(dims: Dims) -> int:
    return dims.width // dims.heads * dims.groups


def _norm(dims: Dims) -> int:
    return dims.width * (1 if dims.gated or dims.family == "mamba" else 2)


def _ends(dims: Dims) -> int:
    """Parameters outside the blocks."""
    width, vocab = dims.width, dims.vocab
    if dims.family == "mlp":
        return (dims.inputs + 1) * width + (width + 1) * vocab
    positions = dims.tokens * width if dims.positions else 0
    if dims.family == "vit":
        return (dims.inputs + 1) * width + width + positions + _norm(dims) + (width + 1) * vocab
    return vocab * width * (1 if dims.tied else 2) + positions + _norm(dims)
