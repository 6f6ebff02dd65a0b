"""Preflight: gather the facts of a config, check every rule over them, and say what was not checked.

Nothing here needs a GPU, torch, numpy or a network; nothing passes in silence: a rule that lacks a fact is
reported as not checked with the reason, and a rule that crashes is an error finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runctl import adapters, derived, policy, rules, siblings, waivers, yamldoc
from runctl import project as projects
from runctl.adapters import foreign, kinds, native, overlay, settle
from runctl.errors import UsageError
from runctl.facts import Facts, Finding, NotChecked, Unknown
from runctl.project import Project
from runctl.waivers import UNWAIVABLE, Waiver
from runctl.yamldoc import Document, Position

ORDER = {"error": 0, "warning": 1, "note": 2}
ESTIMATES = ("parameters", "memory", "time", "cost")
__all__ = ["UNWAIVABLE", "Coverage", "Options", "Report", "Waiver", "check", "expand", "gather", "preflight", "survey"]


@dataclass(frozen=True)
class Options:
    """How a config is to be read. `overrides` are `key.path=value` texts; `adapter` names the dialect (else it is
    recognised), `overlays` are files that lie under the config, `gpu` is where it would run, `source` a folder of
    training code; `launching` where a launch follows, so that what is merely absent yet is an error."""

    overrides: Sequence[str] = ()
    gpu: str | None = None
    adapter: str | None = None
    overlays: Sequence[Path] = ()
    source: Path | None = None
    launching: bool = False


@dataclass(frozen=True)
class Coverage:
    """Which rules judged; which could not, and why; which the project switched off."""

    checked: tuple[str, ...]
    not_checked: dict[str, str]
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What preflight says of one config. `kind` is `training`, `incomplete` (a fragment) or `other` (no training at
    all), and `why` says so; `waived` are findings that are allowed, each with its reason; `at_launch` are those that
    do not fail a preflight, but would refuse a launch from here, now."""

    path: str
    kind: str
    findings: tuple[Finding, ...]
    estimates: dict[str, Any]
    coverage: Coverage
    waived: tuple[tuple[Finding, Waiver], ...] = ()
    at_launch: tuple[Finding, ...] = ()
    facts: Facts = field(default_factory=lambda: Facts(""), repr=False, compare=False)
    document: Document | None = field(default=None, repr=False, compare=False)
    why: str = ""

    @property
    def errors(self) -> list[Finding]:
        """The unwaived findings that block a launch."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def refusals(self) -> list[Finding]:
        """Why a launch from here would be refused now; empty where it would start."""
        return [*self.errors, *self.at_launch]

    @property
    def counts(self) -> dict[str, int]:
        return {severity: sum(finding.severity == severity for finding in self.findings) for severity in ORDER}

    @property
    def verdict(self) -> str:
        """`fail`, `warn` or `ok`: the worst finding decides; `incomplete` and `other` where it is no whole config."""
        if self.kind != "training" and not self.counts["error"]:
            return self.kind
        return "fail" if self.counts["error"] else "warn" if self.counts["warning"] else "ok"


def preflight(path: Path | str, options: Options | None = None, project: Project | None = None) -> Report:
    """Judge one config. Raises UsageError where the file is missing, is not YAML, or the project is not valid."""
    return check(*gather(path, options, project))


def survey(
    paths: Sequence[Path],
    options: Options | None = None,
    only: Iterable[str] | None = None,
    project: Project | None = None,
) -> Iterator[Report | UsageError]:
    """Judge many configs, each also beside the others; the error of each file that cannot be read."""
    found: list[tuple[Facts, Document] | UsageError] = []
    for path in paths:
        try:
            found.append(gather(path, options, project))
        except UsageError as error:
            found.append(error)
    siblings.compare([one for one in found if isinstance(one, tuple)])
    for one in found:
        yield check(*one, only) if isinstance(one, tuple) else one


def gather(path: Path | str, options: Options | None = None, project: Project | None = None) -> tuple[Facts, Document]:
    """The facts of one config, derived ones included, and its parsed file."""
    options = options or Options()
    project = project or projects.load(path)
    facts = Facts(str(path), policy.read(project.policy, str(project.file or projects.FILE)), options.launching)
    document = overlay.merged([yamldoc.load(file) for file in (*options.overlays, path)])
    spec = adapters.choose(document, project, options.adapter)
    overrides = overlay.parsed(options.overrides, options.gpu)
    if spec is None:
        native.read(document, overlay.native(options.overrides, options.gpu), project, facts)
    else:
        given = overlay.apply(document, overrides)
        foreign.read(document, spec, facts, tuple(given))
        overlay.canonical(facts, overrides, options.gpu)
        settle.settle(facts)
    facts.put("config.scalars", foreign.scalars(document, overrides), "file")
    kinds.read(facts, document, Path(path))
    derived.derive(facts, project)
    return facts, document


def check(facts: Facts, document: Document, only: Iterable[str] | None = None) -> Report:
    """Run every rule (or `only` those ids) over the facts."""
    allowed = waivers.find(document)
    wanted = None if only is None else set(only)
    known: Iterable[rules.Rule] = (
        rules.known().values() if wanted is None or wanted else ()
    )  # an estimate needs none of them
    chosen = [rule for rule in known if wanted is None or rule.id in wanted]
    if facts.get("config.kind") in ("other", "incomplete"):  # what is missing makes most rules meaningless
        chosen = [rule for rule in chosen if rule.id[:2] in ("CF", "WV")]
    if facts.foreign:
        chosen = [rule for rule in chosen if not rule.native]
    off = tuple(rule.id for rule in chosen if facts.policy.rules.get(rule.id) == "off")
    findings, waived, coverage = _judge(facts, chosen, allowed, off)
    at_launch: tuple[Finding, ...] = ()
    if not facts.launching:
        then, _, _ = _judge(replace(facts, launching=True, values=dict(facts.values)), chosen, allowed, off)
        failing = {finding.rule for finding in findings if finding.severity == "error"}
        at_launch = tuple(found for found in then if found.severity == "error" and found.rule not in failing)
    estimates = _estimates(facts)
    return Report(
        facts.path,
        facts.get("config.kind", "training"),
        tuple(findings),
        estimates,
        coverage,
        tuple(waived),
        at_launch,
        facts,
        document,
        facts.get("config.kind_why", ""),
    )


def _judge(
    facts: Facts, chosen: Sequence[rules.Rule], allowed: Sequence[Waiver], off: tuple[str, ...]
) -> tuple[list[Finding], list[tuple[Finding, Waiver]], Coverage]:
    """What the rules find, worst first; what of it is waived; and which rules judged."""
    findings: list[Finding] = []
    waived: list[tuple[Finding, Waiver]] = []
    checked: list[str] = []
    not_checked: dict[str, str] = {}
    for rule in chosen:
        if rule.id in off:
            continue
        if rule.id == "WV101":  # the last id: it judges the waivers by what the other rules found
            facts.put("waivers", waivers.judged(allowed, waived, not_checked, off), "file")
        try:
            found = [_complete(finding, rule, facts) for finding in rule.check(facts)]
        except NotChecked as why:
            not_checked[rule.id] = str(why)
            continue
        except Exception as error:
            message = f"the rule {rule.id} crashed: {type(error).__name__}: {error}"
            found = [
                _complete(Finding(message, fix="report this: it is a defect of runctl", severity="error"), rule, facts)
            ]
        checked.append(rule.id)
        for finding in found:
            waiver = next((one for one in allowed if waivers.waives(one, finding)), None)
            if waiver is None:
                findings.append(finding)
            else:
                waived.append((finding, waiver))
    findings.sort(
        key=lambda finding: (ORDER[finding.severity or "error"], finding.line or 0, finding.column or 0, finding.rule)
    )
    return findings, waived, Coverage(tuple(checked), not_checked, off)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Config files of the given files and folders, each once; raises UsageError for a folder without any."""
    result: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            result[path] = None
            continue
        found = (file for file in sorted(path.rglob("*.y*ml")) if not file.is_dir())
        inside = [file for file in found if _is_config(file.relative_to(path))]
        if not inside:
            raise UsageError(f"no YAML files in {path}")
        result.update(dict.fromkeys(inside))
    return list(result)


def _is_config(path: Path) -> bool:
    hidden = any(part.startswith(".") or part in ("runs", "node_modules") for part in path.parts)
    return path.suffix in (".yaml", ".yml") and path.name != projects.FILE and not hidden


def _complete(finding: Finding, rule: rules.Rule, facts: Facts) -> Finding:
    """Fill in what the engine knows: id, severity by rule and policy, place, why."""
    position = finding.at if isinstance(finding.at, Position) else None
    if isinstance(finding.at, str) and (source := facts.source(finding.at)) is not None:
        position = source.position
    severity = finding.severity or rule.severity
    set_by_project = facts.policy.rules.get(rule.id)
    if set_by_project in ("error", "warning", "note") and severity != "note":
        severity = set_by_project  # type: ignore[assignment]
    return replace(
        finding,
        rule=rule.id,
        severity=severity,
        key=finding.key or (facts.key(finding.at) if isinstance(finding.at, str) else None),
        file=position.file if position else facts.path,
        line=position.line if position else None,
        column=position.column if position else None,
        why=finding.why or rule.why,
    )


def _estimates(facts: Facts) -> dict[str, Any]:
    """The estimates as facts, or unknown with why: `parameters`, `memory`, `time`, `cost`."""
    names = {"parameters": "model.parameters"}
    return {name: facts.values.get(names.get(name, f"estimate.{name}"), Unknown(facts.why(name))) for name in ESTIMATES}
