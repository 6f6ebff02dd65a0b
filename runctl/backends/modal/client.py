"""The way to Modal's own client: imported late, under deadlines of ours, and its errors in our words.

Why deadlines of ours: the client alone takes about a minute to find that nobody answers. What is asked goes on in a
thread that nobody waits for any longer; the process may end meanwhile.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar, cast

from runctl import install
from runctl.errors import ProviderError
from runctl.light import dataclass

SECONDS = 8.0  # so that a command answers in ten, its own start among them
FETCH_SECONDS = 6 * 3600.0  # of one checkpoint; it can be interrupted
T = TypeVar("T")

_SILENT_SECONDS = 15.0
_PAUSES = (0.1, 0.4, 1.0)  # as long as the client waits
_client: Any = None
_silent: tuple[float, ProviderError] | None = None
_lock = threading.Lock()


class Late(Exception):
    """What was asked has not been answered in time."""


def load() -> Any:
    """The package `modal`; raises ProviderError with how to install it.

    With CBOR an error comes back from a container as text: unpickled, it would need the container's classes here."""
    os.environ.setdefault("MODAL_PAYLOAD_FORMAT", "cbor")
    try:
        import modal
    except ImportError:
        raise ProviderError("Modal's client is not installed", hint=install.hint("modal")) from None
    return modal


def connect(seconds: float = SECONDS) -> Any:
    """The client of this machine's token, proved by one answer; of several threads one asks. Raises ProviderError, for
    a while at once where nobody has answered."""
    global _client, _silent
    modal = load()

    def hello() -> Any:
        client = modal.Client.from_env()
        client.hello()
        return client

    with _lock:
        if _client is None:
            if _silent is not None and time.monotonic() - _silent[0] < _SILENT_SECONDS:
                raise _silent[1]
            try:
                _client, _silent = ask(hello, seconds), None
            except ProviderError as error:
                _silent = time.monotonic(), error
                raise
        return _client


def ask(what: Callable[[], T], seconds: float = SECONDS) -> T:
    """The answer of a call of the client; raises ProviderError for what Modal refuses or does not answer in time."""
    found: Any = gather({"it": what}, seconds)["it"]
    if isinstance(found, BaseException):
        raise told(found) from None
    return cast(T, found)


def gather(what: Mapping[str, Callable[[], Any]], seconds: float = SECONDS) -> dict[str, Any]:
    """The answers of several calls at once, by name; an exception in its place for what failed, `Late` for what did not
    come in time."""
    answers: dict[str, Any] = {}

    def work(name: str, call: Callable[[], Any]) -> None:
        try:
            answers[name] = call()
        except BaseException as error:
            answers[name] = error

    threads = [threading.Thread(target=work, args=pair, daemon=True, name=f"modal {pair[0]}") for pair in what.items()]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return {name: answers.get(name, Late(f"no answer within {seconds:.0f} s")) for name in what}


def entries(volume: Any, folder: str, *, recursive: bool = True) -> list[Any]:
    """What a volume lists of a folder. Modal's client sends again what failed at the moment, but not what is answered
    as a stream, as this is."""
    errors = load().exception
    for pause in _PAUSES:
        with suppress(errors.ServiceError, errors.InternalError):
            return list(volume.listdir(folder, recursive=recursive))
        time.sleep(pause)
    return list(volume.listdir(folder, recursive=recursive))


def told(error: BaseException) -> BaseException:
    """An error of the client as a person needs it; one that is none of its own stays as it is."""
    if isinstance(error, Late):
        return ProviderError(f"Modal cannot be reached: {error}", hint="is this machine online? see status.modal.com")
    modal = load()
    errors = modal.exception
    words = said(error)
    if isinstance(error, errors.AuthError):
        return ProviderError(f"Modal does not take this machine's token: {words}", hint="modal token new")
    kind = type(error).__module__.partition(".")[0]
    if isinstance(error, errors.ConnectionError | ConnectionError | TimeoutError) or kind == "aiohttp":
        return ProviderError(f"Modal cannot be reached: {words}", hint="is this machine online? see status.modal.com")
    if isinstance(error, errors.ImageBuildError):
        return ProviderError(f"the image could not be built: {words}", hint="modal.packages in runctl.yaml")
    if isinstance(error, errors.ServiceError | errors.InternalError):
        return ProviderError(f"Modal cannot answer at the moment: {words}", hint="try again; see status.modal.com")
    if isinstance(error, errors.UnimplementedError):
        return ProviderError(f"Modal does not offer that: {words}", hint="is this client of Modal too old, or too new?")
    if isinstance(error, errors.Error) or kind == "grpclib":
        return ProviderError(f"Modal refuses: {words}")
    return error


def said(error: BaseException) -> str:
    """What an error says, on one line, or its kind."""
    text = " ".join(str(error).split())
    return text[:400] if text else type(error).__name__


@dataclass(frozen=True)
class Where:
    """The volume and the environment of a run, and what names the run there."""

    run: str
    volume: str
    environment: str | None

    @property
    def folder(self) -> str:
        return f"runs/{self.run}"
