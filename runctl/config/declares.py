"""`declares`: what a program of one's own says about its model, so that its size and memory can be estimated.

Nothing here changes what runs. What is left out is assumed where a family has a habit (and the estimate says so),
spanned by the range where it has none, or asked for.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from runctl.config.settings import BeforeValidator, Field, Settings, after
from runctl.errors import did_you_mean
from runctl.light import pattern
from runctl.units import parse_bytes

FAMILIES = ("transformer", "mamba", "mlp", "vit")
OPTIMIZERS = ("adamw", "adamw_fused", "adam8bit", "lion", "momentum", "adafactor", "sgd")
_COUNT = pattern(r"([\d_,]+(?:\.\d+)?)\s*([kKmMbBtT]?)")
_SUFFIX = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}


def parse_count(value: Any) -> Any:
    """`78.3M`, `1.7B` or `124439808` as a whole number; raises ValueError saying what is accepted."""
    if not isinstance(value, str):
        return value
    match = _COUNT.fullmatch(value.strip())
    if not match:
        raise ValueError(f"{value[:40]!r} is no count; write it as 124439808, 78.3M or 1.7B")
    return round(float(match[1].replace("_", "").replace(",", "")) * _SUFFIX[match[2].lower()])


def _one_of(known: tuple[str, ...]) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value is not None and value not in known:
            hint = did_you_mean(str(value), known)
            suffix = f"; {hint}" if hint else ""
            raise ValueError(f"must be one of {', '.join(known)}, not {str(value)[:40]!r}{suffix}")
        return value

    return BeforeValidator(check)


Size = Annotated[int, Field(ge=1, le=10_000_000)]
Count = Annotated[int, BeforeValidator(parse_count), Field(ge=1, le=10**15)]


class Measured(Settings, strict=True, allow_inf_nan=False, defer_build=True):
    """A peak that was measured once, of the same program with the same model: what it takes with other batches follows,
    since all but weights, gradients and optimizer grows with the batch (and with the length of the sequences)."""

    batch_size: Size = Field(description="examples on one GPU in one forward pass, when it was measured")
    peak: Annotated[int, BeforeValidator(parse_bytes), Field(ge=1)] = Field(description="bytes that the GPU gave")
    activation_checkpointing: bool = Field(False, description="whether it was on")
    seq_len: Size | None = Field(None, description="tokens in one sequence; null: as in this config")
    parameters: Count | None = Field(None, description="of the measured model; null: this one")
    bytes_per_parameter: Annotated[float, Field(gt=0, le=256)] | None = Field(
        None, description="weights, gradients and optimizer state then; null: as in this config"
    )


class Declares(Settings, strict=True, allow_inf_nan=False, defer_build=True):
    """The model of a program of one's own, for `task: command`."""

    family: Annotated[str, _one_of(FAMILIES)] | None = Field(None, description="transformer, mamba, mlp or vit")
    parameters: Count | None = Field(None, description="as counted by you: 124439808, 78.3M, 1.7B")
    d_model: Size | None = Field(None, description="width; of an mlp: of its hidden layers")
    n_layers: Annotated[int, Field(ge=1, le=100_000)] | None = Field(None, description="blocks; of an mlp: hidden")
    n_heads: Size | None = None
    n_kv_heads: Size | None = Field(None, description="heads of keys and values; null: n_heads")
    d_ff: Size | None = Field(None, description="inner width of the feed-forward part; null: 4 × d_model")
    gated_ffn: bool = Field(False, description="gated SiLU, RMSNorm, rotary positions (Llama), else GELU, LayerNorm")
    biases: bool | None = Field(None, description="of the linear layers; null: all but gated_ffn have them")
    learned_positions: bool | None = Field(None, description="null: all but gated_ffn have them")
    vocab_size: Size | None = None
    tied_embeddings: bool | None = Field(None, description="null: tied unless gated_ffn")
    d_state: Annotated[int, Field(ge=1, le=100_000)] = Field(16, description="of mamba")
    expand: Annotated[int, Field(ge=1, le=64)] = Field(2, description="of mamba")
    d_conv: Annotated[int, Field(ge=1, le=64)] = Field(4, description="of mamba")
    inputs: Size | None = Field(None, description="numbers in one example, of mlp")
    outputs: Size | None = Field(None, description="of mlp; classes of vit")
    seq_len: Size | None = Field(None, description="tokens in one sequence")
    image_size: Size | None = Field(None, description="pixels a side, of vit")
    patch_size: Size | None = Field(None, description="pixels a side, of vit")
    channels: Annotated[int, Field(ge=1, le=10_000)] = Field(3, description="of vit")
    batch_size: Size | None = Field(None, description="examples on one GPU in one forward pass")
    accumulation: Annotated[int, Field(ge=1, le=100_000)] = Field(1, description="forward passes per optimizer step")
    steps: Annotated[int, Field(ge=1, le=10**15)] | None = Field(None, description="optimizer steps, in total")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="half precision means autocast")
    half_weights: bool = Field(False, description="weights and gradients are in half precision too; no autocast")
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(None, description="null: the range spans both")
    optimizer: Annotated[str, _one_of(OPTIMIZERS)] = "adamw"
    bytes_per_parameter: Annotated[float, Field(gt=0, le=256)] | None = Field(
        None, description="weights, gradients and optimizer state together; null: from precision and optimizer"
    )
    activation_checkpointing: bool = Field(False, description="each block is run again in the backward pass")
    measured: Measured | None = Field(None, description="a peak that you measured: other batches follow from it")
    kernels: Literal["fused", "plain", "custom"] | None = Field(
        None,
        description="fused: flash attention, mamba-ssm; plain: torch's own operations; custom: an attention of your "
        "own that may gather keys and values (sparse, for instance). Needed for the memory of all but an mlp",
    )

    @after
    def _divide(self) -> Declares:
        width, heads, groups = self.d_model, self.n_heads, self.n_kv_heads
        if self.family in ("transformer", "vit") and width and heads and width % heads:
            raise ValueError(f"n_heads {heads} does not divide d_model {width}")
        if heads and groups and heads % groups:
            raise ValueError(f"n_kv_heads {groups} does not divide n_heads {heads}")
        if self.image_size and self.patch_size and self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} does not divide image_size {self.image_size}")
        if self.kernels == "custom" and self.family not in ("transformer", "vit", None):
            raise ValueError(f"kernels: custom is an attention of your own, which a {self.family} has not")
        least = 4 if self.half_weights else 8
        if self.bytes_per_parameter is not None and self.bytes_per_parameter < least:
            raise ValueError(
                f"bytes_per_parameter {self.bytes_per_parameter:g} is less than weights and gradients take ({least})"
            )
        if self.half_weights and self.precision == "fp32":
            raise ValueError("half_weights needs precision: bf16 or fp16")
        return self
