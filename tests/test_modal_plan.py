"""The request that a config becomes on Modal, and the Dockerfile lines that the real client makes of its image."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from runctl import config as configs
from runctl.backends.modal import recipe
from runctl.backends.modal.plan import Place, Request, gpus, offered, plan
from runctl.errors import ProviderError, UsageError

ROOT = Path(__file__).parent.parent
DIGEST = "0123456789abcdef" * 4
BASE = "name: job\ntraining: {steps: 100, seed: 1}\n"


def planned(tmp_path: Path, compute: str, place: Place | None = None, run: str = "job-1", more: str = BASE) -> Request:
    path = tmp_path / "job.yaml"
    path.write_text(f"{more}compute: {{backend: modal{compute}}}\n")
    config = configs.load(path).config
    return plan(config, run=run, attempt=1, digest=DIGEST, version="1.2.3", grace_seconds=30.0, place=place or Place())


def test_a_config_becomes_a_whole_request(tmp_path: Path) -> None:
    place = Place(volume="team", volume_version=2, environment="dev", secrets=("wandb", "hf"), packages=("einops",))
    asked = planned(tmp_path, ', gpu: "H100!:2", cpu: 12, memory: 64GiB, timeout: 6h, retries: 3', place).to_json()
    image = asked.pop("image")
    assert [step["do"] for step in image] == [
        "from_registry",
        "entrypoint",
        "apt_install",
        "pip_install",
        "run_commands",
        "pip_install",
        "env",
        "pip_install",
        "pip_install",
        "pip_install",
    ]
    assert json.loads(json.dumps(asked)) == {
        "backend": "modal",
        "run": "job-1",
        "run_dir": "/vol/runs/job-1",
        "attempt": 1,
        "app": "runctl-job-1",
        "tags": {"runctl.run": "job-1", "runctl.config": "0123456789ab", "runctl.version": "1.2.3"},
        "environment": "dev",
        "gpu": ["H100!:2"],
        "cpu": 12.0,
        "memory_mib": 65536,
        "disk_mib": None,
        "timeout_seconds": 21600,
        "retries": {"max_retries": 3, "initial_delay": 0.0, "backoff_coefficient": 1.0},
        "volume": {"name": "team", "version": 2, "mount": "/vol"},
        "secrets": ["wandb", "hf"],
        "spec": {
            "schema_version": 1,
            "run": "job-1",
            "run_dir": "/vol/runs/job-1",
            "attempt": 1,
            "digest": DIGEST,
            "volume": "team",
            "environment": "dev",
            "mount": "/vol",
            "channel": "runctl",
            "timeout_seconds": 21600,
            "retries": 3,
            "grace_seconds": 20.0,
            "save_seconds": 10.0,
            "beat_seconds": 10.0,
            "gpu": ["H100!:2"],
            "usd_per_hour": {},
        },
        "notes": [],
        "entry": "runctl.remote.entry:main",
        "source": ["runctl"],
        "single_use_containers": True,
        "max_containers": 1,
        "include_source": False,
        "folder": "",
        "code": None,
    }


def test_what_a_config_leaves_open_is_asked_for_all_the_same_and_said(tmp_path: Path) -> None:
    asked = planned(tmp_path, "")
    assert (asked.gpu, asked.cpu, asked.memory_mib, asked.timeout_seconds) == ((), 4.0, 8192, 86400)
    assert asked.notes == [
        "compute.cpu is not set: 4 cores are asked for",
        "compute.memory is not set: 8 GiB are asked for",
        "compute.timeout is not set: an attempt may take 1d00h",
    ]
    two = planned(tmp_path, ', gpu: "A100-80GB:2"')
    assert (two.cpu, two.memory_mib) == (8.0, 32768)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a100-80gb", ("A100-80GB",)),
        ("h100!", ("H100!",)),
        ("A100", ("A100",)),  # as it is written: the service may give the larger one
        ("H100-SXM, A100-80GB:2", ("H100", "A100-80GB:2")),
        (None, ()),
    ],
)
def test_a_gpu_is_named_as_modal_names_it(text: str | None, asked: tuple[str, ...]) -> None:
    assert gpus(text) == asked


@pytest.mark.parametrize("text", ["V100", "A10:8", "H1000", "H100:9"])
def test_a_gpu_that_modal_has_not_is_refused_before_it_is_asked(text: str) -> None:
    with pytest.raises(UsageError):
        gpus(text)


@pytest.mark.parametrize("compute", [", timeout: 5s", ", timeout: 25h", ", timeout: 1h, retries: 11"])
def test_a_limit_of_the_service_is_told_before_it_is_met(tmp_path: Path, compute: str) -> None:
    with pytest.raises(ProviderError):
        planned(tmp_path, compute)


def test_long_names_are_cut_to_what_the_service_takes_and_stay_different(tmp_path: Path) -> None:
    first, second = (planned(tmp_path, "", run="x" * 99 + last) for last in "ab")
    assert len(first.app) == 64
    assert first.app != second.app
    assert max(map(len, first.tags.values())) == 63
    assert first.tags["runctl.run"] != second.tags["runctl.run"]
    assert first.spec["run"] == "x" * 99 + "a"


def test_the_recipe_installs_what_pyproject_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert sorted(recipe.CORE) == sorted(project["dependencies"])
    assert {recipe.TORCH, *recipe.TRAIN} == set(extras["train"])
    assert set(recipe.MELEE) | set(recipe.TRAIN) > set(extras["melee"])
    assert list(recipe.WANDB) == extras["wandb"]
    assert sorted(recipe.KERNELS) == sorted(extras["gpu"])


def test_the_gpus_on_offer_are_those_that_the_plane_knows() -> None:
    pytest.importorskip("modal", reason="the modal extra is not installed")
    from plane.gpus import KNOWN

    assert set(offered()) <= set(KNOWN)


def test_planning_imports_no_modal(tmp_path: Path) -> None:
    code = "import sys, runctl.backends.modal.plan; print('modal' in sys.modules, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout == "False False\n"


REST = (
    "RUN python -m pip install 'lark>=1.3' 'numpy>=2.0' peppi-py==0.8.6 py-slippi==1.6.2 pyarrow==21.0.0 "
    "'pydantic>=2.10' 'pyyaml>=6.0.2' 'rich>=14' 'safetensors>=0.6' 'typer>=0.26,<0.29' 'wandb>=0.22'"
)
CPU_LINES = [
    "RUN python -m pip install torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu",
    REST,
    "RUN python -m pip install einops",
]
GPU_LINES = [
    "FROM nvidia/cuda:13.0.2-devel-ubuntu22.04",
    "COPY /python/. /usr/local",
    "RUN ln -s /usr/local/bin/python3 /usr/local/bin/python",
    "ENV TERMINFO_DIRS=/etc/terminfo:/lib/terminfo:/usr/share/terminfo:/usr/lib/terminfo",
    "ENTRYPOINT []",
    "RUN apt-get update",
    "RUN apt-get install -y build-essential git ninja-build",
    "RUN python -m pip install torch==2.13.0",
    f"RUN {recipe.AGREE}",
    "RUN python -m pip install ninja packaging setuptools wheel",
    "ENV CAUSAL_CONV1D_FORCE_BUILD=TRUE",
    "ENV CC=gcc",
    "ENV CXX=g++",
    "ENV MAMBA_FORCE_BUILD=TRUE",
    "ENV MAX_JOBS=4",
    "RUN python -m pip install causal-conv1d==1.7.0 mamba-ssm==2.3.2.post1 --no-build-isolation",
    REST,
    "RUN python -m pip install einops",
]


def sent(steps: tuple[recipe.Step, ...]) -> tuple[list[str], set[str]]:
    """The Dockerfile lines that the real client makes of a recipe, and the files that it mounts."""
    from plane import Plane
    from plane.clients import Clients

    unpinned = {"PYTHONPATH": str(ROOT), "MODAL_BUILD_VALIDATION": "ignore"}  # somebody may edit a file meanwhile
    with Plane() as plane, Clients() as clients:
        clients.do(plane, "image", steps=[step.to_json() for step in steps], environment=unpinned)
        lines = max((plane.images.recipe(image) for image in plane.world.images), key=len)
        files = {file.filename for mount in plane.world.mounts.values() for file in mount.files}
    return [line for line in lines if line != "FROM base"], files


@pytest.mark.parametrize("gpu", [False, True])
def test_the_client_makes_these_lines_of_the_recipe(gpu: bool) -> None:
    """Of the slim image, what comes before the first line of ours is the client's own, and not held here."""
    pytest.importorskip("modal", reason="the modal extra is not installed")
    ours, files = sent(recipe.recipe(gpu=gpu, kernels=True, python="3.12", packages=("einops",)))
    assert (ours if gpu else ours[-3:]) == (GPU_LINES if gpu else CPU_LINES)
    assert "/root/runctl/data/compiled/hardware.json" in files  # the client alone would send only *.py
    assert not [name for name in files if name.endswith(".pyc")]


def test_a_program_of_ones_own_gets_what_it_requires_after_what_runctl_needs(tmp_path: Path) -> None:
    pytest.importorskip("modal", reason="the modal extra is not installed")
    (tmp_path / "requirements.txt").write_text("jax==0.7.0\n")
    required = str(tmp_path / "requirements.txt")
    made = recipe.recipe(
        gpu=True, kernels=False, python="3.12", packages=("einops",), program=True, requirements=required
    )
    assert sent(made)[0][-4:] == [
        "RUN python -m pip install 'lark>=1.3' 'pydantic>=2.10' 'pyyaml>=6.0.2' 'rich>=14' 'typer>=0.26,<0.29'",
        "COPY /.requirements.txt /.requirements.txt",
        "RUN python -m pip install -r /.requirements.txt",
        "RUN python -m pip install einops",
    ]


@pytest.mark.parametrize(("release", "code"), [("13.1", 0), ("12.8", 1)])
def test_a_base_of_another_cuda_than_torchs_fails_before_anything_is_compiled(
    tmp_path: Path, release: str, code: int
) -> None:
    (tmp_path / "torch.py").write_text("class version:\n    cuda = '13.0'\n")
    (tmp_path / "nvcc").write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
    (tmp_path / "nvcc").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    said = subprocess.run(["sh", "-c", recipe.AGREE], capture_output=True, text=True, check=False, env=environment)
    assert said.returncode == code, said.stderr
    assert code == 0 or "torch is built for CUDA 13.0" in said.stderr
