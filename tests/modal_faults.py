"""Every RPC of every story of a run on Modal fails, once and for good: what the command line makes of it, as a table.

    python tests/modal_faults.py                      all stories
    python tests/modal_faults.py launch stop          some of them
    python tests/modal_faults.py container --rpc VolumeCommit

A story is made ready without trouble; then one RPC answers UNAVAILABLE or INTERNAL, to the first call of it or to every
one, while a command runs; then the trouble is over, and it is looked at what is left. A command may succeed, or end
with one message and a documented exit code. What failed once must succeed. Nothing may go on without anybody knowing
of it, and nothing may be spawned twice. `--after`: the RPC has its effect, and its answer is lost.

Which RPCs a story needs is not written down here: they are those that the plane sees in a telling without trouble.
`HTTP` stands for the way of blobs and blocks, which is no RPC. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from modal_scene import Done
from modal_stories import STORIES, Bench, Story
from plane import Plane

STATUSES = ("UNAVAILABLE", "INTERNAL")
FOR_GOOD = 10**6
IN_A_CONTAINER = 200  # there the client goes on for minutes; longer is not waited for
MOST_LINES = 6  # of a message


@dataclass(frozen=True)
class Row:
    story: str
    rpc: str
    status: str
    times: int
    done: Done
    hits: int
    wrong: tuple[str, ...]

    @property
    def words(self) -> str:
        if self.wrong:
            return f"WRONG: {'; '.join(self.wrong)}"
        if not self.done.code:
            return "success"
        lines = [line.partition("error: ")[2] for line in self.done.err.splitlines() if "error: " in line]
        return f"exit {self.done.code}" + (f": {lines[0][:70]}" if lines else "")


def rpcs(bench: Bench, story: Story) -> list[str]:
    """The RPCs of a story that goes well."""
    scene = story.ready(bench)
    bench.begin()
    done = story.act(bench, scene)
    seen = bench.plane.ledger.names(who="client" if story.who == "client" else "containers")
    wrong = list(story.left(bench, scene, done))
    assert done.code in story.fine, f"{story.name} without trouble: {done} {wrong}"
    assert not wrong, f"{story.name} without trouble: {wrong}"
    bench.clear()
    return sorted(name for name in set(seen) if not name.startswith("HTTP")) + ["HTTP"] * story.http


def trial(bench: Bench, story: Story, rpc: str, status: str, times: int, *, after: bool = False) -> Row:
    """One trouble in one story."""
    scene = story.ready(bench)
    bench.begin()
    if rpc == "HTTP":
        bench.plane.web.fail_next = times
        fault = None
    else:
        fault = bench.plane.fail(rpc, status, times=times, after=after, who=story.who)
    try:
        done = story.act(bench, scene)
        hits = fault.hits if fault is not None else times - bench.plane.web.fail_next
    finally:
        bench.plane.faults.armed.clear()
        bench.plane.web.fail_next = 0
    wrong = [*_said(story, done, once=times == 1), *story.left(bench, scene, done)]
    scene.end()
    bench.clear()
    return Row(story.name, rpc, status, times, done, hits, tuple(wrong))


def _said(story: Story, done: Done, *, once: bool) -> Iterator[str]:
    if "Traceback" in done.out + done.err:
        yield "a traceback"
    if done.code not in story.fine + (() if once else story.told):
        yield f"exit {done.code}: {' '.join(done.err.split())[-200:]}"
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    if done.code == 5 and (len(errors) != 1 or len(done.err.strip().splitlines()) > MOST_LINES):
        yield f"{len(errors)} messages in {len(done.err.splitlines())} lines"


def every(
    bench: Bench,
    stories: Sequence[Story],
    only: Sequence[str] = (),
    *,
    after: bool = False,
    brief: bool = False,
    once: bool = False,
) -> Iterator[Row]:
    """Each RPC of each story with each status, once and for good; `brief`: the statuses take turns; `once`: no more."""
    for story in stories:
        for number, rpc in enumerate(rpcs(bench, story)):
            if only and rpc not in only:
                continue
            for times in (1, FOR_GOOD if story.who == "client" else IN_A_CONTAINER)[: 1 if once else 2]:
                statuses = STATUSES[:1] if rpc == "HTTP" else (STATUSES[number % 2],) if brief else STATUSES
                for status in statuses:
                    yield trial(bench, story, rpc, status, times, after=after)


def line(row: Row) -> str:
    how = "once" if row.times == 1 else "for good"
    what = f"{row.story:<10} {row.rpc:<28} {row.status:<12} {how:<9} {row.hits:>5}x {row.done.seconds:6.1f} s  "
    return what + row.words


def main() -> int:
    known = {story.name: story for story in STORIES}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("stories", nargs="*", metavar="STORY", help=", ".join(known))
    parser.add_argument("--rpc", action="append", default=[], metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--after", action="store_true", help="the RPC has its effect, and its answer is lost")
    parser.add_argument("--brief", action="store_true", help="each RPC with one of the two statuses")
    given = parser.parse_args()
    if unknown := set(given.stories) - set(known):
        parser.error(f"no such story: {', '.join(sorted(unknown))}")
    stories = [known[name] for name in given.stories] or list(STORIES)
    rows = []
    with tempfile.TemporaryDirectory(prefix="faults-") as folder, Plane(grace=5.0, queue=float("inf")) as plane:
        for row in every(Bench(plane, Path(folder)), stories, given.rpc, after=given.after, brief=given.brief):
            rows.append(row)
            print(line(row), flush=True)
    wrong = [row for row in rows if row.wrong]
    fine = sum(not row.done.code and not row.wrong for row in rows)
    told = len(rows) - fine - len(wrong)
    print(f"{len(rows)} troubles: {fine} did not show, {told} were told, {len(wrong)} went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
