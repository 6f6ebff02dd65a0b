"""What would watch a run, in words, for every format that is read by people."""

from __future__ import annotations

from runctl.facts import Facts
from runctl.guards import words

ENDING = ("stop", "kill")


def lines(facts: Facts) -> list[tuple[bool, str, str]]:
    """(on, in words, whose it is) of each guard that is the config's own or the budget's, on or off, and of the
    defaults that end a run; the defaults that only make a note share a line."""
    found = facts.get("guards.all", ())
    named = [one for one in found if one["origin"] != "default" or (one["on"] and one["do"] in ENDING)]
    notes = [one["name"] for one in found if one["on"] and one not in named]
    said = [(bool(one["on"]), words.line(one), "" if one["origin"] == "default" else one["origin"]) for one in named]
    if notes:
        said.append((True, f"noted: {'; '.join(notes)}", "runctl guards"))
    return said
