"""The rules: one file each, found by being there.

A rule is a module named after its id. Its docstring is its page (title, why, an example that fails, one that
passes, what to do), `SEVERITY` is its severity, `POLICY` names the policy values it reads, and
`check(facts)` yields findings, or raises `NotChecked` where a fact is missing. `NATIVE = True` marks a rule that has
nothing to say of other trainers' configs, `LAUNCH = True` one that judges otherwise where `facts.launching`,
`PROJECT = True` one that judges `runctl.yaml`. A fix that reads
`set KEY: VALUE` is also an edit, for `--fix --unsafe`; a rule gives others as `Finding.edit`.

The fences of an example: a `yaml` block is a config, with `file=NAME.yaml` and `gpu=NAME:COUNT` where they matter;
the blocks after it, `json manifest`, `yaml beside file=NAME.yaml`, `yaml project` (its `runctl.yaml`), `python source`
and `json modal` (what Modal answers), go with it. `launch` and `detached` say that a launch follows, `online` is the
option, `repository` says that the example is committed in one, `uncommitted` that it is not. A block with
`file=runctl.yaml` is itself what is judged.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable
from functools import cache, cached_property

from runctl.errors import UsageError, did_you_mean
from runctl.facts import Facts, Finding, Severity
from runctl.light import dataclass, pattern, replace

_ID = pattern(r"[a-z]{2}\d{3}")
_FENCE = pattern(r"```(\w+)([^\n]*)\n(.*?)```", re.DOTALL)


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
    project: str | None = None
    given: tuple[str, ...] = ()
    modal: str | None = None


@dataclass(frozen=True)
class Rule:
    id: str
    severity: Severity
    page: str
    policy: tuple[str, ...]
    check: Callable[[Facts], Iterable[Finding]]
    native: bool = False
    launch: bool = False
    project: bool = False

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
            if language == "yaml" and not {"beside", "project"} & set(words):
                given = tuple(word for word in words if "=" not in word)
                found.append(Example(text, None, options.get("file", "example.yaml"), options.get("gpu"), given=given))
            elif not found:
                continue
            elif "modal" in words:
                found[-1] = replace(found[-1], modal=text)
            elif "manifest" in words:
                found[-1] = replace(found[-1], manifest=text)
            elif "beside" in words:
                beside = (*found[-1].beside, (options["file"], text))
                found[-1] = replace(found[-1], beside=beside)
            elif "project" in words:
                found[-1] = replace(found[-1], project=text)
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


@cache
def concerning(kind: str, foreign: bool) -> tuple[Rule, ...]:
    """The rules for a config of that kind (`training`, `incomplete`, `other`), or for `runctl.yaml` (`project`)."""
    found = [rule for rule in known().values() if rule.project == (kind == "project")]
    if kind in ("other", "incomplete"):  # what is missing makes most rules meaningless
        found = [rule for rule in found if rule.id[:2] in ("CF", "WV")]
    return tuple(rule for rule in found if not (foreign and rule.native))


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
        getattr(module, "LAUNCH", False),
        getattr(module, "PROJECT", False),
    )
