"""docs/status.md is true: its commands do what it says, and it names every state, option and column."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from test_docs import ROOT, commands, run

from runctl.status import SORTS, STATES
from runctl.view.cells import CELLS

PAGE = ROOT / "docs" / "status.md"


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "runctl.yaml").write_text("{}\n")
    small = "--set data.simulate.games=6 --set data.simulate.seconds=5 --set training.steps=12"
    for name in ("first", "second"):
        done = run(f"runctl launch configs/quickstart.yaml {small} --name {name} --detach", tmp_path)
        assert done.returncode == 0, done.stderr
        assert run(f"runctl wait {name} --timeout 2m", tmp_path).returncode == 0
    told = list(commands(PAGE))
    assert len(told) >= 15
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_page_names_every_state_column_and_key() -> None:
    named = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", PAGE.read_text(), flags=re.S)))
    words = {word for text in named for word in re.split(r"[ ,]+", text)}
    assert set(STATES) - {"killed", "stopped", "succeeded"} <= words
    assert set(CELLS) <= words | {"run", "state", "loss"}
    assert set(SORTS) <= words
