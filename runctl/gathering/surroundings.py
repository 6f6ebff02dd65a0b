"""What surrounds a launch: the code that is nowhere else, the credentials that the run will ask for, the pins of its
environment, and whether anybody watches. Facts about this machine and this checkout, not about the config.

Of credentials only whether they are there is known; their text is never kept, shown or sent.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from runctl import code_version
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import versus
from runctl.light import pattern
from runctl.project import Project

LATER = "it is looked at where a launch follows, and with --online"
_LOCKS = (
    "uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pixi.lock", "conda-lock.yml", "conda-lock.yaml",
    "pylock.toml", "flake.lock",
)  # fmt: skip
_LISTS = ("requirements*.txt", "requirements/*.txt", "environment.yml", "environment.yaml", "constraints*.txt")
_PIN = pattern(r"^[\w.\-\[\],]+\s*={1,3}\s*[\w.!+]+", re.ASCII)
_LIST_BYTES = 1 << 20


def derive(facts: Facts, project: Project, *, online: bool = False, detached: bool | None = None) -> None:
    """Put `check.online`, `run.detached`, `code.state`, `credentials.*`, `modal.online` and `environment.pins`, or why
    not."""
    if facts.get("config.problems"):
        return  # a config that is not valid surrounds nothing
    facts.put("check.online", online, "derived", "--online")
    facts.miss("baseline.name", versus.NONE)  # until it is compared with what lies beside it
    if detached is None:
        facts.miss("run.detached", "whether the run is left alone is known where a launch follows")
    else:
        facts.put("run.detached", detached, "derived", "--detach")
    _code(facts, project, online)
    _credentials(facts, project)
    _modal_online(facts, project, online)
    if project.file is None:
        facts.miss("environment.pins", "there is no runctl.yaml, so that the project's folder is not known")
    else:
        facts.put("environment.pins", pins(project.root), "derived", "the project's files")


def _code(facts: Facts, project: Project, online: bool) -> None:
    """`code.state`, read only where somebody will ask: git takes longer than a hundred rules."""
    asked = facts.launching or online
    if not asked and facts.policy.rules.get("EN101") != "error":
        facts.miss("code.state", LATER)
        return
    state = code_version.state(project.root) if asked else _remembered(project.root)
    if state is None:
        facts.miss("code.state", "the project is in no git repository with a commit, or git is not installed")
    else:
        facts.put("code.state", state, "derived", "git")


@cache
def _remembered(root: Path) -> code_version.State | None:
    """Once for all configs of a call."""
    return code_version.state(root)


def _credentials(facts: Facts, project: Project) -> None:
    """`credentials.NAME`: whether they are on this machine, for each that the config asks for."""
    asked = []
    if facts.get("tracking.wandb") == "online":
        asked.append(("wandb", _wandb))
    if facts.get("compute.backend") == "modal":
        asked.append(("modal", _modal))
    if facts.get("run.hub"):
        asked.append(("hub", _hub))
    for name, there in asked:
        facts.put(f"credentials.{name}", project.once(there, there), "derived", "this machine")


def _modal_online(facts: Facts, project: Project, online: bool) -> None:
    """`modal.online`: what Modal answers, asked when a rule needs it and once for all configs with that dataset."""
    if facts.get("compute.backend") != "modal":
        return
    encoded = facts.get("data.encoded")
    if not (online or (facts.launching and isinstance(encoded, str))):  # a dataset, before a GPU is asked for
        facts.miss("modal.online", "Modal is asked with --online, and by the launch of a run with a dataset")
        return
    if not facts.get("credentials.modal"):
        facts.miss("modal.online", "this machine has no credentials for Modal")
        return
    from runctl.backends.modal import place  # backends stand above this room

    dataset = place.dataset(encoded) if isinstance(encoded, str) else None

    def look() -> object:
        from runctl.backends.modal import online

        return online.look(place.of(project), dataset)

    try:
        place.of(project)
    except UsageError as error:
        facts.miss("modal.online", error.message)
    else:
        facts.later("modal.online", lambda: project.once(("modal.online", dataset), look), "derived", "Modal")


def credentials() -> dict[str, bool]:
    """For whom credentials are on this machine."""
    return {"wandb": _wandb(), "modal": _modal(), "hub": _hub()}


def _wandb() -> bool:
    """An API key or an identity token in the environment, or a login kept in netrc."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"
    host = url.partition("://")[2].partition("/")[0] or url
    files = [Path(os.environ["NETRC"])] if os.environ.get("NETRC") else [_home() / ".netrc", _home() / "_netrc"]
    return any(re.search(rf"machine\s+[\"']?{re.escape(host)}[\"']?(?:\s|$)", _text(file)) for file in files)


def _modal() -> bool:
    """A token in the environment, or one in Modal's own file."""
    if os.environ.get("MODAL_TOKEN_ID") and os.environ.get("MODAL_TOKEN_SECRET"):
        return True
    return "token_id" in _text(Path(os.environ.get("MODAL_CONFIG_PATH") or _home() / ".modal.toml"))


def _hub() -> bool:
    """A token of the Hugging Face hub, in the environment or where its login leaves it."""
    if os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or cache_home / "huggingface")
    return bool(_text(Path(os.environ.get("HF_TOKEN_PATH") or home / "token")).strip())


def _home() -> Path:
    return Path(os.path.expanduser("~"))


def _text(file: Path) -> str:
    """What a small file says; nothing where it cannot be read."""
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            return stream.read(_LIST_BYTES)
    except (OSError, ValueError):
        return ""


@cache
def pins(root: Path) -> str | None:
    """The file of a project that says exactly which packages it runs with: a lock, or a list of which most entries
    have a version. None where there is none."""
    for name in _LOCKS:
        if (root / name).is_file():
            return name
    for names in _LISTS:
        for file in sorted(root.glob(names)):
            lines = (line.strip().removeprefix("- ") for line in _text(file).splitlines())
            entries = [line for line in lines if re.match(r"[A-Za-z]", line) and not line.endswith(":")]
            pinned = [line for line in entries if _PIN.match(line)]
            if entries and 2 * len(pinned) > len(entries):
                return file.relative_to(root).as_posix()
    return None
