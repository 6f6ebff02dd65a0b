"""What nobody means: preflight reads it or refuses it in one line, and neither crashes, nor hangs, nor fills memory."""

import subprocess
import sys
from pathlib import Path

import hostile
import pytest

from runctl import preflight, yamldoc
from runctl.errors import UsageError

ROOT = Path(__file__).parent.parent
MOST_BYTES = 300e6
LAUGHS = [
    "a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]",
    *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
]


def test_three_hundred_mutated_documents_are_stood(tmp_path):
    faults = [hostile.fault(raw, tmp_path / "config.yaml") for raw in hostile.documents(300, seed=4)]
    assert [fault for fault in faults if fault] == []


def test_a_crash_and_a_crawl_are_seen(tmp_path, monkeypatch):
    """The two things that the test above looks for are found where they are."""
    monkeypatch.setattr(yamldoc, "parse", lambda *_, **__: 1 / 0)
    assert "ZeroDivisionError" in hostile.fault(b"a: 1", tmp_path / "config.yaml").what
    monkeypatch.setattr(hostile, "LIMIT", 0.01)
    monkeypatch.setattr(yamldoc, "parse", lambda *_, **__: sum(range(10**7)))
    assert hostile.fault(b"a: 1", tmp_path / "config.yaml") is not None


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("training: {lr: 1}\n".encode("utf-16"), "is not UTF-8 text"),
        ("training: {lr: 1}\n".encode("utf-16-le"), "not allowed|NUL|control characters"),
        ("a: é\n".encode("latin-1"), "is not UTF-8 text"),
        (b"a: 1\x00\n", "control characters are not allowed"),
        (b"a: 1\n---\nb: 2\n", "more than one YAML document"),
        (b"a:\n\tb: 1\n", "cannot be read as YAML"),
        ("\n".join(LAUGHS).encode(), "more than 100,000 values once aliases are expanded"),
        (b"[" * 100_000, "nested deeper than 64 levels"),
        (b"a: &a [*a]\n", "unknown or unfinished anchor"),
        (b"a: !!int ''\n", "'' is not a valid int"),
        (b"a: 0x" + b"f" * 5_000, "is not a valid int"),
        (b"a: 0" + b"7" * 5_000, "is not a valid int"),
        (b"a: " + b"9" * 5_000, "is not a valid int"),
        (b"a: 1\n" * 2_000, "more than 1,000 keys are given twice"),
        (b"a: 1\n" * 10_000_000, "larger than 1 MiB"),
        (b"", "is empty"),
    ],
    ids=lambda value: None if isinstance(value, str) else repr(value[:12]),
)
def test_what_cannot_be_read_is_refused_in_one_short_message(tmp_path, raw, message):
    (tmp_path / "config.yaml").write_bytes(raw)
    with pytest.raises(UsageError, match=message) as caught:
        preflight.preflight(tmp_path / "config.yaml")
    assert len(caught.value.message) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbftraining: {lr: 1.0}\n",
        b"training:\r\n  lr: 1.0\r\n",
        b"training:\r  lr: 1.0\r",
        b"x: &x {lr: 1.0}\ntraining: {<<: *x}\n",
        b"training: {? lr : 1.0}\n",
    ],
)
def test_a_byte_order_mark_other_line_ends_and_merged_keys_are_read(raw, tmp_path):
    (tmp_path / "config.yaml").write_bytes(raw)
    data = yamldoc.load(tmp_path / "config.yaml").data
    assert data["training"] == {"lr": 1.0}


# A process begins with the peak of the one that forked it: a small one stands between, and this one does not count.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "runctl", *sys.argv[1:]]).returncode
print("most memory:", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def test_no_shape_of_a_megabyte_takes_much_memory(tmp_path):
    """One process for all of them, which therefore holds them all at once."""
    shapes = {
        "keys": "\n".join(f"k{number}: {number}" for number in range(30_000)),
        "word": "a: " + "x" * 1_000_000,
        "hidden": "a: [api_key" + "x" * 900_000 + ": }",
        "merges": "b: &b {" + ",".join(f"k{n}: {n}" for n in range(1000)) + "}\n"
        + "\n".join(f"m{n}: {{<<: *b}}" for n in range(95)),
        "guards": "task: worldmodel\nguards:\n" + "- {whem: 1}\n" * 3_000,
    }  # fmt: skip
    for name, text in shapes.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    command = [sys.executable, "-c", MEASURED, "preflight", str(tmp_path), "--format", "json"]
    with (tmp_path / "out.json").open("wb") as out, (tmp_path / "err").open("wb") as err:
        done = subprocess.run(command, cwd=ROOT, stdout=out, stderr=err, check=False)
    told = (tmp_path / "err").read_text()
    assert done.returncode == 2
    assert "internal error" not in told
    assert "(900,014 characters)" in told
    assert int(told.rpartition("most memory: ")[2]) * 1024 < MOST_BYTES
    assert (tmp_path / "out.json").stat().st_size < 2_000_000
