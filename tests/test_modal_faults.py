"""RPCs that fail once or for good in stories of a run on Modal. The whole table: `python tests/modal_faults.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("modal", reason="the modal extra is not installed: pip install 'runctl[modal]'")

import modal_faults
from modal_faults import FOR_GOOD, trial
from modal_stories import STORIES, Bench
from plane import Plane, box

KNOWN = {story.name: story for story in STORIES}
boxed = pytest.mark.skipif(box.best_way() == "links", reason="no namespaces here: /vol cannot be given to a container")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Plane(grace=5.0, queue=float("inf")) as plane:
        yield Bench(plane, tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize(
    ("story", "rpc", "status", "times"),
    [
        ("launch", "FunctionMap", "INTERNAL", FOR_GOOD),
        ("launch", "AppClientDisconnect", "UNAVAILABLE", FOR_GOOD),
        ("status", "AppGetOrCreate", "INTERNAL", FOR_GOOD),
        ("reconcile", "AppStop", "UNAVAILABLE", 1),
    ],
)
def test_what_fails_is_told_or_does_not_show(bench: Bench, story: str, rpc: str, status: str, times: int) -> None:
    row = trial(bench, KNOWN[story], rpc, status, times)
    assert row.hits
    assert not row.wrong, modal_faults.line(row)


def test_what_can_neither_be_sent_nor_ended_is_told_with_the_way_to_end_it(bench: Bench) -> None:
    bench.plane.faults.armed.clear()
    story = KNOWN["launch"]
    scene = story.ready(bench)
    bench.begin()
    for rpc in ("FunctionMap", "AppStop", "AppClientDisconnect"):
        bench.plane.fail(rpc, "UNAVAILABLE", times=FOR_GOOD)
    done = story.act(bench, scene)
    bench.plane.faults.armed.clear()
    assert done.code == 5, done
    assert "end it with runctl reconcile" in done.err
    assert len(bench.living(scene)) == 1
    assert list(story.left(bench, scene, done)) == []
    bench.clear()


def test_the_answer_to_a_claim_that_was_lost_is_no_other_launch(bench: Bench) -> None:
    """Whether or not the service knows that it is the same request."""
    from plane.quirks import Quirks

    bench.plane.set(quirks=Quirks(forgets_keys=True))
    try:
        row = trial(bench, KNOWN["launch"], "VolumePutFiles", "UNAVAILABLE", 1, after=True)
    finally:
        bench.plane.set(quirks=Quirks())
    assert not row.wrong, modal_faults.line(row)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["launch", "status", "stop", "push", "reconcile"])
def test_every_rpc_of_a_story_may_fail_once_and_for_good(bench: Bench, name: str) -> None:
    rows = list(modal_faults.every(bench, [KNOWN[name]], brief=True))
    assert not [row for row in rows if row.wrong], "\n" + "\n".join(map(modal_faults.line, rows))


@boxed
@pytest.mark.slow
@pytest.mark.parametrize("name", ["end", "pull", "container"])
def test_every_rpc_of_a_story_with_containers_may_fail_once(bench: Bench, name: str) -> None:
    rows = list(modal_faults.every(bench, [KNOWN[name]], brief=True, once=True))
    assert not [row for row in rows if row.wrong], "\n" + "\n".join(map(modal_faults.line, rows))
