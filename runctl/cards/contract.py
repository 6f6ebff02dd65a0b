"""What the front matter of a card says, as sections that are checked like a config's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from runctl.config.model import Guard, Section
from runctl.config.settings import Field
from runctl.light import pattern

Verdict = Literal["approve", "block", "comment"]
Digest = Annotated[str, Field(min_length=64, max_length=64)]
_STATISTIC = pattern(r"last|best|mean of last ([1-9]\d{0,3})")
STATISTICS = "last, best, or mean of last N"


class Metric(Section):
    """The one metric that decides, and the one number that is taken of it, for this run and its baseline alike."""

    name: str = "val/loss"
    mode: Literal["min", "max"] = "min"
    statistic: str = Field("last", description=STATISTICS)

    @property
    def last(self) -> int | None:
        """How many of the last evaluations the statistic is over; None for the best of all."""
        match = _STATISTIC.fullmatch(self.statistic)
        if match is None or self.statistic == "best":
            return None
        return int(match[1]) if match[1] else 1

    @property
    def shown(self) -> str:
        return f"{self.statistic} {self.name}"


class Target(Section):
    """A success: a comparison of the metric, and how it is to be read."""

    when: str
    means: str = ""


class Limit(Section):
    """What the run may cost in all, and how long it may take."""

    usd: Annotated[float, Field(ge=0)] | None = None
    hours: Annotated[float, Field(gt=0)] | None = None


class Escape(Section):
    """What to do when it goes wrong."""

    resume: str = ""
    fallback: str = ""


class Signature(Section):
    """Who read the card, and of which card. `covers` are the digests of text, config and dataset."""

    by: str
    verdict: Verdict
    at: str
    digest: Digest
    covers: dict[str, str] = Field(default_factory=dict)
    comment: str | None = None
    identity: str | None = Field(None, description="the git identity of who signed")
    code: str | None = Field(None, description="the commit that was checked out")
    code_signed_by: str | None = Field(None, description="who signed that commit, where its signature is good")


class Entry(Section):
    """A change of what was agreed: amended before results are seen, a deviation after."""

    kind: Literal["amended", "deviation", "closed"]
    at: str
    by: str
    why: str
    before: Digest | None = None
    after: Digest | None = None
    sealed: Digest | None = Field(None, description="of a closed card: the digest of its contract and its results")


class Contract(Section):
    """The front matter of a run card."""

    card: Literal[1] = Field(description="the version of the format")
    goal: str = Field(description="what the run is for, in one sentence")
    question: str = Field(description="what will be known afterwards that is not known now")
    config: str = Field(description="path of the config, relative to the project")
    baseline: list[str] = Field(default_factory=list, description="runs that it is compared with, chosen before")
    changes: list[str] | None = Field(None, description="the keys that are meant to differ from the baseline")
    metric: Metric = Field(default_factory=Metric)
    targets: list[Target] = Field(default_factory=list)
    kill: list[Guard] = Field(default_factory=list, description="guards that stop the run, as in a config")
    budget: Limit = Field(default_factory=Limit)
    escape: Escape = Field(default_factory=Escape)
    status: Literal["draft", "agreed", "closed"] = "draft"
    run: str | None = Field(None, description="the run that the card was closed with")
    signatures: list[Signature] = Field(default_factory=list)
    log: list[Entry] = Field(default_factory=list)

    @property
    def closings(self) -> list[Entry]:
        return [one for one in self.log if one.kind == "closed"]

    @property
    def closed(self) -> bool:
        """Whether it was closed, whatever `status` says: that is a word which anybody can type."""
        return self.status == "closed" or self.run is not None or bool(self.closings)

    @property
    def closed_with(self) -> str | None:
        """The run that it was closed with; None where it was not, or does not say."""
        return self.run or (self.closings[-1].why.partition(":")[0] if self.closings else None)


OWN = ("status", "run", "signatures", "log")  # kept by runctl; no part of what is agreed


def problems(contract: Contract) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What the types alone cannot say: (where, message, what to do)."""
    from runctl.guards import grammar, listing  # the grammar takes a while to import

    if not _STATISTIC.fullmatch(contract.metric.statistic):
        yield ("metric", "statistic"), f"unknown statistic {contract.metric.statistic!r}", f"it can be {STATISTICS}"
    for index, target in enumerate(contract.targets):
        where = ("targets", index, "when")
        try:
            test = grammar.condition(target.when)["test"]
        except ValueError as error:
            yield where, f"targets[{index}].when: {error}", "write it as val/loss < 0.30"
            continue
        if not comparison(test):
            yield where, f"targets[{index}].when is no comparison with a number", "write it as val/loss < 0.30"
    for index, key, message, hint in listing.problems(contract.kill):
        yield ("kill", index, key), f"kill[{index}].{key}: {message}", hint
    if re.match(r"([/~]|[A-Za-z]:\\)", contract.config) or ".." in contract.config.split("/"):
        yield ("config",), f"config is {contract.config}, outside the project", "give its path from the project's root"


def comparison(test: dict[str, Any]) -> bool:
    """Whether a condition is metric, sign, number."""
    return test.get("kind") == "compare" and isinstance(test.get("value"), int | float)
