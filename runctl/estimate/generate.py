"""`python -m runctl.estimate.generate`: trace every form of the step and write `data/memory.json`, and
`data/memory-every.json` for steps with `training.targets: all`.

`--check` writes nothing and exits 1 where the file is not what the code gives now; `--every N` then looks at every
N-th form alone. Needs torch; takes some minutes.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from runctl import record
from runctl.estimate import allocator, solve, trace, traced
from runctl.estimate.solve import Moment, Polynomial

SHAPES = 32  # with, and as many without activation checkpointing, that the allocator's model is run on


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m runctl.estimate.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file, write nothing")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="with --check: only every N-th form")
    options = parser.parse_args(arguments)
    if options.check:
        forms = [*solve.FORMS, *solve.EVERY][:: options.every]
        stale = differences(forms)
        print("\n".join(stale) if stale else f"{len(forms)} forms are up to date")
        return 1 if stale else 0
    write()
    return 0


def write() -> None:
    """Trace all forms, on all cores, and write the files."""
    import torch

    context = multiprocessing.get_context("spawn")
    made = {"made_with": f"torch {torch.__version__.partition('+')[0]}"}
    with context.Pool(len(os.sched_getaffinity(0))) as pool:
        for file, forms in ((traced.FILE, solve.FORMS), (traced.EVERY, solve.EVERY)):
            found: dict[str, list[Moment]] = {}
            for form, moments in zip(forms, pool.imap(solved, forms), strict=True):
                found[_name(form)] = moments
                print(f"{len(found)} of {len(forms)}: {_name(form)}, {len(moments)} moments", flush=True)
            data = document(found) | made
            if file == traced.FILE:
                pairs = pool.map(measured, range(2 * SHAPES))
                data |= {"slack": {"kept": spread(pairs[::2]), "recomputed": spread(pairs[1::2])}}
            record.write_text(file, render(data))


def _name(form: Mapping[str, Any]) -> str:
    return traced.name_of(**{key: value for key, value in form.items() if key != "every"})


def measured(number: int) -> tuple[int, int]:
    """(bytes of tensors, bytes that the allocator's model needs for them) at the peak of some shape on a GPU; odd
    numbers stand for shapes with activation checkpointing."""
    rng = random.Random(number)
    form = rng.choice([form for form in solve.FORMS if form["dropout"] == "cuda" and form["recompute"] == number % 2])
    shape = next(solve.shapes(form, 1, seed=number))
    model = shape.model.model_copy(update={"n_layers": min(shape.model.n_layers, 8)})  # more layers, more of the same
    found = trace.of(replace(shape, model=model, accumulation=rng.choice((1, 2))), "cuda")
    return found.peak().total, allocator.needed(found.allocations())


def spread(pairs: Sequence[tuple[int, int]]) -> dict[str, float]:
    """`traced.Slack` of (tensors, needed): shares from the runs above 1 GiB, and what is beyond them in the others."""
    shares = sorted(needed / tensors for tensors, needed in pairs if tensors >= 1 << 30)
    likely, most = statistics.median(shares), shares[-1]
    extra = max(needed - most * tensors for tensors, needed in pairs)
    return {"likely": round(likely, 4), "most": round(most + 5e-5, 4), "extra": max(0, round(extra))}


def solved(form: Mapping[str, Any]) -> list[Moment]:
    """The moments of one form that may be the highest."""
    return solve.winners(form, solve.moments(form))


def document(found: Mapping[str, Sequence[Moment]]) -> dict[str, Any]:
    """The file's contents: each polynomial once, and the moments of each form by their numbers."""
    numbers: dict[str, int] = {}

    def written(moment: Moment) -> str:
        pairs = [moment.parts.get(category, ()) for category in trace.CATEGORIES]
        places = [" ".join(str(numbers.setdefault(text(p), len(numbers))) for p in pair) for pair in pairs]
        return f"{moment.phase}: {', '.join(places)}".rstrip(", ")

    forms = {name: [written(moment) for moment in moments] for name, moments in found.items()}
    head = {"schema_version": 2, "categories": trace.CATEGORIES}
    return {**head, "polynomials": list(numbers), "forms": forms}


def text(polynomial: Polynomial) -> str:
    """`4 B K D + 8 B`, the terms in order."""
    return " + ".join(" ".join((str(count), *names)) for names, count in sorted(polynomial.items()))


def render(data: Mapping[str, Any]) -> str:
    """JSON with a line for each polynomial and each moment, so that a change can be read."""

    def lines(items: Sequence[Any]) -> str:
        return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"

    forms = ",\n".join(f"{json.dumps(name)}: {lines(moments)}" for name, moments in data["forms"].items())
    rest = {key: value for key, value in data.items() if key not in ("forms", "polynomials")}
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in rest.items())
    return f'{{\n{head}"polynomials": {lines(data["polynomials"])},\n"forms": {{\n{forms}\n}}\n}}\n'


def differences(forms: Sequence[Mapping[str, Any]], count: int = 40) -> list[str]:
    """The forms for which the file gives another peak than a new trace on one of `count` shapes, each with both."""
    result = []
    for form in forms:
        moments = solve.winners(form, solve.moments(form), seed=2)
        for shape in solve.shapes(form, count, seed=1):
            now = max(solve.total(moment, shape) for moment in moments)
            device: traced.Device = "cuda" if form["dropout"] == "cuda" else "cpu"
            there = traced.peak(solve.accumulated(shape), device).total
            if abs(there - now) > 0.001 * now:
                form_of = _name(form) + (", every position" if form.get("every") else "")
                result.append(f"{form_of}: {there:,} bytes in the file, {now:,} traced, for {shape.model}")
                break
    return result


if __name__ == "__main__":
    sys.exit(main())
