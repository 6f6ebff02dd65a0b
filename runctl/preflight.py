"""Preflight: gather the facts of a config, check every rule over them, and say what was not checked.

Nothing here needs a GPU, torch, numpy or a network; nothing passes in silence: a rule that lacks a fact is
reported as not checked with the reason, and a rule that crashes is an error finding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from runctl import adapters, guarded, rules, yamldoc
from runctl import project as projects
from runctl.adapters import folders, kinds, native, overlay
from runctl.adapters import given as given_keys
from runctl.errors import UsageError
from runctl.facts import Facts, Finding, Unknown
from runctl.gathering import carded, derived, history, secrets, surroundings, written
from runctl.light import dataclass, field, replace
from runctl.mending import advised
from runctl.project import Project
from runctl.repeats import Repeats
from runctl.team import baseline, preflight_project, waivers
from runctl.team.policy import UNWAIVABLE
from runctl.team.waivers import Course, Waiver
from runctl.yamldoc import Document, Position

ORDER = {"error": 0, "warning": 1, "note": 2}
ESTIMATES = ("parameters", "memory", "time", "cost")
__all__ = [
    "UNWAIVABLE",
    "Coverage",
    "Options",
    "Report",
    "Waiver",
    "check",
    "expand",
    "gather",
    "of_project",
    "preflight",
]


@dataclass(frozen=True)
class Options:
    """How a config is to be read. `overrides` are `key.path=value` texts; `adapter` names the dialect (else it is
    recognised), `overlays` are files that lie under the config, `gpu` is where it would run, `source` a folder of
    training code; `launching` where a launch follows, so that what is merely absent yet is an error; `online` looks
    at what is not in the files, credentials for instance; `detached` says whether a launch leaves the run alone.
    `known` is the baseline to use, in place of the project's; "" is none."""

    overrides: Sequence[str] = ()
    gpu: str | None = None
    adapter: str | None = None
    overlays: Sequence[Path] = ()
    source: Path | None = None
    launching: bool = False
    online: bool = False
    detached: bool | None = None
    known: str | None = None


@dataclass(frozen=True)
class Coverage:
    """Which rules judged; which could not, and why; which the project switched off."""

    checked: tuple[str, ...]
    not_checked: dict[str, str]
    off: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """What preflight says of one config. `kind` is `training`, `incomplete` (a fragment) or `other` (no training at
    all), and `why` says so; `project` is `runctl.yaml` itself. `waived` are findings that are allowed or known, each
    with its reason; `at_launch` are those that do not fail a preflight, but would refuse a launch from here, now."""

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

    @cached_property
    def counts(self) -> dict[str, int]:
        found = dict.fromkeys(ORDER, 0)
        for finding in self.findings:
            found[finding.severity or "error"] += 1
        return found

    @property
    def verdict(self) -> str:
        """`fail`, `warn` or `ok`: the worst finding decides; `incomplete` and `other` where it is no whole config."""
        if self.kind in ("incomplete", "other") and not self.counts["error"]:
            return self.kind
        return "fail" if self.counts["error"] else "warn" if self.counts["warning"] else "ok"


def preflight(path: Path | str, options: Options | None = None, project: Project | None = None) -> Report:
    """Judge one config. Raises UsageError where the file is missing, is not YAML, or the project is not valid."""
    return check(*gather(path, options, project))


def of_project(project: Project) -> Report:
    """Judge a project's `runctl.yaml` by itself: its policy. What its waivers do is only known of configs."""
    return check(*preflight_project.facts_of(preflight_project.Held(project)))


def gather(
    path: Path | str,
    options: Options | None = None,
    project: Project | None = None,
    document: Document | None = None,
) -> tuple[Facts, Document]:
    """The facts of one config, derived ones included, and its parsed file, or `document` in its place."""
    options = options or Options()
    project = project or projects.load(path)
    facts = Facts(str(path), preflight_project.policy_of(project), options.launching, project=project)
    top = document if document is not None else yamldoc.load(path, tags=True)
    layers = [*(yamldoc.load(file, tags=True) for file in options.overlays), top]
    document = overlay.merged(layers)
    spec = adapters.choose(document, project, options.adapter)
    if spec is None:
        for layer in layers:
            yamldoc.refuse_tags(layer)
    overrides = overlay.parsed(options.overrides, options.gpu)
    if spec is None:
        native.read(document, overlay.native(options.overrides, options.gpu), project, facts)
    else:
        from runctl.adapters import foreign, settle  # with all that they know of other trainers

        given_keys.check(document, spec, overrides)
        given = overlay.apply(document, overrides)
        foreign.read(document, spec, facts, tuple(given))
        overlay.canonical(facts, overrides, options.gpu)
        settle.settle(facts)
    facts.put("config.scalars", written.scalars(document, overrides), "file")
    kinds.read(facts, document, Path(path))
    written.read(facts, document, options.source)
    Repeats(facts, project).derive(derived.derive, project)
    surroundings.derive(facts, project, online=options.online, detached=options.detached)
    carded.derive(facts, document, project)
    history.derive(facts, project)
    guarded.derive(facts)
    _purse(facts, project)
    return facts, document


def _purse(facts: Facts, project: Project) -> None:
    """`purse`: what of the project's budget is spent and left; None where it has none."""
    if project.total_usd is None:
        facts.put("purse", None, "default")
        return
    from runctl import purse  # it looks into the runs, which stand above this room

    facts.put("purse", project.once("purse", lambda: purse.read(project)), "derived", "runctl.yaml and the runs")


def check(facts: Facts, document: Document, only: Iterable[str] | None = None) -> Report:
    """Run every rule (or `only` those ids) over the facts."""
    _hide(facts)
    allowed = _waivers(facts, document)
    kind = facts.get("config.kind", "training")
    about_project = kind == "project"
    wanted = None if only is None else set(only)
    chosen = () if wanted == set() else rules.concerning(kind, facts.foreign)  # an estimate needs none of them
    if wanted is not None:
        chosen = tuple(rule for rule in chosen if rule.id in wanted)
    off: tuple[str, ...] = ()
    if facts.policy.rules:
        off = tuple(rule.id for rule in chosen if facts.policy.severity(rule.id) == "off")
    findings, waived, coverage = _judge(facts, document, chosen, allowed, off)
    at_launch: tuple[Finding, ...] = ()
    if not facts.launching and not about_project:
        following = replace(facts, launching=True, values=dict(facts.values))
        then, _, _ = _judge(following, document, [rule for rule in chosen if rule.launch], allowed, off)
        failing = {finding.rule for finding in findings if finding.severity == "error"}
        at_launch = tuple(found for found in then if found.severity == "error" and found.rule not in failing)
    estimates = {} if about_project else _estimates(facts)
    return Report(
        facts.path,
        kind,
        tuple(findings),
        estimates,
        coverage,
        tuple(waived),
        at_launch,
        facts,
        document,
        facts.get("config.kind_why", ""),
    )


def _hide(facts: Facts) -> None:
    """No reason why a fact is unknown shows what is secret."""
    if hidden := facts.get("config.hidden"):
        for name, found in list(facts.values.items()):
            if isinstance(found, Unknown):
                facts.miss(name, secrets.masked(found.why, hidden))


def _judge(
    facts: Facts, document: Document, chosen: Sequence[rules.Rule], allowed: Sequence[Waiver], off: tuple[str, ...]
) -> tuple[list[Finding], list[tuple[Finding, Waiver]], Coverage]:
    """What the rules find, worst first; what of it is waived; and which rules judged."""
    findings: list[Finding] = []
    waived: list[tuple[Finding, Waiver]] = []
    checked: list[str] = []
    not_checked: dict[str, str] = {}
    hidden = facts.get("config.hidden")
    repeats = Repeats(facts, facts.project)
    for rule in chosen:
        if rule.id in off:
            continue
        if rule.id == "WV101":  # the last id: it judges the waivers by what the other rules found
            own = [one for one in allowed if one.where == "config"]
            ids = {one.id for one in chosen if one.id not in off} if own else ()
            course = Course([*findings, *(one for one, _ in waived)], waived, not_checked, ids)
            facts.put("waivers", waivers.judged(own, course), "file")
        try:
            said = repeats.verdict(rule.check)
            if isinstance(said, str):
                not_checked[rule.id] = secrets.masked(said, hidden) if hidden else said
                continue
            found = [_complete(finding, rule, facts, document) for finding in said]
        except Exception as error:
            message = f"the rule {rule.id} crashed: {type(error).__name__}: {error}"
            crashed = Finding(message, fix="report this: it is a defect of runctl", severity="error")
            found = [_complete(crashed, rule, facts, document)]
        checked.append(rule.id)
        for finding in found:
            waiver = next((one for one in allowed if waivers.waives(one, finding)), None)
            if waiver is None:
                findings.append(finding)
            else:
                waived.append((finding, waiver))
    findings, known = preflight_project.known(findings, facts)
    waived += known
    findings.sort(
        key=lambda finding: (ORDER[finding.severity or "error"], finding.line or 0, finding.column or 0, finding.rule)
    )
    return findings, waived, Coverage(tuple(checked), not_checked, off)


def _waivers(facts: Facts, document: Document) -> list[Waiver]:
    """What may waive a finding of this config, the narrowest first: its comments for a line, for the file, and the
    project's."""
    allowed = sorted(waivers.find(document), key=lambda one: one.line is None)
    project = facts.project
    if project is not None and project.waivers:
        allowed += preflight_project.concerning(project, baseline.relative(facts.path, project.root))
    return allowed


def expand(paths: Sequence[Path]) -> list[Path]:
    """Config files of the given files and folders, each once; raises UsageError for a folder without any."""
    result: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            result[path] = None
            continue
        inside = [file for file in folders.configs(path) if file.name != projects.FILE]
        if not inside:
            raise UsageError(f"no YAML files in {path}, nor JSON that looks like a training config")
        result.update(dict.fromkeys(inside))
    return list(result)


def _complete(finding: Finding, rule: rules.Rule, facts: Facts, document: Document) -> Finding:
    """Fill in what the engine knows: id, severity by rule and policy, place, why."""
    position = finding.at if isinstance(finding.at, Position) else None
    if isinstance(finding.at, str) and (source := facts.source(finding.at)) is not None:
        position = source.position
    key = finding.key  # an empty one: it is about the whole file, wherever it stands
    if key is None and isinstance(finding.at, str):
        key = facts.key(finding.at)
    if key is None and position is not None and (path := document.path_at(position)):
        key = ".".join(map(str, path))
    severity = finding.severity or rule.severity
    set_by_project = facts.policy.severity(rule.id)
    if set_by_project in ("error", "warning", "note") and severity != "note":
        severity = set_by_project  # type: ignore[assignment]
    if hidden := facts.get("config.hidden"):
        message, fix = secrets.masked(finding.message, hidden), secrets.masked(finding.fix or "", hidden)
        finding = replace(finding, message=message, fix=fix or None)
    edit = finding.edit
    if edit is None and severity != "note" and rule.id != "CF100":  # what cannot be read was perhaps meant otherwise
        edit = advised.edit(finding, facts, document)
    return replace(
        finding,
        edit=edit,
        rule=rule.id,
        severity=severity,
        key=key,
        file=position.file if position else facts.path,
        line=position.line if position else None,
        column=position.column if position else None,
        why=finding.why or rule.why,
    )


def _estimates(facts: Facts) -> dict[str, Any]:
    """The estimates as facts, or unknown with why: `parameters`, `memory`, `time`, `cost`."""
    names = {"parameters": "model.parameters"}
    return {name: facts.values.get(names.get(name, f"estimate.{name}"), Unknown(facts.why(name))) for name in ESTIMATES}
