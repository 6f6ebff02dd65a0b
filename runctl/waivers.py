"""Waivers: findings that a team allows, each with its reason; and what is wrong with a waiver that is not in order.

A waiver stands in a config (`# runctl: allow CK101 smoke run`, for the whole file) or in `runctl.yaml`, by path:

    waivers:
      - {rule: CK101, paths: ["configs/smoke/*.yaml"], reason: smoke runs keep nothing}
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from runctl import rules
from runctl.facts import Finding
from runctl.yamldoc import Document, Position

UNWAIVABLE = ("CF100", "CF101", "CF103", "WV101")
_COMMENT = re.compile(r"(?:^|\s)#\s*runctl:\s*allow\b[ \t]*(\S*)[ \t]*(.*?)\s*$")


@dataclass(frozen=True)
class Waiver:
    """`where` says what kind of waiver it is: of the config, of the project, or of the baseline."""

    rule: str
    reason: str
    position: Position
    where: str = "config"


def find(document: Document) -> list[Waiver]:
    """The `# runctl: allow RULE reason` comments of a config."""
    if "runctl:" not in document.text:
        return []
    found = []
    for number, line in enumerate(document.text.splitlines(), 1):
        if "runctl:" in line and (match := _COMMENT.search(line)):
            column = line.index("#", match.start()) + 1
            found.append(Waiver(match[1].upper(), match[2], Position(document.file, number, column)))
    return found


def waives(waiver: Waiver, finding: Finding) -> bool:
    return waiver.rule == finding.rule and bool(waiver.reason) and finding.rule not in UNWAIVABLE


def judged(
    waivers: Sequence[Waiver], waived: Sequence[tuple[Finding, Waiver]], not_checked: dict[str, str], off: Sequence[str]
) -> tuple[tuple[Waiver, str], ...]:
    """(waiver, what is wrong with it) for every waiver of a config that is not in order."""
    result = []
    used = {waiver.rule for _, waiver in waived}
    for waiver in waivers:
        if waiver.rule not in rules.known():
            result.append((waiver, f"names no rule: '{waiver.rule}'"))
        elif waiver.rule in UNWAIVABLE:
            result.append((waiver, f"cannot allow {waiver.rule}: such a config cannot run"))
        elif not waiver.reason:
            result.append((waiver, f"gives no reason to allow {waiver.rule}"))
        elif waiver.rule not in used and waiver.rule not in not_checked and waiver.rule not in off:
            result.append((waiver, f"allows {waiver.rule}, which finds nothing here"))
    return tuple(result)
