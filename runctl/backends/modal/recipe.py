"""What a container's image is made of, as data: steps in the words of `modal.Image`, which image.py carries out.

Why the GPU image is what it is: mamba-ssm and causal-conv1d have no wheel for most pairs of torch and CUDA, and a
wheel of another pair fails at its import with an undefined symbol. So they are compiled, which needs a CUDA *devel*
base (nvcc), a C++ compiler, torch installed *before* them from the default index, and no build isolation, because
their build asks the installed torch how to compile. A build needs no GPU and is kept by layer. torch and the base must
agree on CUDA's major version; a step says so within seconds, where the compiler would take its time to fail.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runctl.light import asdict, dataclass, field

# As in pyproject.toml; a test holds them together.
CORE = ("typer>=0.26,<0.29", "pydantic>=2.10", "pyyaml>=6.0.2", "rich>=14", "lark>=1.3")
TORCH = "torch==2.13.0"
TRAIN = ("numpy>=2.0", "safetensors>=0.6")
MELEE = ("peppi-py==0.8.6", "pyarrow==21.0.0", "py-slippi==1.6.2")
WANDB = ("wandb>=0.22",)
KERNELS = ("causal-conv1d==1.7.0", "mamba-ssm==2.3.2.post1")

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DEVEL = "nvidia/cuda:13.0.2-devel-ubuntu22.04"
_COMPILERS = ("build-essential", "git", "ninja-build")
_BUILD = ("ninja", "packaging", "setuptools", "wheel")
_HOW = {
    "CAUSAL_CONV1D_FORCE_BUILD": "TRUE",  # a prebuilt wheel may be of another torch
    "CC": "gcc",
    "CXX": "g++",
    "MAMBA_FORCE_BUILD": "TRUE",
    "MAX_JOBS": "4",
}
AGREE = (
    "python -c \"import subprocess, torch; said = subprocess.check_output(['nvcc', '--version'], text=True); "
    "major = torch.version.cuda.split('.')[0]; "
    "assert f'release {major}.' in said, f'torch is built for CUDA {torch.version.cuda}, the base image has {said}'\""
)


@dataclass(frozen=True)
class Step:
    """One method of `modal.Image`, with its arguments."""

    do: str
    words: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def recipe(
    *,
    gpu: bool,
    kernels: bool,
    python: str,
    packages: Sequence[str] = (),
    program: bool = False,
    requirements: str | None = None,
) -> tuple[Step, ...]:
    """The steps of an image: with a GPU and `kernels` the compiled ones, else a slim one. `packages` come last. Of a
    `program` of the user's own the `requirements` decide, a file; without them there are torch, numpy, safetensors."""
    last = (Step("pip_install", tuple(packages)),) if packages else ()
    torch = Step("pip_install", (TORCH,), {} if gpu else {"index_url": CPU_INDEX})
    slim = Step("debian_slim", (), {"python_version": python})
    if program:  # what it asks for comes after what runctl needs, and wins
        own = [torch, Step("pip_install", TRAIN)]
        if requirements:
            own = [Step("pip_install_from_requirements", (requirements,))]
        return (slim, Step("pip_install", tuple(sorted(CORE))), *own, *last)
    rest = Step("pip_install", tuple(sorted((*CORE, *TRAIN, *MELEE, *WANDB))))
    if gpu and kernels:
        steps = [
            Step("from_registry", (DEVEL,), {"add_python": python}),
            Step("entrypoint", (), {"entrypoint_commands": []}),  # NVIDIA's own prints a banner into every log
            Step("apt_install", _COMPILERS),
            Step("pip_install", (TORCH,)),
            Step("run_commands", (AGREE,)),
            Step("pip_install", _BUILD),
            Step("env", (), {"vars": _HOW}),
            Step("pip_install", KERNELS, {"extra_options": "--no-build-isolation"}),
            rest,
        ]
    else:
        steps = [slim, torch, rest]
    return (*steps, *last)
