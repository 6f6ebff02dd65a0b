"""Estimated memory against what CUDA's allocator really took, for 14 configs: run it where there is a GPU.

    python benchmarks/gpu_memory.py [--json FILE]

Each row runs in a process of its own: two real optimizer steps and a validation of the training loop's own code on
batches of zeros. A second process then runs it again with no more memory than the estimate's high end leaves to
tensors: running out there would be a false "fits". Exits 1 if that happens, and 2 where there is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys

ROWS = [  # width, layers, K, chunk, batch, precision, accumulation, scheduled sampling, recompute
    (384, 4, 10, 10, 512, "fp32", 1, 0.0, False),
    (384, 4, 10, 10, 512, "bf16", 1, 0.3, False),
    (384, 4, 10, 10, 4096, "bf16", 1, 0.3, False),
    (384, 4, 60, 30, 512, "bf16", 1, 0.3, False),
    (384, 4, 60, 60, 512, "bf16", 1, 0.0, False),
    (512, 6, 10, 10, 1024, "fp32", 2, 0.0, False),
    (512, 6, 60, 20, 256, "bf16", 1, 0.0, False),
    (768, 12, 100, 32, 64, "bf16", 1, 0.0, False),
    (768, 12, 100, 32, 64, "bf16", 1, 0.0, True),
    (1024, 16, 10, 10, 512, "bf16", 4, 0.0, False),
    (1024, 8, 256, 64, 16, "fp32", 1, 0.0, False),
    (1024, 8, 256, 64, 64, "fp32", 2, 0.0, True),
    (256, 4, 1024, 64, 8, "bf16", 1, 0.0, False),
    (2048, 24, 10, 10, 64, "bf16", 1, 0.0, False),
]
MIB = 1 << 20


def measured(row: tuple[object, ...], limit: int | None) -> dict[str, int | str]:
    """Run the row on this machine's GPU, with at most `limit` bytes for the allocator: highest allocated and reserved
    bytes, and what the device lost besides."""
    import torch

    from runctl.estimate import trace

    device = torch.device("cuda")
    total = torch.cuda.get_device_properties(device).total_memory
    if limit is not None:
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total))
    rehearsal = trace.Rehearsal(trace.config_of(shape(row)), device)
    rehearsal.measure_scales(1000)
    rehearsal.step()
    rehearsal.step()
    rehearsal.evaluate()
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info(device)
    return {
        "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "allocated": torch.cuda.max_memory_allocated(device),
        "reserved": torch.cuda.max_memory_reserved(device),
        "context": total - free - torch.cuda.memory_reserved(device),  # other processes on the GPU count too
    }


def shape(row: tuple[object, ...]):  # type: ignore[no-untyped-def]
    from runctl.config.model import Encoding, Model
    from runctl.estimate.traced import Shape

    width, layers, context, chunk, batch, precision, accumulation, sampling, recompute = row
    model = Model(d_model=width, n_layers=layers, context_len=context, chunk_size=chunk)
    corrupt = 3 if sampling else 0
    return Shape(Encoding(state_age_as_embed=True), model, batch, precision, accumulation, corrupt, 1000, recompute)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write the rows here")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--limit", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        print(json.dumps(measured(ROWS[options.row], options.limit)))
        return 0
    import torch

    from runctl import hardware
    from runctl.errors import UsageError
    from runctl.estimate import memory, traced

    if not torch.cuda.is_available():
        print("no CUDA device here: nothing measured", file=sys.stderr)
        return 2
    name = torch.cuda.get_device_name()
    try:
        gpu = hardware.find(name.replace("NVIDIA ", "").split("-PCIE")[0])
    except UsageError:
        gpu = hardware.find("H100" if torch.cuda.get_device_capability()[0] >= 9 else "A100-80GB")
        print(f"{name} is not in the catalogue: estimated as a {gpu.name}", file=sys.stderr)
    found, bad = [], 0
    print("MiB: width layers  K chunk batch dtype acc again | tensors allocated       off | needs: low  likely    high"
          " | reserved context")  # fmt: skip
    for number, row in enumerate(ROWS):
        asked = shape(row)
        tensors = traced.peak(asked, "cuda").total
        guess = memory.peak(memory.Request(asked, gpu))
        command = [sys.executable, __file__, "--row", str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        room = guess.high - memory.CUDA_CONTEXT[2]
        over = subprocess.run([*command, "--limit", str(room)], capture_output=True, check=False).returncode != 0
        width, layers, context, chunk, batch, precision, accumulation, _, again = row
        head = f"    {width:6} {layers:6} {context:4} {chunk:4} {batch:5} {precision} {accumulation:3}"
        head += f" {'yes' if again else 'no':>5} |"
        head += f" {tensors / MIB:7.0f}"
        span = f"{guess.low / MIB:10.0f} {guess.likely / MIB:7.0f} {guess.high / MIB:7.0f}"
        if done.returncode:
            print(f"{head}    failed: {(done.stderr.strip().splitlines() or ['no message'])[-1][:90]}")
            bad += guess.fits
            continue
        real = json.loads(done.stdout.splitlines()[-1])
        off = tensors / real["allocated"] - 1
        bad += over
        print(f"{head} {real['allocated'] / MIB:9.0f} {off:+9.2%} | {span} | {real['reserved'] / MIB:8.0f} "
              f"{real['context'] / MIB:7.0f}{'  does not do with its high end' if over else ''}")  # fmt: skip
        found.append(
            {"row": row, "tensors": tensors, "low": guess.low, "likely": guess.likely, "high": guess.high, **real}
        )
    if options.json:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"schema_version": 1, "date": today, "device": name, "rows": found}, file, indent=1)
    print(f"{name}: {len(found)} measured, {bad} false")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
