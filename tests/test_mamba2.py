"""The forms of the scan agree, so do the paths of the block; it looks only backwards; its weights are mamba-ssm's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from runctl.errors import RunctlError
from runctl.models import kernels, ssd
from runctl.models.fused import conv_silu
from runctl.models.mamba2 import Mamba2, RMSNorm

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
    alone = torch.autograd.grad(model(frames, last=True).sin().sum(), weights)
    torch.testing.assert_close(model(frames, last=True), model(frames)[:, -1])
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


WINDOWS = {"one chunk": (7, 64), "chunks": (12, 4), "filled": (10, 4), "one frame": (1, 4), "two chunks": (8, 4)}


def by_path(model, norm, frames, kernel, *, last=False):
    """The output of a path, and the gradients of inputs and weights for one fixed direction."""
    model.kernel = kernel
    weights = [frames, norm.weight, *model.parameters()]
    out = model(frames, norm, last=last)
    direction = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).view(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * direction).sum(), weights)]


def with_norm(length, chunk, dtype=torch.float64, **sizes):
    """A block with weights that are no longer as they started, the norm before it, and frames."""
    torch.manual_seed(0)
    model = Mamba2(16, **{"d_state": 8, "headdim": 8, "chunk_size": chunk, **sizes}).to(dtype)
    norm = RMSNorm(16).to(dtype)
    for weight in (norm.weight, model.norm.weight, model.D):
        torch.nn.init.normal_(weight)
    return model, norm, torch.randn(3, length, 16, dtype=dtype, requires_grad=True)


def plain(block, u, norm, last):
    conv = block.conv1d
    weights = (block.in_proj.weight, conv.weight, conv.bias, block.dt_bias, block.A_log, block.D)
    return kernels.plain(u, norm, *weights, block.norm.weight, block.out_proj.weight, block.sizes, last)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kernel", ["eager", "plain"])
def test_every_path_equals_the_reference_in_outputs_and_gradients(monkeypatch, kernel, window, last):
    monkeypatch.setitem(kernels.PATHS, "plain", plain)
    length, chunk = WINDOWS[window]
    parts = with_norm(length, chunk)
    expected = by_path(*parts, "reference", last=last)
    found = by_path(*parts, kernel, last=last)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("window", ["one chunk", "chunks", "filled"])
def test_steps_that_are_long_or_nothing_keep_gradients_finite_and_right(window):
    """dt of a hundred forgets all at once, dt that underflows to zero lets nothing in."""
    length, chunk = WINDOWS[window]
    model, norm, frames = with_norm(length, chunk)
    with torch.no_grad():
        model.dt_bias[:2] = torch.tensor([100.0, -800.0])
    expected, found = (by_path(model, norm, frames, kernel) for kernel in ("reference", "eager"))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("window", ["one chunk", "chunks", "filled"])
def test_the_eager_path_in_bf16_is_as_near_to_the_truth_as_plain_operations(monkeypatch, window):
    """Each gradient of both, against the float32 reference: bf16 has three digits, and sums of many pairs keep two."""
    monkeypatch.setitem(kernels.PATHS, "plain", plain)
    length, chunk = {"one chunk": (60, 64), "chunks": (64, 16), "filled": (60, 16)}[window]
    parts = with_norm(length, chunk, torch.float32, d_state=16)
    exact = by_path(*parts, "reference")
    with torch.autocast("cpu", torch.bfloat16):
        rough, other = (by_path(*parts, kernel) for kernel in ("eager", "plain"))
    for one, beside, true in zip(rough, other, exact, strict=True):
        assert torch.isfinite(one).all()
        assert one.dtype == beside.dtype
        off, plainly = (float((other.float() - true).norm() / true.norm()) for other in (one, beside))
        assert off < 0.1
        assert off < 2 * plainly + 0.01


def test_the_eager_path_keeps_less_for_the_backward_pass_than_plain_operations(monkeypatch):
    monkeypatch.setitem(kernels.PATHS, "plain", plain)
    model, norm, frames = with_norm(60, 64, torch.float32)
    kept = {}
    for kernel in ("eager", "plain"):
        seen = {}
        model.kernel = kernel

        def keep(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            out = model(frames, norm)
        kept[kernel] = sum(seen.values())
        del out
    assert kept["eager"] < 0.6 * kept["plain"]


def test_the_table_of_measured_paths_names_paths_and_auto_follows_it(monkeypatch):
    from runctl import shipped

    for row in shipped.load("kernels.yaml"):
        assert row["kernel"] in kernels.PATHS
        assert row["measured"]
    rows = [{"device": "cpu", "precision": "bf16", "frames_up_to": 64, "kernel": "compiled"}]
    monkeypatch.setattr(shipped, "load", lambda name: rows)
    chosen = [
        kernels.choose("auto", device=device, precision=precision, frames=frames)
        for device, precision, frames in [
            ("cpu", "bf16", 64),
            ("cpu", "bf16", 65),
            ("cpu", "fp32", 10),
            ("cuda", "bf16", 9),
        ]
    ]
    assert chosen == ["compiled", "eager", "eager", "eager"]


def test_mamba_ssm_is_refused_where_it_cannot_run(monkeypatch):
    with pytest.raises(RunctlError, match="trains on the CPU"):
        kernels.choose("mamba_ssm", device="cpu", precision="bf16", frames=10)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunctlError, match="mamba-ssm is not installed") as refused:
        kernels.choose("mamba_ssm", device="cuda", precision="bf16", frames=10)
    assert "gpu" in refused.value.hint


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the compiler's own imports
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_compiled_path_equals_the_eager_one_and_is_for_training_steps_alone(precision):
    parts = with_norm(12, 12, torch.float32)
    kernels._compiled_for.clear()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        expected, found = (by_path(*parts, kernel) for kernel in ("eager", "compiled"))
        assert list(kernels._compiled_for) == [(parts[0].sizes, False)]
        parts[0].eval()
        parts[0](parts[2].detach()[:1], parts[1])  # another shape, and no training: not compiled anew
    close = 1e-4 if precision == "fp32" else 0.03
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other.float()).norm() < close * other.float().norm() + 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("window", [(10, 10), (60, 60), (200, 64)])
def test_mamba_ssms_kernels_equal_the_eager_path_in_outputs_and_gradients(window, precision):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    pytest.importorskip("mamba_ssm", reason="mamba-ssm is not installed: pip install 'runctl[gpu]'")
    pytest.importorskip("causal_conv1d", reason="causal-conv1d is not installed: pip install 'runctl[gpu]'")
    torch.manual_seed(0)
    model, norm = Mamba2(128, chunk_size=window[1]).cuda(), RMSNorm(128).cuda()
    frames = torch.randn(4, window[0], 128, device="cuda", requires_grad=True)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        expected, found = (by_path(model, norm, frames, kernel) for kernel in ("eager", "mamba_ssm"))
    close = 2e-3 if precision == "fp32" else 0.03  # its products run in tf32
    for one, other in zip(found, expected, strict=True):
        assert (one.float() - other.float()).norm() < close * other.float().norm()


def test_heads_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="is 20, which heads of 8 do not divide"):
        Mamba2(10, headdim=8)
