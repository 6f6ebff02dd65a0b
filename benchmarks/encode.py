"""How fast replays become encoded frames.

    python benchmarks/encode.py FOLDER [--workers 2] [--repeat 3] [--json]

Encodes every replay of a folder into a temporary place, from the start of the first worker to the renamed dataset,
with all flags off and with all on, and prints frames per second (best and median of the repeats), the processor
time per frame, and bytes per frame. Nothing but the page cache is warm.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
from pathlib import Path

from runctl.config.model import Encoding
from runctl.tasks.worldmodel import encode, sources

FLAGS = ("projectiles", "state_flags", "hitstun")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="replays; without it there is nothing to measure")
    parser.add_argument("--workers", type=int, default=encode.cpu_count())
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.folder is None:
        print("no folder of replays was given: nothing measured")
        return
    rows = [measure(options.folder, options.workers, options.repeat, flags=flags) for flags in (False, True)]
    if options.json:
        print(json.dumps({"schema_version": 1, "rows": rows}, indent=2))
        return
    for row in rows:
        size = f"{row['games']} games  {row['frames']:,} frames  {row['bytes_per_frame']} bytes/frame"
        rate = (
            f"best {row['best']:,.0f} frames/s  median {row['median']:,.0f}  {row['cpu_us_per_frame']:.2f} µs CPU/frame"
        )
        print(f"flags {row['flags']:3}  {size}  {rate}")


def measure(folder: Path, workers: int, repeat: int, *, flags: bool) -> dict[str, object]:
    """Encode the folder `repeat` times; rates in frames per second of wall time."""
    encoding = Encoding(state_age_as_embed=True, **dict.fromkeys(FLAGS, flags))
    rates, before = [], cpu_seconds()
    for _ in range(repeat):
        with tempfile.TemporaryDirectory() as place:
            report = encode.encode(sources.replays([folder]), encoding, Path(place) / "data", workers=workers)
        rates.append(report.frames_per_second)
    return {
        "flags": "on" if flags else "off",
        "workers": workers,
        "games": report.games,
        "skipped": len(report.skipped),
        "frames": report.frames,
        "bytes_per_frame": report.record_bytes,
        "best": max(rates),
        "median": statistics.median(rates),
        "cpu_us_per_frame": (cpu_seconds() - before) / (report.frames * repeat) * 1e6,
    }


def cpu_seconds() -> float:
    """Processor time of this process and of its ended children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


if __name__ == "__main__":
    main()
