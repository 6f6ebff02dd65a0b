"""The step that comments on the pull request: one comment, found again by its hidden mark and brought up to date.

A pull request from a fork runs with a token that may only read. Then, and wherever GitHub says no, the report stays in
the summary of the run, the log says so, and the step is no failure.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from runctl.ci import workflow
from runctl.ci.workflow import Environment
from runctl.reporting.comment import MARK
from runctl.reporting.markdown import CARDS

_SECONDS = 20
_PAGES = 30
_MODES = ("update", "new", "off")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class Refused(Exception):
    """GitHub says no, or cannot be reached; the text says why."""


@dataclass(frozen=True)
class Place:
    """The comments of one pull request, and the token that may write them."""

    api: str
    repository: str
    number: int
    token: str

    @property
    def comments(self) -> str:
        return f"{self.api}/repos/{self.repository}/issues/{self.number}/comments"


def step(environment: Environment) -> int:
    """Write the comment as the input says; 0 also where it may not be written."""
    mode = environment.get("RUNCTL_COMMENT") or "update"
    if mode not in _MODES:
        workflow.say("error", f"comment is '{mode}'; it can be {', '.join(_MODES)}")
        return 2
    event = workflow.event(environment)
    number = workflow.at(event, "pull_request", "number")
    if mode == "off" or not isinstance(number, int):
        return 0
    try:
        body = Path(environment.get("RUNCTL_COMMENT_FILE", "")).read_text(encoding="utf-8")
    except OSError:
        return 0  # preflight could not run; the step before said so
    try:
        place = _place(environment, number)
        quiet = environment.get("RUNCTL_CHANGED") == "0" and CARDS not in body
        print(write(place, body, mode, quiet=quiet))
    except Refused as why:
        fork = workflow.at(event, "pull_request", "head", "repo", "full_name") != environment.get("GITHUB_REPOSITORY")
        about = " (the pull request comes from a fork, whose workflows may only read)" if fork else ""
        workflow.say("notice", f"no comment: {why}{about}; the report is in the summary of this run")
    return 0


def write(place: Place, body: str, mode: str = "update", quiet: bool = False) -> str:
    """Write the comment, or bring the one that is there up to date; what was done. A `quiet` report (no config
    and no run card changed) makes no new comment. Raises Refused."""
    own = next((one for one in _marked(place)), None) if mode == "update" else None
    if own is not None and own.get("body") == body:
        return "the comment is up to date"
    if own is not None:
        _send(place, "PATCH", f"{place.api}/repos/{place.repository}/issues/comments/{int(own['id'])}", {"body": body})
        return "updated the comment"
    if quiet:
        return "no config changed: no comment"
    _send(place, "POST", place.comments, {"body": body})
    return "wrote a comment"


def _place(environment: Environment, number: int) -> Place:
    token, repository = environment.get("GITHUB_TOKEN", ""), environment.get("GITHUB_REPOSITORY", "")
    if not token:
        raise Refused("the step has no token")
    if not _REPOSITORY.fullmatch(repository):
        raise Refused("GITHUB_REPOSITORY names no repository")
    api = (environment.get("GITHUB_API_URL") or "https://api.github.com").rstrip("/")
    address = urlsplit(api)
    if address.scheme != "https" and address.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise Refused("a token is not sent without https")
    return Place(api, repository, number, token)


def _marked(place: Place) -> Iterator[dict[str, Any]]:
    """The comments that begin with the mark and are ours: a bot's, or of whoever owns the token. Anybody can write the
    mark into a comment of their own, which is not ours to change."""
    login: str | None = None
    for page in range(1, _PAGES + 1):
        found = _send(place, "GET", f"{place.comments}?per_page=100&page={page}")
        if not isinstance(found, list):
            raise Refused("GitHub's list of comments is not one")
        for one in found:
            if not isinstance(one, dict) or not str(one.get("body", "")).startswith(MARK):
                continue
            if workflow.at(one, "user", "type") == "Bot":
                yield one
                continue
            login = _login(place) if login is None else login
            if login and workflow.at(one, "user", "login") == login:
                yield one
        if len(found) < 100:
            return


def _login(place: Place) -> str:
    """Who owns the token; empty for the token of a workflow, which is nobody's."""
    try:
        return str(workflow.at(_send(place, "GET", f"{place.api}/user"), "login") or "")
    except Refused:
        return ""


class _Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is not followed: it would take the token along."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _send(place: Place, method: str, address: str, data: dict[str, str] | None = None) -> Any:
    headers = {
        "Authorization": f"Bearer {place.token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
        "User-Agent": "runctl",
    }
    content = json.dumps(data).encode() if data is not None else None
    request = urllib.request.Request(address, content, headers, method=method)  # noqa: S310 (https, or this machine)
    opener = urllib.request.build_opener(_Stay)
    for attempt in range(2):
        try:
            with opener.open(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            why = f"GitHub answered {error.code} {_message(error)}".strip()
            again = error.code >= 500 and method != "POST"  # a second POST could be a second comment
        except (OSError, ValueError) as error:
            why = f"GitHub cannot be reached: {error}"
            again = method != "POST"
        if not again or attempt:
            raise Refused(why)
        time.sleep(1)
    raise AssertionError("unreachable")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read()).get("message", ""))[:200]
    except (OSError, ValueError, AttributeError):
        return ""
