"""Documents that nobody means: mutations of real configs, by a seed (`benchmarks/fuzz.py`)."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runctl import preflight, reporting, rules, shipped, surveys
from runctl.errors import RunctlError

ROOT = Path(__file__).parent.parent
LIMIT = 1.0  # seconds for one document
PIECES = (
    "&a ", "*a", "<<: *a\n", "<<: ", "!!int ", "!!float ", "!!binary ", "!!set ", "!!python/name:os.system ", "!x ",
    "! ", "[", "]", "{", "}", ": ", "- ", "? ", "\n", "\r\n", "\r", "\n  ", "\t", "'", '"',
    "# runctl: allow CK101 why\n", "# ", "0x1F", "0x" + "f" * 5000, "0" + "7" * 5000, "9" * 5000, "1e999", "1e5",
    "1_000", "-", "-1", "0", "1:30", "0b1", "~", "null", "yes", "off", "true", "=", ".inf", "-.inf", ".nan",
    "2026-11-21", "2026-11-21T10:00:00Z", "12:30:45", "\x00", "\x07", "\ufeff", "\u0085", "\u2028", "é", "😀", "---\n",
    "...\n", "%YAML 1.1\n", "|\n", ">-\n", "|2\n", "a: " * 70, "[" * 70, "x" * 5000, "${oc.env:HOME}", "{{ value }}",
    "%(name)s", "../" * 40, "/dev/zero", "~/x", "://", "name", "model", "training", "train", "data", "batch_size",
    "steps", "epochs", "lr", "gpu", "compute", "checkpoint", "declares", "family", "task", "command", "argv", "env",
    "guards", "every", "never", "5m", "1 epoch", "64GiB",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """A document that runctl did not stand: what happened, and the bytes."""

    what: str
    raw: bytes


def seeds() -> list[str]:
    """The shipped configs, the examples of every rule's page, and the shipped data files."""
    found = [path.read_text("utf-8") for path in sorted((ROOT / "configs").glob("*.yaml"))]
    for rule in rules.known().values():
        found += [example.config for name in ("Fails", "Passes") for example in rule.examples(name)]
    return found + [(shipped.DATA / name).read_text("utf-8")[:3000] for name in shipped.names()]


def documents(count: int, seed: int) -> Iterator[bytes]:
    """Mutations: pieces put in, cut out, doubled, spliced from others, lines moved, odd encodings."""
    rng, texts = random.Random(seed), seeds()
    for _ in range(count):
        text = rng.choice(texts)
        for _ in range(rng.randint(0, 6)):
            text = _mutated(text, rng, texts)[:20_000]
        yield _encoded(text, rng)


def _mutated(text: str, rng: random.Random, texts: Sequence[str]) -> str:
    at, way = rng.randint(0, len(text)), rng.random()
    if way < 0.35:
        return text[:at] + rng.choice(PIECES) + text[at:]
    if way < 0.5:  # another value
        lines = text.split("\n")
        number = rng.randrange(len(lines))
        key, colon, _ = lines[number].partition(": ")
        lines[number] = key + colon + rng.choice(PIECES) if colon else rng.choice(PIECES)
        return "\n".join(lines)
    if way < 0.6:
        return text[:at] + text[at + rng.randint(1, 30) :]
    if way < 0.7:
        other = rng.choice(texts)
        start = rng.randint(0, len(other))
        return text[:at] + other[start : start + rng.randint(1, 300)] + text[at:]
    if way < 0.8:
        lines = text.split("\n")
        rng.shuffle(lines)
        return "\n".join(lines)
    if way < 0.9:
        return (
            text[:at]
            + chr(rng.choice((rng.randrange(128), rng.randrange(0x300), rng.randrange(0xD800))))
            + text[at + 1 :]
        )
    lines = text.split("\n")
    number = rng.randrange(len(lines))
    return "\n".join([*lines[:number], *([lines[number]] * rng.choice((2, 3, 200))), *lines[number:]])


def _encoded(text: str, rng: random.Random) -> bytes:
    way = rng.random()
    if way < 0.9:
        return text.encode("utf-8", "replace")
    if way < 0.97:
        return text.encode(rng.choice(("utf-16", "utf-16-le", "latin-1", "utf-8-sig", "utf-32", "cp1252")), "replace")
    raw = bytearray(text.encode("utf-8", "replace"))
    for _ in range(rng.randint(1, 8)):
        raw.insert(rng.randint(0, len(raw)), rng.randrange(256))
    return bytes(raw)


def fault(raw: bytes, path: Path) -> Fault | None:
    """Judge one document as `runctl preflight` does, in every format; what went wrong, or None."""
    path.write_bytes(raw)
    reports: list[preflight.Report] = []
    errors: list[RunctlError] = []
    before = signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, 20 * LIMIT)
    began = time.process_time()
    try:
        for found in surveys.survey([path]):
            (reports if isinstance(found, preflight.Report) else errors).append(found)  # type: ignore[arg-type]
        for form in ("text", "json", "github", "sarif", "markdown"):
            reporting.load(form)(reports, errors)
    except RunctlError:
        pass
    except BaseException as error:
        return Fault(f"{type(error).__name__}: {error}"[:300], raw)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if (seconds := time.process_time() - began) > LIMIT:
        return Fault(f"took {seconds:.1f} s", raw)
    crashed = [one.message for report in reports for one in report.findings if " crashed: " in one.message]
    return Fault(crashed[0][:300], raw) if crashed else None


def _late(*_: object) -> None:
    raise TimeoutError("it hangs")
