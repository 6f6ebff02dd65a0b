"""What could not be checked, short enough to read: each reason once, reasons of one kind in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from runctl.facts import Unknown
from runctl.light import dataclass
from runctl.preflight import Report
from runctl.units import counted
from runctl.unsaid import NO_WORD, NOT_FOUND, NOT_SAID, NOT_WRITTEN

LONG = 60  # letters of a reason that is not printed twice
MANY = 25  # rules of one reason, whose names nobody reads
MOST = 20  # lines; what is only in single configs comes last


@dataclass(frozen=True)
class Entry:
    """A reason, the rules that could not judge for it, and in how many configs."""

    why: str
    rules: tuple[str, ...]
    configs: int


def entries(reports: Sequence[Report]) -> list[Entry]:
    """Each reason once; those of most configs come first, then those of most rules."""
    found: dict[str, dict[str, int]] = {}
    for report in reports:
        above = {} if len(reports) > 1 else _above(report)
        for rule, why in report.coverage.not_checked.items():
            rules = found.setdefault(above.get(why, why), {})
            rules[rule] = rules.get(rule, 0) + 1
    result = [Entry(why, tuple(rules), max(rules.values())) for why, rules in found.items()]
    return sorted(result, key=lambda one: (-one.configs, -len(one.rules)))


def _above(report: Report) -> dict[str, str]:
    """Long reasons that stand under the estimates already."""
    return {
        why: f"the {names[0]} {'are' if names[0] == 'parameters' else 'is'} unknown, as said above"
        for why, names in unknown(report).items()
        if len(why) > LONG
    }


def unknown(report: Report) -> dict[str, list[str]]:
    """Why estimates are unknown, and which, in the order in which they are shown."""
    found: dict[str, list[str]] = {}
    for name, one in report.estimates.items():
        if isinstance(one, Unknown):
            found.setdefault(one.why, []).append(name)
        if name == "parameters" and report.facts.get("run.steps") is None:
            found.setdefault(report.facts.why("run.steps"), []).append("length")
    return found


def lines(reports: Sequence[Report]) -> list[str]:
    """`RULES: why` for each reason; what the config, its adapter or the command line does not say is listed together,
    each with its rules."""
    whole = _families(reports)
    alone: list[str] = []
    together: dict[str, list[tuple[Entry, str]]] = {}
    for entry in entries(reports):
        head, part = _split(entry.why)
        if head:
            together.setdefault(head, []).append((entry, part))
        else:
            alone.append(f"{named(entry.rules, whole)}: {entry.why}{_share(entry, reports)}")
    for head, listed in together.items():
        if len(listed) == 1:
            entry = listed[0][0]
            alone.append(f"{named(entry.rules, whole)}: {entry.why}{_share(entry, reports)}")
            continue
        parts = (f"{part.partition(' | ')[0]} ({_about(entry, part, whole, reports)})" for entry, part in listed)
        alone.append(f"{head}{', '.join(parts)}")
    if len(reports) > 1 and len(alone) > MOST:
        alone[MOST:] = [f"and {counted(len(alone) - MOST, 'more reason')}, of few configs: --format json has them"]
    return alone


def _split(why: str) -> tuple[str, str]:
    """What reasons of one kind have in common, and the rest; ("", "") where it is of no such kind."""
    if why.endswith(")") and NOT_SAID in why:
        what, _, how = why[:-1].partition(NOT_SAID)
        return ("", "") if "," in what or ":" in what else ("not said: ", f"{what} | {how}")
    for head in (NOT_WRITTEN, NOT_FOUND):
        if why.startswith(head) and " " not in why.removeprefix(head):
            return head, why.removeprefix(head)
    if why.startswith("the adapter ") and NO_WORD in why:
        adapter, _, name = why.partition(NO_WORD)
        return f"{adapter}{NO_WORD}", name
    return "", ""


def _about(entry: Entry, part: str, whole: frozenset[str], reports: Sequence[Report]) -> str:
    how = part.partition(" | ")[2]
    share = "" if entry.configs == len(reports) else counted(entry.configs, "config")
    return "; ".join(filter(None, (named(entry.rules, whole), how, share)))


def _share(entry: Entry, reports: Sequence[Report]) -> str:
    return "" if entry.configs == len(reports) else f"  ({counted(entry.configs, 'config')})"


def _families(reports: Iterable[Report]) -> frozenset[str]:
    """Groups of rules (`CK`) of which more than one was asked, and none could judge, all for one reason."""
    reasons: dict[str, set[str]] = {}
    sizes: dict[str, set[str]] = {}
    alike = {(report.coverage.checked, tuple(report.coverage.not_checked.items())) for report in reports}
    for checked, unchecked in alike:
        coverage: Mapping[str, str] = dict(unchecked)
        for rule in (*checked, *coverage):
            reasons.setdefault(rule[:2], set()).add(coverage.get(rule, ""))
            sizes.setdefault(rule[:2], set()).add(rule)
    return frozenset(one for one, why in reasons.items() if len(why) == 1 and "" not in why and len(sizes[one]) > 1)


def named(rules: Sequence[str], whole: frozenset[str]) -> str:
    """`BU* CF108`: a whole group of rules by its letters; only how many, where they are nearly all."""
    if len(rules) > MANY:
        return f"{len(rules)} rules"
    return " ".join(dict.fromkeys(f"{rule[:2]}*" if rule[:2] in whole else rule for rule in rules))
