"""What crosses between two processes that judge the configs of one call together: little, and only what is read.

A `Stand-in` is a config of the other process, with what comparing it reads; a `slim` report is one that comes home to
be shown. `COMPARED` and `SHOWN` name the facts; a test judges configs in one process and in two and compares all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runctl.facts import Deferred, Fact, Facts, Unknown
from runctl.light import replace
from runctl.yamldoc import Document

if TYPE_CHECKING:
    from runctl.preflight import Report

COMPARED = (
    "config.kind",
    "data.train",
    "data.validation",
    "run.name",
    "run.output",
    "run.resume",
    "run.step_examples",
    "training.lr",
)
SHOWN = frozenset((
    "adapter.recognised", "calibration.notes", "compute.price", "config.hidden", "gpu", "gpu.count", "guards.all",
    "model.declared", "model.parameters", "run.epochs", "run.step_asked", "run.step_examples", "run.steps",
    "run.steps_per_epoch", "task",
))  # fmt: skip
_SECTION = "estimate."


def stand_in(facts: Facts, document: Document) -> tuple[Facts, Document]:
    """A config as the comparison with others sees it."""
    values = {name: facts.values[name] for name in COMPARED if name in facts.values}
    spelled = {name: facts.spelled[name] for name in COMPARED if name in facts.spelled}
    other = Facts(facts.path, values=values, otherwise=facts.otherwise, dialect=facts.dialect, spelled=spelled)
    return other, Document(document.file, "", document.data)


def slim(report: Report, brief: bool) -> Report:
    """A report with the facts and the text that formats show; its project is for the receiver to put back. A `brief`
    one is without what is made only where a report is shown as a whole."""
    facts, document = report.facts, report.document
    values: dict[str, Fact | Unknown] = {}
    for name, found in facts.values.items():
        if name in SHOWN or name.startswith(_SECTION):
            if not isinstance(found, Deferred):
                values[name] = found
            elif not brief:
                values[name] = Fact(found.value, found.source)
    shown = Facts(facts.path, facts.policy, values=values, otherwise=facts.otherwise, dialect=facts.dialect)
    shown.spelled = facts.spelled
    text = None
    if document is not None:
        beneath = tuple(Document(one.file, one.text, hidden=one.hidden) for one in document.beneath)
        text = Document(document.file, document.text, hidden=document.hidden, beneath=beneath)
    return replace(report, facts=shown, document=text)
