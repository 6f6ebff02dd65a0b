"""The rules: one file each, found by being there.

A rule is a module named after its id. Its docstring is its page (title, why, an example that fails, one that
passes, what to do), `SEVERITY` is its severity, `POLICY` names the policy values it reads, and
`check(facts)` yields findings, or raises `NotChecked` where a fact is missing. `NATIVE = True` marks a rule that has
nothing to say of other trainers' configs.

The fences of an example: a `yaml` block is a config, with `file=NAME.yaml` and `gpu=NAME:COUNT` where they matter;
the blocks after it, `json manifest`, `yaml beside file=NAME.yaml` and `python source`, go with it.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property

from runctl.errors import UsageError, did_you_mean
from runctl.facts import Facts, Finding, Severity

_ID = re.compile(r"[a-z]{2}\d{3}")
_FENCE = re.compile(r"```(\w+)([^\n]*)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A config of a rule's page, and what goes with it: a dataset's manifest, the GPU that it is for, the configs
    beside it (name, text), the code that reads it."""

    config: str
    manifest: str | None = None
    file: str = "example.yaml"
    gpu: str | None = None
    beside: tuple[tuple[str, str], ...] = ()
    source: str | None = None


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    page: str
    policy: tuple[str, ...]
    check: Callable[[Facts], Iterable[Finding]]
    native: bool = False

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
        """The examples of `## Fails` or `## Passes`: each config, with the blocks that follow it."""
        found: list[Example] = []
        for language, info, text in _FENCE.findall(self.section(name)):
            words = info.split()
            options = dict(word.split("=", 1) for word in words if "=" in word)
            if language == "yaml" and "beside" not in words:
                found.append(Example(text, file=options.get("file", "example.yaml"), gpu=options.get("gpu")))
            elif not found:
                continue
            elif "manifest" in words:
                found[-1] = replace(found[-1], manifest=text)
            elif "beside" in words:
                beside = (*found[-1].beside, (options["file"], text))
                found[-1] = replace(found[-1], beside=beside)
            elif "source" in words:
                found[-1] = replace(found[-1], source=text)
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
    return Rule(
        name.upper(),
        module.SEVERITY,
        page,
        getattr(module, "POLICY", ()),
        module.check,
        getattr(module, "NATIVE", False),
    )
