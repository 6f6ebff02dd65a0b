"""The pages on waivers, policy, fixes and editors: each one's commands run in a project that holds its files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from runctl.cli import build

DOCS = Path(__file__).parents[1] / "docs"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.S | re.M)
FILE = re.compile(r"file=(\S+)")
EXIT = re.compile(r"\s+# exit (\d+)$")


@pytest.mark.parametrize("page", ["waivers.md", "policy.md", "fix.md", "editors.md", "guards.md"])
def test_every_command_of_the_page_does_what_it_says(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runctl.yaml").write_text("{}\n")
    Path("requirements.lock").write_text("runctl==1\n")
    text = (DOCS / page).read_text(encoding="utf-8")
    commands = 0
    for info, block in FENCE.findall(text):
        if found := FILE.search(info):
            Path(found[1]).parent.mkdir(parents=True, exist_ok=True)
            Path(found[1]).write_text(block)
        for line in block.splitlines() if info == "console" else ():
            if not line.startswith("$ runctl "):
                continue
            wanted = EXIT.search(line)
            arguments = shlex.split(EXIT.sub("", line))[2:]
            done = CliRunner().invoke(build(), arguments)
            assert done.exit_code == (int(wanted[1]) if wanted else 0), f"{line}\n{done.output}"
            commands += 1
    assert commands >= 3
