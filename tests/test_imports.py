"""The architecture, proved: who may import what, and that fast commands load nothing heavy."""

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "runctl"
_TRACE = ("trace", "tracker", "solve", "generate", "measured", "compare", "reference", "families_generate")
TRACE = tuple(f"runctl.estimate.{name}" for name in _TRACE)
TORCH_ROOMS = ("runctl.train", "runctl.models", "runctl.tasks.worldmodel", *TRACE)
ONLY_HERE = {
    "torch": TORCH_ROOMS,
    "safetensors": ("runctl.train",),
    "numpy": (*TORCH_ROOMS,),
    "wandb": ("runctl.train.trackers.wandb_",),
    "rich": ("runctl.view",),
    "typer": ("runctl.cli",),
    "apprise": ("runctl.notices.send",),
    "detect_secrets": ("runctl.masking.library",),
    "lark": ("runctl.guards.grammar",),
    "modal": ("runctl.backends.modal", "runctl.remote"),
}
# A room may import only from rooms that stand further down.
ORDER = (
    ("runctl.cli",),
    ("runctl.view",),
    (
        "runctl.launch",
        "runctl.resume",
        "runctl.lost",
        "runctl.stop",
        "runctl.status",
        "runctl.logs",
        "runctl.journal",
        "runctl.pull",
        "runctl.attach",
        "runctl.wait",
        "runctl.events",
        "runctl.page",
        "runctl.notices.words",
        "runctl.notices.send",
        "runctl.notices.lost",
        "runctl.why",
        "runctl.checkpointing",
        "runctl.prune",
        "runctl.doctor",
    ),
    TRACE,  # the traced estimate steps the real trainer's optimizer on meta tensors
    ("runctl.train", "runctl.supervisor", "runctl.backends"),
    ("runctl.preflight", "runctl.reporting", "runctl.guarded"),
    ("runctl.rules", "runctl.adapters"),
    ("runctl.estimate", "runctl.facts", "runctl.repeats", "runctl.gathering.surroundings", "runctl.gathering.versus"),
    ("runctl.models", "runctl.tasks"),
    ("runctl.guards.watch", "runctl.masking.sweep"),
    ("runctl.marks",),
    ("runctl.record", "runctl.hardware", "runctl.prices", "runctl.project", "runctl.evidence", "runctl.code_version"),
    (
        "runctl.config",
        "runctl.shipped",
        "runctl.yamldoc",
        "runctl.yamlplain",
        "runctl.yamlscalar",
        "runctl.guards.listing",
        "runctl.guards.grammar",
        "runctl.notices.targets",
        "runctl.notices.kinds",
        "runctl.masking.spans",
        "runctl.masking.known",
        "runctl.masking.files",
        "runctl.masking.library",
    ),
    ("runctl.units", "runctl.errors", "runctl.names", "runctl.filekind", "runctl.install", "runctl.fields"),
    ("runctl.light",),
)
CONDITIONS = {"preflight configs": ("lark",)}  # run cards and guards are among them, whose conditions are parsed
FAST = {
    "help": ["--help"],
    "preflight": ["preflight", "configs/quickstart.yaml"],
    "preflight of a folder": ["preflight", "configs"],
    "estimate": ["estimate", "configs/mamba2-large.yaml"],
    "status": ["status"],
    "gpus": ["gpus"],
    "rules": ["rules"],
    "config show": ["config", "show", "configs/quickstart.yaml"],
    "launch --dry-run": ["launch", "configs/quickstart.yaml", "--dry-run"],
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imports(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def inside(module, rooms):
    return any(module == room or module.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize(("package", "rooms"), ONLY_HERE.items(), ids=list(ONLY_HERE))
def test_a_heavy_package_is_imported_only_in_its_rooms(package, rooms):
    strays = [
        name
        for name, path in modules()
        if not inside(name, rooms) and any(inside(target, (package,)) for target in imports(path))
    ]
    assert strays == []


def level(module):
    for depth, rooms in enumerate(ORDER):
        if inside(module, rooms):
            return depth
    return None


def test_imports_point_one_way():
    upward = [
        f"{name} imports {target}"
        for name, path in modules()
        if level(name) is not None
        for target in imports(path, top_level_only=True)
        if level(target) is not None and level(target) < level(name)
    ]
    assert upward == []


@pytest.mark.parametrize("arguments", FAST.values(), ids=list(FAST))
def test_a_fast_command_loads_neither_torch_nor_modal_nor_wandb(arguments, tmp_path):
    code = (
        "import sys\n"
        "sys.argv = ['runctl', *sys.argv[1:]]\n"
        "from runctl.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'modal', 'wandb', 'numpy', 'mamba_ssm', 'safetensors', 'pyarrow', 'lark', 'apprise'}\n"
        "heavy |= {'detect_secrets'}\n"
        f"heavy -= {set(CONDITIONS.get(' '.join(arguments), ()))}\n"
        "heavy &= set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), 'CODE', code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    )
    assert "HEAVY [] CODE 0" in done.stderr or "HEAVY [] CODE None" in done.stderr, done.stderr
