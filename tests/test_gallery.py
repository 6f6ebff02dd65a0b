"""docs/gallery.md shows real outputs: every command on it runs here, and prints what the page says.

python tests/test_gallery.py   writes the outputs into the page anew
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "gallery.md"
FILE = re.compile(r"```\w+ file=(\S+)\n(.*?)```", re.S)
SHOWN = re.compile(r"```text\n(\$ .*?)```", re.S)


def scenes(page: str) -> list[str]:
    """The page in parts, one for each heading; joined again they are the page."""
    return re.split(r"(?=^## )", page, flags=re.M)


def played(scene: str, folder: Path) -> str:
    """The scene with the output of each of its commands, run in a project that holds the scene's files."""
    (folder / "runctl.yaml").write_text("{}\n")
    for name, text in FILE.findall(scene):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return SHOWN.sub(lambda block: f"```text\n{_shown(block[1], folder)}```", scene)


def _shown(block: str, folder: Path) -> str:
    lines = []
    for command in re.findall(r"^\$ (.*)$", block, flags=re.M):
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(command)],
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "140"},
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        lines.append(f"$ {command}\n{done.stdout}{done.stderr}")
        lines.append(f"(exit {done.returncode})\n" if done.returncode else "")
    return "".join(line.rstrip(" ") for line in lines)


@pytest.mark.parametrize("scene", scenes(PAGE.read_text(encoding="utf-8"))[1:], ids=lambda scene: scene.splitlines()[0])
def test_the_gallery_shows_what_runctl_says(scene: str, tmp_path: Path) -> None:
    assert played(scene, tmp_path) == scene, "stale: run python tests/test_gallery.py"


def write() -> None:
    parts = []
    for scene in scenes(PAGE.read_text(encoding="utf-8")):
        with tempfile.TemporaryDirectory() as folder:
            parts.append(played(scene, Path(folder)))
    PAGE.write_text("".join(parts), encoding="utf-8")


if __name__ == "__main__":
    write()
