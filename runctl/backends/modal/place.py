"""What a project says of Modal for all its runs, and where on the volume its things lie.

    modal:
      volume: team                   made by the first launch or `runctl data push`; default: runctl
      volume_version: 1              default: as the service makes it
      environment: dev               default: the workspace's own
      secrets: [wandb]               names; their values are never read here
      python: "3.12"
      packages: [einops==0.8.1]      installed after everything else
      requirements: requirements.txt of programs of your own (`task: command`), in place of torch and numpy
      kernels: true                  compile mamba-ssm and causal-conv1d into GPU images
      tags: {team: melee}            on every app, so that billing reports group by them

Everything of a run lies below `runs/NAME` on the volume, every dataset below `datasets/`, by the path that
`data.encoded` gives it: `data/melee` is `datasets/data/melee`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runctl.backends.modal.plan import Place
from runctl.errors import UsageError, did_you_mean
from runctl.light import pattern

if TYPE_CHECKING:
    from runctl.project import Project

DATASETS = "datasets"
OWN_TAGS = ("runctl.run", "runctl.config", "runctl.version")
MOST_TAGS, MOST_CHARACTERS = 8, 63
KEYS = ("volume", "volume_version", "environment", "secrets", "python", "packages", "requirements", "kernels", "tags")
_NAME = pattern(r"[A-Za-z0-9_.-]{1,64}")
_TAG = pattern(r"[A-Za-z0-9_.-]{1,63}")
_PYTHON = pattern(r"3\.\d{1,2}")


def of(project: Project) -> Place:
    """The `modal:` section of `runctl.yaml`; raises UsageError with file, line and column."""
    raw, place = project.modal, Place()
    if not isinstance(raw, Mapping):
        raise _wrong(project, (), f"modal must be a mapping of {', '.join(KEYS)}")
    for key in raw:
        if key not in KEYS:
            hint = did_you_mean(str(key), KEYS) or f"known: {', '.join(KEYS)}"
            raise _wrong(project, (key,), f"modal has no key '{str(key)[:40]}'", hint)
    return Place(
        volume=_named(project, raw, "volume") or place.volume,
        volume_version=_version(project, raw.get("volume_version")),
        environment=_named(project, raw, "environment"),
        secrets=tuple(_secret(project, one) for one in _listed(project, raw, "secrets")),
        python=_python(project, raw.get("python", place.python)),
        packages=tuple(_listed(project, raw, "packages")),
        requirements=_inside(project, raw.get("requirements")),
        kernels=_switch(project, raw.get("kernels", True)),
        tags=_tags(project, raw.get("tags") or {}),
    )


def dataset(encoded: str) -> str:
    """Where on the volume the dataset of `data.encoded` lies. One outside of the project goes by its last part."""
    path = posixpath.normpath(str(encoded).replace("\\", "/"))
    inside = not path.startswith(("/", "../")) and path not in (".", "..")
    return f"{DATASETS}/{path if inside else posixpath.basename(path.rstrip('/.')) or 'dataset'}"


def _wrong(project: Project, keys: tuple[Any, ...], message: str, hint: str | None = None) -> UsageError:
    where = project.document.position(("modal", *keys)) if project.document else project.file
    return UsageError(f"{where}: {message}", hint=hint)


def _named(project: Project, raw: Mapping[str, Any], key: str) -> str | None:
    value = raw.get(key)
    if value is not None and not (isinstance(value, str) and _NAME.fullmatch(value)):
        hint = "1 to 64 letters, digits, '.', '_' and '-'"
        raise _wrong(project, (key,), f"modal.{key} is {str(value)[:40]!r}, which Modal takes for no name", hint)
    return value


def _version(project: Project, value: Any) -> int | None:
    if value not in (None, 1, 2) or isinstance(value, bool):
        raise _wrong(project, ("volume_version",), f"modal.volume_version is {str(value)[:40]}; it can be 1 or 2")
    return None if value is None else int(value)


def _listed(project: Project, raw: Mapping[str, Any], key: str) -> list[str]:
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
        raise _wrong(project, (key,), f"modal.{key} must be a list of names")
    return value


def _secret(project: Project, name: str) -> str:
    if not _NAME.fullmatch(name):  # its text is not shown: somebody may have written the secret itself
        hint = "make one on modal.com/secrets or with modal secret create NAME, and give its name here"
        raise _wrong(project, ("secrets",), "modal.secrets holds something that is no name of a secret", hint)
    return name


def _python(project: Project, value: Any) -> str:
    if not (isinstance(value, str) and _PYTHON.fullmatch(value)):
        hint = 'write it in quotes: python: "3.12"'
        raise _wrong(project, ("python",), f"modal.python is {str(value)[:40]}, no version of Python", hint)
    return value


def _inside(project: Project, value: Any) -> str | None:
    """A file of the project, by its path in it."""
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or posixpath.normpath(value).startswith(("/", "..")):
        hint = "write: requirements: requirements.txt"
        raise _wrong(project, ("requirements",), "modal.requirements must name a file of the project", hint)
    return posixpath.normpath(value)


def _switch(project: Project, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(project, ("kernels",), "modal.kernels must be true or false")
    return value


def _tags(project: Project, value: Any) -> tuple[tuple[str, str], ...]:
    """The project's own tags. The service takes 8 in all, of which runctl sets its own by itself."""
    if not isinstance(value, Mapping):
        raise _wrong(project, ("tags",), "modal.tags must map names to texts", "write: tags: {team: melee}")
    for name, text in value.items():
        said = f"modal.tags.{str(name)[:40]}"
        if not (isinstance(name, str) and isinstance(text, str) and _TAG.fullmatch(name) and _TAG.fullmatch(text)):
            hint = f"a tag and its text are 1 to {MOST_CHARACTERS} letters, digits, '.', '_' and '-'"
            raise _wrong(project, ("tags", name), f"{said}: {str(text)[:40]!r} cannot be a tag", hint)
        if name.startswith("runctl."):
            raise _wrong(project, ("tags", name), f"{said}: tags that begin with runctl. are runctl's own")
    if len(value) > (most := MOST_TAGS - len(OWN_TAGS)):
        words = f"modal.tags has {len(value)} tags; Modal takes {MOST_TAGS}, of which {len(OWN_TAGS)} are runctl's own"
        raise _wrong(project, ("tags",), words, f"keep {most}")
    return tuple((str(name), str(text)) for name, text in value.items())
