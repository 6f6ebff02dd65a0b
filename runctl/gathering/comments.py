"""What comments claim in numbers: `1M samples`, `~82K steps`, `eff. batch 18`, and changes such as `lr: 1e-4 -> 1e-3`.

Only plain statements about this run are claims. A clause that speaks of another run, of a part of the run, or of what
might be, claims nothing; where one of several numbers agrees with the config, the others are about something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from runctl.light import dataclass, pattern

Line = tuple[int, str]
Share = tuple[float, str, str, int]
MOST_LINES, LONGEST_LINE = 400, 400
_SCALE = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_NUMBER = r"(?P<number>\d[\d,_]*(?:\.\d+)?)[ ]?(?P<scale>[KkMBT](?![A-Za-z]))?"
_UNITS = {
    "steps": r"(?:steps|iterations|iters)",
    "samples": r"(?:samples|examples)",
    "epochs": r"epochs?",
    "tokens": r"tokens",
    "parameters": r"(?:params?|parameters)",
    "gpus": r"GPUs?",
}
_COST = pattern(
    r"\b(?:total |expected )?(?:costs?|budget)\b[^$\d]{0,20}\$\s?(?P<number>\d[\d,]*(?:\.\d+)?)"
    r"(?![.,\d]*\s*(?:/|per|an? |[kKMB]))",
    re.IGNORECASE,
)
_WORDS = {
    "steps": ("step", "iter"),
    "samples": ("sample", "example"),
    "epochs": ("epoch",),
    "tokens": ("token",),
    "parameters": ("param",),
    "gpus": ("gpu",),
    "batch": ("batch",),
    "context": ("context", "seq", "k=", "k ="),
}
_LABELS = {
    "parameters": r"(?:total |model )?(?:params|parameters)",
    "batch": r"(?:(?:eff\.?|effective|global|total)[ -])?batch(?:[ _-]?size)?",
    "context": r"(?:seq(?:uence)?|context)(?:[ _]?(?:len(?:gth)?))|context|K(?=\s*=)",
    "steps": r"(?:total |max )?steps",
    "epochs": r"epochs",
}
_AFTER = {
    kind: pattern(
        rf"(?<![\w.$@^#+-])(?P<about>[~≈]?)\s?{_NUMBER}[ -]?(?:total |training |optimizer |gradient )?{unit}\b",
        re.IGNORECASE,
    )
    for kind, unit in _UNITS.items()
}
_BEFORE = {
    kind: pattern(
        rf"(?<![\w.])(?:{label})\s*(?:is|of|[:=])?\s*(?P<about>[~≈]?){_NUMBER}(?![\w.]*[:/%-]\w)", re.IGNORECASE
    )
    for kind, label in _LABELS.items()
}
_HINT = pattern(r"\d[\d,_.]*[ ]?[KkMBT]?[ -]?[A-Za-z]|[A-Za-z]\s*[:=]?\s*[~≈]?\d")
_CLAUSES = pattern(r"[;()|]|,(?!\d)|→|->|\.(?:\s|$)|\bwith\b|\band\b")
_ELSEWHERE = pattern(
    r"\b(?:baselines?|vs|versus|against|compar\w+|instead|previous\w*|prior|was|were|had|originally|old|earlier|other|"
    r"unlike|than|if|could|would|might|may|should|example|e\.g|per|each|every|(?:first|last|next)(?=\s+[~≈]?\d)|after|until|before|"
    r"sav(?:e|es|ed|ing)|fewer|less|more|another|used?|uses|using|scaled|equivalent|default|paper|later|causes?|reduced?|"
    r"increased?|decreased?|halved|doubled|larger|smaller|bigger|max(?:imum)?|min(?:imum)?|up to|at least|at most|"
    r"warm-?up|eval\w*|val\w*|test|held|checkpoint\w*|log\w*|decay\w*|denois\w*|diffusion|inference|sampling|patience|"
    r"production|recommended|original|typical|usually|from|to|try|or|not|no|without|frozen|trainable|lora|"
    r"adapter|gradient computation|embedding|vocab\w*|window|micro|remaining|resume\w*|average|mean|extra|added?|ago|"
    r"like|same as|full run|matches|across|among|out of|half|quarter|short|smoke|debug|probe|canary)\b"
    r"|/\s*$|^\s*/|[<>≤≥×x]\s*$",
    re.IGNORECASE,
)
_OF_DATA = pattern(
    r"\b(?:has|have|contains?|holds?|data(?:set)?|corpus|pool|shards?|subset|available)\b", re.IGNORECASE
)
_SCHEDULE = pattern(
    r"\b(?:cosine|linear(?:ly)?|anneal\w*|decay\w*|schedul\w*|converg\w*|ramp\w*|over)\b", re.IGNORECASE
)
_CHANGE = pattern(
    r"(?<![\w.])(?P<key>[A-Za-z_]\w*(?:\.\w+)*)[ \t]*[:=]?[ \t]*(?P<old>[-+]?\d[\w.,]*(?:e-?\d+)?|true|false)"
    r"[ \t]*(?:→|-+>|=>)[ \t]*(?:(?P=key)[ \t]*[:=][ \t]*)?(?P<new>[-+]?\d[\d_]*(?:\.\d+)?(?:e[-+]?\d+)?|true|false)"
    r"(?![\w:])",
    re.IGNORECASE,
)
_ARROW = pattern(r"[-+~]?\d[\w.,]*\s*(?:→|-+>|=>)\s*(?:[A-Za-z_][\w.]*\s*[:=]\s*)?[-+~]?\d[\w.,]*")
_SHARE = pattern(
    r"(?<![\d.])(?P<number>\d{1,3}(?:\.\d+)?)\s?%\s+(?P<what>images?|video|audio|code|math|text)s?\b", re.I
)


@dataclass(frozen=True)
class Claim:
    """A number that a comment states: of what `kind`, as `words`, on which line and column. `exact`: every digit of it
    is written; `effective`: said of a batch over all devices and accumulation."""

    kind: str
    value: float
    words: str
    line: int
    column: int
    exact: bool = False
    effective: bool = False

    @property
    def tolerance(self) -> float:
        return 0.02 if self.exact else 0.1


@dataclass(frozen=True)
class Change:
    """A change that a comment announces: the key's name, what it was, what it is to be. `over_time`: during the run."""

    key: str
    old: str
    new: str
    line: int
    column: int
    over_time: bool = False


def of(text: str, header: Iterable[Line]) -> list[Line]:
    """The comment lines above a config's first key and below its last value."""
    found = list(header)[:MOST_LINES]
    if not text.rstrip().rpartition("\n")[2].startswith("#"):
        return found
    lines = text.splitlines()
    at = len(lines)
    footer: list[Line] = []
    while at > 0 and len(footer) < MOST_LINES and (not lines[at - 1].strip() or lines[at - 1].startswith("#")):
        if lines[at - 1].strip():
            footer.append((at, lines[at - 1].lstrip("# ").rstrip()))
        at -= 1
    return found + footer[::-1] if at > 0 else found


@lru_cache(maxsize=256)
def read(lines: tuple[Line, ...]) -> tuple[tuple[Claim, ...], tuple[Change, ...], tuple[Share, ...]]:
    """The claims, changes and shares of comment lines: the members of a sweep have them in common."""
    short = [(line, text) for line, text in lines if len(text) <= LONGEST_LINE]
    return tuple(claims(short)), tuple(changes(short)), tuple(shares(short))


def claims(lines: Iterable[Line]) -> Iterator[Claim]:
    """Every claim of the comment lines, in order."""
    for line, text in lines:
        if "$" in text and not _ELSEWHERE.search(text) and (match := _COST.search(text)):
            yield Claim("cost", number(match["number"]), match[0], line, match.start() + 1)
        if not _mentions(text) or not _HINT.search(text):
            continue
        plain = _ARROW.sub(lambda match: " " * len(match[0]), text)
        at = 0
        for clause in _split(plain):
            start = plain.index(clause, at)
            at = start + len(clause)
            if _mentions(clause) and _HINT.search(clause) and not _ELSEWHERE.search(clause):
                yield from _of_clause(clause, line, start)


def _mentions(text: str) -> bool:
    lowered = text.lower()
    return any(word in lowered for words in _WORDS.values() for word in words)


def _of_clause(clause: str, line: int, start: int) -> Iterator[Claim]:
    lowered = clause.lower()
    for patterns in (_AFTER, _BEFORE):
        for kind, regex in patterns.items():
            if not any(word in lowered for word in _WORDS[kind]):
                continue
            for match in regex.finditer(clause):
                value = number(match["number"], match["scale"] or "")
                exact = not match["about"] and not match["scale"]
                words = match[0].strip()
                effective = kind == "batch" and words[:3].lower() in ("eff", "glo", "tot")
                if value > 0 and not (kind == "samples" and _OF_DATA.search(clause)):
                    yield Claim(kind, value, words, line, start + match.start() + 1, exact, effective)


def changes(lines: Iterable[Line]) -> Iterator[Change]:
    """Every `key: old -> new` of the comment lines."""
    for line, text in lines:
        if ">" in text or "→" in text:
            for match in _CHANGE.finditer(text):
                over_time = bool(_SCHEDULE.search(text))
                yield Change(match["key"], match["old"], match["new"], line, match.start() + 1, over_time)


def shares(lines: Iterable[Line]) -> Iterator[Share]:
    """(share, kind of data, words, line) of a mix such as `55% video / 30% image / 15% text`."""
    for line, text in lines:
        if "%" not in text or re.search(
            r"\b(?:baseline|default|previous|vs|was|than|instead|if)\b", text, re.IGNORECASE
        ):
            continue
        for match in _SHARE.finditer(text):
            what = match["what"].lower()
            yield float(match["number"]) / 100, "image" if what.startswith("image") else what, match[0], line


def number(digits: str, scale: str = "") -> float:
    return float(digits.replace(",", "").replace("_", "")) * _SCALE[scale.lower()]


def _split(text: str) -> list[str]:
    return [clause for clause in _CLAUSES.split(text) if clause and clause.strip()]
