"""Random faults over small real runs: after each, what status says is true, no work is lost but the last steps, the
resumed run ends with the losses of an unbroken one, nothing is left over and every record can be read.

    python tests/torture.py --faults 200 [--seed S] [--only KIND] [--case N] [--jobs 2] [--json FILE]

Each case is a run of its own: `runctl launch`, a fault at a random moment, then `runctl status`, `why`, `logs` and
`resume`. What must hold and how it is measured is in docs/torture.md. Ends with 1 if anything did not hold; the
folders of those cases are kept, and a case is played again with --seed S --case N.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tortured.case import drawn, play
from tortured.faults import KINDS
from tortured.scene import CADENCE, NAME, TOTAL, Scene, history

_CASE_SECONDS = 240.0
SHORT = (
    "kill -9 the trainer",
    "kill -9 both",
    "SIGSTOP for good (hang)",
    "twenty SIGTERM and SIGINT",
    "checkpoints damaged",
    "records damaged, dead",
    "two supervisors",
    "two resumes at once",
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--faults", type=int, default=200, help="how many cases, shared out as in tortured/faults.py")
    parser.add_argument("--seed", type=int, help="of all random choices; by default a new one, which is printed")
    parser.add_argument("--short", action="store_true", help="one case of each of eight kinds, as in the tests")
    parser.add_argument("--only", metavar="KIND", help="only kinds whose name contains this")
    parser.add_argument("--case", type=int, help="only the case of this number")
    parser.add_argument("--jobs", type=int, default=2, help="cases at once")
    parser.add_argument("--folder", type=Path, help="where the projects lie; by default a temporary folder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every case there")
    parser.add_argument("--play", metavar="KIND", help=argparse.SUPPRESS)  # one case in this process, as JSON
    options = parser.parse_args(arguments)
    if options.play:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # and clean up
        row = play(options.folder, KINDS[options.play], options.case, options.seed, options.folder.parent)
        print(json.dumps(row.to_json()))
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    named = SHORT if options.short else cases(options.faults, seed, options.only)
    chosen = list(enumerate(named))
    chosen = [(number, kind) for number, kind in chosen if options.case in (None, number)]
    print(f"{len(chosen)} faults, seed {seed}, in {folder}", flush=True)
    began = time.monotonic()
    references(folder, options.jobs, {drawn(KINDS[kind], number, seed)[1] for number, kind in chosen})
    rows = played(folder, chosen, seed, options.jobs)
    print(table(rows))
    failed = [row for row in rows if row["complaints"]]
    skipped = sorted({row["skipped"] for row in rows if row["skipped"]})
    print(f"{len(rows)} faults in {(time.monotonic() - began) / 60:.1f} min, {len(failed)} did not hold; seed {seed}")
    for why in skipped:
        print(f"skipped: {sum(row['skipped'] == why for row in rows)} ({why})")
    if options.json:
        options.json.write_text(json.dumps({"seed": seed, "cases": rows}, indent=1) + "\n")
    for row in failed:
        words = f"--seed {seed} " + ("--short" if options.short else f"--faults {options.faults}")
        words += f" --only '{options.only}'" if options.only else ""
        print(f"again: python tests/torture.py {words} --case {row['number']}   (kept: {folder}/{row['number']:03d})")
    if not failed:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if failed else 0


def played(folder: Path, chosen: list[tuple[int, str]], seed: int, jobs: int) -> list[dict[str, Any]]:
    """All cases in their order; on Ctrl-C or SIGTERM those that are through."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    pool = ThreadPoolExecutor(jobs)
    waiting = [pool.submit(case, folder, number, kind, seed) for number, kind in chosen]
    rows: list[dict[str, Any]] = []
    try:
        for future in as_completed(waiting):
            row = future.result()
            rows.append(row)
            for complaint in row["complaints"]:
                print(f"case {row['number']} ({row['kind']}, {row['trainer']}): {complaint}", flush=True)
            if len(rows) % 20 == 0:
                print(f"{len(rows)} of {len(chosen)}", flush=True)
    except KeyboardInterrupt:
        print(f"interrupted: {len(rows)} of {len(chosen)} were played", flush=True)
        pool.shutdown(wait=False, cancel_futures=True)
    return sorted(rows, key=lambda row: row["number"])


def cases(faults: int, seed: int, only: str | None) -> list[str]:
    """The kinds of all cases, in their order: each with its share, the rest by lot."""
    kinds = [kind for kind in KINDS.values() if only is None or only in kind.name]
    if not kinds:
        raise SystemExit(f"no kind of fault is named like {only!r}; there are: {', '.join(KINDS)}")
    shares, draw = sum(kind.share for kind in kinds), random.Random(seed)
    names = [kind.name for kind in kinds for _ in range(faults * kind.share // shares)]
    names += draw.choices([kind.name for kind in kinds], [kind.share for kind in kinds], k=faults - len(names))
    draw.shuffle(names)
    return names


def references(folder: Path, jobs: int, trainers: set[str]) -> None:
    """The losses of an unbroken run of each trainer."""

    def make(trainer: str) -> None:
        path = folder / f"{trainer}.json"
        if path.exists():
            return
        scene = Scene(folder / "unbroken" / trainer.replace(" ", "-"), trainer, random.Random(0))
        done = scene.finish(scene.launch(), "launch", NAME)
        waited = scene.call("wait", NAME)
        found = history(scene.run)
        if done.code or waited.code or not any(key.startswith(f"{TOTAL} ") for key in found) or scene.complaints:
            raise SystemExit(f"the unbroken run of the {trainer} trainer: {done}; {waited}; {scene.complaints}")
        path.write_text(json.dumps(found))

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(make, sorted(trainers)))


def case(folder: Path, number: int, kind: str, seed: int) -> dict[str, Any]:
    """Play a case in a process of its own: its clock may be another, and a broken one disturbs no other."""
    place = folder / f"{number:03d}"
    shutil.rmtree(place, ignore_errors=True)
    argv = [
        sys.executable,
        __file__,
        "--play",
        kind,
        "--case",
        str(number),
        "--seed",
        str(seed),
        "--folder",
        str(place),
    ]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=_CASE_SECONDS)
    except subprocess.TimeoutExpired:
        process.terminate()
        out, err = process.communicate()
        err = f"not through after {_CASE_SECONDS:g} s\n{err}"
    try:
        row: dict[str, Any] = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        row = {"number": number, "kind": kind, "trainer": "", "state": "", "reason": "", "wrong_seconds": 0.0}
        row |= {"steps_lost": None, "resumes": 0, "equal": None, "notes": [], "seconds": 0.0, "skipped": ""}
        row["complaints"] = [f"the case itself broke: {err[-2000:]}"]
    if not row["complaints"]:
        shutil.rmtree(place, ignore_errors=True)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """One line for each kind, in Markdown."""
    head = ["fault", "cases", "state after it", "status wrong, s", f"steps lost (of {CADENCE})", "losses equal"]
    head += ["orphans", "records unreadable", "did not hold"]
    lines = [head, ["---"] * len(head)]
    for kind in KINDS:
        own = [row for row in rows if row["kind"] == kind and not row["skipped"]]
        if own:
            lines.append(line(kind, own))
    played = [row for row in rows if not row["skipped"]]
    if played:
        lines.append(line("all", played))
    widths = [max(len(one[index]) for one in lines) for index in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)) + " |" for one in lines
    )


def line(name: str, rows: list[dict[str, Any]]) -> list[str]:
    states: dict[str, int] = {}
    for row in rows:
        states[row["state"]] = states.get(row["state"], 0) + 1
    lost = [row["steps_lost"] for row in rows if row["steps_lost"] is not None]
    equal = [row["equal"] for row in rows if row["equal"] is not None]
    told = [" ".join(row["complaints"]) for row in rows]
    return [
        name,
        str(len(rows)),
        ", ".join(f"{state} {count}" for state, count in sorted(states.items(), key=lambda one: -one[1])),
        f"{max(row['wrong_seconds'] for row in rows):.1f}",
        str(max(lost)) if lost else "–",
        f"{sum(equal)} of {len(equal)}" if equal else "refused",
        str(sum("orphans" in text for text in told)),
        str(sum("cannot be read" in text or "damaged:" in text or " broke" in text for text in told)),
        str(sum(bool(text) for text in told)),
    ]


if __name__ == "__main__":
    os.environ.pop("RUNCTL_RUN_DIR", None)
    sys.exit(main())
