"""The forms of the scan agree, the block looks only backwards, and its weights are mamba-ssm's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from runctl.models import ssd
from runctl.models.mamba2 import Mamba2, RMSNorm, conv_silu

torch.set_num_threads(1)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def inputs(batch, length, heads, width, state, dtype, seed=0):
    """x, dt, A, B, C as the block makes them: dt in softplus' range, A from 1 to 16, entries of unit size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    x, B, C = normal(batch, length, heads, width), normal(batch, length, state), normal(batch, length, state)
    dt = F.softplus(normal(batch, length, heads) - 2)
    A = -1 - 15 * torch.rand(heads, dtype=torch.float64, generator=generator)
    return [tensor.to(dtype).requires_grad_() for tensor in (x, dt, A, B / state**0.5, C)]


def results(form, tensors):
    """The output and the gradients of one form, for one fixed direction."""
    for tensor in tensors:
        tensor.grad = None
    out = form(*tensors)
    direction = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view(out.shape)
    (out * direction).sum().backward()
    return [out.detach(), *(tensor.grad.clone() for tensor in tensors)]


def assert_close(found, expected, dtype):
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * max(1, other.abs().max()))


shapes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "length": st.integers(1, 20),
        "heads": st.integers(1, 4),
        "width": st.integers(1, 9),
        "state": st.integers(1, 9),
        "seed": st.integers(0, 1000),
    }
)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=40, deadline=None)
@given(shape=shapes, size=st.integers(1, 24))
def test_all_forms_of_the_scan_agree_in_outputs_and_gradients(dtype, shape, size):
    tensors = inputs(**shape, dtype=dtype)
    expected = results(ssd.scan, tensors)
    assert_close(results(ssd.one_chunk, tensors), expected, dtype)
    assert_close(results(lambda *all_: ssd.chunks(*all_, size), tensors), expected, dtype)
    assert_close(results(lambda *all_: ssd.ssd(*all_, size), tensors), expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=40, deadline=None)
@given(shape=shapes)
def test_the_last_position_alone_agrees_with_the_whole_scan(dtype, shape):
    tensors = inputs(**shape, dtype=dtype)
    expected = results(lambda *all_: ssd.scan(*all_)[:, -1], tensors)
    assert_close(results(lambda x, dt, A, B, C: ssd.last(x, dt, A, B, C[:, -1]), tensors), expected, dtype)


@pytest.mark.parametrize("size", [16, 30, 64, 100])
def test_long_sequences_agree_in_float32(size):
    tensors = inputs(1, 200, 2, 4, 4, torch.float32)
    expected = results(ssd.scan, tensors)
    assert_close(results(lambda *all_: ssd.ssd(*all_, size), tensors), expected, torch.float32)


def test_strong_decay_gives_neither_overflow_nor_nan():
    x, dt, A, B, C = inputs(1, 60, 2, 4, 4, torch.float32)
    large = [x, (dt.detach() + 50).requires_grad_(), A, B, C]
    for form in (ssd.one_chunk, lambda *all_: ssd.chunks(*all_, 16)):
        assert all(torch.isfinite(tensor).all() for tensor in results(form, large))


@pytest.mark.parametrize("width", [2, 4, 5])
@pytest.mark.parametrize("length", [1, 3, 10])
def test_the_convolution_equals_torchs_in_value_and_gradient(length, width):
    torch.manual_seed(0)
    x = torch.randn(2, length, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 1, width, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True)

    def by_torch(x, weight, bias):
        padded = F.pad(x.transpose(1, 2), (width - 1, 0))
        return F.silu(F.conv1d(padded, weight, bias, groups=6)).transpose(1, 2)

    expected = results(by_torch, [x, weight, bias])
    assert_close(results(conv_silu, [x, weight, bias]), expected, torch.float64)
    assert torch.autograd.gradcheck(conv_silu, (x, weight, bias))


def test_the_norm_equals_torchs():
    torch.manual_seed(0)
    norm = RMSNorm(7).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 7, dtype=torch.float64)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (7,), norm.weight, 1e-5))


def block(chunk_size=4, dtype=torch.float64):
    torch.manual_seed(0)
    return Mamba2(16, d_state=8, headdim=8, chunk_size=chunk_size).to(dtype)


@pytest.mark.parametrize("chunk_size", [3, 4, 12, 64])
def test_a_change_at_a_frame_alters_nothing_before_it(chunk_size):
    model = block(chunk_size)
    frames = torch.randn(2, 12, 16, dtype=torch.float64)
    expected = model(frames)
    for t in range(12):
        changed = frames.clone()
        changed[:, t] += 1
        found = model(changed)
        torch.testing.assert_close(found[:, :t], expected[:, :t], rtol=0, atol=1e-12)
        assert (found[:, t] - expected[:, t]).abs().min(0).values.max() > 1e-6


def test_the_chunk_size_changes_no_output():
    frames = torch.randn(2, 12, 16, dtype=torch.float64)
    expected = block(1)(frames)
    for chunk_size in (2, 5, 12, 64):
        torch.testing.assert_close(block(chunk_size)(frames), expected, rtol=1e-10, atol=1e-10)


def test_the_last_position_of_the_block_equals_that_of_the_whole_in_value_and_gradient():
    model, frames = block(), torch.randn(3, 9, 16, dtype=torch.float64, requires_grad=True)
    weights = [frames, *model.parameters()]
    whole = torch.autograd.grad(model(frames)[:, -1].sin().sum(), weights)
    alone = torch.autograd.grad(model.last(frames).sin().sum(), weights)
    torch.testing.assert_close(model.last(frames), model(frames)[:, -1])
    torch.testing.assert_close(alone, whole)


def test_the_block_equals_the_equations_written_out():
    """in_proj, conv, scan, skip, gated norm and out_proj, each in the plainest form there is."""
    model, u = block(), torch.randn(2, 6, 16, dtype=torch.float64)
    z, x, B, C, dt = (u @ model.in_proj.weight.T).split([32, 32, 8, 8, 4], -1)
    xBC = torch.cat([x, B, C], -1)
    rows = []
    for t in range(6):
        taps = [model.conv1d.weight[:, 0, 3 - back] * xBC[:, t - back] for back in range(4) if t >= back]
        rows.append(F.silu(sum(taps) + model.conv1d.bias))
    x, B, C = torch.stack(rows, 1).split([32, 8, 8], -1)
    x = x.reshape(2, 6, 4, 8)
    y = ssd.scan(x, F.softplus(dt + model.dt_bias), -model.A_log.exp(), B, C) + model.D[:, None] * x
    gated = y.reshape(2, 6, 32) * F.silu(z)
    expected = F.rms_norm(gated, (32,), model.norm.weight, 1e-5) @ model.out_proj.weight.T
    torch.testing.assert_close(model(u), expected, rtol=1e-10, atol=1e-10)


def test_weights_have_the_names_and_shapes_of_mamba_ssm():
    shapes = {name: tuple(weights.shape) for name, weights in Mamba2(16, d_state=8, headdim=8).state_dict().items()}
    assert shapes == {
        "dt_bias": (4,),
        "A_log": (4,),
        "D": (4,),
        "in_proj.weight": (2 * 32 + 2 * 8 + 4, 16),
        "conv1d.weight": (32 + 2 * 8, 1, 4),
        "conv1d.bias": (32 + 2 * 8,),
        "norm.weight": (32,),
        "out_proj.weight": (16, 32),
    }


def test_weights_start_as_in_mamba_ssm():
    torch.manual_seed(0)
    model = Mamba2(512, headdim=2)
    dt = F.softplus(model.dt_bias)
    assert 1e-3 <= dt.min() < 1.5e-3
    assert 0.07 < dt.max() <= 0.1001
    assert dt.log().median().exp().item() == pytest.approx(1e-2, rel=0.3)  # log-uniform: the geometric mean
    assert 1 <= model.A_log.exp().min() < 1.5
    assert 15 < model.A_log.exp().max() <= 16.001
    assert torch.equal(model.D, torch.ones(512))


@pytest.mark.parametrize("chunk_size", [4, 64])
def test_bf16_autocast_stays_close_and_keeps_gradients_in_float32(chunk_size):
    model, frames = block(chunk_size, torch.float32), torch.randn(4, 12, 16)
    exact = model(frames)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(frames)
    assert rough.dtype == torch.bfloat16
    assert (rough - exact).norm() < 0.02 * exact.norm()
    rough.float().square().sum().backward()
    for weights in model.parameters():
        assert weights.grad.dtype == torch.float32
        assert torch.isfinite(weights.grad).all()


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="is 20, which heads of 8 do not divide"):
        Mamba2(10, headdim=8)
