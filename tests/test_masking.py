"""Secrets in logs and records are hidden where they stand; run directories are their owner's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from fake_runs import in_state, make, supervised, until
from hypothesis import given, settings
from hypothesis import strategies as st
from test_launch import runctl

from runctl import record
from runctl.errors import UsageError
from runctl.gathering import secrets
from runctl.masking import files, known, library, spans, sweep
from runctl.masking.known import Known
from runctl.supervisor.verdict import ENDED

HF = "hf_AbCdEfGhIjKlMnOpQrStUv1234"
STRIPE = "sk_live_" + "a1B2" * 6  # only the library knows its shape
KEY = (
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7qQnMIIEpAIBAAKCAQEA7qQn\n"
    "MIIEpAIBAAKCAQEA7qQnMIIEpAIBAAKCAQEA7qQ8\nabc=\n-----END RSA PRIVATE KEY-----\n"
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "runctl.yaml").write_text("{}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def program(project: Path, text: str, **config: Any) -> record.RunDir:
    """A run of a program of one's own, not started."""
    run = make(project, task="command", command={"argv": [sys.executable, "-c", text]}, **config)
    record.write_json(run.run, record.read_object(run.run) | {"command": [sys.executable, "-c", text]})
    return run


def ended(run: record.RunDir) -> str:
    with supervised(run):
        until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    return run.attempt(1).log.read_text()


def masked(run: record.RunDir) -> list[tuple[str, int, str]]:
    rows = record.read_lines(run.events)
    return [(row["file"], row["line"], row["detector"]) for row in rows if row["event"] == "secret_masked"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (f"key {HF} ok", f"key {'*' * len(HF)} ok"),
        ("password: hunter2", "password: *******"),
        ("db = 'postgres://me:s3cr3t!@host/db'", "db = 'postgres://me:*******@host/db'"),
        ('{"api_key": "a1b2c3d4e5f6g7h8i9"}', '{"api_key": "******************"}'),
        ("Authorization: Bearer abcdef0123456789ABCDEF", "Authorization: Bearer **********************"),
        ("run --api-key abcdef0123456789ABCDEF x", "run --api-key ********************** x"),
        (KEY, spans.covered(KEY.partition("-----END")[0].rstrip("\n")) + "\n-----END RSA PRIVATE KEY-----\n"),
        # what a log is full of stays
        ("tokens_per_second: 1234.5, token: 5, pad_token=<pad>", None),
        ("password=None, api_key: ${API_KEY}, secret: null, key=value", None),
        ("task-name ask-1 mask-rate 0.15 sk-learn eyJ", None),
        ("/usr/lib/python3.11/site-packages/torch/nn/modules/module.py", None),
        ("commit 6974f3d2c1b0a99887766554433221100ffeeddc step-000000123", None),
        ("PWD: /home/me/project pwd=/tmp/x.y", None),
        ("key error: 'labels' KeyError: 'author' secretary: Anna", None),
    ],
)
def test_what_is_secret_in_a_line_is_hidden_and_what_is_not_stays(text: str, wanted: str | None) -> None:
    assert spans.hidden(text, known.NOTHING, library.detectors) == (text if wanted is None else wanted)


def test_every_shape_of_a_key_that_configs_are_searched_for_is_searched_for_in_logs() -> None:
    assert set(spans._BEGINS) == set(secrets.shapes())


def test_the_detectors_of_the_library_are_asked_too() -> None:
    assert STRIPE not in spans.hidden(f"charged with {STRIPE}", known.NOTHING, library.detectors)
    assert STRIPE in spans.hidden(f"charged with {STRIPE}")
    assert library.detectors()


PIECES = ["a", "\n", "é", "İ", "\x00", " ", "=", "token", "password", f" {HF} ", "://u:pw123@h"]


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_hiding_keeps_the_length_and_every_line_break_of_any_text(pieces: list[str]) -> None:
    text = "".join(pieces)
    found = spans.hidden(text)
    assert len(found) == len(text)
    assert [at for at, one in enumerate(found) if one == "\n"] == [at for at, one in enumerate(text) if one == "\n"]
    assert HF not in found
    assert spans.hidden(found) == found


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.binary(max_size=30), st.booleans())
def test_a_secret_written_in_pieces_is_hidden_whole_and_no_other_byte_changes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], noise: bytes, newline: bool
) -> None:
    path = tmp_path_factory.mktemp("log") / "log.txt"
    noise = noise.replace(b"\n", b"?")
    data = noise + b" \n" + HF.encode() + b" and my-own-value-7 " + noise + b"\n" * newline
    masker = files.Masker(path, Known((("my-own-value-7", "a value"),)))
    found, at = [], 0
    for cut in [*cuts, len(data)]:
        with path.open("ab") as file:
            file.write(data[at : at + cut])
        at += cut
        found += masker.look()
    hidden = data.replace(HF.encode(), b"*" * len(HF)).replace(b"my-own-value-7", b"*" * 14)
    assert path.read_bytes() == hidden
    assert {(one.kind, one.line) for one in found} == {("a Hugging Face token", 2), ("a value", 2)}


def test_a_log_that_was_cut_or_replaced_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    masker = files.Masker(path)
    assert masker.look() == []  # not there yet
    path.write_text("x" * 1000 + "\n")
    masker.look()
    path.write_text(f"{HF}\n")
    assert [one.line for one in masker.look()] == [1]
    path.unlink()
    path.write_text("y" * 2000 + f"\n{HF}\n")
    assert [one.line for one in masker.look()] == [2]
    assert HF not in path.read_text()


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder"])
def test_what_is_no_file_of_the_log_alone_is_never_written_to(tmp_path: Path, kind: str) -> None:
    outside, path = tmp_path / "outside.txt", tmp_path / "log.txt"
    outside.write_text(f"token {HF}\n")
    make_it = {"link": lambda: path.symlink_to(outside), "hard link": lambda: os.link(outside, path)}
    make_it |= {"pipe": lambda: os.mkfifo(path), "folder": path.mkdir}
    make_it[kind]()
    assert files.Masker(path).look() == []
    assert outside.read_text() == f"token {HF}\n"


def test_what_a_program_prints_is_hidden_in_its_log_while_it_runs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own environment, a key of a known shape, a binary line, and a last line without an end."""
    monkeypatch.setenv("MY_SERVICE_TOKEN", "c0rrect-horse-battery")
    text = (
        "import os, sys, time\n"
        f"print('login', {HF!r}, flush=True)\n"
        "sys.stdout.buffer.write(bytes(range(256)) + b'\\n'); sys.stdout.flush()\n"
        "time.sleep(2.5)\n"
        "print('dump', os.environ['MY_SERVICE_TOKEN'], end='', flush=True)\n"
    )
    run = program(project, text)
    with supervised(run):
        until(run, lambda _: bool(masked(run)))
        assert HF not in run.attempt(1).log.read_text(errors="replace")
        assert not run.attempt(1).exit.exists()  # while it runs
        until(run, in_state(*ENDED))
        until(run, lambda _: run.summary.exists())
    data = run.attempt(1).log.read_bytes()
    assert data == b"login " + b"*" * len(HF) + b"\n" + bytes(range(256)) + b"\ndump " + b"*" * 21
    log = "attempts/1/log.txt"
    assert masked(run) == [(log, 1, "a Hugging Face token"), (log, 4, "the value of MY_SERVICE_TOKEN")]
    assert "c0rrect" not in run.events.read_text()


def test_no_record_of_a_failure_repeats_the_secret_in_its_last_words(project: Path) -> None:
    run = program(project, f"raise SystemExit('cannot log in with password: hunter22 and {HF}')")
    ended(run)
    assert "cannot log in with password" in record.read_object(run.attempt(1).exit)["reason"]
    for path in run.path.rglob("*"):
        if path.is_file() and path != run.run:  # the program itself stands there
            assert HF not in path.read_text(errors="replace"), path
            assert "hunter22" not in path.read_text(errors="replace"), path


def test_what_only_the_library_knows_is_hidden_once_the_attempt_has_ended(project: Path) -> None:
    run = program(project, f"print('charged with', {STRIPE!r})")
    ended(run)
    deadline = time.monotonic() + 20
    while not masked(run) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert STRIPE not in run.attempt(1).log.read_text()
    assert masked(run) == [("attempts/1/log.txt", 1, "Stripe Access Key (detect-secrets)")]
    assert sweep.sweep(run, 1) == 0  # and not again


def test_a_program_that_repeats_a_secret_does_not_fill_the_record(project: Path) -> None:
    run = program(project, f"for _ in range(5000): print({HF!r})")
    assert HF not in ended(run)
    assert 1 <= len(masked(run)) <= 50
    assert any(row["event"] == "secrets_masked" for row in record.read_lines(run.events))


def test_what_stands_in_a_run_json_and_a_diff_is_hidden_before_it_is_stored(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOY_PASSWORD", "kestrel-over-water")
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"], check=True
    )
    (project / "a.py").write_text(f"call('kestrel-over-water')\nother('{STRIPE}')\nplain = 1\n")
    (project / "a.yaml").write_text(
        "name: a\ntask: command\ncommand: {argv: [python3, -c, 'print(1)']}  # kestrel-over-water\n"
    )
    done = runctl("launch", "a.yaml", "--allow", "CF110", "--because", "kestrel-over-water")
    assert done.returncode == 0, done.stderr
    run = record.RunDir(project / "runs" / "a")
    diff = run.code_diff.read_text()
    assert "plain = 1" in diff
    assert STRIPE not in diff
    for path in (run.run, run.code_diff):
        assert "kestrel" not in path.read_text()
    assert "# ******************" in record.read_object(run.run)["config_text"]


def modes(run: record.RunDir) -> dict[str, str]:
    names = [run.path, run.run, run.attempt(1).log, run.events, run.supervisor_log, run.attempt(1).exit, run.summary]
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in names}


@pytest.mark.parametrize(
    ("settings_", "folder", "file"), [("{}", "0o700", "0o600"), ("share: group", "0o750", "0o640")]
)
def test_a_run_is_its_owners_or_the_groups_and_a_programs_own_files_are_as_ever(
    project: Path, settings_: str, folder: str, file: str
) -> None:
    (project / "runctl.yaml").write_text(settings_ + "\n")
    (project / "a.yaml").write_text(
        "name: a\ntask: command\ncommand: {argv: [python3, -c, \"print(1); open('out.txt', 'w')\"]}\n"
    )
    before = os.umask(0o022)
    try:
        assert runctl("launch", "a.yaml").returncode == 0
    finally:
        os.umask(before)
    run = record.RunDir(project / "runs" / "a")
    until(run, lambda _: run.summary.exists())
    found = modes(run)
    assert found.pop("a") == folder
    assert set(found.values()) == {file}, found
    assert oct(stat.S_IMODE((project / "out.txt").stat().st_mode)) == "0o644"
    assert oct(stat.S_IMODE((project / "runs").stat().st_mode)) == "0o755"
    assert runctl("pull", "a", "taken").returncode == 0
    assert oct(stat.S_IMODE((project / "taken" / "a").stat().st_mode)) == folder
    assert oct(stat.S_IMODE((project / "taken" / "a" / "run.json").stat().st_mode)) == file


def test_a_wrong_share_is_refused_at_its_place(project: Path) -> None:
    (project / "runctl.yaml").write_text("share: everybody\n")
    done = runctl("launch", "a.yaml")
    assert done.returncode == 2
    assert "runctl.yaml:1:1: share can only be group" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_users_run_is_left_out_of_the_list_and_named_when_it_is_asked_for() -> None:
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        project.chmod(0o755)
        (project / "runctl.yaml").write_text("{}\n")
        run = make(project, name="mine")
        run.path.chmod(0o700)
        pid = os.fork()
        if not pid:  # this very process as another user: its modules are loaded
            os.chdir(project)
            os.setgid(65534)
            os.setuid(65534)
            try:
                record.find(project, "mine")
            except UsageError as error:
                os._exit(record.list_runs(project) != [] or "another user's run" not in error.message)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_pull_hides_what_an_older_run_left_in_its_log(project: Path) -> None:
    run = program(project, "print('one')")
    ended(run)
    run.attempt(1).log.write_text(f"one {HF}\n")
    done = runctl("pull", "run", "taken")
    assert done.returncode == 0, done.stderr
    assert "1 secret hidden in the copied logs" in done.stderr
    assert (project / "taken" / "run" / "attempts" / "1" / "log.txt").read_text() == f"one {'*' * len(HF)}\n"
    assert HF in run.attempt(1).log.read_text()  # the run itself is not touched by a copy
