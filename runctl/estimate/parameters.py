"""Parameters and arithmetic of the built-in model in closed form: exact counts, without building anything.

The counts equal those of `tasks/worldmodel/model.py` to the last weight; a property test builds models of random
shapes and compares. Buffers (the scales of the regression targets) are not parameters.
"""

from __future__ import annotations

from runctl.config.model import Encoding, Model

PREDICTED_IDS = ("action", "jumps", "l_cancel", "hurtbox", "ground", "last_attack")
CONTROLLER = 26  # 13 values of each player's controller
CORE, VELOCITIES, BINARIES = 8, 10, 6  # of both players


def count(encoding: Encoding, model: Model) -> int:
    """Parameters of the whole model; raises ValueError where no model has this shape."""
    return sum(parts(encoding, model).values())


def parts(encoding: Encoding, model: Model) -> dict[str, int]:
    """Parameters by part; their sum is `count`. Raises ValueError where no model has this shape."""
    width = model.d_model
    return {
        "embeddings": sum(vocab * dim for vocab, dim in tables(encoding).values()),
        "frame": (inputs(encoding) + 1) * width,
        "blocks": model.n_layers * (width + _block(model)),  # each with the norm before it
        "last norm and next controller": width + (CONTROLLER + 1) * width,
        "heads": (width + 1) * outputs(encoding),
    }


def flops(encoding: Encoding, model: Model, *, every: bool = False) -> int:
    """FLOPs of one window, forward and backward: the model's own, without what is computed again. `every` stands for
    `training.targets: all`."""
    return forward_flops(encoding, model, every=every) + backward_flops(encoding, model, every=every)


def backward_flops(encoding: Encoding, model: Model, *, every: bool = False) -> int:
    """FLOPs of one window's backward pass: it multiplies twice for each product of the forward pass, once for the
    gradient of each factor (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1)."""
    return 2 * forward_flops(encoding, model, every=every)


def recompute_flops(encoding: Encoding, model: Model) -> int:
    """FLOPs of one window that activation checkpointing adds: another forward pass of every block but the last."""
    return 2 * (model.n_layers - 1) * _layer(model)


def forward_flops(encoding: Encoding, model: Model, *, every: bool = False) -> int:
    """FLOPs of one window's forward pass: two for each multiply-add of a matrix product or convolution.

    The scan is counted as `models/ssd.py` computes it. In chunks of Q frames (Dao and Gu 2024, "Transformers are
    SSMs", section 6): `C·Bᵀ` takes Q²·N for all heads together, its product with x Q²·D; where there are several
    chunks, the states take Q·N·D to build and as much to read. The last layer gates, scans and projects at its last
    position only, unless `every` position predicts. Pointwise work is not counted.
    """
    frames, width = model.context_len, model.d_model
    inner, conv, projected = widths(model)
    last = frames * width * (projected - inner) + 2 * width * inner + frames * conv * model.d_conv
    last += frames * (model.d_state + inner)
    total = frames * inputs(encoding) * width + (model.n_layers - 1) * _layer(model)
    predicted = CONTROLLER * width + width * outputs(encoding)
    return 2 * (total + (_layer(model) + frames * predicted if every else last + predicted))


def _layer(model: Model) -> int:
    """Multiply-adds of one layer's forward pass over one window, computed at every position."""
    frames, width = model.context_len, model.d_model
    inner, conv, projected = widths(model)
    size = min(frames, model.chunk_size)
    chunks = -(-frames // size)
    scan = chunks * size * size * (model.d_state + inner)
    if chunks > 1:
        scan += 2 * chunks * size * model.d_state * inner
    return frames * (width * projected + inner * width) + chunks * size * conv * model.d_conv + scan


def inputs(encoding: Encoding) -> int:
    """Values of one frame that enter the first linear layer: floats and embeddings of both players and the stage."""
    embedded = sum(dim * (1 if name == "stage" else 2) for name, (_, dim) in tables(encoding).items())
    return floats(encoding) + embedded


def floats(encoding: Encoding) -> int:
    """Floats of one frame, both players."""
    one = 4 + 5 + 3 + 3 + CONTROLLER // 2  # core, velocities, (hitlag, stocks, combo), binaries, controller
    one += (not encoding.state_age_as_embed) + encoding.hitstun + 3 * encoding.projectiles + 40 * encoding.state_flags
    return 2 * one


def outputs(encoding: Encoding) -> int:
    """Values that the heads give for one window."""
    logits = sum(getattr(encoding, f"{name}_vocab") for name in PREDICTED_IDS)
    numbers = CORE + VELOCITIES + BINARIES + 80 * encoding.state_flags + 2 * (3 + encoding.hitstun)
    return int(numbers + 2 * logits)


def tables(encoding: Encoding) -> dict[str, tuple[int, int]]:
    """(vocabulary, width) of each embedding; both players share them."""
    names = ["action", "jumps", "character", "l_cancel", "hurtbox", "ground", "last_attack"]
    found = {name: (getattr(encoding, f"{name}_vocab"), getattr(encoding, f"{name}_embed_dim")) for name in names}
    if encoding.state_age_as_embed:
        found["state_age"] = (encoding.state_age_embed_vocab, encoding.state_age_embed_dim)
    found["stage"] = (encoding.stage_vocab, encoding.stage_embed_dim)
    return found


def _block(model: Model) -> int:
    """Parameters of one Mamba-2 block."""
    inner, conv, projected = widths(model)
    heads = inner // model.headdim
    return model.d_model * projected + conv * (model.d_conv + 1) + 3 * heads + inner + inner * model.d_model


def widths(model: Model) -> tuple[int, int, int]:
    """(d_inner, channels of the convolution, outputs of in_proj); raises ValueError where heads do not divide."""
    inner = model.expand * model.d_model
    if inner % model.headdim:
        raise ValueError(
            f"model.expand × model.d_model is {inner}, which heads of model.headdim {model.headdim} do not divide"
        )
    return inner, inner + 2 * model.d_state, 2 * inner + 2 * model.d_state + inner // model.headdim
