"""Run cards as people see them on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runctl import view

if TYPE_CHECKING:
    from runctl.cards.closing import Outcome
    from runctl.cards.desk import Read
    from runctl.errors import RunctlError
    from runctl.facts import Finding

_STYLE = {"error": "bad", "warning": "warn", "note": "note"}


def faults(found: Read) -> list[Finding]:
    """What makes a check of a card fail."""
    return [one for one in found.findings if one.severity == "error"]


def as_json(one: Read | tuple[str, RunctlError]) -> dict[str, Any]:
    return {"path": one[0], "error": one[1].to_json()} if isinstance(one, tuple) else one.to_json()


def checked(found: Sequence[Read | tuple[str, RunctlError]]) -> None:
    if not found:
        view.say("there are no cards in runcards/; runctl card new CONFIG drafts one")
    for one in found:
        if isinstance(one, tuple):
            view.out().print(f"bad      {one[0]}", markup=False)
            view.print_error(one[1])
            continue
        style = "bad" if faults(one) or one.broken else "warn" if one.findings else "good"
        view.out().print(f"[{style}]{one.state:<9}[/{style}]", end="")
        view.out().print(f"{one.card.path}", markup=False)
        _told(one.findings)
        _told_of_closed(one)


def card(found: Read) -> None:
    """One card: the contract, the signatures, what is wrong."""
    contract, out = found.card.contract, view.out()
    out.print(f"[name]{found.card.name}[/name]  {found.state}")
    rows = [
        ("goal", contract.goal or "not said"),
        ("question", contract.question or "not said"),
        ("config", contract.config),
        ("baseline", ", ".join(contract.baseline) or "none"),
        ("decided by", contract.metric.shown),
        *(("target", f"{one.when}" + (f"  ({one.means})" if one.means else "")) for one in contract.targets),
        *(("kill", f"{one.when}" + (f" after {one.after}" if one.after else "")) for one in contract.kill),
        ("run", contract.run or "none yet"),
    ]
    for name, value in rows:
        out.print(f"  {name:<11}{value}", markup=False)
    for one in found.standings:
        style, word = "good" if one.holds else "warn", one.words
        said = f" “{one.signature.comment}”" if one.signature.comment else ""
        out.print(f"  signed     {one.signature.by}: {one.signature.verdict}{said}  ", markup=False, end="")
        out.print(word, style=style, markup=False)
    for entry in contract.log:
        out.print(f"  {entry.kind:<11}{entry.at[:10]} {entry.by}: {entry.why}", markup=False)
    _told(found.findings)
    _told_of_closed(found)
    out.print(f"  {'may be launched' if found.refusal is None else found.refusal}", markup=False)


def board(found: Sequence[Read | tuple[str, RunctlError]]) -> None:
    rows = []
    for one in found:
        if isinstance(one, tuple):
            rows.append([one[0].rpartition("/")[2].removesuffix(".md"), "not in order", "", "", one[1].message])
            continue
        contract = one.card.contract
        signed = ", ".join(
            f"{each.signature.by}: {each.signature.verdict}{' (void)' * bool(each.void)}"
            for each in one.standings
            if not each.replaced
        )
        rows.append([one.card.name, one.state, ", ".join(contract.baseline), signed, contract.goal])
    if rows:
        view.table(["card", "state", "baseline", "signed", "goal"], rows)
    else:
        view.say("there are no cards in runcards/; runctl card new CONFIG drafts one")


def signed(found: Read, begun: str | None) -> None:
    last = found.standings[-1].signature
    view.out().print(f"{last.by}: {last.verdict}, {found.card.path}", markup=False)
    if begun:
        view.say(f"signed after {begun} had started: that does not make {begun} agreed; it is for runs to come")
    view.say("the run may be launched" if found.refusal is None else f"not yet: {found.refusal}")


def amended(found: Read, differs: Sequence[str]) -> None:
    view.out().print(f"{found.card.path}", markup=False)
    for one in differs:
        view.out().print(f"  {one}", markup=False)
    view.say(f"to be signed again: {found.refusal}" if found.refusal else "nothing that was signed has changed")


def _told_of_closed(found: Read) -> None:
    if not found.card.contract.closed:
        return
    for said in found.broken:
        view.out().print(f"  {said}", markup=False)
        run = found.card.contract.closed_with or "RUN"
        view.out().print(f'    fix: undo it, or runctl card close {found.card.name} {run} --again "why"', markup=False)


def _told(findings: Sequence[Finding]) -> None:
    for finding in findings:
        style = _STYLE[finding.severity or "error"]
        view.out().print(f"  [{style}]{finding.severity} {finding.rule}[/{style}] ", end="")
        view.out().print(finding.message, markup=False)
        if finding.fix:
            view.out().print(f"    fix: {finding.fix}", markup=False)


def closed(found: Read, outcome: Outcome) -> None:
    """What came of a run: the verdict, then the same tables as in the card."""
    from runctl.cards import closing

    style = {"success": "good", "missed": "bad", "killed": "bad", "failed": "bad"}.get(outcome.verdict, "warn")
    out = view.out()
    out.print(f"[{style}]{outcome.verdict}[/{style}]  ", end="")
    out.print(f"{found.card.name} with {outcome.run}, which {outcome.state}", markup=False)
    for one in outcome.targets:
        out.print(f"  target     {one.when}: {closing.shown(one.result)}, {one.verdict}", markup=False)
    for against in outcome.baselines:
        gap = f" ({closing.difference(against)})" if against.difference is not None else ""
        told = f"{against.baseline.run}: {closing.shown(against.baseline)}{gap}, {against.verdict}"
        out.print(f"  baseline   {told}", markup=False)
    for said in (*outcome.incidents, *outcome.deviations):
        out.print(f"  {said}", markup=False)
    out.print(f"  written into {found.card.path}", markup=False)
