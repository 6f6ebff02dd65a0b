"""Declared models: counts of published ones, memory against a trace, the public incidents, and what is refused."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runctl import hardware
from runctl.config.declares import Declares
from runctl.estimate import families, family_memory, family_peak
from runctl.estimate.family_memory import Form
from runctl.estimate.memory import Memory

ROOT = Path(__file__).parent.parent
GPT2: dict[str, Any] = {"family": "transformer", "d_model": 768, "n_layers": 12, "n_heads": 12, "vocab_size": 50257}
GPT2 |= {"seq_len": 1024}
LLAMA: dict[str, Any] = {"family": "transformer", "d_model": 4096, "n_layers": 32, "n_heads": 32, "d_ff": 11008}
LLAMA |= {"gated_ffn": True, "vocab_size": 32000}
VIT: dict[str, Any] = {"family": "vit", "d_model": 768, "n_layers": 12, "n_heads": 12, "outputs": 1000}
VIT |= {"image_size": 224, "patch_size": 16}
MAMBA: dict[str, Any] = {"family": "mamba", "d_model": 768, "n_layers": 24, "vocab_size": 50280}
MLP: dict[str, Any] = {"family": "mlp", "d_model": 1024, "n_layers": 3, "inputs": 784, "outputs": 10}
# A public trunk of 78.3M parameters with sparse attention; width and depth are a reconstruction.
TRUNK = GPT2 | {"n_kv_heads": 2, "learned_positions": False, "precision": "bf16", "batch_size": 2}
# A public 1.7B language model's shape.
LARGE = {"family": "transformer", "d_model": 2048, "n_layers": 24, "n_heads": 32, "d_ff": 8192, "gated_ffn": True}
LARGE |= {"vocab_size": 49152, "tied_embeddings": True, "seq_len": 1024, "precision": "bf16", "kernels": "fused"}


def peak(declared: dict[str, Any], gpu: str, count: int = 1, **more: Any) -> Memory:
    return family_peak.peak(family_peak.Request(Declares(**(declared | more)), hardware.find(gpu), count))


@pytest.mark.parametrize(
    ("declared", "published"),
    [(GPT2, 124_439_808), (LLAMA, 6_738_415_616), (VIT, 86_567_656), (MAMBA, 129_135_360), (MLP, 2_913_290)],
    ids=["GPT-2", "Llama-2-7B", "ViT-B/16", "Mamba-130M", "an MLP"],
)
def test_parameters_of_published_models_come_out_to_the_last_weight(declared: dict[str, Any], published: int) -> None:
    count, basis = families.parameters(Declares(**declared | ({"tied_embeddings": True} if declared is MAMBA else {})))
    assert count == published
    assert "exact" in basis


def test_a_declared_count_goes_first_and_a_gap_is_remarked_on() -> None:
    assert families.parameters(Declares(parameters="1.7B")) == (1_700_000_000, "declared")
    count, basis = families.parameters(Declares(**GPT2, parameters="350M"))
    assert (count, "124,439,808" in basis) == (350_000_000, True)
    assert "agree" in families.parameters(Declares(**GPT2, parameters="124M"))[1]


def test_arithmetic_of_a_token_is_six_for_each_weight_and_attention_on_top() -> None:
    found = families.flops(Declares(**LLAMA, seq_len=4096, activation_checkpointing=True))
    token = (found.forward + found.backward) / 4096
    weights = 6_738_415_616 - 32_000 * 4096
    assert token == pytest.approx(6 * weights + 12 * 32 * 4096 * 4096, rel=0.001)
    assert 0.9 * found.forward < found.recompute < found.forward


def every_form() -> list[Form]:
    return [
        Form(end.family, end.precision, block.kernels, end.gated, block.dropout, block.checkpoint, end.tied)
        for end in family_memory.ends()
        for block in family_memory.blocks()
        if block.precision == end.precision
        and (block.family == end.family or (block.family, end.family) == ("transformer", "vit"))
        and block.gated == end.gated
    ]


def test_the_shipped_polynomials_are_a_trace_of_the_reference_within_5_percent() -> None:
    pytest.importorskip("torch")
    from dataclasses import replace

    from runctl.estimate import families_generate as generate

    rng = random.Random(7)
    forms, off = every_form(), []
    rng.shuffle(forms)
    for number, form in enumerate(forms[:20]):
        (sizes,) = generate.shapes(form, 1, number)
        sizes, passes = replace(sizes, layers=2 + number % 3), 1 + number % 2
        tracker, model = generate.run(form, sizes, passes)
        size = 2 if form.precision == "half" else 4
        one = size * sum(parameter.numel() for parameter in model.blocks[0].parameters())
        whole = size * sum(parameter.numel() for parameter in model.parameters())
        found = family_memory.tensors(form, generate.atoms_of(sizes), sizes.layers, (one, whole), passes > 1)
        off.append((whole + found.total) / generate.peak(tracker) - 1)
    assert len(off) >= 20
    assert max(map(abs, off)) < 0.05, off


@pytest.mark.parametrize("family", ["transformer", "vit", "mlp"])
def test_a_real_step_on_the_cpu_takes_what_the_polynomials_say(family: str) -> None:
    torch = pytest.importorskip("torch")
    from contextlib import nullcontext

    from torch.profiler import ProfilerActivity, profile

    from runctl.estimate import families_generate as generate
    from runctl.estimate import reference

    torch.set_num_threads(1)
    form = Form(family, kernels="plain")
    tokens = 1 if family == "mlp" else 96
    sizes = reference.Sizes(8, tokens, 128, 4, 4, 512, 1000, 300, 4)
    model = reference.Reference(form, sizes, nullcontext, lambda phase, part: None)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    whole = 4 * sum(parameter.numel() for parameter in model.parameters())
    one = 4 * sum(parameter.numel() for parameter in model.blocks[0].parameters())
    model(*reference.batch_of(form, sizes, "cpu"))[1].backward()  # the first pass of a process makes threads' buffers
    model.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        logits, loss = model(*reference.batch_of(form, sizes, "cpu"))
        loss.backward()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    found = family_memory.tensors(form, generate.atoms_of(sizes), sizes.layers, (one, whole), keep=False)
    assert found.total == pytest.approx(highest, rel=0.02)
    assert logits.isfinite().all()


def test_the_file_is_what_the_code_traces_now() -> None:
    pytest.importorskip("torch")
    from runctl.estimate import families_generate as generate

    data = json.loads(family_memory.FILE.read_text())

    def texts(found: Any) -> Any:
        return [data["polynomials"][n] for n in found] if isinstance(found, list) else data["polynomials"][found]

    rng = random.Random(3)
    for form in rng.sample(list(family_memory.blocks()), 4):
        now = generate.block_data(form)
        for key, there in data["blocks"][form.block].items():
            assert texts(there) == (
                [*map(generate.text, now[key])] if isinstance(there, list) else generate.text(now[key])
            )
    for form in rng.sample(list(family_memory.ends()), 2):
        now = generate.ends_data(form)
        for key, there in data["ends"][form.ends].items():
            assert texts(there) == (
                [*map(generate.text, now[key])] if isinstance(there, list) else generate.text(now[key])
            )
    assert set(data["blocks"]) == {form.block for form in family_memory.blocks()}
    assert set(data["ends"]) == {form.ends for form in family_memory.ends()}
    assert family_memory.FILE.stat().st_size < 30 * 1024


def foreign(kind: str, precision: str, layers: int, width: int, heads: int, tokens: int, batch: int) -> int:
    """Bytes at the peak of a step of somebody else's transformer, traced on meta tensors."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from runctl.estimate.tracker import Casting, Tracker

    class Fused(nn.Module):
        """One projection for q, k and v, biases none, ReLU squared, torch's rms_norm."""

        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
            self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(F.rms_norm(x, (width,))).view(batch, tokens, 3, heads, -1).transpose(1, 3).unbind(2)
            y = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, True)[0]
            x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, width))
            return x + self.down(F.relu(self.up(F.rms_norm(x, (width,)))).square())

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(5003, width), nn.Linear(width, 5003, bias=False)
            self.head.weight = self.embed.weight
            one = {"dropout": 0.0, "activation": "gelu", "batch_first": True, "norm_first": True}
            make = Fused if kind == "fused" else lambda: nn.TransformerEncoderLayer(width, heads, 4 * width, **one)
            self.layers = nn.ModuleList(make() for _ in range(layers))

        def forward(self, x: Any, targets: Any) -> Any:
            x = self.embed(x)
            for layer in self.layers:
                x = layer(x)
            logits = self.head(x)
            return logits, F.cross_entropy(logits.view(-1, 5003).float(), targets.view(-1))

    tracker, casting = Tracker(), Casting("cuda", lambda copy: None)
    with casting, tracker, torch.device("meta"):
        model = Language()
        ids = torch.zeros(batch, tokens, dtype=torch.int64)
        with casting.region(precision == "bf16"):
            logits, loss = model(ids, ids)
        loss.backward()
        del logits, loss
    held = highest = 0
    for event in tracker.events:
        held += event.change * tracker.blocks[event.block].size
        highest = max(highest, held)
    return highest


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["fused", "torch's own layer"])
def test_other_peoples_transformers_lie_in_the_range(kind: str, precision: str) -> None:
    pytest.importorskip("torch")
    rng = random.Random(1)
    for _ in range(4):
        layers, heads, batch = rng.choice((6, 12)), rng.choice((8, 12)), rng.choice((2, 8))
        tokens, width = rng.choice((512, 1024)), heads * 64
        traced = foreign(kind, precision, layers, width, heads, tokens, batch)
        said: dict[str, Any] = {"d_model": width, "n_layers": layers, "n_heads": heads, "vocab_size": 5003}
        said |= {"seq_len": tokens, "batch_size": batch, "precision": precision, "optimizer": "sgd", "dropout": 0.0}
        kernels = "fused" if kind == "fused" else "plain"
        declared = Declares(family="transformer", learned_positions=False, kernels=kernels, **said)
        found = family_peak.peak(family_peak.Request(declared, None))
        assert found.low <= traced <= found.high, (said, found.low / traced, found.high / traced)


def test_the_public_figures_of_a_sparse_transformer_lie_in_the_range() -> None:
    """3,069 MiB at length 2048 with activation checkpointing; 59.6 GB a GPU at 1024 with a vocabulary and without."""
    small = peak(TRUNK, "A100-80GB", kernels="custom", vocab_size=256, parameters="78.3M", seq_len=2048,
                 activation_checkpointing=True)  # fmt: skip
    assert small.low < 3069 << 20 < small.high
    large = peak(TRUNK, "A100-80GB", 2, kernels="custom")
    assert large.low < 59.6e9 < large.high
    for gpu in ("A100-40GB", "A100-80GB"):
        assert not peak(TRUNK, gpu, 2, kernels="custom").fits
    with pytest.raises(families.Incomplete, match=r"declares\.kernels"):  # what decides it is asked for
        peak(TRUNK, "A100-40GB", 2)


def test_17_billion_parameters_on_32_gb() -> None:
    counted = {"family": "transformer", "parameters": "1.7B"}
    for each, held in ((12, "19.0 GiB"), (16, "25.3 GiB")):
        with pytest.raises(families.Incomplete, match=f"at least {held} of 31.3 GiB .*{each} bytes for each"):
            peak(counted, "RTX-5090", bytes_per_parameter=each, half_weights=each == 12, precision="bf16")
    assert not peak(counted, "RTX-5090", bytes_per_parameter=20).fits
    full = peak(LARGE, "RTX-5090", batch_size=1, bytes_per_parameter=16, activation_checkpointing=True)
    lean = peak(
        LARGE, "RTX-5090", batch_size=1, bytes_per_parameter=12, activation_checkpointing=True, half_weights=True
    )
    assert full.likely > full.request.gpu.usable_bytes  # type: ignore[union-attr]
    assert lean.likely < lean.request.gpu.usable_bytes < lean.high  # type: ignore[union-attr]
    assert family_peak.peak(lean.request.change(optimizer="adamw_fused")).fits  # type: ignore[arg-type, union-attr]
    assert full.low >= 16 * 1_711_376_384
    assert not peak(LARGE, "RTX-5090", batch_size=16, bytes_per_parameter=12, half_weights=True).fits


def test_what_saves_memory_saves_memory_and_parts_sum_to_the_likely_value() -> None:
    base = peak(GPT2, "A100-40GB", batch_size=16, precision="bf16", kernels="plain")
    assert sum(base.parts.values()) == base.likely
    assert base.low < base.likely < base.high
    for change in ({"kernels": "fused"}, {"activation_checkpointing": True}, {"batch_size": 8}, {"half_weights": True}):
        less = peak(GPT2, "A100-40GB", **({"batch_size": 16, "precision": "bf16", "kernels": "plain"} | change))
        assert less.likely < base.likely
        assert less.high < base.high
    assert peak(GPT2, "A100-40GB", 2, batch_size=16, precision="bf16", kernels="plain").high > base.high


CONFIG = "task: command\ncommand: {argv: [python, train.py]}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("declares: {family: tranformer}", "did you mean 'transformer'"),
        ("declares: {family: transformer, d_model: 100, n_heads: 3}", "n_heads 3 does not divide d_model 100"),
        ("declares: {n_heads: 8, n_kv_heads: 3}", "n_kv_heads 3 does not divide n_heads 8"),
        ("declares: {family: vit, image_size: 224, patch_size: 15}", "patch_size 15 does not divide image_size 224"),
        ("declares: {parameters: many}", "write it as 124439808, 78.3M or 1.7B"),
        ("declares: {bytes_per_parameter: 2}", "less than weights and gradients"),
        ("declares: {d_modle: 4}", "did you mean 'd_model'"),
        ("declares: {d_model: 99999999999999999999}", "declares.d_model"),
        ("declares: {half_weights: true}", "half_weights needs precision"),
        ("declares: {family: mamba, kernels: custom}", "a mamba has not"),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_is_right(tmp_path: Path, text: str, message: str) -> None:
    from runctl import config
    from runctl.errors import ConfigError

    path = tmp_path / "exp.yaml"
    path.write_text(CONFIG + text + "\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert any(message in f"{problem.message} {problem.hint}" for problem in caught.value.problems)


def test_a_built_in_task_declares_nothing(tmp_path: Path) -> None:
    from runctl import config
    from runctl.errors import ConfigError

    path = tmp_path / "exp.yaml"
    path.write_text("declares: {family: mlp}\n")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert "declares is for task: command" in caught.value.problems[0].message


@pytest.mark.parametrize("family", ["transformer", "mamba", "mlp", "vit"])
def test_absurd_sizes_neither_overflow_nor_hang(family: str) -> None:
    most = dict.fromkeys(("d_model", "n_heads", "vocab_size", "seq_len", "batch_size", "inputs"), 10_000_000)
    more = {"outputs": 10_000_000, "image_size": 10_000_000, "patch_size": 1, "n_layers": 100_000, "kernels": "plain"}
    found = peak({"family": family}, "T4", **most, **more)
    assert found.low > 1 << 60
    assert not found.fits


def test_missing_dimensions_are_named(tmp_path: Path) -> None:
    done = estimate(tmp_path, "declares: {family: transformer, d_model: 768}\n")
    assert done.returncode == 0
    assert "a transformer needs declares.n_layers, declares.vocab_size" in done.stdout
    bare = estimate(tmp_path, "")
    assert bare.returncode == 0
    assert "declares: {family: transformer" in bare.stdout


def test_the_page_is_true(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "declares.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.S)
    (tmp_path / "gpt2-small.yaml").write_text(block)
    commands = re.findall(r"^\$ runctl (.*)$", page, flags=re.M)
    assert len(commands) == 3
    for command in commands:
        done = runctl(tmp_path, *command.split())
        assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["estimates"]
    assert found["parameters"] == 124_439_808
    assert "tied_embeddings: true" in found["parameters_basis"]
    assert found["memory_bytes"]["low"] < found["memory_bytes"]["likely"] < found["memory_bytes"]["high"]
    for family, needs in families._NEEDS.items():
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{family}`"))
        assert all(f"`{name}`" in row for name in needs)


def test_a_declared_run_has_time_cost_and_changes_that_fit(tmp_path: Path) -> None:
    text = "declares: {family: transformer, d_model: 2048, n_layers: 24, n_heads: 16, vocab_size: 50257, seq_len: 2048,"
    text += (
        " batch_size: 32, precision: bf16, kernels: plain, steps: 1000}\ncompute: {backend: modal, gpu: A100-80GB}\n"
    )
    done = estimate(tmp_path, text, "--json")
    found = json.loads(done.stdout)["estimates"]
    assert 0 < found["time_seconds"]["low"] < found["time_seconds"]["high"]
    assert found["cost_usd"]["high"] > found["cost_usd"]["low"] > 0
    assert found["steps"] == 1000
    shown = estimate(tmp_path, text).stdout
    assert "one change that fits" in shown
    assert "declares.batch_size: 1 with declares.accumulation: 32" in shown


def estimate(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "exp.yaml").write_text(CONFIG + text)
    return runctl(folder, "estimate", "exp.yaml", *arguments)


def runctl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runctl", *arguments]
    environment = {**os.environ, "NO_COLOR": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=60, check=False)
