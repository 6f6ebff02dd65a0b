"""The command line as a whole: help with examples, exit codes, one message and never a traceback."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runctl import cli

ROOT = Path(__file__).parent.parent


def runctl(*arguments, cwd=ROOT, **environment):
    return subprocess.run(
        [sys.executable, "-m", "runctl", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", **environment},
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_with_examples(name):
    done = runctl(name, "--help")
    assert done.returncode == 0
    module = importlib.import_module(f"runctl.cli.{name}")
    if hasattr(module, "app"):
        for command in module.app.registered_commands:
            assert "Examples:" in runctl(name, command.name or command.callback.__name__, "--help").stdout
    else:
        assert f"Examples:\n    runctl {name}" in done.stdout


def test_version_and_help_go_to_stdout():
    assert runctl("--version").stdout.startswith("runctl 0.")
    assert "preflight" in runctl("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["config", "show", "configs/missing.yaml"], 2, "error: no such file"),
        (["config", "show", "configs/quickstrat.yaml"], 2, "hint: did you mean 'quickstart.yaml'?"),
        (["config", "show"], 2, "Missing argument"),
        (["lanch"], 2, "Did you mean 'launch'?"),
        (["config", "show", "configs/quickstart.yaml", "--set", "training.lr"], 2, "is not key=value"),
        (["config", "show", "configs/quickstart.yaml", "--set", "training.lr=x"], 1, "must be a valid number"),
        (["status", "no-such-run"], 2, "error: no run"),
        (["logs", "../x"], 2, "cannot be a run's name"),
    ],
)
def test_a_wrong_command_ends_in_one_message_and_its_exit_code(arguments, code, message):
    done = runctl(*arguments)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_json_has_a_schema_version_and_nothing_else_on_stdout():
    done = runctl("config", "show", "configs/quickstart.yaml", "--json")
    data = json.loads(done.stdout)
    assert data["schema_version"] == 1
    assert data["config"]["name"] == "quickstart"
    assert data["origins"]["training.lr"]["position"].startswith("configs/quickstart.yaml:")


def test_the_schema_takes_json_like_every_command():
    assert json.loads(runctl("config", "schema", "--json").stdout) == json.loads(runctl("config", "schema").stdout)


@pytest.mark.parametrize(
    ("arguments", "prose"),
    [
        (["estimate", "configs/quickstart.yaml"], ""),
        (["config", "schema"], ""),
        (["config", "show", "configs/missing.yaml", "--json"], "error: no such file: configs/missing.yaml\n"),
        (["--help"], ""),
    ],
)
def test_a_closed_pipe_is_left_quietly_with_141(arguments, prose):
    reader, writer = os.pipe()
    os.close(reader)
    argv, env = [sys.executable, "-m", "runctl", *arguments], {**os.environ, "NO_COLOR": "1", "PYTHONUNBUFFERED": ""}
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, prose)


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-", "2>&-"])
def test_a_stream_that_is_closed_from_the_start_harms_nothing(streams, tmp_path):
    for arguments in ("estimate configs/quickstart.yaml --json", "status --all --json", "rules"):
        line = f"{sys.executable} -m runctl {arguments} {streams}"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), arguments


def test_a_defect_is_called_a_defect_and_exits_3(monkeypatch, capsys):
    import typer

    @cli.guarded
    def broken():
        raise ZeroDivisionError("oops")

    with pytest.raises(typer.Exit) as caught:
        broken()
    assert caught.value.exit_code == 3
    assert "defect of runctl" in capsys.readouterr().err


def test_shell_completion_completes_commands():
    done = runctl(_RUNCTL_COMPLETE="complete_bash", COMP_WORDS="runctl prefl", COMP_CWORD="1")
    assert "preflight" in done.stdout
