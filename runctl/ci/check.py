"""The step that judges: `runctl preflight` once, with annotations in the log, the summary, and files for later steps.

It ends with 0 also where configs are refused, so that the comment is still written; the exit code is an output, and
the action's last step leaves with it.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from runctl.ci import workflow
from runctl.ci.workflow import Environment

_SECONDS = 120
_DEEPER = "check out with actions/checkout and fetch-depth: 2 (pull requests) or 0"


def step(environment: Environment) -> int:
    """Run preflight as the inputs say; returns 0 unless the step itself could not work, then 2."""
    folder = Path(environment.get("RUNNER_TEMP") or ".") / "runctl"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"sarif": folder / "runctl.sarif", "markdown": folder / "summary.md", "comment": folder / "comment.md"}
    files["json"] = folder / "report.json"
    for file in files.values():
        file.unlink(missing_ok=True)
    try:
        command = _command(environment, files, _base(environment))
    except ValueError as error:
        workflow.say("error", f"`paths` or `options` cannot be read as on a command line: {error}")
        return 2
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    _show(done, environment.get("RUNCTL_FORMAT") or "github")
    report = _report(files["json"])
    if report is None:
        told = done.stderr.strip() or f"exit code {done.returncode}"
        workflow.summarise(
            environment, f"### runctl preflight could not run\n\n```text\n{told.replace('`', chr(39))}\n```"
        )
        workflow.say("error", told)
    else:
        workflow.summarise(environment, files["markdown"].read_text(encoding="utf-8"))
    _for_upload(files["sarif"])
    outputs = _outputs(report) | {"exit-code": str(done.returncode)}
    outputs |= {"sarif-file": str(files["sarif"]) if report else "", "comment-file": str(files["comment"])}
    workflow.put(environment, outputs)
    return 0


def _command(environment: Environment, files: dict[str, Path], base: str | None) -> list[str]:
    # -I: a folder named runctl in the checked-out repository is not this package
    command = [sys.executable, "-I", "-m", "runctl", "preflight"]
    command += ["--format", environment.get("RUNCTL_FORMAT") or "github"]
    for form, file in files.items():
        command += ["--format", form, "--output", str(file)]
    command += ["--fail-on", environment.get("RUNCTL_FAIL_ON") or "error"]
    if base:
        command += ["--base", base]
        command += ["--new-only"] if environment.get("RUNCTL_NEW_ONLY", "").lower() == "true" else []
    command += shlex.split(environment.get("RUNCTL_OPTIONS", ""))
    return [*command, "--", *_paths(environment.get("RUNCTL_PATHS") or "configs")]


def _paths(text: str) -> Iterable[str]:
    """The paths of the input, split as a shell would; a glob stands for what it fits."""
    for word in shlex.split(text):
        found = sorted(str(path) for path in Path().glob(word)) if any(sign in word for sign in "*?[") else []
        yield from found or [word]


def _show(done: subprocess.CompletedProcess[str], form: str) -> None:
    if form == "github":
        print(done.stdout, end="", flush=True)
        rest = done.stderr
    else:
        rest = done.stdout + done.stderr
    if rest.strip():
        with workflow.no_commands():
            print(rest.rstrip("\n"))


def _report(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _for_upload(file: Path) -> None:
    """Take the waived findings out of the SARIF: GitHub does not read suppressions, and would show them as open."""
    sarif = _report(file)
    if sarif is not None:
        for run in sarif["runs"]:
            run["results"] = [result for result in run["results"] if not result.get("suppressions")]
        file.write_text(json.dumps(sarif, ensure_ascii=False), encoding="utf-8")


def _outputs(report: dict[str, Any] | None) -> dict[str, str]:
    if report is None:
        return {"findings": "", "verdict": "error", "cost-total": "", "changed": ""}
    reports = report["reports"]
    verdicts = {one["verdict"] for one in reports} | ({"fail"} if report.get("errors") else set())
    verdict = next((word for word in ("fail", "warn") if word in verdicts), "ok")
    comparison = report.get("comparison")
    if comparison is None:
        costs = [workflow.at(one, "estimates", "cost_usd", "likely") for one in reports]
    else:
        costs = [workflow.at(one, "cost_usd", "now") for one in comparison["changes"]]
    known = [cost for cost in costs if isinstance(cost, int | float)]
    return {
        "findings": str(sum(len(one["findings"]) for one in reports)),
        "verdict": verdict,
        "cost-total": f"{sum(known):.2f}" if known else "",
        "changed": "" if comparison is None else str(len(comparison["changes"])),
    }


def _base(environment: Environment) -> str | None:
    """The git ref to compare with, there to be read; None where there is none, and the log says why."""
    asked = (environment.get("RUNCTL_BASE_REF") or "").strip()
    if asked == "none":
        return None
    event = workflow.event(environment)
    given = asked or workflow.at(event, "pull_request", "base", "sha") or workflow.at(event, "merge_group", "base_sha")
    if not given or not isinstance(given, str):
        return None
    if not asked and _git("rev-parse", "--verify", "--quiet", "HEAD^2^{commit}"):
        first = _git("rev-parse", "--verify", "--quiet", "HEAD^1^{commit}")
        if first and _git("rev-parse", "HEAD") == environment.get("GITHUB_SHA"):
            return first  # the base branch as GitHub merged it with the pull request
    for ref in (given, f"origin/{given}"):
        if not ref.startswith("-") and _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}"):
            return ref
    if not given.startswith("-") and _git("fetch", "--quiet", "--no-tags", "--depth=1", "origin", given) is not None:
        return _git("rev-parse", "--verify", "--quiet", "FETCH_HEAD^{commit}")
    workflow.say("warning", f"not compared with the base: git does not have {given}, and cannot fetch it; {_DEEPER}")
    return None


def _git(*arguments: str) -> str | None:
    """What git prints; None where it fails."""
    environment: dict[str, str] = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    command: Sequence[str] = ["git", *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
