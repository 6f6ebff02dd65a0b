"""The docs are true: their commands run, their links lead somewhere, and nothing in them is stale."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
EXIT = re.compile(r"\s+# exit (\d+)$")


def commands(page):
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), flags=re.S):
        for line in block.splitlines():
            if line.startswith("$ runctl "):
                wanted = EXIT.search(line)
                yield EXIT.sub("", line)[2:], int(wanted[1]) if wanted else 0


def run(command, cwd):
    return subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
        timeout=300,
        check=False,
    )


def test_every_command_of_the_journey_does_what_the_page_says(tmp_path):
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "runctl.yaml").write_text("{}\n")
    told = list(commands(ROOT / "docs" / "journey.md"))
    assert len(told) >= 15
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    assert (tmp_path / "taken" / "first").is_dir()


def test_every_command_of_the_ci_page_does_what_the_page_says(tmp_path):
    from test_base import commit, git, paid

    git(tmp_path, "init", "-q")
    commit(tmp_path, {"runctl.yaml": "{}\n", "configs/a.yaml": paid()})
    git(tmp_path, "checkout", "-q", "-b", "topic")
    commit(tmp_path, {"configs/a.yaml": paid(width=1024, epochs=40)})
    told = list(commands(ROOT / "docs" / "ci.md"))
    assert len(told) >= 3
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "report" / "runctl.sarif").is_file()


def test_every_command_of_the_page_on_resuming_does_what_it_says(tmp_path):
    page = (ROOT / "docs" / "resume.md").read_text()
    (tmp_path / "runctl.yaml").write_text("{}\n")
    for name, text in re.findall(r"```yaml file=(\S+)\n(.*?)```", page, flags=re.S):
        (tmp_path / name).write_text(text)
    said = {}
    for command, code in commands(ROOT / "docs" / "resume.md"):
        done = run(command, tmp_path)
        said[command] = done.stdout
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        for line in re.findall(r"^    (error: .*\n      training.*)$", page, flags=re.M) if code == 4 else ():
            assert line.replace("\n    ", "\n") in done.stderr
    assert "config changed since the launch: training.epochs 2.0 → 3.0" in said["runctl status short"]


def test_every_command_of_the_page_on_failures_does_what_it_says_and_its_classes_are_those_of_the_program(tmp_path):
    from runctl.supervisor.failures import AGAIN, KINDS

    page = (ROOT / "docs" / "failures.md").read_text()
    (tmp_path / "runctl.yaml").write_text("{}\n")
    for name, text in re.findall(r"```yaml file=(\S+)\n(.*?)```", page, flags=re.S):
        (tmp_path / name).write_text(text)
    told = list(commands(ROOT / "docs" / "failures.md"))
    assert len(told) >= 3
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    assert '"kind": "user_error"' in done.stdout
    rows = {
        kind: again.startswith("yes") for kind, again in re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, flags=re.M)
    }
    assert rows == {kind: kind in AGAIN for kind in KINDS}


@pytest.mark.parametrize("name", ["logs.md", "space.md", "doctor.md"])
def test_every_command_of_the_pages_on_logs_room_and_the_machine_does_what_they_say(tmp_path, name):
    page = (ROOT / "docs" / name).read_text()
    (tmp_path / "runctl.yaml").write_text("{}\n")
    for file, text in re.findall(r"```(?:yaml|python) file=(\S+)\n(.*?)```", page, flags=re.S):
        (tmp_path / file).write_text(text)
    told = list(commands(ROOT / "docs" / name))
    assert told
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_every_command_of_the_page_on_notices_does_what_it_says_and_its_kinds_are_those_of_the_program(
    tmp_path, monkeypatch
):
    from runctl.notices.targets import KINDS

    page = (ROOT / "docs" / "notices.md").read_text()
    for name in ("RUNCTL_NOTICE_URL", "ONCALL_NOTICE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, text in re.findall(r"```yaml file=(\S+)\n(.*?)```", page, flags=re.S):
        (tmp_path / name).write_text(text)
    told = list(commands(ROOT / "docs" / "notices.md"))
    assert len(told) >= 2
    for command, code in told:
        done = run(command, tmp_path)
        assert done.returncode == code, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "is not set" in done.stdout
    assert re.findall(r"^\| `(\w+)` \|", page, flags=re.M) == list(KINDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configs_and_commands_named_in_a_page_exist(page):
    from runctl.cli import COMMANDS

    text = page.read_text()
    brought = {*re.findall(r"file=configs/([\w-]+\.yaml)", text), "first.yaml"}  # by the page, by runctl init
    for name in set(re.findall(r"configs/([\w-]+\.yaml)", text)) - brought:
        assert (ROOT / "configs" / name).is_file(), f"{page.name} names configs/{name}"
    for name in set(re.findall(r"`runctl ([a-z]+)", text)):
        assert name in COMMANDS, f"{page.name} names runctl {name}"


def test_every_config_section_named_in_the_docs_is_valid_yaml_for_a_config(tmp_path):
    from runctl import config as configs

    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "any-program.md").read_text(), flags=re.S)
    path = tmp_path / "exp.yaml"
    path.write_text(block)
    assert configs.load(path).config.task == "command"
