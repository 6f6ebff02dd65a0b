"""What a container does beside the training, without a container: its mirror of the run, and the time that it has."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from fake_runs import events, in_state, make, supervised, until

from runctl import record
from runctl.remote.entry import again
from runctl.remote.mirror import Mirror, Sign
from runctl.status.away import judge
from runctl.status.facts import Records
from runctl.supervisor import kept, lease


def test_a_machine_that_ends_by_itself_has_the_run_saved_before_and_starts_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make(tmp_path, "--steps", 10_000, "--checkpoint-every", 100_000, compute={"retries": 3, "timeout": 900.0})
    monkeypatch.setenv(lease.ENDS, repr(time.monotonic() + 2.5))
    monkeypatch.setenv(lease.RESTARTED, "1")
    with supervised(run):
        found = until(run, in_state("failed", "succeeded", "stopped"))
    assert found.reason == "timed out: compute.timeout of 15m00s is over"
    assert found.checkpoint_step == found.step
    assert len(run.attempts()) == 1
    assert again(record.read_object(run.attempt(1).exit)), "another machine can go on from there"


def test_what_may_go_better_is_left_to_the_provider_where_it_starts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lease.RESTARTED, "1")
    run = make(tmp_path, "--steps", 40, "--hang-at", 12, compute={"retries": 2, "hang_after": 1.0})
    with supervised(run, grace=0.2, backoff=0.1):
        found = until(run, in_state("failed", "succeeded"))
    assert (found.state, found.failure) == ("failed", "hang")
    assert "restart" not in events(run)
    assert again(record.read_object(run.attempt(1).exit))


@pytest.mark.parametrize(
    ("end", "cured"),
    [
        ({"state": "failed", "failure": {"kind": "infrastructure", "again": True}}, True),
        ({"state": "failed", "failure": {"kind": "user_error", "again": False}}, False),
        ({"state": "stopped", "failure": {"kind": "preemption", "again": False}}, True),
        ({"state": "stopped", "failure": None}, False),
        ({"state": "killed", "reason": "guard", "failure": None}, False),
        ({"state": "succeeded"}, False),
        ({}, False),
    ],
)
def test_only_what_another_container_can_cure_is_tried_again(end: dict[str, object], cured: bool) -> None:
    assert again(end) is cured


def test_a_checkpoint_is_on_the_volume_before_what_names_it_and_goes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    folder = here / "checkpoints" / "step-000000010"
    for name, text in (("z.safetensors", "weights"), ("manifest.json", "{}"), (".tmp", "half")):
        record.write_text(folder / name, text)
    record.write_text(here / "checkpoints" / "latest", folder.name)
    record.write_text(here / "attempts" / "1" / "exit.json", "{}")
    mirror, done = Mirror(here, there), list[str]()
    real = mirror._copy

    def copied(path: str, sign: Sign | None) -> bool:
        done.append(path.rpartition("/")[2])
        return real(path, sign)

    monkeypatch.setattr(mirror, "_copy", copied)
    assert mirror.carry() == 4
    assert done == ["z.safetensors", "manifest.json", "latest", "exit.json"]
    assert mirror.carry() == 0
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert mirror.carry() == 2
    assert sorted(path.name for path in there.rglob("*")) == ["1", "attempts", "checkpoints", "exit.json", "latest"]


def test_a_new_container_begins_with_what_was_committed_and_leaves_the_launchs_record_alone(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    record.write_json(there / "run.json", {"project": "/laptop"})
    record.write_json(there / "attempts" / "1" / "exit.json", {"state": "stopped"})
    mirror = Mirror(here, there)
    mirror.fetch()
    record.write_json(here / "run.json", {"project": "/container"})
    mirror.leave("run.json")
    assert mirror.carry() == 0
    assert record.read_json(there / "run.json") == {"project": "/laptop"}
    assert record.read_json(here / "attempts" / "1" / "exit.json") == {"state": "stopped"}


LAUNCHED = {"phase": "launched", "time": 100.0}
ENDED = {"state": "failed", "reason": "hang", "failure": {"again": True}}


@pytest.mark.parametrize(
    ("remote", "more", "age", "began", "state", "words"),
    [
        ({"phase": "closed"}, {}, None, False, None, ""),
        ({"phase": "failed", "problem": "no"}, {}, None, False, "failed", "no"),
        ({"phase": "launching"}, {}, None, False, "queued", "being sent"),
        ({**LAUNCHED, "seen": {"call": "unfinished"}}, {}, None, False, "queued", "queued for a container"),
        ({**LAUNCHED, "seen": {"call": "unfinished"}}, {"container": {"time": 990.0}}, None, False, "starting", ""),
        ({**LAUNCHED, "seen": {"call": "unfinished"}}, {"container": {"time": 9.0}}, 5.0, True, "running", ""),
        (
            {**LAUNCHED, "seen": {"call": "unfinished"}},
            {"container": {"time": 9.0}},
            400.0,
            True,
            "stalled",
            "heartbeat",
        ),
        ({**LAUNCHED, "seen": {"call": "unfinished"}}, {"exit": ENDED}, 5.0, True, "restarting", "another container"),
        ({**LAUNCHED, "seen": {"call": "unknown", "problems": ["late"]}}, {}, 5.0, True, "stalled", "late"),
        ({**LAUNCHED, "seen": {"call": "ending"}}, {"container": {}}, 5.0, True, "stopping", "grace"),
        ({**LAUNCHED, "seen": {"call": "failed", "error": "x"}}, {}, 5.0, True, "stopping", "x"),
        ({**LAUNCHED, "seen": {"call": "answered"}}, {"exit": ENDED}, 5.0, True, None, ""),
        ({**LAUNCHED, "seen": "nonsense"}, {}, None, False, "stalled", "not tried yet"),
    ],
)
def test_the_state_of_a_run_elsewhere_is_what_its_provider_and_its_records_add_up_to(
    remote: dict[str, object], more: dict[str, object], age: float | None, began: bool, state: str | None, words: str
) -> None:
    records = Records({"name": "job"}, attempt=1, remote=remote, **more)  # type: ignore[arg-type]
    found = judge(records, age=age, began=began, now=1000.0)
    assert (found and found[0]) == state
    assert words in (found[1] if found else "")


def test_what_a_program_saves_is_carried_whole_or_not_at_all_and_known_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there, out = tmp_path / "here", tmp_path / "there", tmp_path / "here" / "out"
    record.write_text(here / "events.jsonl", "{}\n")
    for name, age in (("a.bin", 30), ("growing.bin", 20), ("b.done", 10), ("half.tmp", 5)):
        record.write_text(out / name, name)
        os.utime(out / name, ns=(time.time_ns() - age * 10**9,) * 2)
    saved = {"checkpoints": [{"path": "out/a.bin"}]}
    record.write_json(here / "saved.json", saved)
    mirror = Mirror(here, there)
    assert mirror.carry(whole=False) == 1
    assert [path.name for path in there.iterdir()] == ["events.jsonl"]

    real = shutil.copy2

    def slowly(source: Path, target: Path) -> None:
        real(source, target)
        if source.name == "growing.bin":
            source.write_text("longer")

    monkeypatch.setattr(shutil, "copy2", slowly)
    mirror.carry()
    monkeypatch.undo()
    assert sorted(path.name for path in (there / "out").iterdir()) == ["a.bin"], "the marker waits for what grows"
    mirror.carry()
    assert sorted(path.name for path in (there / "out").iterdir()) == ["a.bin", "b.done", "growing.bin"]

    for path in (there / "out").iterdir():
        os.utime(path, (1, 1))  # a volume that keeps no times
    new = tmp_path / "new"
    Mirror(new, there).fetch()
    assert (new / "out/a.bin").stat().st_mtime_ns == (out / "a.bin").stat().st_mtime_ns
    assert not kept.moved(new / "out/growing.bin"), "nobody has seen it whole"
    (out / "a.bin").unlink()
    assert mirror.carry(whole=False) == 0
    assert (there / "out/a.bin").exists()
    assert mirror.carry() == 1
    assert not (there / "out/a.bin").exists()
