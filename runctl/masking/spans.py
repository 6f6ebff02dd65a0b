"""Where secrets stand in running text: logs, tracebacks, diffs, reasons.

Three kinds: the shapes of providers' keys (those that configs are searched for), values under a name that holds secrets
(`password=…`, `--api-key …`, `Authorization: Bearer …`), and the values that the environment says are secret. A log is
full of numbers under names such as `tokens`; what is hidden cannot be had again; so a value under a name must look like
a secret, unless the name is that of a password.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runctl.gathering import secrets
from runctl.light import dataclass, pattern
from runctl.masking.known import NOTHING, Known

More = Callable[[], Sequence[tuple[str, re.Pattern[str]]]]
MASK = "*"
_WORDS = (
    "password", "passwd", "passphrase", "pwd", "secret", "key", "token", "credential", "credentials", "authorization",
    "bearer",
)  # fmt: skip
_VALUE = pattern(  # behind a name that ends with one of these words
    r"[\"']?(?P<by>[ \t]*(?:=>|[:=])[ \t]*|[ \t]+)(?:(?:Bearer|Basic|token)[ \t]+)?"
    r"(?P<value>\"[^\"\n]{1,500}\"?|'[^'\n]{1,500}'?|[^\s,;}\])\"'#]{1,500})",
    re.IGNORECASE,
)
_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_TOKEN = pattern(r"[A-Za-z0-9_+=-]{22,}")
_MOST_LINE = 4096
_TOKEN = pattern(r"[A-Za-z0-9_+=-]{22,}")
_MOST_LINE = 4096
_LONGEST_NAME = 80
_KEY_BLOCK = pattern(
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{20,200})*"
    r"(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{1,64}(?=(?:\s|\\[nr])*-----END))?"
)
_PASSWORD = pattern(r"://[^/\s:@$<{]{1,200}:(?P<value>[^/\s@$<{]{3,200})@")
# With what each shape begins: to find a literal takes a fiftieth of the time that a regular expression takes.
_BEGINS = {
    "an AWS access key": ("AKIA", "ASIA"),
    "a GitHub token": ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    "a GitLab token": ("glpat-",),
    "a Hugging Face token": ("hf_",),
    "an OpenAI or Anthropic key": ("sk-",),
    "a Weights & Biases key": ("wandb_v",),
    "a Google key": ("AIza",),
    "a Slack token": ("xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-", "hooks.slack.com/services/"),
    "a RunPod key": ("rpa_",),
    "a Modal token": ("ak-", "as-"),
    "a Replicate token": ("r8_",),
    "a JSON web token": ("eyJ",),
    "a private key": ("-----BEGIN ",),
    "a password in an address": ("://",),
}


@dataclass(frozen=True)
class Span:
    """One secret in a text: what it is in words, and where."""

    kind: str
    begin: int
    end: int


def find(text: str, known: Known = NOTHING, more: More | None = None) -> list[Span]:
    """The secrets of a text, in order, none within another. `more` gives detectors of somebody else, which take their
    time: they are asked of lines that may hold a token."""
    found = [*_shaped(text), *_named(text), *_valued(text, known), *(_others(text, more) if more else ())]
    found.sort(key=lambda span: (span.begin, -span.end))
    kept: list[Span] = []
    for span in found:
        if kept and span.begin < kept[-1].end:
            if span.end > kept[-1].end:  # the two overlap
                kept[-1] = Span(kept[-1].kind, kept[-1].begin, span.end)
        elif span.end > span.begin and text[span.begin : span.end].strip(MASK + "\n"):
            kept.append(span)
    return kept


def hidden(text: str, known: Known = NOTHING, more: More | None = None) -> str:
    """The text with asterisks in place of secrets, as many, line by line as before."""
    spans = find(text, known, more)
    if not spans:
        return text
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.begin], covered(text[span.begin : span.end])]
        at = span.end
    return "".join([*parts, text[at:]])


def covered(text: str) -> str:
    """As many asterisks, with the line breaks where they were."""
    return "".join(one if one in "\r\n" else MASK for one in text)


def scrubbed(data: Any, known: Known = NOTHING, key: str = "") -> Any:
    """JSON-able data with the secrets of its texts hidden, those under a name that holds them among these."""
    if isinstance(data, str):
        if key and secrets.under(key, data):
            return covered(data)
        return hidden(data, known)
    if isinstance(data, Mapping):
        return {name: scrubbed(value, known, str(name)) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [scrubbed(value, known, key) for value in data]
    return data


def _shaped(text: str) -> Iterator[Span]:
    shapes = secrets.shapes()
    for kind, literals in _BEGINS.items():
        shape = {"a private key": _KEY_BLOCK, "a password in an address": _PASSWORD}.get(kind) or shapes[kind]
        for literal in literals:
            for at in _places(text, literal):
                if (match := shape.match(text, at)) is None:
                    continue
                if kind != "a password in an address":
                    yield Span(kind, *match.span())
                elif not secrets.placeholder(match["value"]):
                    yield Span(kind, *match.span("value"))


def _named(text: str) -> Iterator[Span]:
    lower = text.lower()
    if len(lower) != len(text):  # some letters become two
        lower = text.translate(_LOWER)
    for word in _WORDS:
        for at in _places(lower, word):
            if (match := _VALUE.match(text, at + len(word))) is None:
                continue
            begin = at
            while begin > 0 and at - begin < _LONGEST_NAME and (text[begin - 1].isalnum() or text[begin - 1] in "_-."):
                begin -= 1
            said = text[begin : at + len(word)]
            if not match["by"].strip() and not said.startswith("-"):
                continue
            inner = match["value"].strip("\"'")
            if kind := secrets.under(said.lstrip("-").rpartition(".")[2], inner):
                start = match.start("value") + (match["value"][:1] in "\"'")
                yield Span(kind, start, start + len(inner))


def _places(text: str, word: str) -> Iterator[int]:
    at = text.find(word)
    while at >= 0:
        yield at
        at = text.find(word, at + len(word))


def _valued(text: str, known: Known) -> Iterator[Span]:
    for value, words in known.values:
        for at in _places(text, value):
            yield Span(words, at, at + len(value))


def tokens(text: str) -> Iterator[int]:
    """Where something stands that may be a token: long, of letters and digits, without a break."""
    for match in _TOKEN.finditer(text):
        if any(map(str.isdigit, match[0])) and any(map(str.isalpha, match[0])):
            yield match.start()


def _others(text: str, more: More) -> Iterator[Span]:
    done = 0
    for at in tokens(text):
        if at < done:
            continue
        begin = max(text.rfind("\n", 0, at) + 1, at - _MOST_LINE)
        end = text.find("\n", at)
        end = done = min(len(text) if end < 0 else end, at + _MOST_LINE)
        for kind, detector in more():
            for match in detector.finditer(text, begin, end):
                yield Span(kind, *_telling(match))


def _telling(match: re.Match[str]) -> tuple[int, int]:
    """The span of a match's longest group, else of all of it: detectors put the secret into a group, or its prefix."""
    spans = [match.span(group) for group in range(1, len(match.groups()) + 1)]
    longest = max(spans, key=lambda span: span[1] - span[0], default=(0, 0))
    return longest if longest[1] - longest[0] >= 16 else match.span()
