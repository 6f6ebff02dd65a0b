"""`python -m runctl.estimate.generate`: trace every form of the step and write `data/memory.json`.

`--check` writes nothing and exits 1 where the file is not what the code gives now; `--every N` then looks at every
N-th form alone. Needs torch; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from runctl import record
from runctl.estimate import solve, traced
from runctl.estimate.solve import Moment, Polynomial


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m runctl.estimate.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="with --check: only every N-th form")
    options = parser.parse_args(arguments)
    forms = solve.FORMS[:: options.every if options.check else 1]
    if options.check:
        stale = differences(forms)
        print("\n".join(stale) if stale else f"{traced.FILE.name}: {len(forms)} forms are up to date")
        return 1 if stale else 0
    write(forms)
    return 0


def write(forms: Sequence[Mapping[str, Any]]) -> None:
    """Trace the forms, on all cores, and write the file."""
    import torch

    found: dict[str, list[Moment]] = {}
    context = multiprocessing.get_context("spawn")
    with context.Pool(len(os.sched_getaffinity(0))) as pool:
        for form, moments in zip(forms, pool.imap(solved, forms), strict=True):
            found[traced.name_of(**form)] = moments
            print(f"{len(found)} of {len(forms)}: {traced.name_of(**form)}, {len(moments)} moments", flush=True)
    version = torch.__version__.partition("+")[0]
    record.write_json(traced.FILE, document(found) | {"made_with": f"torch {version}"})


def solved(form: Mapping[str, Any]) -> list[Moment]:
    """The moments of one form that may be the highest."""
    return solve.winners(form, solve.moments(form))


def document(found: Mapping[str, Sequence[Moment]]) -> dict[str, Any]:
    """The file's contents: each polynomial once, and the moments of each form by their numbers."""
    numbers: dict[str, int] = {}
    forms: dict[str, Any] = {}
    for name, moments in found.items():
        forms[name] = [
            {
                "phase": moment.phase,
                "blocks": list(moment.blocks),
                "parts": {
                    category: [numbers.setdefault(text(p), len(numbers)) for p in both]
                    for category, both in moment.parts.items()
                },
            }
            for moment in moments
        ]
    return {"schema_version": 1, "polynomials": list(numbers), "forms": forms}


def text(polynomial: Polynomial) -> str:
    """`4 B K D + 8 B`, the terms in order."""
    return " + ".join(" ".join((str(count), *names)) for names, count in sorted(polynomial.items()))


def differences(forms: Sequence[Mapping[str, Any]], count: int = 40) -> list[str]:
    """The forms for which the file gives another peak than a new trace, on `count` shapes; says which and by how much."""
    result = []
    for form in forms:
        moments = solve.moments(form)
        for shape in solve.shapes(form, count, seed=1):
            now = max(solve.total(moment, shape) for moment in moments)
            device: traced.Device = "cuda" if form["dropout"] == "cuda" else "cpu"
            there = traced.peak(solve.accumulated(shape), device).total
            if abs(there - now) > 0.001 * now:
                result.append(f"{traced.name_of(**form)}: {there:,} bytes in the file, {now:,} traced, for {shape.model}")
                break
    return result


if __name__ == "__main__":
    sys.exit(main())
