"""Secrets in configs: the shapes of providers' keys, and values under names that hold them; and how to hide them.

Why both: a key pasted anywhere has its provider's shape; a password has none, but stands under a name that says it.
Placeholders, names of environment variables and references to a vault are no secrets.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache

from runctl.light import dataclass, pattern

MASK = "***"
_SHAPES = {
    "an AWS access key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_\w{22,}",
    "a GitLab token": r"\bglpat-[\w-]{20,}",
    "a Hugging Face token": r"\bhf_(?=[a-z]{0,60}[A-Z0-9])[A-Za-z0-9]{20,}",
    "an OpenAI or Anthropic key": r"\bsk-(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Z])[\w-]{20,}",
    "a Weights & Biases key": r"\bwandb_v\d_\w{20,}",
    "a Google key": r"\bAIza[\w-]{35}",
    "a Slack token": r"\bxox[baprs]-[\w-]{10,}|hooks\.slack\.com/services/[\w/]{20,}",
    "a RunPod key": r"\brpa_[A-Z0-9]{20,}",
    "a Modal token": r"\ba[ks]-(?=[A-Za-z]{0,60}\d)(?=[a-z0-9]{0,60}[A-Z])[A-Za-z0-9]{20,}",
    "a Replicate token": r"\br8_[A-Za-z0-9]{30,}",
    "a JSON web token": r"\beyJ[\w-]{16,}(?:\.[\w-]+)*",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "a password in an address": r"://[^/\s:@$<{]+:[^/\s@$<{]{3,}@",
}
_SHAPE = pattern("|".join(f"(?:{shape})" for shape in _SHAPES.values()))
_EACH = {words: pattern(shape) for words, shape in _SHAPES.items()}
# Where none of these stands in a text, no shape does: a search of a few microseconds for most configs.
_HINTS = (
    "AKIA", "ASIA", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "hf_", "sk-", "wandb_v", "AIza",
    "xoxb", "xoxa", "xoxp", "xoxr", "xoxs", "hooks.slack", "rpa_", "ak-", "as-", "r8_", "eyJ", "PRIVATE KEY", "@",
)  # fmt: skip
_PASSWORD = pattern(r"(?:.*[_.-])?(?:passw(?:or)?d|passphrase|pwd)", re.IGNORECASE)
_KEY = pattern(
    r"(?:.*[_.-])?(?:api[_-]?key|access[_-]?key(?:[_-]?id)?|secret(?:[_-]?(?:access[_-]?)?key)?|client[_-]?secret"
    r"|private[_-]?key|credentials?|authorization|bearer|wandb[_-]?key"
    r"|(?:auth|access|api|hf|hub|huggingface|wandb|github|gitlab|bot|slack|refresh|bearer|neptune|mlflow)[_-]?token)"
    r"|token|.*apikey",
    re.IGNORECASE,
)
_PLACEHOLDER = pattern(
    r"\s*|.*(?:\$\{?\w|\{\{|<[^>]*>|%\w+%).*|(?:env|vault|ssm|sm|file|secret|op|keyring|environ)[:/].*|os\.environ.*"
    r"|[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|(?i:null|none|true|false|empty|dummy|xx+\w*|\*+|\.\.\.|…|change[_-]?me|todo"
    r"|replace.*|your.*|my[_-].*|insert.*|password|passwd|secret|example.*|placeholder|redacted|hidden)",
    re.DOTALL,
)
_PATH = pattern(r"[~.]{0,2}/[\w./-]+|[\w-]+\.(?:json|pem|key|txt|ya?ml|env)")
_NAME = pattern(r"[A-Za-z]+\d{0,3}|\d{1,4}|")  # a part of a name such as gcs-training-reader-01
_IN_LINE = pattern(
    r"(?i)(?<![\w.-])([\w.-]{0,80}?(?:passw(?:or)?d|passphrase|pwd|api[_-]?key|access[_-]?key|secret|credential|private[_-]?key"
    r"|(?<![a-z])token|auth[_-]?token|hf[_-]?token|hub[_-]?token|access[_-]?token)[\w-]*[\"']?\s*[:=]\s*)"
    r"(\"[^\"]*\"?|'[^']*'?|[^\s,}\]#]+)"
)
_COMMENT = pattern(r"#(?<!\S#)[^\n]{0,1000}")
_ENDS = pattern(r"[\s\"':=]")
LEAST_LENGTH, LEAST_BITS, LONGEST = 16, 3.0, 500


@dataclass(frozen=True)
class Secret:
    """What was found: its `kind` in words, the text to hide, the dotted key, and its offset where no key holds it."""

    kind: str
    text: str
    key: str | None = None
    offset: int = -1


def find(scalars: Iterable[tuple[str, str]], text: str) -> Iterator[Secret]:
    """The secrets among (dotted key, text) pairs, those of a provider's shape anywhere else in `text`, and what stands
    in its comments under a name that holds secrets."""
    shaped = any(hint in text for hint in _HINTS)
    seen = set()
    for key, value in scalars:
        named = _named(key.rpartition(".")[2])
        if not named and not shaped:
            continue
        if kind := _shape(value) if shaped or named else None:
            seen.add(value)
            yield Secret(kind, value, key)
        elif named and not _PLACEHOLDER.fullmatch(value[:LONGEST]) and (named == "a password" or _looks_secret(value)):
            seen.add(value)
            yield Secret(named, value, key)
    if shaped:
        for match in _SHAPE.finditer(text):
            kind = _shape(match[0])
            if kind and not any(match[0] in one for one in seen):
                seen.add(match[0])
                yield Secret(kind, match[0], None, match.start())
    for comment in _COMMENT.finditer(text) if "#" in text else ():
        if not _mentions(comment[0]):
            continue
        for match in _IN_LINE.finditer(comment[0]):
            named, value = _named(_ENDS.split(match[1])[0]), match[2].strip("\"'")
            if named and value not in seen and not _PLACEHOLDER.fullmatch(value[:LONGEST]) and _looks_secret(value):
                yield Secret(named, value, None, comment.start() + match.start(2))


def masked(line: str, hidden: Iterable[str] = ()) -> str:
    """A line as it may be shown: known secrets, what has their shape and what stands under their names is hidden."""
    for secret in hidden:
        line = line.replace(secret, MASK)
    if any(hint in line for hint in _HINTS):
        line = _SHAPE.sub(MASK, line)
    return _IN_LINE.sub(_hide, line) if _mentions(line) else line


def shapes() -> dict[str, re.Pattern[str]]:
    """The shapes of providers' keys by what each is, for texts that are no config."""
    return dict(_EACH)


def placeholder(value: str) -> bool:
    """Whether a value only stands for a secret."""
    return bool(_PLACEHOLDER.fullmatch(value[:LONGEST]))


def under(name: str, value: str) -> str:
    """What a value under this name is in words, "" if it is no secret."""
    named = _named(name)
    if not named or placeholder(value) or _PATH.fullmatch(value[:LONGEST]):
        return ""
    return named if named == "a password" or _looks_secret(value) else ""


def pieces(secrets: Iterable[Secret]) -> tuple[str, ...]:
    """The texts to hide, the longest first; a secret of several lines also piece by piece."""
    texts = {part for one in secrets for part in (one.text, *one.text.split()) if len(part) >= 4 or part == one.text}
    return tuple(sorted(texts, key=len, reverse=True))


def _hide(match: re.Match[str]) -> str:
    value = match[2].strip("\"'")
    return match[0] if _PLACEHOLDER.fullmatch(value[:LONGEST]) or value.isdigit() else f"{match[1]}{MASK}"


def _mentions(line: str) -> bool:
    lower = line.lower()
    return any(word in lower for word in ("pass", "pwd", "key", "secret", "credential", "token", "auth", "bearer"))


@lru_cache(maxsize=4096)
def _named(last: str) -> str:
    if not _mentions(last):
        return ""
    if _PASSWORD.fullmatch(last):
        return "a password"
    return "a key or token" if _KEY.fullmatch(last) else ""


def _shape(value: str) -> str | None:
    for words, shape in _EACH.items():
        match = shape.search(value)
        if match is None:
            continue
        password = match[0][:-1].rpartition(":")[2] if match[0].endswith("@") else ""
        if not password or not (_PLACEHOLDER.fullmatch(password) or password.lower() in ("pass", "pw", "token")):
            return words
    return None


def _looks_secret(value: str) -> bool:
    """Long, without spaces, of letters and digits in no order: no word, no path, no name."""
    value = value.strip()
    if len(value) < LEAST_LENGTH or re.search(r"\s", value) or _PATH.fullmatch(value):
        return False
    if not (re.search(r"\d", value) and re.search(r"[A-Za-z]", value)):
        return False
    parts = re.split(r"[-_./]", value)
    if len(parts) > 1 and all(_NAME.fullmatch(part) for part in parts):
        return False
    counts = Counter(value)
    bits = -sum(count / len(value) * math.log2(count / len(value)) for count in counts.values())
    return bits >= LEAST_BITS
