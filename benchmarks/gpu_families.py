"""Declared models: what `runctl estimate` says against what CUDA's allocator took. Run it where there is a GPU.

    python benchmarks/gpu_families.py [--json FILE]

Each row trains the reference of its family (`runctl/estimate/reference.py`) for two real steps with torch's AdamW, in
a process of its own. Exits 1 where more was allocated than the high end leaves (a false "fits"), 2 without a GPU.
`--cpu` takes the steps on the CPU and measures nothing: it shows that the rows can be built.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from runctl import hardware, record
from runctl.config.declares import Declares
from runctl.estimate import families, family_peak

SMALL = {"family": "transformer", "d_model": 768, "n_layers": 12, "n_heads": 12, "vocab_size": 50257, "seq_len": 1024}
LLAMA = {"family": "transformer", "d_model": 2048, "n_layers": 16, "n_heads": 32, "n_kv_heads": 8, "d_ff": 8192}
LLAMA |= {"gated_ffn": True, "vocab_size": 49152, "seq_len": 2048}
VIT = {"family": "vit", "d_model": 768, "n_layers": 12, "n_heads": 12, "image_size": 224, "patch_size": 16}
VIT |= {"outputs": 1000}
MLP = {"family": "mlp", "d_model": 4096, "n_layers": 6, "inputs": 784, "outputs": 10}
BF16 = {"precision": "bf16", "kernels": "fused", "dropout": 0.0}
ROWS: list[dict[str, Any]] = [
    SMALL | BF16 | {"batch_size": 8},
    SMALL | BF16 | {"batch_size": 8, "dropout": 0.1},
    SMALL | BF16 | {"batch_size": 8, "activation_checkpointing": True},
    SMALL | BF16 | {"batch_size": 8, "kernels": "plain"},
    SMALL | BF16 | {"batch_size": 8, "half_weights": True},
    SMALL | {"batch_size": 4, "kernels": "plain", "dropout": 0.0},
    SMALL | BF16 | {"batch_size": 8, "accumulation": 2, "optimizer": "adamw_fused"},
    LLAMA | BF16 | {"batch_size": 2},
    LLAMA | BF16 | {"batch_size": 4, "activation_checkpointing": True, "optimizer": "adamw_fused"},
    VIT | BF16 | {"batch_size": 64},
    VIT | {"batch_size": 32, "kernels": "plain", "dropout": 0.0},
    MLP | {"batch_size": 16384, "dropout": 0.0},
]
MIB = 1 << 20


def train(said: dict[str, Any], kind: str) -> None:
    """Two optimizer steps of the reference that stands for the declaration."""
    import torch

    from runctl.estimate import reference

    declared = Declares(**said)
    dims = families.dims(declared, memory=True)
    form, _ = next(family_peak.choices(declared, dims))
    sizes = reference.Sizes(
        batch=declared.batch_size or 1,
        tokens=dims.tokens,
        width=dims.width,
        heads=dims.heads,
        groups=dims.groups,
        inner=dims.inner,
        vocab=dims.vocab,
        inputs=dims.inputs,
        layers=families.blocks(dims),
    )
    dtype = torch.bfloat16 if form.precision == "half" else torch.float32

    def region() -> Any:
        return torch.autocast(kind, torch.bfloat16) if form.precision == "mixed" else nullcontext()

    with torch.device(kind):
        model = reference.Reference(form, sizes, region, lambda phase, part: None).to(dtype)
    fused = {"fused": True} if declared.optimizer == "adamw_fused" else {}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, **fused)
    for _ in range(2):
        for _ in range(declared.accumulation):
            examples, targets = reference.batch_of(form, sizes, kind)
            with region():
                logits, loss = model(examples.to(dtype) if examples.is_floating_point() else examples, targets)
            loss.backward()
            del logits, loss
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def measured(said: dict[str, Any]) -> dict[str, Any]:
    import torch

    train(said, "cuda")
    torch.cuda.synchronize()
    total, (free, _) = torch.cuda.get_device_properties(0).total_memory, torch.cuda.mem_get_info()
    return {
        "device": torch.cuda.get_device_name(0),
        "torch": torch.__version__,
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
        "context": total - free - torch.cuda.memory_reserved(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the rows there")
    parser.add_argument("--cpu", action="store_true", help="take the steps on the CPU, measure nothing")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(ROWS[options.row])))
        return 0
    if options.cpu:
        for said in ROWS:
            train(said | {"batch_size": 2, "kernels": "plain", "n_layers": 2, "seq_len": 16}, "cpu")
        print(f"{len(ROWS)} rows train")
        return 0
    import torch

    if not torch.cuda.is_available():
        print("no GPU here", file=sys.stderr)
        return 2
    rows, worst = [], 0
    print(f"{'MiB':<6}{'tensors':>10}{'allocated':>10}{'off':>8}{'low':>8}{'likely':>8}{'high':>8}{'reserved':>10}")
    for number, said in enumerate(ROWS):
        done = subprocess.run(
            [sys.executable, __file__, "--row", str(number)], capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        estimate = family_peak.peak(family_peak.Request(Declares(**said), hardware.find("H100")))
        outside = {"CUDA context", "allocator"}
        tensors = sum(size for name, size in estimate.parts.items() if name not in outside)
        rows.append({"declares": said, "tensors": tensors, "low": estimate.low, "likely": estimate.likely} | found)
        rows[-1]["high"] = estimate.high
        false_fit = found["allocated"] + found["context"] > estimate.high
        worst = max(worst, int(false_fit))
        numbers = (tensors, found["allocated"], estimate.low, estimate.likely, estimate.high, found["reserved"])
        first, second, *rest = (number // MIB for number in numbers)
        off = tensors / found["allocated"] - 1
        shown = "".join(f"{value:>8}" for value in rest[:3])
        print(f"{number:<6}{first:>10}{second:>10}{off:>+8.1%}{shown}{rest[3]:>10}{'  TOO LOW' if false_fit else ''}")
    if options.json:
        record.write_json(options.json, {"date": datetime.date.today().isoformat(), "rows": rows})
    return worst


if __name__ == "__main__":
    sys.exit(main())
