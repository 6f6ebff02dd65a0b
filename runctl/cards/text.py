"""The text of a card: front matter, blocks that runctl writes, and all the rest, which it never touches.

A block stands between `<!-- runctl:NAME -->` and `<!-- /runctl:NAME -->`, each alone on its line and outside of fenced
code. Whatever is not plainly one block is an error that changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from runctl import yamldoc
from runctl.errors import ConfigError, Problem
from runctl.filekind import other_than_file
from runctl.light import dataclass, pattern
from runctl.mending import yamledit
from runctl.yamldoc import Document, YamlError

BLOCKS = ("model", "data", "training", "infrastructure", "cost", "changed", "sign-off", "results")
AFTER = ("sign-off", "results")  # no part of what is agreed
MOST_BYTES = 1 << 20
_MARK = pattern(r" {0,3}<!--[ \t]*(/?)[ \t]*runctl[ \t]*:[ \t]*([^\s>]*?)[ \t]*-->[ \t]*")
_LOOSE = pattern(r"(?i).*<!--.*runctl\s*:.*")
_INSIDE = pattern(r"[ -]|[a-z_]+:")
_FENCE = pattern(r" {0,3}(`{3,}|~{3,})(.*)")


class CardError(ConfigError):
    """A card that cannot be read: every problem at once, each in its place."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.message = f"{len(problems)} problem{'s' * (len(problems) != 1)} in the card"
        self.args = (self.message,)


@dataclass(frozen=True)
class Text:
    """A card's text in lines that keep their ends. `head` is the front matter, whose positions are those in the file;
    `blocks` maps a name to the lines of its two markers, counted from 0."""

    path: str
    lines: tuple[str, ...]
    head: Document
    end: int
    blocks: Mapping[str, tuple[int, int]]

    @property
    def whole(self) -> str:
        return "".join(self.lines)

    def block(self, name: str) -> str:
        """What stands in a block, without the empty lines around it."""
        first, last = self.blocks[name]
        return "".join(self.lines[first + 1 : last]).strip("\r\n")

    def with_block(self, name: str, content: str) -> Text:
        """The same card with another content of a block that it has."""
        first, last = self.blocks[name]
        newline = "\r\n" if self.lines[first].endswith("\r\n") else "\n"
        written = [f"{line}{newline}" for line in ("", *content.strip("\n").splitlines(), "")]
        return parse("".join((*self.lines[: first + 1], *written, *self.lines[last:])), self.path)

    def with_section(self, key: str, value: Any) -> Text:
        """The same card with another value of a front matter key that runctl keeps.

        Raises CardError where that could change anything else."""
        here = self.head.keys.get((key,))
        newline = "\r\n" if self.lines[0].endswith("\r\n") else "\n"
        shown = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=110)
        written = [f"{line}{newline}" for line in shown.splitlines()]
        first = here.line - 1 if here else self.end
        last = first
        if here:
            last += 1
            while last < self.end and (self.lines[last].startswith((" ", "-", "\t")) and self.lines[last].strip()):
                last += 1
        made = parse("".join((*self.lines[:first], *written, *self.lines[last:])), self.path)
        meant = {**self.head.data, key: yamldoc.parse(shown, self.path).data[key]}
        if not yamledit.same(made.head.data, meant):
            hint = f"write '{key}:' as a list in lines of its own, or remove it, then try again"
            raise CardError([problem(self.head, (key,), f"'{key}' cannot be written here without touching more", hint)])
        return made

    def agreed(self) -> str:
        """What a signature is for: all of the text but the blocks `sign-off` and `results` and runctl's own keys;
        without line ends and spaces behind, which editors change."""
        from runctl.cards.contract import OWN

        left_out: set[int] = set()
        for name in AFTER:
            if name in self.blocks:
                left_out |= set(range(self.blocks[name][0], self.blocks[name][1] + 1))
        left_out |= set(range(self.end + 1))
        kept = [line.rstrip() for index, line in enumerate(self.lines) if index not in left_out]
        while kept and not kept[-1]:
            kept.pop()
        head = {key: value for key, value in self.head.data.items() if key not in OWN}
        return yaml.safe_dump(head, sort_keys=True, allow_unicode=True) + "\n".join(kept)


def head_of(agreed: str) -> dict[str, Any] | None:
    """The front matter in a text that was agreed on (`Text.agreed`); None where it cannot be told from the rest."""
    lines = agreed.split("\n")
    for end in range(1, len(lines) + 1):
        if end < len(lines) and _INSIDE.match(lines[end]):
            continue
        written = "\n".join(lines[:end]) + "\n"
        try:
            found = yaml.safe_load(written)
        except yaml.YAMLError:  # within a text of several lines
            continue
        if isinstance(found, dict) and yaml.safe_dump(found, sort_keys=True, allow_unicode=True) == written:
            return found
    return None


def read(path: Path) -> Text:
    """Raises YamlError (a UsageError) for what is no text file, CardError for what is no card."""
    try:
        if kind := other_than_file(path):
            raise YamlError(f"{path} is {kind}, not a file", hint="give a card")
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise YamlError(f"no such file: {path}", hint="runctl card new CONFIG drafts one") from None
    except OSError as error:
        raise YamlError(f"cannot read {path}: {error.strerror}") from None
    if len(raw) > MOST_BYTES:
        raise YamlError(f"{path} is larger than {MOST_BYTES >> 20} MiB", hint="a card is a page of text: is this one?")
    try:
        return parse(raw.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise YamlError(f"{path} is not UTF-8 text (byte {error.start})", hint="save it as UTF-8") from None


def parse(text: str, path: str = "<card>") -> Text:
    """Raises YamlError where the front matter is no YAML, CardError where there is none or a block is not plain."""
    lines = tuple(_lines(text))
    first = lines[0].lstrip("\ufeff").rstrip() if lines else ""
    if first != "---":
        hint = "a card begins with --- and its front matter; runctl card new CONFIG drafts one"
        raise CardError([Problem("no front matter", path, 1, 1, hint, "card")])
    end = next((index for index, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), None)
    if end is None:
        raise CardError([Problem("the front matter has no end", path, 1, 1, "close it with a line of ---", "card")])
    head = yamldoc.parse("\n" + "".join(lines[1:end]), path)
    if not isinstance(head.data, dict):
        raise CardError([Problem("the front matter is no mapping", path, 2, 1, "write it as key: value", "card")])
    found, wrong = _blocks(lines, end, path)
    if wrong:
        raise CardError(wrong)
    return Text(path, lines, head, end, found)


def problem(head: Document, where: yamldoc.Path, message: str, hint: str | None) -> Problem:
    place = head.position(where)
    return Problem(message, place.file, max(2, place.line), place.column, hint, "card")


def _lines(text: str) -> Iterator[str]:
    """Lines as editors count them: ended by a line feed only."""
    rest = text
    while rest:
        line, feed, rest = rest.partition("\n")
        yield line + feed


def _blocks(lines: tuple[str, ...], end: int, path: str) -> tuple[dict[str, tuple[int, int]], list[Problem]]:
    found: dict[str, tuple[int, int]] = {}
    wrong: list[Problem] = []
    open_at: tuple[str, int] | None = None
    fence = ""

    def say(index: int, message: str, hint: str) -> None:
        wrong.append(Problem(message, path, index + 1, 1, hint, "card"))

    for index in range(end + 1, len(lines)):
        line = lines[index].rstrip("\r\n")
        fenced = _FENCE.fullmatch(line)
        if fence:
            if fenced and fenced[1].startswith(fence) and not fenced[2].strip():
                fence = ""
            continue
        if fenced and open_at is None and not (fenced[1][0] == "`" and "`" in fenced[2]):
            fence = fenced[1]
            continue
        mark = _MARK.fullmatch(line)
        if mark is None:
            if _LOOSE.fullmatch(line):
                say(index, "a marker that is not alone on its line, or not whole", "write <!-- runctl:NAME -->")
            continue
        closing, name = bool(mark[1]), mark[2]
        if name not in BLOCKS:
            say(index, f"unknown block '{name}'", f"known: {', '.join(BLOCKS)}")
        elif closing and open_at is None:
            say(index, f"the block '{name}' ends here and begins nowhere", f"add <!-- runctl:{name} --> above it")
        elif closing and open_at is not None and open_at[0] == name:
            found[name], open_at = (open_at[1], index), None
        else:
            if open_at is not None:
                say(open_at[1], f"the block '{open_at[0]}' has no end", f"close it with <!-- /runctl:{open_at[0]} -->")
            if name in found:
                first = found[name][0] + 1
                say(index, f"the block '{name}' is there twice; first at line {first}", "keep one of the two")
            open_at = None if closing else (name, index)
    if open_at is not None:
        say(open_at[1], f"the block '{open_at[0]}' has no end", f"close it with <!-- /runctl:{open_at[0]} -->")
    return found, wrong
