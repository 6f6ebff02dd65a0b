"""What Modal itself says before a launch: whether the token is taken, and whether the environment, the secrets, the
volume and the dataset are there. Asking makes nothing.

Modal's client needs about a minute to find that nobody answers, and nothing shortens that. So it is asked by a child
process, which ends after `SECONDS` with what it has learned by then; nothing here imports modal but that child.

    python -m runctl.backends.modal.online     reads what to ask from stdin, prints one JSON line for each answer
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from runctl import install
from runctl.backends.modal.plan import Place
from runctl.light import asdict, dataclass

SECONDS = 10.0
MOST_MANIFEST = 256 << 20
_OK, _FAULT, _UNKNOWN = "ok", "fault", "unknown"


@dataclass(frozen=True)
class Answer:
    """One thing that was asked. `about` is token, environment, secret, volume or dataset; `state` is ok, fault or
    unknown. `manifest` is that of the dataset, without its list of games."""

    about: str
    state: str
    message: str = ""
    hint: str | None = None
    manifest: dict[str, Any] | None = None


@dataclass(frozen=True)
class Seen:
    """What came back in time; `late` says why nothing else did, empty where everything was answered."""

    answers: tuple[Answer, ...]
    late: str = ""

    @property
    def faults(self) -> list[Answer]:
        return [one for one in self.answers if one.state == _FAULT]

    @property
    def unknown(self) -> list[str]:
        return [one.message for one in self.answers if one.state == _UNKNOWN] + ([self.late] if self.late else [])

    @property
    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the dataset on the volume; None where it is not there, or was not asked for."""
        return next((one.manifest for one in self.answers if one.manifest is not None), None)


def look(place: Place, dataset: str | None = None, seconds: float = SECONDS) -> Seen:
    """Ask for all that a run of this project needs; `dataset` is a folder of the volume. Never raises for what Modal
    says or does not say."""
    asked = json.dumps({"place": asdict(place), "dataset": dataset})
    command = [sys.executable, "-m", "runctl.backends.modal.online"]
    try:
        done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode("utf-8", "replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return Seen(parse(said), f"Modal did not answer within {seconds:.0f} s")
    except OSError as error:
        return Seen((), f"no process can be started to ask Modal: {error.strerror}")
    if done.returncode:
        words = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return Seen(parse(done.stdout), f"Modal could not be asked: {words[-1][:200] if words else 'no answer'}")
    return Seen(parse(done.stdout))


def parse(text: str) -> tuple[Answer, ...]:
    """The answers in the whole lines of a text."""
    return tuple(Answer(**json.loads(line)) for line in text.rpartition("\n")[0].splitlines() if line.strip())


# --- the child -------------------------------------------------------------------------------------------------------


def main() -> None:
    given = json.load(sys.stdin)
    raw = given["place"]
    place = Place(**{**raw, "secrets": tuple(raw["secrets"]), "packages": tuple(raw["packages"]), "tags": ()})
    for answer in ask(place, given["dataset"]):
        print(json.dumps(asdict(answer)), flush=True)


def ask(place: Place, dataset: str | None) -> Iterator[Answer]:
    """The answers, as they come. What stands in the way of the rest ends it."""
    try:
        import modal
    except ImportError:
        yield Answer("token", _UNKNOWN, "Modal's client is not installed", install.hint("modal"))
        return
    errors = modal.exception
    try:
        client = modal.Client.from_env()
        client.hello()
        if place.environment is not None:
            modal.Environment.from_name(place.environment).hydrate(client)
    except errors.AuthError as error:
        yield Answer("token", _FAULT, f"Modal does not take this machine's token: {_said(error)}", "modal token new")
        return
    except errors.NotFoundError:
        hint = "modal environment list; modal.environment in runctl.yaml"
        yield Answer("token", _OK)
        yield Answer("environment", _FAULT, f"Modal has no environment '{place.environment}'", hint)
        return
    except Exception as error:
        yield Answer("token", _UNKNOWN, f"Modal cannot be asked: {_said(error)}")
        return
    yield Answer("token", _OK)
    for name in place.secrets:
        try:
            modal.Secret.from_name(name, environment_name=place.environment).hydrate(client)
        except errors.NotFoundError:
            hint = f"modal secret create {name} KEY=VALUE, or take it out of modal.secrets in runctl.yaml"
            yield Answer("secret", _FAULT, f"Modal has no secret '{name}'", hint)
        except Exception as error:
            yield Answer("secret", _UNKNOWN, f"whether the secret '{name}' is there is not known: {_said(error)}")
        else:
            yield Answer("secret", _OK)
    yield from _stored(place, dataset, client, modal)


def _stored(place: Place, dataset: str | None, client: Any, modal: Any) -> Iterator[Answer]:
    errors = modal.exception
    try:
        volume = modal.Volume.from_name(
            place.volume, environment_name=place.environment, version=place.volume_version
        ).hydrate(client)
    except errors.NotFoundError:
        if dataset is None:
            yield Answer("volume", _OK, f"there is no volume '{place.volume}' yet; the first launch makes it")
        else:
            message = f"there is no volume '{place.volume}', and so no dataset on it"
            yield Answer("volume", _FAULT, message, "runctl data push CONFIG makes both; modal.volume in runctl.yaml")
        return
    except errors.InvalidError as error:
        yield Answer("volume", _FAULT, f"the volume '{place.volume}': {_said(error)}", "modal.volume_version")
        return
    except Exception as error:
        yield Answer("volume", _UNKNOWN, f"whether the volume '{place.volume}' is there is not known: {_said(error)}")
        return
    yield Answer("volume", _OK)
    if dataset is None:
        return
    try:
        yield Answer("dataset", _OK, manifest=manifest(volume, dataset))
    except FileNotFoundError:
        message = f"the volume '{place.volume}' has no whole dataset at {dataset}"
        yield Answer("dataset", _FAULT, message, "runctl data push CONFIG")
    except ValueError as error:
        yield Answer("dataset", _FAULT, f"{dataset}/manifest.json on the volume: {error}", "runctl data push CONFIG")
    except Exception as error:
        yield Answer("dataset", _UNKNOWN, f"whether {dataset} is on the volume is not known: {_said(error)}")


def manifest(volume: Any, dataset: str) -> dict[str, Any]:
    """The manifest of a dataset on a volume, its games as a number. Raises FileNotFoundError and ValueError."""
    text = b""
    for chunk in volume.read_file(f"{dataset}/manifest.json"):
        text += chunk
        if len(text) > MOST_MANIFEST:
            raise ValueError("it is larger than a manifest can be")
    found = json.loads(text)
    if not isinstance(found, dict) or found.get("kind") != "encoded-dataset":
        raise ValueError("it is not the manifest of an encoded dataset")
    games = found.get("games")
    return {**found, "games": len(games) if isinstance(games, list) else games, "skipped": None, "columns": None}


def _said(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__


if __name__ == "__main__":
    main()
