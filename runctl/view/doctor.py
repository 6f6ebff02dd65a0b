"""What the doctor found, line by line as it is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runctl import view

if TYPE_CHECKING:
    from runctl.doctor import Check

_STYLES = {"ok": "good", "warn": "warn", "bad": "bad"}
_WIDTH = 14


def line(check: Check, *, new_group: bool) -> None:
    """One check on stdout, under its group."""
    from rich.text import Text

    console = view.out()
    if new_group:
        console.print(Text(check.group, style="bold"))
    text = Text(f"  {check.state:<5}", style=_STYLES[check.state])
    console.print(text.append(f"{check.name:<{_WIDTH}} ", style="").append(view.writable(check.seen), style=""))
    if check.advice and check.state != "ok":
        console.print(Text(f"       {'':<{_WIDTH}} {view.writable(check.advice)}", style="note"))


def last(found: Sequence[Check]) -> None:
    """The count, on stderr."""
    counts = {state: sum(check.state == state for check in found) for state in _STYLES}
    words = [f"{counts['bad']} bad", f"{counts['warn']} to look at", f"{counts['ok']} fine"]
    view.err().print(", ".join(words), style="bad" if counts["bad"] else "warn" if counts["warn"] else "good")
