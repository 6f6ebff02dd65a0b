"""Forward and backward of Mamba-2 layers on the CPU, beside transformers and mamba-ssm's minimal PyTorch scan.

    python benchmarks/mamba_peers.py [--json FILE] [--seconds 12] [--threads N] [--compiled] [--only K=10] [--memory]
                                     [--processor-time]

Tokens per second of four layers (norm, block, residual), every position computed, fp32 and bf16 autocast. In one
process, contender after contender, medians; what takes minutes for one call is called less often. Beside them stands
the rate of a matrix product in the same dtype, and what share of it our layers reach: their own products, counted
(`estimate/parameters.py`), over the time of everything.

The peers are the real ones, in an environment of their own: transformers' `Mamba2Mixer` at the best of some chunks, and
with the chunk that its config comes with (in pieces of the batch that fit into memory); `ssd_minimal_discrete` of
mamba-ssm's sdist, which is not built, in a block as that package has it. All of them see the same torch, allocator and
threads. `--compiled` adds ours through torch.compile, whose warm-up is told apart. `--memory` adds what a step of ours
holds at most at K=10, batch 4,096, beside the same blocks with the chunked scan padded to 64, both traced on tensors
without data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import machine, write
from peers import environment

HERE = Path(__file__).parent
SDIST = "mamba-ssm==2.3.2.post1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write what was found there")
    parser.add_argument("--seconds", type=float, default=12.0, help="for each contender of a shape")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compiled", action="store_true", help="also ours through torch.compile")
    parser.add_argument("--only", help="shapes whose name contains this")
    parser.add_argument("--memory", action="store_true", help="also the peak memory at K=10, batch 4,096")
    parser.add_argument("--processor-time", action="store_true", help="by the processor's clock: where others work too")
    options = parser.parse_args()
    there = environment.python("mamba", "transformers", "einops")
    versions = environment.versions(there, "transformers", "einops") | {"mamba-ssm": SDIST.partition("==")[2]}
    asked = vars(options) | {"json": None, "source": str(minimal())}
    env = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_WAIT_POLICY": "PASSIVE", "TRANSFORMERS_VERBOSITY": "error"}
    found = {
        "machine": machine() | {"threads": options.threads, "processor_time": options.processor_time},
        "peers": versions,
        "shapes": {},
    }
    command = [there, HERE / "peers" / "mamba2.py", json.dumps(asked)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout or ():
            if line.startswith("{"):
                found["shapes"] |= json.loads(line)
                write(options.json, found)
            else:
                print(line, end="", flush=True)
    if child.returncode:
        sys.exit(child.returncode)


def minimal() -> Path:
    """`ssd_minimal.py` of mamba-ssm's source distribution, which is fetched once and not built."""
    folder = environment.CACHE / "mamba-ssm"
    for path in folder.rglob("ssd_minimal.py"):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as fetched:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
        pip += ["--no-binary", ":all:", "--no-build-isolation", "-d", fetched, SDIST]
        skip = os.environ | {"MAMBA_SKIP_CUDA_BUILD": "TRUE"}  # pip asks the package for its name and version alone
        done = subprocess.run(pip, check=False, capture_output=True, text=True, env=skip)
        archives = list(Path(fetched).glob("*.tar.gz"))
        if not archives:
            sys.exit(f"pip could not fetch {SDIST}:\n{done.stderr}")
        subprocess.run(["tar", "-xzf", archives[0], "-C", folder], check=True)
    return next(folder.rglob("ssd_minimal.py"))


if __name__ == "__main__":
    main()
