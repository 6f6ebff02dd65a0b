"""Preflight against a reviewer: configs that nobody here wrote, each with what a person found in it.

    python benchmarks/wild.py FOLDER                  with the adapters of examples/adapters
    python benchmarks/wild.py FOLDER --no-adapters    with what runctl recognises by itself

FOLDER holds `expected.json`: a list of cases with `file`, `args` (the options of `runctl preflight` that state the
case's context), `verdict` (OK, WARN, FAIL, NOT_TRAINING, INCOMPLETE) and `findings` (each with `severity`, `code`,
`basis` and `why`).
Judged are the findings whose basis is `config` (the file alone shows it) or `hw` (the file and the GPU), and those of
`repo` (its siblings too), for which every file of a case's folder is given at once. A case agrees if

    FAIL           preflight finds an error, if a FAIL of those bases is among its findings
    WARN           preflight finds at least a warning, if a WARN of those bases is
    OK             nothing blocks it
    NOT_TRAINING, INCOMPLETE   the file is recognised as that

Findings are also compared one by one, by what rules could find each code. `REASONS` says why a disagreement stands;
what the given files do not show (unseen), and where the reviewer is held to be wrong (disputed), is counted apart.
Exits with 1 where a bar is missed: every FAIL, every WARN, no OK blocked, every kind recognised, every such finding by
a rule of its code; without adapters 70 % of the FAILs, and no OK blocked.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runctl import preflight, yamldoc
from runctl.adapters import claims, from_file
from runctl.adapters.spec import Spec
from runctl.errors import UsageError
from runctl.facts import Facts
from runctl.gathering import siblings
from runctl.preflight import Options, Report
from runctl.project import Project
from runctl.yamldoc import Document

Gathered = tuple[Facts, Document]
ADAPTERS = Path(__file__).resolve().parents[1] / "examples" / "adapters"
SEVERITY = {"FAIL": ("error",), "WARN": ("error", "warning")}
BASES = ("config", "hw")
NOT_FOUND = "not found"
KINDS = {"NOT_TRAINING": "other", "INCOMPLETE": "incomplete"}
BAR = 0.7  # of the FAILs, without adapters

# What could find each of the reviewer's codes: beginnings of rule ids. A code that is not here is anybody's.
RULES: dict[str, tuple[str, ...]] = {
    "CKPT_NONE": ("CK101",),
    "CKPT_GT_TOTAL": ("CK102",),
    "CKPT_SPARSE": ("CK103", "CK104"),
    "COMPILE_DYNAMIC": ("EN105",),
    "COMPILE_GC_NAN": ("EN105",),
    "DDP_GC_INCOMPAT": ("EN105",),
    "DOC_DRIFT": ("CF105", "CF106", "EX"),
    "ENV_REQUIRED": ("none",),
    "EPOCHS": ("DA107",),
    "EVAL_MISMATCH": ("CF115", "DA108"),
    "FP16_WHERE_BF16_OK": ("PR106",),
    "INCOMPLETE": ("CF107",),
    "KEY_CONFLICT": ("OP107", "CF113", "CF114", "CF115", "EX"),
    "KEY_UNUSED": ("CF108",),
    "MEM_NOFIT": ("ME101",),
    "MEM_RISK": ("ME101", "ME102"),
    "NAME_MISMATCH": ("CF105",),
    "NO_EVAL": ("DA108", "CK109"),
    "NO_WARMUP_EVAL": ("DA108", "OP1"),
    "OUTDIR_SHARED": ("CK106",),
    "PLACEHOLDER": ("CF102", "CF107"),
    "PRECISION_MISSING": ("PR105",),
    "PREC_FP32_LONG": ("PR101",),
    "RESUME_AUTO_SHARED": ("CK106",),
    "RUN_NAME_MISSING": ("CF111",),
    "SEED_MISSING": ("CF110",),
    "SWEEP_INCONSISTENT": ("CF113", "EX"),
    "TIME_BUDGET": ("TM", "BU"),
    "TOY_MODEL": ("ME103",),
}


@dataclass(frozen=True)
class Case:
    """One line of `expected.json`. `alone` is the report of the file, `beside` the one with its folder."""

    file: str
    args: tuple[str, ...]
    verdict: str
    findings: tuple[dict[str, str], ...]
    alone: Report
    beside: Report

    @property
    def label(self) -> str:
        shown = Path(self.file).name.removesuffix(".yaml").rpartition("__")[2] or self.file
        return shown + (f" {' '.join(self.args)}" if "--set" in self.args else "")

    def judged(self, bases: tuple[str, ...], *severities: str) -> list[dict[str, str]]:
        return [one for one in self.findings if one["basis"] in bases and one["severity"] in severities]


@dataclass(frozen=True)
class Row:
    """One judgement of the reviewer beside preflight's. Of a disagreement `reason` says why it stands, and `label`
    what it is: missed by preflight, unseen (the given files do not show it) or disputed (the reviewer is held to be
    wrong)."""

    case: Case
    severity: str
    basis: str
    code: str
    found: str
    agrees: bool
    reason: str = ""
    label: str = "missed"

    @property
    def expected(self) -> str:
        return " ".join(filter(None, (self.severity, self.code, f"({self.basis})" if self.basis else "")))


@dataclass(frozen=True)
class Reason:
    """Why disagreements about a code stand, where the reviewer's words have `part`."""

    code: str
    part: str
    why: str
    label: str = "unseen"


REASONS = (
    Reason(
        "TOY_MODEL", "", "a nearly empty GPU is a warning: an error where a name claims ten times the model", "missed"
    ),
    Reason(
        "OUTDIR_SHARED", "_tuned", "the config that shares it is not in the folder, but for earlier versions of this"
    ),
    Reason("OUTDIR_SHARED", "shared", "the configs that share it are not in the folder"),
    Reason(
        "MEM_RISK",
        "fixed",
        "64 of 85 GB at most by the same numbers: it fits, and the next commit measured 57",
        "disputed",
    ),
    Reason("TIME_BUDGET", "limit", "the limit of 24 h stands nowhere in the file, nor does this program's pace"),
    Reason(
        "EPOCHS",
        "num_epochs",
        "passes that are written out are the author's choice: judged are those that follow",
        "disputed",
    ),
    Reason(
        "EPOCHS", "own comment", "16 passes, as its author counted, are below the 20 that the policy allows", "disputed"
    ),
    Reason(
        "DOC_DRIFT",
        "measured",
        "the comment's numbers agree with each other and the body: what was measured is history",
        "disputed",
    ),
    Reason("EPOCHS", " / ", "how many samples the data holds stands in no file of the folder"),
    Reason(
        "KEY_CONFLICT",
        "every other",
        "a width of its own is what another config has on purpose, which is said to be fine",
        "disputed",
    ),
    Reason(
        "ENV_REQUIRED",
        "",
        "a demand of that trainer, in prose in one comment at most: no file shows whether a launch meets it",
    ),
    Reason("STALE_DATA", "", "that the data is no longer wanted stands in later documents, not in the configs"),
    Reason("STALE_VARIANT", "", "the file that it contradicts is not in the folder"),
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-adapters", action="store_true", help="only what is recognised without one")
    parser.add_argument("--findings", action="store_true", help="print every finding of preflight too")
    given = parser.parse_args(arguments)
    cases = list(read(given.folder, adapters=not given.no_adapters))
    if given.findings:
        for case in cases:
            print(f"{case.verdict:<12} {case.alone.verdict:<10} {case.alone.facts.dialect:<8} {case.label}")
            for finding in case.alone.findings:
                print(f"    {finding.severity:<8} {finding.rule} {finding.message[:140]}")
        print()
    verdicts, findings = [judge(case) for case in cases], [row for case in cases for row in compare(case)]
    show("verdicts", verdicts)
    show("findings, one by one", findings)
    missed = bars(verdicts, findings, adapters=not given.no_adapters)
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


def read(folder: Path, *, adapters: bool = True) -> Iterator[Case]:
    """Every case with its reports, alone and with all other files of its folder."""
    known = [from_file(file) for file in sorted(ADAPTERS.glob("*.yaml"))] if adapters else []
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    project = Project(folder)
    others: dict[Path, list[Gathered]] = {}
    for raw in expected:
        path, args = folder / raw["file"], tuple(raw["args"])
        if path.parent not in others:
            others[path.parent] = list(_all(path.parent, known, project))
        options = _options(args, _adapter(path, known))
        alone = preflight.preflight(path, options, project)
        mine = preflight.gather(path, options, project)
        siblings.compare([mine, *(one for one in others[path.parent] if one[0].path != str(path))])
        yield Case(raw["file"], args, raw["verdict"], tuple(raw["findings"]), alone, preflight.check(*mine))


def _all(folder: Path, known: list[Spec], project: Project) -> Iterator[Gathered]:
    """Every config of a folder, read as it would be."""
    for path in sorted(folder.iterdir()):
        try:
            if path.is_file():
                yield preflight.gather(path, _options((), _adapter(path, known)), project)
        except UsageError:
            continue


def _options(args: tuple[str, ...], adapter: str | None) -> Options:
    pairs = list(zip(args[::2], args[1::2], strict=True))
    gpu = next((value for option, value in pairs if option == "--gpu"), None)
    return Options(tuple(value for option, value in pairs if option == "--set"), gpu, adapter)


def _adapter(path: Path, known: list[Spec]) -> str | None:
    """The adapter whose config it is, as a project would say by `match`."""
    try:
        data = yamldoc.load(path).data
    except yamldoc.YamlError:
        return None
    return next((spec.file for spec in known if claims.recognised(data, spec)), None)


def judge(case: Case) -> Row:
    """The file's verdict by its worst finding."""
    report = case.alone
    found = report.verdict if report.kind == "training" else report.kind
    if case.verdict in KINDS:
        return Row(case, case.verdict, "", "", found, found == KINDS[case.verdict])
    for severity, enough in (("FAIL", ("fail",)), ("WARN", ("fail", "warn"))):
        if case.judged(BASES, severity):
            return Row(case, severity, "", "", found, report.verdict in enough)
    if case.verdict == "OK":
        return Row(case, "OK", "", "", found, not report.errors)
    return Row(case, case.verdict, "by other than the file", "", found, True)


def compare(case: Case) -> Iterator[Row]:
    """Every finding of the reviewer that the file, the GPU or the folder can show."""
    for one in case.judged((*BASES, "repo"), *SEVERITY):
        report = case.beside if one["basis"] == "repo" else case.alone
        there = [found for found in report.findings if found.rule.startswith(RULES.get(one["code"], ("",)))]
        agrees = any(found.severity in SEVERITY[one["severity"]] for found in there)
        if one["code"] == "INCOMPLETE":
            agrees = report.kind == "incomplete"
        shown = ", ".join(sorted({f"{found.rule} {found.severity}" for found in there})) or "nothing"
        reason = None if agrees else _reason(one)
        why, label = (reason.why, reason.label) if reason else ("" if agrees else NOT_FOUND, "missed")
        yield Row(case, one["severity"], one["basis"], one["code"], shown, agrees, why, label)


def _reason(one: dict[str, str]) -> Reason | None:
    return next((known for known in REASONS if known.code == one["code"] and known.part in one["why"]), None)


def bars(verdicts: list[Row], findings: list[Row], *, adapters: bool) -> list[str]:
    """What was missed, in words."""
    if adapters:
        missed = [f"{row.case.label}: {row.expected}, but {row.found}" for row in verdicts if not row.agrees]
        silent = [row for row in findings if row.reason == NOT_FOUND]
        return missed + [f"{row.case.label}: {row.expected}" for row in silent]
    fails = [row for row in verdicts if row.expected == "FAIL"]
    share = sum(row.agrees for row in fails) / max(1, len(fails))
    blocked = [f"{row.case.label} is blocked" for row in verdicts if row.expected == "OK" and not row.agrees]
    return blocked + ([f"{share:.0%} of the FAILs, less than {BAR:.0%}"] if share < BAR else [])


def show(title: str, rows: list[Row]) -> None:
    """Counts by what was expected, then the disagreements with their reasons."""
    apart = [row for row in rows if not row.agrees]
    counts = {label: sum(row.label == label for row in apart) for label in ("missed", "unseen", "disputed")}
    rest = "".join(f", {count} {label}" for label, count in counts.items() if count)
    print(f"{title}: {len(rows) - len(apart)} of {len(rows)} agree{rest}")
    for severity, basis in sorted({(row.severity, row.basis) for row in rows}):
        alike = [row for row in rows if (row.severity, row.basis) == (severity, basis)]
        print(f"  {severity:<13} {basis:<24} {sum(row.agrees for row in alike):>3} of {len(alike)}")
    for row in apart:
        print(f"  {row.label:<9} {row.case.label}: {row.expected}; preflight: {row.found}")
        if row.reason:
            print(f"            {row.reason}")
    print()


if __name__ == "__main__":
    sys.exit(main())
