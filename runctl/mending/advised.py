"""The edit that a finding's advice is: `set KEY: VALUE`, which says one thing only, can also be done.

So a rule writes its advice once, and what `--fix --unsafe` does is what the report says. Such an edit changes how the
run goes, so it is never a safe one; advice that leaves a choice (`…, or …`) is for people.
"""

from __future__ import annotations

from runctl.facts import Edit, Facts, Finding
from runctl.light import pattern
from runctl.yamldoc import Document

_SET = pattern(r"set ([\w.-]+): ([^\s,;(]+(?: (?:steps?|epochs?))?)(?: \([^()]*\))?")


def edit(finding: Finding, facts: Facts, document: Document) -> Edit | None:
    """The edit of a finding whose rule gave none. In another trainer's config only what is written is changed: whether
    it reads a key that is not there, nobody knows here."""
    if not finding.fix or not finding.fix.startswith("set "):
        return None
    match = _SET.fullmatch(finding.fix)
    if match is None:
        return None
    key, value = match.groups()
    if tuple(key.split(".")) not in document.keys:
        if facts.foreign:
            return None
        source = facts.source(key)
        if source is not None and source.kind == "alias" and source.position is not None:  # an old spelling
            key = ".".join(map(str, document.path_at(source.position) or (key,)))
    return Edit(key, value, safe=False)
