"""The GPUs that the service knows, and a stand-in for nvidia-smi that says which one a container got."""

from __future__ import annotations

import sys
from pathlib import Path

# Name in nvidia-smi, MiB, most in one container.
KNOWN: dict[str, tuple[str, int, int]] = {
    "T4": ("Tesla T4", 15360, 8),
    "L4": ("NVIDIA L4", 23034, 8),
    "A10": ("NVIDIA A10", 23028, 4),
    "A10G": ("NVIDIA A10G", 23028, 4),
    "L40S": ("NVIDIA L40S", 46068, 8),
    "A100": ("NVIDIA A100-SXM4-40GB", 40960, 8),
    "A100-40GB": ("NVIDIA A100-SXM4-40GB", 40960, 8),
    "A100-80GB": ("NVIDIA A100-SXM4-80GB", 81920, 8),
    "RTX-PRO-6000": ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887, 8),
    "H100": ("NVIDIA H100 80GB HBM3", 81559, 8),
    "H100!": ("NVIDIA H100 80GB HBM3", 81559, 8),
    "H200": ("NVIDIA H200", 143771, 8),
    "B200": ("NVIDIA B200", 183359, 8),
    "B200+": ("NVIDIA B200", 183359, 8),
    "B300": ("NVIDIA B300 SXM6 AC", 275040, 8),
}


def fault(kind: str, count: int) -> str:
    """Why the service refuses a GPU request; empty where it does not."""
    if kind.upper() not in KNOWN:
        return f"Unknown GPU type: {kind}"
    most = KNOWN[kind.upper()][2]
    return f"At most {most} GPUs of type {kind} can be attached" if not 1 <= count <= most else ""


def tools(folder: Path, kind: str, count: int) -> Path:
    """A directory for PATH with an `nvidia-smi` that answers --query-gpu for `count` GPUs of a kind."""
    name, mebibytes, _ = KNOWN[kind.upper()]
    folder.mkdir(parents=True)
    program = folder / "nvidia-smi"
    program.write_text(
        f"#!{sys.executable} -S\n"
        "import sys\n"
        f"known = {{'name': {name!r}, 'memory.total': {mebibytes}, 'driver_version': '580.95.05'}}\n"
        "asked = next((word.partition('=')[2] for word in sys.argv if word.startswith('--query-gpu=')), 'name')\n"
        "plain = any('nounits' in word for word in sys.argv)\n"
        "if not any('noheader' in word for word in sys.argv):\n"
        "    print(asked.replace(',', ', '))\n"
        f"for index in range({count}):\n"
        "    values = {**known, 'index': index, 'uuid': f'GPU-{index:08d}'}\n"
        "    if not plain:\n"
        "        values['memory.total'] = f\"{values['memory.total']} MiB\"\n"
        "    print(', '.join(str(values.get(field.strip(), '[N/A]')) for field in asked.split(',')))\n"
    )
    program.chmod(0o755)
    return folder
