"""The rules: one file each, found by being there.

A rule is a module named after its id. Its docstring is its page (title, why, an example that fails, one that
passes, what to do), `SEVERITY` is its severity, `POLICY` names the policy values it reads, and
`check(facts)` yields findings, or raises `NotChecked` where a fact is missing.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, cached_property

from runctl.errors import UsageError, did_you_mean
from runctl.facts import Facts, Finding, Severity

_ID = re.compile(r"[a-z]{2}\d{3}")
_FENCE = re.compile(r"```(\w+)( manifest)?\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A config of a rule's page, and the dataset manifest that goes with it."""

    config: str
    manifest: str | None = None


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    page: str
    policy: tuple[str, ...]
    check: Callable[[Facts], Iterable[Finding]]

    @cached_property
    def title(self) -> str:
        return self.page.partition("\n")[0].partition(": ")[2]

    @cached_property
    def why(self) -> str:
        """The first paragraph of the page's "Why", on one line."""
        return " ".join(self.section("Why").split("\n\n")[0].split())

    def section(self, name: str) -> str:
        """The text of a `## name` section; empty where there is none."""
        match = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", self.page, re.DOTALL | re.MULTILINE)
        return match[1].strip() if match else ""

    def examples(self, name: str) -> list[Example]:
        """The examples of `## Fails` or `## Passes`: each YAML block, with the manifest block that follows it."""
        found: list[Example] = []
        for language, manifest, text in _FENCE.findall(self.section(name)):
            if language == "yaml":
                found.append(Example(text))
            elif manifest and found:
                found[-1] = Example(found[-1].config, text)
        return found


@cache
def known() -> dict[str, Rule]:
    """Every rule by id, in order of id."""
    return {
        name.upper(): _load(name)
        for name in sorted(module.name for module in pkgutil.iter_modules(__path__))
        if _ID.fullmatch(name)
    }


def find(identity: str) -> Rule:
    """The rule of that id; raises UsageError that names the nearest."""
    rule = known().get(identity.upper())
    if rule is None:
        hint = did_you_mean(identity.upper(), list(known())) or "runctl rules lists them"
        raise UsageError(f"no rule '{identity[:20]}'", hint=hint)
    return rule


def _load(name: str) -> Rule:
    module = importlib.import_module(f"{__name__}.{name}")
    page = (module.__doc__ or "").strip()
    return Rule(name.upper(), module.SEVERITY, page, getattr(module, "POLICY", ()), module.check)
