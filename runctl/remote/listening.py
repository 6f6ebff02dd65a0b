"""How a container hears of what is asked of its run: by the provider's dictionary, looked into every two seconds.

LAUNCH        `runctl stop`: who asks, and when
LAUNCH/save   `runctl checkpoint`: the request, as it lies in `attempts/N/save.json` on a machine of one's own
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runctl import record

SECONDS = 2.0


def saves(launch: str) -> str:
    """The word under which a checkpoint is asked for."""
    return f"{launch}/save"


class Listener:
    """Listens until `done`; sets `asked` once the end was asked for."""

    def __init__(self, run: record.RunDir, spec: dict[str, Any], done: threading.Event, asked: threading.Event) -> None:
        self.run, self.spec, self.done, self.asked = run, spec, done, asked
        self.served: set[str] = set()

    def listen(self) -> None:
        import modal

        from runctl import record

        launch = self.spec["launch"]
        while not self.done.wait(SECONDS):
            said = None
            with suppress(Exception):  # no such channel yet, or no answer: it is asked again
                words = modal.Dict.from_name(self.spec["channel"], environment_name=self.spec.get("environment"))
                if save := words.get(saves(launch)):
                    self._pass_on(save)
                    if (other := words.pop(saves(launch))) != save:  # one that came in between
                        self._pass_on(other)
                said = words.get(launch)
            if said:
                with suppress(OSError, ValueError):
                    record.write_json(self._attempt().asked, json.loads(said))
                self.asked.set()
                return

    def _attempt(self) -> record.Attempt:
        return self.run.attempts()[-1]

    def _pass_on(self, save: Any) -> None:
        """Lay a request for a checkpoint before the supervisor, once; it writes down what becomes of it."""
        from runctl import record

        with suppress(OSError, ValueError, TypeError, AttributeError):
            request = json.loads(save)
            name = str(request.get("id"))
            if name not in self.served:
                record.write_json(self._attempt().save, request, durable=False)
                self.served.add(name)
