"""The run cards of configs, for reviewers: state, who signed and whether that holds, and whether the run may start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runctl.errors import RunctlError
from runctl.facts import NotChecked
from runctl.gathering import carded
from runctl.light import dataclass
from runctl.preflight import Report

if TYPE_CHECKING:
    from runctl.base import Comparison
    from runctl.gathering.carded import Reading


@dataclass(frozen=True)
class Signed:
    """A signature; `void` says what changed since, empty where it holds, and "" where that could not be judged."""

    by: str
    verdict: str
    void: tuple[str, ...] = ()
    judged: bool = True

    @property
    def words(self) -> str:
        return f"{self.by}: {self.verdict}" + (" (void)" if self.void else "" if self.judged else " (not judged)")


@dataclass(frozen=True)
class Row:
    """A card and the config that names it, "" for none; `refusal` is why its run may not start, None where it may."""

    card: str
    config: str
    state: str
    signed: tuple[Signed, ...]
    refusal: str | None
    goal: str = ""


def rows(reports: Sequence[Report], comparison: Comparison | None) -> list[Row]:
    """The cards of the configs; with a base, those of changed configs, and those that changed themselves."""
    touched = {path.resolve(): path for path in comparison.cards} if comparison else {}
    changed = {id(one.now) for one in comparison.changes} if comparison else set()
    found, named = list[Row](), set[Path]()
    for report in reports:
        reading = carded.of(report.facts)
        if reading is None:
            continue
        path = _path(report, reading)
        named.add(path)
        if comparison is None or id(report) in changed or path in touched:
            found.append(_row(report, reading))
    found += [_alone(path) for whole, path in sorted(touched.items()) if whole not in named and path.exists()]
    return found


def _path(report: Report, reading: Reading) -> Path:
    root = report.facts.project.root if report.facts.project else Path()
    return (root / reading.named).resolve()


def _row(report: Report, reading: Reading) -> Row:
    if reading.problems:
        where = f" (line {reading.problems[0].line})" if reading.problems[0].line else ""
        return Row(reading.named, report.path, "not in order", (), f"{reading.problems[0].message}{where}")
    from runctl.cards import agreement

    try:
        standing = [one for one in reading.standings if not one.replaced]
        signed = tuple(Signed(one.signature.by, one.signature.verdict, tuple(one.void)) for one in standing)
        state = agreement.state(reading.card, reading.standings)
        return Row(reading.named, report.path, state, signed, reading.refusal, reading.card.contract.goal)
    except (RunctlError, NotChecked) as error:
        return Row(reading.named, report.path, "not judged", (), str(error))


def _alone(path: Path) -> Row:
    """A card that changed, and whose config is not among those that were judged."""
    from runctl.cards import card

    try:
        contract = card.load(path).contract
    except RunctlError as error:
        return Row(str(path), "", "not in order", (), error.message)
    signed = tuple(Signed(one.by, one.verdict, judged=False) for one in contract.signatures)
    why = f"its config {contract.config} does not name it, or was not judged"
    state = "closed" if contract.closed else "draft" if not contract.signatures else "not judged"
    return Row(str(path), contract.config, state, signed, why, contract.goal)


def voids(found: Sequence[Row]) -> Iterator[tuple[Row, Signed]]:
    """The signatures that no longer hold."""
    for row in found:
        for one in row.signed:
            if one.void:
                yield row, one
