"""What a person does wrong, and what runctl says: one message, the right exit code, and nothing left behind."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runctl import code_version, install

ROOT = Path(__file__).parent.parent
TRAIN = "data: {simulate: {games: 4, seconds: 2}}\ntraining: {steps: 10, batch_size: 16, seed: 1}\n"
PROGRAM = "task: command\ncommand: {argv: [python3, -c, pass]}\ncompute: {timeout: 5m}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two small configs, in which the test runs."""
    (tmp_path / "runctl.yaml").write_text("policy: {}\n")
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "job.yaml").write_text(PROGRAM)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, full."""
    room = tmp_path / "small"
    room.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", room]).returncode:
        pytest.skip("needs the right to mount a small tmpfs")
    (room / "runctl.yaml").write_text("policy: {}\n")
    (room / "job.yaml").write_text(PROGRAM)
    (room / "train.yaml").write_text(TRAIN)
    with (room / "fill").open("wb", buffering=0) as file:
        while written := os.statvfs(room).f_bavail:
            file.write(bytes(4096 * written))
    yield room
    subprocess.run(["umount", room], check=True)


def runctl(*words: str, cwd: Path | None = None, **more: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
    given: dict[str, object] = {"stdout": subprocess.PIPE, **more}
    return subprocess.run(
        [sys.executable, "-m", "runctl", *words],
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=60,
        check=False,
        **given,  # type: ignore[call-overload]
    )


def config(text: str) -> str:
    Path("given.yaml").write_text(text)
    return "given.yaml"


def test_a_full_disk_at_launch_is_one_message_and_leaves_nothing(small_disk: Path) -> None:
    done = runctl("launch", "job.yaml", "--detach", "--json", cwd=small_disk)
    assert done.returncode == 2, done.stderr
    assert f"error: no space left on {small_disk / 'runs'}" in done.stderr
    assert "hint: make room there" in done.stderr
    assert json.loads(done.stdout)["error"]["exit_code"] == 2
    assert not (small_disk / "runs").exists()


def test_a_full_disk_is_no_defect_in_the_other_commands(small_disk: Path) -> None:
    done = runctl("encode", "train.yaml", "--out", "data/set", cwd=small_disk)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "no space left on" in done.stderr
    assert "same command again" in done.stderr


def test_an_output_that_takes_nothing_more_is_said(project: Path) -> None:
    with open("/dev/full", "w") as full:
        done = runctl("config", "show", "train.yaml", "--json", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no space left on standard output")
    assert "Traceback" not in done.stderr


def test_a_file_that_may_not_grow_is_no_defect(project: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256, 256))

    done = runctl("launch", "job.yaml", "--detach", preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "may not grow any further" in done.stderr
    assert not (project / "runs").exists()


def test_preflight_says_what_a_launch_would_do(project: Path) -> None:
    """In every format; and a launch then refuses for the reasons that were given."""
    path = config("data: {encoded: data/later}\ntraining: {steps: 10, seed: 1}\n")
    text = runctl("preflight", path).stdout
    assert "would be refused at launch here: DA102 data.encoded: data/later is not there" in text
    (report,) = json.loads(runctl("preflight", path, "--json").stdout)["reports"]
    assert report["launch"] == {
        "refused": True,
        "because": [{"rule": "DA102", "message": "data.encoded: data/later is not there"}],
    }
    annotations = runctl("preflight", path, "--format", "github").stdout
    assert "title=launch::would be refused at launch here: DA102" in annotations
    assert runctl("launch", path, "--dry-run").returncode == 1
    assert "1 of 2 configs would launch here" in runctl("preflight", path, "train.yaml").stdout
    ready = json.loads(runctl("preflight", "train.yaml", "--json").stdout)["reports"][0]
    assert ready["launch"] == {"refused": False, "because": []}


def test_a_backend_that_is_unknown_is_found_before(project: Path) -> None:
    path = config(f"{TRAIN}compute: {{backend: locl}}\n")
    done = runctl("preflight", path)
    assert done.returncode == 1
    assert "GP105" in done.stdout
    assert runctl("launch", path, "--dry-run").returncode == 2


@pytest.mark.parametrize("gpu", ["H100:0", "H100:-1", "H100:two", "H100:", ""])
@pytest.mark.parametrize("command", [["preflight"], ["estimate"], ["launch", "--dry-run"]], ids=lambda words: words[0])
def test_a_count_of_gpus_that_cannot_be_is_a_usage_error(project: Path, command: list[str], gpu: str) -> None:
    done = runctl(command[0], "train.yaml", *command[1:], "--gpu", gpu)
    assert (done.returncode, done.stdout) == (2, "")
    assert "write it as A100-80GB" in done.stderr


def test_an_unknown_gpu_is_an_error_everywhere_with_the_nearest_names(project: Path) -> None:
    done = [runctl(*words, "--gpu", "H20") for words in (
        ("preflight", "train.yaml"), ("launch", "train.yaml", "--dry-run"), ("estimate", "train.yaml"))]  # fmt: skip
    assert [one.returncode for one in done] == [1, 1, 2]
    for one in done:
        assert "no GPU 'H20' in the catalogue" in one.stdout + one.stderr
        assert "did you mean 'H200'" in one.stdout + one.stderr


def test_a_launch_shows_the_warnings_of_preflight_first(project: Path) -> None:
    path = config(TRAIN.replace("batch_size: 16", "batch_size: 4096"))
    done = runctl("launch", path, "--dry-run", "--json")
    assert "warning DA111: training.batch_size is 4,096" in done.stderr
    assert "(given.yaml:2:23)" in done.stderr
    assert "DA111" in {finding["rule"] for finding in json.loads(done.stdout)["preflight"]["findings"]}


def test_a_batch_beyond_the_data_is_said_and_the_length_is_the_real_one(project: Path) -> None:
    path = config("data: {simulate: {games: 4, seconds: 2}}\ntraining: {epochs: 3, batch_size: 4096, seed: 1}\n")
    done = runctl("preflight", path)
    assert "DA111" in done.stdout
    assert "3 steps of 330 windows, 3 epochs" in done.stdout
    assert "1 step of 330 windows, 1 epoch " in runctl("preflight", path, "--set", "training.steps=1").stdout


def test_more_threads_than_cores_are_a_warning_only_where_the_run_is_here(project: Path) -> None:
    def found(*words: str) -> list[str]:
        report = json.loads(runctl("preflight", "train.yaml", "--json", *words).stdout)["reports"][0]
        return [finding["severity"] for finding in report["findings"] if finding["rule"] == "EN106"]

    assert found("--set", "training.threads=999") == ["warning"]
    assert found("--set", "training.threads=999", "--set", "compute.backend=modal") == []
    assert found("--set", "training.threads=1") == []


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_and_waited_for_by_nobody(project: Path, kind: str) -> None:
    folder = project / "configs"
    folder.mkdir()
    path = folder / "odd.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as end:
            os.chdir(folder)
            end.bind("odd.yaml")
            os.chdir(project)
    else:
        path.symlink_to("/dev/zero")
    for words in (["preflight", str(path)], ["preflight", "configs"], ["launch", str(path)], ["encode", str(path)]):
        done = runctl(*words)
        assert done.returncode == 2, words
        assert f"odd.yaml is a {'named pipe' if kind == 'pipe' else kind}, not a file" in done.stderr


def test_a_pipe_as_project_file_or_manifest_is_refused(project: Path) -> None:
    (project / "data" / "set").mkdir(parents=True)
    os.mkfifo(project / "data" / "set" / "manifest.json")
    path = config("data: {encoded: data/set, simulate: {games: 2}}\ntraining: {steps: 10, seed: 1}\n")
    done = runctl("preflight", path)
    assert done.returncode == 1
    assert "it is a named pipe, not a file" in done.stdout
    assert runctl("encode", path).returncode == 2
    (project / "runctl.yaml").unlink()
    os.mkfifo(project / "runctl.yaml")
    done = runctl("preflight", path)
    assert done.returncode == 2
    assert "runctl.yaml is a named pipe" in done.stderr


def test_a_file_as_dataset_is_called_a_file(project: Path) -> None:
    (project / "data").write_text("")
    done = runctl("preflight", config("data: {encoded: data}\ntraining: {steps: 10, seed: 1}\n"))
    assert done.returncode == 1
    assert "data is a file, not the folder of an encoded dataset" in done.stdout


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        ("training.steps=", 2, "error: --set 'training.steps=' gives no value\nhint: write --set training.steps=null"),
        ("training.lr=[", 2, "error: --set training.lr=[: the value cannot be read as YAML"),
        ("training.lr=x", 1, "error: training.lr: must be a valid number, not 'x' (--set training.lr=x) (CF100)"),
        ("command.argv=[]", 1, "error: command.argv: must hold at least 1 entry, not an empty list (--set command"),
    ],
)
def test_an_override_that_cannot_be_is_said_in_plain_words(project: Path, given: str, code: int, message: str) -> None:
    done = runctl("config", "show", "train.yaml", "--set", given)
    assert done.returncode == code
    assert done.stderr.startswith(message)


@pytest.mark.parametrize("written", ["[python3, job.py]", "python3 job.py"])
def test_a_command_without_argv_is_shown_with_it(project: Path, written: str) -> None:
    done = runctl("preflight", config(f"task: command\ncommand: {written}\n"))
    assert done.returncode == 1
    assert "fix: write it as command: {argv: [python3, job.py]}" in done.stdout


def test_encode_tells_wrong_places_from_bad_replays(project: Path) -> None:
    """2: a folder with nothing in it, or a dataset of another encoding in the way; 1: replays that cannot be read."""
    path = config("data: {encoded: set}\n")
    (project / "empty").mkdir()
    (project / "bad").mkdir()
    (project / "bad" / "x.slp").touch()
    assert runctl("encode", path, "--replays", "empty").returncode == 2
    assert runctl("encode", path, "--replays", "bad").returncode == 1
    assert runctl("encode", "train.yaml", "--out", "set").returncode == 0
    done = runctl("encode", "train.yaml", "--out", "set", "--set", "encoding.hitstun=true")
    assert done.returncode == 2
    assert "was encoded with another encoding" in done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["status", "nothing"], 2),
        (["pull", "nothing", "there"], 2),
        (["encode", "job.yaml"], 2),
        (["gpus", "H20"], 2),
        (["rules", "XX999"], 2),
        (["config", "show", "train.yaml", "--set", "training.lr=x"], 1),
    ],
)
def test_an_error_with_json_is_json_on_stdout_and_prose_on_stderr(project: Path, words: list[str], code: int) -> None:
    done = runctl(*words, "--json")
    assert done.returncode == code, done.stderr
    data = json.loads(done.stdout)
    assert data["schema_version"] == 1
    assert data["error"]["exit_code"] == code
    assert data["error"]["message"]
    assert done.stderr.startswith("error: ")
    if code == 1:
        assert data["error"]["problems"][0]["rule"] == "CF100"


def test_a_failed_launch_with_json_names_its_run(project: Path) -> None:
    path = config(f"name: sad\ntask: command\ncommand: {{argv: [{sys.executable}, -c, 'raise SystemExit(3)']}}\n")
    for words in (["--detach"], []):
        done = runctl("launch", path, "--json", *words)
        assert done.returncode == 6, done.stderr
        error = json.loads(done.stdout)["error"]
        assert error["run"].startswith("sad")
        assert "exit 3" in error["message"]


def test_unreadable_configs_are_errors_of_the_json_report(project: Path) -> None:
    done = runctl("preflight", "nowhere.yaml", "train.yaml", "--json")
    assert done.returncode == 2
    data = json.loads(done.stdout)
    assert [report["path"] for report in data["reports"]] == ["train.yaml"]
    assert "nowhere.yaml" in data["errors"][0]["message"]


def test_a_metric_that_nobody_computes_is_found_before_the_run(project: Path) -> None:
    done = runctl("preflight", "train.yaml", "--set", "checkpoint.metric=val/los")
    assert done.returncode == 1
    assert "CK109 checkpoint.metric is val/los (--set), which validation does not compute" in done.stdout
    assert "did you mean 'val/loss'?" in done.stdout


def test_a_card_that_is_not_there_is_said_by_preflight_and_launch(project: Path) -> None:
    path = config(PROGRAM + "budget: {max_cost_usd: 3}\ncard: cards/x.md\nguards: [{when: nan}]\n")
    wanted = "the card is not in order: no such file"
    assert wanted in runctl("preflight", path).stdout
    assert wanted in runctl("launch", path, "--dry-run").stderr


def test_gpus_that_are_left_out_are_named(project: Path) -> None:
    done = runctl("estimate", "train.yaml", "--all-gpus", "--set", "training.precision=bf16")
    assert "not shown: T4, V100-16GB, V100-32GB: no bf16" in done.stderr


def test_the_install_hint_fits_the_way_runctl_was_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert install.hint("train") == f"pip install -e '{ROOT}[train]'"
    monkeypatch.setattr(install, "__file__", str(tmp_path / "site-packages" / "runctl" / "install.py"))

    def installed_from(about: str | None) -> None:
        told = type("Distribution", (), {"read_text": lambda self, name: about})
        monkeypatch.setattr(install.importlib.metadata, "distribution", lambda name: told())

    installed_from(None)
    assert install.hint("train") == "pip install 'runctl[train]'"
    installed_from(json.dumps({"url": tmp_path.as_uri(), "dir_info": {}}))
    assert install.hint("train", "melee") == f"pip install '{tmp_path}[train,melee]'"


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("password: hunter2", True),
        ("  db_password: 'hunter2'", True),
        ("token = abc", True),
        ("export HF_TOKEN=abc", True),
        ("{user: me, password: hunter2}", True),
        ("max_tokens: 5", False),
        ("pad_token: <pad>", False),
        ("token: ${TOKEN}", False),
        ("password: null", False),
        ("tokenizer: gpt2", False),
    ],
)
def test_short_secrets_without_quotes_are_not_kept(line: str, secret: bool) -> None:
    diff = f"--- a/conf.yaml\n+++ b/conf.yaml\n+{line}\n"
    assert (line not in code_version._clean(diff)) is secret
    assert (line not in code_version.without_secrets(f"name: x\n{line}\n")) is secret
    code = f"--- a/m.py\n+++ b/m.py\n+{line}\n"
    assert not secret or "'" in line or line.startswith("export") or line in code_version._clean(code)


def test_colons_in_what_was_given_become_no_pictures(project: Path) -> None:
    done = runctl("wait", "nothing", "--until", "step:x")
    assert "--until step:x: no such thing" in done.stderr


@pytest.mark.parametrize("command", ["attach", "status", "stop", "why", "checkpoint"])
def test_a_word_that_could_leave_the_folder_of_the_runs_is_no_name(command: str, project: Path) -> None:
    done = runctl(command, "a/../a")
    assert done.returncode == 2
    assert "'a/../a' cannot be a run's name" in done.stderr
