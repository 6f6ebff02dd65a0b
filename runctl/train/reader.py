"""One thread that does one thing at a time, beside the steps; it is gone when it is closed or no longer needed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue

Work = Callable[[], None]


class Reader:
    """`begin` something, then `wait` for its end. An error of the work is raised by `wait`."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Work | None] = SimpleQueue()
        self._done: SimpleQueue[BaseException | None] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._asked, self._done), name="reader", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._asked.put, None)

    def begin(self, work: Work) -> None:
        """Each piece of work must be waited for before the next."""
        self._asked.put(work)

    def wait(self) -> None:
        if (error := self._done.get()) is not None:
            raise error

    def close(self) -> None:
        self._asked.put(None)
        self._thread.join()


def _serve(asked: SimpleQueue[Work | None], done: SimpleQueue[BaseException | None]) -> None:
    while (work := asked.get()) is not None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as raised:
            error = raised
        del work  # it may hold whoever would close this thread
        done.put(error)
