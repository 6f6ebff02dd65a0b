"""Why an attempt failed: the class and what to do, from messages as real programs write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runctl.supervisor import failures, restarts
from runctl.supervisor.causes import CAUSES

# what is written, and the class that it means; each in the words of the library that says so
MESSAGES = {
    "out_of_memory": [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "MemoryError",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: ",
        "numpy.core._exceptions._ArrayMemoryError: Unable to allocate 59.6 GiB for an array with shape (8000000000,)",
        "OSError: [Errno 12] Cannot allocate memory",
        "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed.",
        "RuntimeError: DataLoader worker (pid 4242) is killed by signal: Killed.",
    ],
    "nan": [
        "NonFinite: non-finite loss at step 12",
        "ValueError: the loss is NaN",
        "RuntimeError: Function 'LogSoftmaxBackward0' returned nan values in its 0th output.",
        "RuntimeError: probability tensor contains either `inf`, `nan` or element < 0",
        "FloatingPointError: NaN detected in the gradients",
    ],
    "infrastructure": [
        "OSError: [Errno 28] No space left on device: 'checkpoints/step-10'",
        "OSError: [Errno 122] Disk quota exceeded: 'checkpoints/step-10'",
        "OSError: [Errno 30] Read-only file system: '/data/out'",
        "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "RuntimeError: No CUDA GPUs are available",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "NVRM: Xid (PCI:0000:3b:00): 79, pid=77, GPU has fallen off the bus.",
        "[Rank 3] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=9, OpType=ALLREDUCE) ran",
        "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:1970, unhandled system error",
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='hub', port=443): Connection refused",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "RuntimeError: unable to allocate shared memory(shm) for file </torch_9>: insufficient shared memory (shm)",
    ],
    "preemption": [
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T03:00:00 DUE TO PREEMPTION ***",
    ],
    "limit": [
        "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-21T03:00:00 DUE TO TIME LIMIT ***",
    ],
    "data": [
        "pyarrow.lib.ArrowInvalid: Parquet magic bytes not found in footer.",
        "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "ValueError: num_samples should be a positive integer value, but got num_samples=0",
        "FileNotFoundError: [Errno 2] No such file or directory: 'shards/0001.tar'",
        "RuntimeError: DataLoader worker (pid(s) 51, 52) exited unexpectedly",
        "zipfile.BadZipFile: File is not a zip file",
    ],
    "user_error": [
        "KeyError: 'labels'",
        "TypeError: forward() got an unexpected keyword argument 'mask'",
        "AssertionError",
        "ModuleNotFoundError: No module named 'flash_attn'",
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x512 and 256x10)",
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: Error(s) in loading state_dict for Net:",
        "train.py: error: unrecognized arguments: --bach-size 8",
        "PermissionError: [Errno 13] Permission denied: '/data'",
        "FileNotFoundError: [Errno 2] No such file or directory: 'vocab.txt'",
    ],
}
TOLD = [(message, kind) for kind, messages in MESSAGES.items() for message in messages]
TRACE = ["Traceback (most recent call last):", '  File "train.py", line 9, in <module>', "    main()"]


def classed(*lines: str, returncode: int | None = 1, **facts: object) -> failures.Failure:
    found = failures.classify("failed", returncode=returncode, tail=lines, **facts)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize(("message", "kind"), TOLD, ids=[message[:40] for message, _ in TOLD])
def test_a_real_message_has_its_class_from_the_log_and_from_a_result(message: str, kind: str) -> None:
    found = classed("step 7 loss 2.31", *TRACE, message)
    assert (found.kind, bool(found.advice)) == (kind, True)
    assert message[:60] in found.evidence[0]
    name, _, text = message.partition(": ")
    assert classed(error={"type": name, "message": text, "hint": None, "where": None}).kind == kind


def test_every_row_of_the_table_is_met_by_a_message() -> None:
    met = {id(failures.match(message)) for message, _ in TOLD}
    unmet = [cause.words for cause in CAUSES if id(cause) not in met]
    unmet.remove("the program could not be started")  # which no log tells, but the verdict
    known = ["another process failed", "a kernel was given memory that is not its own"]
    known += ["an index or a label is out of its range on the GPU"]
    assert [words for words in unmet if words not in known] == []


def test_an_error_that_was_survived_does_not_explain_the_one_that_was_not() -> None:
    found = classed("warning: CUDA out of memory, batch 7 skipped", "step 8", *TRACE, "KeyError: 'labels'")
    assert found.kind == "user_error"
    assert found.evidence[1].endswith("CUDA out of memory, batch 7 skipped")


def test_the_first_to_fail_explains_those_that_lost_it() -> None:
    peers = [*TRACE, "torch.distributed.DistBackendError: NCCL communicator was aborted on rank 1"]
    launcher = [*TRACE, "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:"]
    found = classed("[rank0]: torch.OutOfMemoryError: CUDA out of memory.", *peers, *launcher)
    assert found.kind == "out_of_memory"
    assert classed(*peers).kind == "infrastructure"


def test_the_trainers_own_error_counts_more_than_its_log_and_keeps_its_hint() -> None:
    error = {"type": "NonFinite", "message": "non-finite loss at step 3", "hint": "lower training.lr", "where": None}
    found = classed("KeyError: 'x'", error=error)
    assert (found.kind, found.advice) == ("nan", "lower training.lr")


@pytest.mark.parametrize(
    ("code", "facts", "kind", "again"),
    [
        (-9, {"memory_kills": 1}, "out_of_memory", False),
        (137, {"memory_kills": 1}, "out_of_memory", False),  # as a shell says it
        (-9, {}, "infrastructure", True),
        (-15, {}, "preemption", True),
        (-2, {}, "preemption", False),  # a person's Ctrl-C is no reason to begin again
        (-11, {}, "unknown", False),
        (127, {}, "user_error", False),
        (1, {}, "unknown", False),
        (1, {"no_room": "no space left on /runs"}, "infrastructure", False),
        (None, {"lost": True, "reason": "supervisor lost: the machine restarted"}, "infrastructure", False),
        (None, {"reason": "cannot start 'x': no such program in the 2 folders of PATH"}, "user_error", False),
        (None, {"reason": "no space left on /runs"}, "infrastructure", False),
        (-9, {"stopped_for": "hang", "reason": "hung: no heartbeat for 10m"}, "hang", True),
        (0, {"stopped_for": "timeout", "reason": "timed out"}, "limit", False),
    ],
)
def test_without_words_the_exit_and_what_the_supervisor_knows_decide(
    code: int | None, facts: dict[str, object], kind: str, again: bool
) -> None:
    found = classed(returncode=code, **facts)
    assert (found.kind, found.again) == (kind, again)


def test_nothing_that_did_not_fail_has_a_class() -> None:
    for state in ("succeeded", "stopped", "killed"):
        assert failures.classify(state, returncode=1, tail=["MemoryError"]) is None


junk = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2))


@given(
    code=st.one_of(st.none(), st.integers(-70, 300)),
    error=st.one_of(junk, st.dictionaries(st.sampled_from(["type", "message", "hint", "where"]), junk)),
    tail=st.lists(st.one_of(st.text(max_size=60), st.sampled_from([message for message, _ in TOLD])), max_size=8),
    stopped=st.sampled_from([None, "asked", "timeout", "hang", "guard"]),
    lost=st.booleans(),
    kills=st.integers(0, 3),
)
def test_anything_has_exactly_one_class_with_advice(
    code: int | None, error: object, tail: list[str], stopped: str | None, lost: bool, kills: int
) -> None:
    found = failures.classify(
        "failed", returncode=code, error=error, tail=tail, stopped_for=stopped, lost=lost, memory_kills=kills
    )
    assert found is not None
    assert found.kind in failures.KINDS
    assert found.cause
    assert found.advice
    assert not found.again or found.kind in failures.AGAIN
    assert all("\n" not in line for line in found.evidence)
    telling = failures.telling(tail)
    assert telling is None or 0 <= telling < len(tail)


@given(made=st.integers(0, 200), most=st.integers(0, 100), kind=st.sampled_from(failures.KINDS))
def test_restarts_are_bounded_and_only_for_what_may_go_better(made: int, most: int, kind: str) -> None:
    failure = failures.Failure(kind, "why", "what", (), kind in failures.AGAIN)
    found = restarts.plan(failure, attempt=made + 1, made=made, most=most, backoff_seconds=10.0)
    assert (found is not None) == (made < most and kind in ("hang", "infrastructure", "preemption"))
    assert found is None or 10.0 <= found.wait_seconds <= 600.0
