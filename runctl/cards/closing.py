"""The end of a card: its run's results beside the targets and the baseline that were fixed before, and a verdict.

What a closed card says follows from the run's records alone, so closing again changes nothing; what was done otherwise
than agreed is written down as a deviation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from runctl import record, results, status
from runctl.cards import agreement, desk, launched, tables
from runctl.cards import card as cards
from runctl.cards.contract import Contract, Entry, Metric, Target
from runctl.cards.desk import Read
from runctl.cards.text import Text
from runctl.errors import RefusedError, UsageError
from runctl.results import Result
from runctl.units import counted, format_bytes, format_duration, format_usd

BLOCK = "results"
_INCIDENTS = ("guard_tripped", "restart", "stop_requested", "resume_doubtful", "disk_filling", "secret_masked")


@dataclass(frozen=True)
class Judged:
    """A target beside what was measured: `met`, `missed`, `within noise` of the line, or `not measured`."""

    when: str
    means: str
    result: Result
    verdict: str


@dataclass(frozen=True)
class Against:
    """The run beside a baseline: `better`, `worse`, `within noise`, or why it may not be compared."""

    baseline: Result
    difference: float | None
    band: float | None
    verdict: str


@dataclass(frozen=True)
class Outcome:
    """All that a closed card says. `verdict` is one of success, missed, within noise, killed, failed, stopped."""

    run: str
    state: str
    reason: str
    verdict: str
    result: Result
    targets: tuple[Judged, ...]
    baselines: tuple[Against, ...]
    facts: tuple[tuple[str, str], ...]
    incidents: tuple[str, ...]
    deviations: tuple[str, ...]
    earlier: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "state": self.state,
            "reason": self.reason,
            "verdict": self.verdict,
            "result": self.result.to_json(),
            "targets": [
                {"when": one.when, "means": one.means, "verdict": one.verdict, "result": one.result.to_json()}
                for one in self.targets
            ],
            "baselines": [
                {
                    "baseline": one.baseline.to_json(),
                    "difference": one.difference,
                    "band": one.band,
                    "verdict": one.verdict,
                }
                for one in self.baselines
            ],
            "facts": dict(self.facts),
            "incidents": list(self.incidents),
            "deviations": list(self.deviations),
            "closed_before": list(self.earlier),
        }


def close(name: str, run_name: str, by: str, again: str | None = None) -> tuple[Read, Outcome]:
    """Fill in the results of a card from a run that has ended. Raises UsageError for a run that has not; RefusedError
    for a card that was closed with another run, and for one that was closed with this one and would say something
    else now, unless there is a reason (`again`), which is kept with the verdict before."""
    found = desk.read(name)
    run = record.find(found.project.root, run_name)
    state = status.observe(run)
    if not state.over:
        raise UsageError(f"{run.name} is {state.state}", hint=f"runctl wait {run.name}, then close the card")
    contract = found.card.contract
    if contract.closed and contract.closed_with != run.name:
        raise RefusedError(
            f"{found.card.name} was closed with {contract.closed_with}", hint="draft a card for the next run"
        )
    text = found.card.text.with_section("status", "closed").with_section("run", run.name)
    if contract.closed and again is None:
        outcome = judge(found, run, contract.closings[:-1])
        same = BLOCK not in text.blocks or written(outcome) == text.block(BLOCK)
        if not same or found.broken or not contract.closings:
            hint = f'runctl card close {found.card.name} {run.name} --again "why" keeps the verdict so far beside it'
            said = found.broken[0] if found.broken else "its results would be others now"
            raise RefusedError(f"{found.card.name} is closed, and {said}", hint=hint)
    else:
        outcome = judge(found, run, contract.closings)
        text = with_results(text, outcome)
        why = f"{run.name}: {outcome.verdict}" + (f"; again: {again}" if again and contract.closed else "")
        digests = {"before": _agreed_before(contract, run), "after": found.agreed.digest if found.agreed else None}
        entry = _entry("closed", by, why, **digests, sealed=desk.seal(text))
        text = text.with_section("log", [*desk.log_of(found.card), entry])
    made = desk.shown(desk.beside(cards.of(text, found.card.path), found.project))
    made.card.save()
    return made, outcome


def _agreed_before(contract: Contract, run: record.RunDir) -> str | None:
    """The digest of the card when it was last closed, else when its run was launched."""
    if contract.closings:
        return contract.closings[-1].after
    noted = record.read_object(run.run).get("card")
    return noted.get("digest") if isinstance(noted, dict) else None


def deviate(name: str, by: str, why: str) -> Read:
    """Write down that something was done otherwise than agreed, once a run has begun or is over."""
    found = desk.read(name)
    if not found.card.contract.signatures and not launched.begun(found.card, found.project.root):
        raise UsageError(
            f"{found.card.name} was not agreed on yet", hint=f"runctl card amend {found.card.name} --why …"
        )
    kept = desk.last_agreed(found)
    digests = {
        "before": agreement.digest_of(kept) if kept else None,
        "after": found.agreed.digest if found.agreed else None,
    }
    text = found.card.text.with_section("log", [*desk.log_of(found.card), _entry("deviation", by, why, **digests)])
    made = desk.shown(desk.beside(cards.of(text, found.card.path), found.project))
    made.card.save()
    return made


def judge(found: Read, run: record.RunDir, earlier: Sequence[Entry] = ()) -> Outcome:
    """What a run came to, by the metric, targets and baselines that were agreed when it started. Targets and baselines
    that the card names since stand beside them, and decide nothing. `earlier`: when it was closed before."""
    now, project = found.card.contract, found.project.root
    basis = launched.basis(found.card, run, project)
    contract, state = basis.contract, status.observe(run)
    result = results.of_run(run, contract.metric, project)
    targets = tuple(_targets(contract, contract.targets, run, project))
    baselines = tuple(_against(one, run, result, contract.metric, project) for one in contract.baseline)
    verdict = _verdict(state.state, [one.verdict for one in targets])
    agreed = {one.when for one in contract.targets}
    since = _targets(contract, [one for one in now.targets if one.when not in agreed], run, project)
    targets += tuple(replace(one, verdict=f"not agreed ({one.verdict})") for one in since)
    others = [one for one in now.baseline if one not in contract.baseline]
    since_against = (_against(one, run, result, contract.metric, project) for one in others)
    baselines += tuple(replace(one, verdict=f"not agreed ({one.verdict})") for one in since_against)
    return Outcome(
        run.name,
        state.state,
        state.reason or "",
        verdict,
        result,
        targets,
        baselines,
        tuple(_facts(run)),
        tuple(_incidents(run)),
        tuple(_deviations(found, run, basis)),
        tuple(f"{one.at[:16].replace('T', ' ')} {one.by}: {one.why}" for one in earlier),
    )


def with_results(text: Text, outcome: Outcome) -> Text:
    """The card with its results block written."""
    if BLOCK not in text.blocks:
        return text
    return text.with_block(BLOCK, written(outcome))


def written(outcome: Outcome) -> str:
    """An outcome as Markdown."""
    named = outcome.result.metric
    parts = [f"**{outcome.verdict}**: run `{outcome.run}` {outcome.state}" + _because(outcome.reason) + "."]
    if outcome.targets:
        rows = [(one.when, shown(one.result), one.verdict, one.means) for one in outcome.targets]
        parts.append(tables.table(("target", f"measured ({named.statistic})", "", "means"), rows))
    if outcome.baselines:
        rows = [(one.baseline.run, shown(one.baseline), difference(one), one.verdict) for one in outcome.baselines]
        rows.insert(0, (f"this run, {outcome.run}", shown(outcome.result), "", ""))
        parts.append(tables.table(("run", named.shown, "difference", ""), rows))
    parts.append(
        tables.table(("", "estimated", "actual"), [(name, *value.split(" | ", 1)) for name, value in outcome.facts])
    )
    if outcome.incidents:
        parts.append("What happened on the way:\n\n" + "\n".join(f"- {tables.cell(one)}" for one in outcome.incidents))
    if outcome.deviations:
        parts.append("Otherwise than agreed:\n\n" + "\n".join(f"- {tables.cell(one)}" for one in outcome.deviations))
    if outcome.earlier:
        parts.append("Closed before:\n\n" + "\n".join(f"- {tables.cell(one)}" for one in outcome.earlier))
    noise = outcome.result.noise
    basis = (
        f"± is 95 %, from {noise.basis}." if noise else "The noise of this metric is not known: too few evaluations."
    )
    return "\n\n".join([*parts, basis])


def shown(result: Result) -> str:
    """A value with its band, or why there is none."""
    if result.value is None:
        return result.why
    band = f" ± {result.noise.band:.2g}" if result.noise else ""
    return f"{result.value:.5g}{band}"


def difference(one: Against) -> str:
    if one.difference is None:
        return ""
    return f"{one.difference:+.3g}" + (f" ± {one.band:.2g}" if one.band is not None else "")


def _targets(contract: Contract, given: Sequence[Target], run: record.RunDir, project: Any) -> Iterator[Judged]:
    from runctl.guards import evaluate, grammar

    for target in given:
        test = grammar.condition(target.when)["test"]
        mode = "min" if str(test["op"]).startswith("<") else "max"
        metric = contract.metric.model_copy(update={"name": test["metric"], "mode": mode})
        result = results.of_run(run, metric, project)
        if result.value is None:
            yield Judged(target.when, target.means, result, "not measured")
            continue
        met = evaluate.compare(result.value, test["op"], float(test["value"]))
        near = result.noise is not None and abs(result.value - float(test["value"])) <= result.noise.band
        word = "within noise" if near else "met" if met else "missed"
        yield Judged(target.when, target.means, result, word)


def _against(name: str, run: record.RunDir, result: Result, metric: Metric, project: Any) -> Against:
    try:
        other = record.find(project, name)
    except UsageError as error:
        return Against(Result(name, "", metric, None, None, 0, None, "not on this machine"), None, None, error.message)
    baseline = results.of_run(other, metric, project)
    if why := results.incomparable(run, other, metric.name):
        return Against(baseline, None, None, f"not comparable: {why}")
    if result.value is None or baseline.value is None:
        return Against(baseline, None, None, "not measured")
    gap = result.value - baseline.value
    band = results.together(result.noise, baseline.noise)
    if band is not None and abs(gap) <= band:
        return Against(baseline, gap, band, "within noise")
    word = "better" if results.better(result.value, baseline.value, metric.mode) else "worse" if gap else "equal"
    return Against(baseline, gap, band, word if band is not None else f"{word}, noise unknown")


def _verdict(state: str, targets: Sequence[str]) -> str:
    if state != "succeeded":
        return state
    if not targets:
        return "no target was set"
    if "missed" in targets or "not measured" in targets:
        return "missed"
    return "within noise" if "within noise" in targets else "success"


def _facts(run: record.RunDir) -> Iterator[tuple[str, str]]:
    summary = record.read_object(run.summary)
    account = summary.get("account")
    show = {"time_seconds": format_duration, "cost_usd": format_usd, "memory_bytes": format_bytes}
    named = {"time_seconds": "time", "cost_usd": "cost", "memory_bytes": "memory"}
    for key, row in (account if isinstance(account, dict) else {}).items():
        if key in show and isinstance(row, dict) and isinstance(row.get("estimated"), dict):
            low, high = row["estimated"].get("low"), row["estimated"].get("high")
            actual = show[key](row["actual"]) + (f" ({row['verdict']})" if row.get("verdict") else "")
            yield named[key], f"{show[key](low)} to {show[key](high)} | {actual}"
    yield "attempts", f" | {summary.get('attempts', len(run.attempts()))}"
    saved = summary.get("checkpoints")
    if isinstance(saved, list) and saved:
        best = summary.get("best")
        last = f"{counted(len(saved), 'checkpoint')}, the last at step {saved[-1].get('step')}"
        yield "kept", f" | {last}" + (f", best at step {best.get('step')}" if isinstance(best, dict) else "")


def _incidents(run: record.RunDir) -> Iterator[str]:
    for row in record.read_lines(run.events):
        if row.get("event") in _INCIDENTS:
            what = str(row["event"]).replace("_", " ")
            yield f"attempt {row.get('attempt')}: {what}: {row.get('reason') or row.get('words') or ''}".rstrip(": ")


def _deviations(found: Read, run: record.RunDir, basis: launched.Basis) -> Iterator[str]:
    """What people wrote down; what the card says, and what ran, otherwise than was agreed when the run started."""
    for entry in found.card.contract.log:
        if entry.kind == "deviation":
            yield f"{entry.at[:10]} {entry.by}: {entry.why}"
    yield from basis.said
    config = record.content(run).get("config")
    if isinstance(config, dict) and not str(config.get("card") or "").endswith(f"{found.card.name}.md"):
        yield f"{run.name} was not launched with this card"
    yield from launched.moved(basis.contract, found.card.contract)
    if basis.agreed is None:
        return
    before = {"text": launched.body(str(basis.agreed["text"])), "config": basis.agreed["config"]}
    after = {"text": launched.body(found.card.text.agreed()), "config": basis.agreed["config"]}
    yield from agreement.differences(before, after)
    if isinstance(config, dict):
        ran = {key: value for key, value in config.items() if key != "name"}
        yield from agreement.differences({"config": before["config"]}, {"config": ran})


def _entry(kind: str, by: str, why: str, **more: str | None) -> dict[str, Any]:
    found = {"kind": kind, "at": desk.now(), "by": by, "why": why, **more}
    return {key: value for key, value in found.items() if value is not None}


def _because(reason: str) -> str:
    return f" ({tables.cell(reason)})" if reason else ""
