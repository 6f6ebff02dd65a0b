"""A run directory whose files are damaged or hostile: no command fails on it, waits for it, shows what steers a
terminal, or writes or copies anything that lies outside of it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fake_runs import in_state, make, pids, supervised, until
from typer.testing import CliRunner

from runctl import cli, record, status
from runctl.shown import plain
from runctl.supervisor.verdict import ENDED

ESCAPE = "\x1b[2J\x1b]0;owned\x07\x9b31mred\r\x08\u202e"
COMMANDS = (
    ("status",),
    ("status", "--all", "--json"),
    ("status", "run"),
    ("status", "run", "--json"),
    ("logs", "run"),
    ("logs", "run", "--json"),
    ("logs", "run", "--raw", "--tail", "5"),
    ("events", "run"),
    ("why", "run"),
    ("why", "run", "--json"),
    ("wait", "run", "--timeout", "1s"),
    ("pull", "run", "taken"),
)
VALUES: dict[str, Any] = {
    "null": None,
    "a list": [1, ["x"], {}],
    "an object": {"a": {"b": []}},
    "text": ESCAPE,
    "no character": "\ud800",
    "a huge number": 10**400,
    "infinite": float("inf"),
    "not a number": float("nan"),
    "below zero": -(2**63),
    "true": True,
    "long": "x" * 100_000,
    "with a zero byte": "a\0b",
    "a way out": "../../../outside",
}
TEXTS = {
    "empty": b"",
    "torn": b'{"state": "succ',
    "no text": bytes(range(256)),
    "nested": b"[" * 200_000,
    "nested object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a list": b"[]\n",
    "many digits": b'{"step": ' + b"9" * 5000 + b"}\n",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run that has ended, and failed, after a checkpoint."""
    project = tmp_path_factory.mktemp("finished")
    (project / "runctl.yaml").write_text("{}\n")
    run = make(project, "--steps", 20, "--fail-at", 12)
    with supervised(run):
        until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "p")
    monkeypatch.chdir(tmp_path / "p")
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / "p"


def records(project: Path) -> list[Path]:
    """The files of the run that hold JSON."""
    run = project / "runs" / "run"
    return sorted([*run.rglob("*.json"), *run.glob("*.jsonl")])


def mutated(value: Any, other: Any, levels: int) -> Any:
    """A record with every value replaced, so many objects deep."""
    if isinstance(value, dict) and levels:
        return {key: mutated(one, other, levels - 1) for key, one in value.items()}
    return other


def mutate(path: Path, other: Any, levels: int = 1) -> None:
    """Replace the values of a record; rows stay those of their attempt, and events of their name."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else []
    if not rows:
        path.write_text(json.dumps(mutated(json.loads(path.read_text()), other, levels)))
        return
    kept = [{key: row[key] for key in ("attempt", "event") if key in row} for row in rows]
    new = [mutated(row, other, levels) | same for row, same in zip(rows, kept, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in new))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fails where something waits for ever, for a named pipe for instance."""

    def over(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still busy after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def no_number(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def every_command_copes(said: str) -> dict[tuple[str, ...], str]:
    """Run all commands; none may end by a defect. Returns what each printed."""
    shutil.rmtree("taken", ignore_errors=True)
    app, printed = cli.build(), {}
    for words in COMMANDS:
        with within(20):
            done = CliRunner().invoke(app, list(words))
        assert done.exit_code in (0, 1, 2, 4, 5, 6, 7, 8), f"{said}: {words}: {done.exit_code}\n{done.output[-2000:]}"
        assert done.exception is None or isinstance(done.exception, SystemExit), f"{said}: {words}: {done.exception!r}"
        for letter in "\x1b\x07\x9b\r\x08\u202e":
            raw = words[:2] == ("logs", "run") and "--raw" in words
            assert raw or letter not in done.output, f"{said}: {words} shows {letter!r}"
        if "--json" in words and words[0] == "status" and done.exit_code in (0, 6):
            json.loads(done.stdout, parse_constant=no_number)
        printed[words] = done.output
    return printed


@pytest.mark.parametrize("name", VALUES)
def test_values_of_any_kind_in_all_records_at_once(project: Path, name: str) -> None:
    for path in records(project):
        mutate(path, VALUES[name], levels=1)
    every_command_copes(f"{name} everywhere")


@pytest.mark.parametrize("name", ["null", "a list", "text", "a huge number", "infinite"])
def test_values_of_any_kind_within_the_objects_of_all_records(project: Path, name: str) -> None:
    for path in records(project):
        mutate(path, VALUES[name], levels=2)
    every_command_copes(f"{name} in all objects")


@pytest.mark.parametrize("name", TEXTS)
def test_text_of_any_kind_in_all_records_at_once(project: Path, name: str) -> None:
    for path in [*records(project), *(project / "runs").rglob("log.txt")]:
        path.write_bytes(TEXTS[name])
    every_command_copes(f"{name} everywhere")


@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device", "link to nothing", "link to itself"])
def test_something_else_in_the_place_of_every_file(project: Path, kind: str) -> None:
    run = project / "runs" / "run"
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to({"link to a device": "/dev/zero", "link to nothing": "/nowhere"}.get(kind, path.name))
    printed = every_command_copes(f"a {kind} everywhere")
    assert "lost" in printed["status",]


def test_what_is_too_large_is_not_read(project: Path) -> None:
    """A record that is a hole of 8 GiB, and events in one line of 8 MiB."""
    run = record.RunDir(project / "runs" / "run")
    for path in (run.run, run.attempt(1).heartbeat, run.attempt(1).exit):
        os.truncate(path, 8 << 30)
    run.events.write_bytes(b'{"event": "' + b"x" * (8 << 20) + b'"}\n' + run.events.read_bytes())
    printed = every_command_copes("too large")
    assert "run.json cannot be read: it is larger than" in " ".join(printed["status", "run"].split())
    assert next(row["event"] for row in record.read_lines(run.events)) == "attempt_started"


@pytest.mark.parametrize("what", ["log.txt", "run.json", "attempts/1", "checkpoints/step"])
def test_a_pull_takes_nothing_that_lies_outside_of_the_run(project: Path, what: str) -> None:
    secret = project / "secret"
    secret.mkdir()
    (secret / "log.txt").write_text("not to be copied")
    (secret / "manifest.json").write_text(json.dumps({"step": 10, "files": {"log.txt": {}}}))
    run = project / "runs" / "run"
    path = {"log.txt": run / "attempts/1/log.txt", "checkpoints/step": run / "checkpoints/step-000000010"}.get(
        what, run / what
    )
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(secret / "log.txt" if path.suffix else secret)
    done = CliRunner().invoke(cli.build(), ["pull", "run", "taken", "--checkpoint", "all"])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    copied = "".join(path.read_text(errors="replace") for path in (project / "taken").rglob("*") if path.is_file())
    assert "not to be copied" not in copied
    if what != "checkpoints/step":
        assert f"left out: {path.relative_to(run)}" in done.output.replace("\n", " ")
    assert not [path for path in (project / "taken").rglob("*") if path.is_symlink()]


@pytest.mark.parametrize("name", ["../../../outside", "/etc/hostname", "a/b", "..", "", "with\0zero"])
def test_a_manifest_cannot_name_a_file_outside_of_its_checkpoint(project: Path, name: str) -> None:
    manifest = project / "runs/run/checkpoints/step-000000010/manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"files": {name: {"sha256": "0"}}}))
    (project / "taken").mkdir()
    before = sorted(project.parent.rglob("*"))
    done = CliRunner().invoke(cli.build(), ["pull", "run", "taken", "--checkpoint", "10"])
    assert done.exit_code in (2, 6), done.output
    assert isinstance(done.exception, SystemExit)
    assert sorted(project.parent.rglob("*")) == before


def test_names_in_runs_and_attempts_that_are_none_are_no_runs_and_no_attempts(project: Path) -> None:
    run = project / "runs" / "run"
    for name in ("²", "٣", "007", "1e3", "-1", "x", "9" * 200):
        (run / "attempts" / name).mkdir()
    (project / "runs" / f"evil{ESCAPE.replace('/', '')}").mkdir()
    shutil.copy(run / "run.json", project / "runs" / f"evil{ESCAPE}" / "run.json")
    assert [attempt.number for attempt in record.RunDir(run).attempts()] == [1, int("9" * 200)]
    every_command_copes("odd names")


def test_a_terminal_shows_pictures_of_what_would_steer_it(project: Path) -> None:
    """On a real terminal: colours of runctl's own stay, nothing of a program's reaches it."""
    run = record.RunDir(project / "runs" / "run")
    end = record.read_object(run.attempt(1).exit)
    record.write_json(run.attempt(1).exit, end | {"reason": f"it said {ESCAPE}", "failure": None})
    record.write_json(run.summary, record.read_object(run.summary) | {"reason": f"it said {ESCAPE}"})
    run.attempt(1).log.write_text(f"ValueError: {ESCAPE}\n")
    for words in (("status",), ("status", "run"), ("why", "run"), ("logs", "run"), ("events", "run")):
        shown = on_a_terminal(*words)
        for bad in ("\x1b[2J", "\x1b]0", "\x9b", "\x07", "\u202e"):
            assert bad not in shown, (words, shown)
        assert "owned" in shown or words in (("logs", "run"), ("events", "run")), (words, shown)


def on_a_terminal(*words: str) -> str:
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm-256color"}
    with subprocess.Popen(
        [sys.executable, "-m", "runctl", *words], stdout=follower, stderr=follower, env=environment
    ) as one:
        os.close(follower)
        parts = []
        with suppress(OSError):  # its end
            while part := os.read(leader, 1 << 16):
                parts.append(part)
        one.wait(30)
    os.close(leader)
    return b"".join(parts).decode(errors="replace")


def test_plain_keeps_the_places_of_letters_and_drops_colours() -> None:
    assert plain("a\x1b[31mb\x1b[0m\tc\n") == "ab\tc\n"
    assert plain("a\x1bb\x7f\x9bc\ud800") == "a␛b␡\ufffdc\ufffd"
    assert plain("Grüße, 日本 ✓") == "Grüße, 日本 ✓"


@pytest.mark.parametrize("name", ["events.jsonl", "attempts/1/log.txt", "attempts/1/.reserve", "supervisor.log"])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_supervisor_writes_through_no_link_and_waits_for_no_pipe(tmp_path: Path, name: str, kind: str) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("as it was\n")
    run = make(tmp_path, "--steps", 3)
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).symlink_to(outside) if kind == "link" else os.mkfifo(run.path / name)
    with within(20):
        try:
            with supervised(run) as pid:
                os.waitpid(pid, 0)
        except OSError as error:
            assert name == "supervisor.log", error  # noqa: PT017 - it is not even started
    assert outside.read_text() == "as it was\n"
    assert status.read(run).state in ("failed", "succeeded", "queued")


def test_a_trainer_that_puts_a_pipe_in_the_place_of_its_records_does_not_stop_its_supervisor(tmp_path: Path) -> None:
    run = make(tmp_path, "--steps", 100_000, "--checkpoint-every", 100_000, "--silent-at", 5)
    with supervised(run), within(30):
        until(run, in_state("running"))
        trainer = pids(run)[1]
        time.sleep(0.5)  # it is silent by now, and writes none of them anew
        for path in (run.attempt(1).heartbeat, run.metrics, run.attempt(1).result):
            path.unlink(missing_ok=True)
            os.mkfifo(path)
        time.sleep(0.6)
        os.kill(trainer, signal.SIGKILL)
        assert until(run, in_state(*ENDED)).state == "failed"
