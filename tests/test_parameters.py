"""The closed form counts what is built."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runctl.config.model import Encoding, Model
from runctl.estimate import parameters

AGE = {"state_age_as_embed": True}
ALL = {**AGE, "projectiles": True, "state_flags": True, "hitstun": True}


@pytest.mark.parametrize(
    ("flags", "d_model", "n_layers", "expected"),
    [
        (AGE, 384, 4, 4_282_386),
        (ALL, 384, 4, 4_347_748),
        ({**ALL, "projectiles": False}, 384, 4, 4_345_444),
        (AGE, 512, 6, 10_592_546),
        (AGE, 256, 2, 1_206_578),
    ],
)
def test_the_known_models_have_their_known_counts(flags, d_model, n_layers, expected):
    shape = Model(d_model=d_model, n_layers=n_layers)
    assert parameters.count(Encoding(**flags), shape) == expected


@pytest.mark.parametrize(("flags", "floats"), [(AGE, 56), (ALL, 144), ({**ALL, "projectiles": False}, 138), ({}, 58)])
def test_a_frame_has_its_known_number_of_floats(flags, floats):
    assert parameters.floats(Encoding(**flags)) == floats


@st.composite
def shapes(draw):
    headdim = draw(st.sampled_from([1, 4, 8, 16]))
    expand = draw(st.integers(1, 3))
    model = Model(
        d_model=headdim * draw(st.integers(1, 4)),
        headdim=headdim,
        expand=expand,
        n_layers=draw(st.integers(1, 3)),
        d_state=draw(st.integers(1, 20)),
        d_conv=draw(st.integers(2, 5)),
        context_len=draw(st.integers(2, 12)),
        chunk_size=draw(st.integers(1, 12)),
    )
    flags = {name: draw(st.booleans()) for name in ALL}
    names = [name for name in Encoding.model_fields if name.endswith(("_vocab", "_embed_dim"))]
    widths = {name: draw(st.integers(1, 300)) for name in draw(st.lists(st.sampled_from(names), unique=True))}
    return Encoding(**flags, **widths), model


@settings(max_examples=40, deadline=None)
@given(shapes())
def test_the_closed_form_equals_the_built_model(shape):
    from runctl.tasks.worldmodel.model import WorldModel

    encoding, model = shape
    built = WorldModel(encoding, model)
    assert parameters.count(encoding, model) == sum(weights.numel() for weights in built.parameters())
    parts = parameters.parts(encoding, model)
    of = dict.fromkeys(parts, 0)
    for name, weights in built.named_parameters():
        of[PART_OF[name.partition(".")[0]]] += weights.numel()
    assert parts == of
    assert parameters.inputs(encoding) == built.frame.in_features
    assert parameters.outputs(encoding) == sum(head.out_features for head in built.heads.values())


PART_OF = {
    "embeddings": "embeddings",
    "frame": "frame",
    "norms": "blocks",
    "blocks": "blocks",
    "norm": "last norm and next controller",
    "controller": "last norm and next controller",
    "heads": "heads",
}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_recomputed_flops_equal_those_of_the_matrix_products_that_run_again(dropout):
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from runctl.tasks.worldmodel.encoding import columns
    from runctl.tasks.worldmodel.model import WorldModel

    torch.set_num_threads(1)
    encoding = Encoding(**AGE)
    model = Model(d_model=32, headdim=16, n_layers=4, context_len=12, chunk_size=6, d_state=8, dropout=dropout)
    records = torch.zeros(2, 13, columns(encoding).record_bytes, dtype=torch.uint8)
    counted = []
    for recompute in (False, True):
        built = WorldModel(encoding, model, recompute=recompute)
        with FlopCounterMode(display=False) as counter:
            sum(output.sum() for output in built(records).outputs.values()).backward()
        counted.append(counter.get_total_flops())
    assert counted[1] - counted[0] == 2 * parameters.recompute_flops(encoding, model)


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(("context_len", "chunk_size"), [(10, 10), (9, 4), (12, 6)])
def test_flops_equal_those_of_the_matrix_products_that_run(context_len, chunk_size, every):
    """Counted by torch's own counter, of two windows."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from runctl.tasks.worldmodel.encoding import columns
    from runctl.tasks.worldmodel.model import WorldModel

    torch.set_num_threads(1)
    encoding = Encoding(**AGE)
    model = Model(d_model=32, headdim=16, n_layers=3, context_len=context_len, chunk_size=chunk_size, d_state=8)
    records = torch.zeros(2, context_len + 1, columns(encoding).record_bytes, dtype=torch.uint8)
    with FlopCounterMode(display=False) as counter:
        WorldModel(encoding, model)(records, every=every)
    assert counter.get_total_flops() == 2 * parameters.forward_flops(encoding, model, every=every)


def test_heads_that_do_not_divide_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"is 96, which heads of model\.headdim 64 do not divide"):
        parameters.count(Encoding(), Model(d_model=48))
