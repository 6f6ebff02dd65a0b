"""Several processes that train one model: who reads which windows, and what they agree on.

What a run computes does not depend on how many processes share it. A step reads the same windows in the same order;
each forward pass is cut into one piece for each process (of `n` windows, the pieces differ by one at most), and a
piece's gradient counts by its windows: DistributedDataParallel takes the mean over `size` processes, hence a piece of
`c` windows of a step of `n` is weighted `size · c / n`, also where `c` is 0. Sums of metrics are added up over the
processes. What remains is rounding: fp32 sums over other groupings of the same numbers are not equal bit for bit.

    one process        Σ over the batch of 8 windows, in one order
    two processes      (Σ over 4) + (Σ over the other 4), then the buckets of gradients, added by gloo or NCCL

Random numbers are another matter: each process draws its own (dropout, corruption), the first those that a run of one
process would draw for its first windows. Each one's generators are in the checkpoint.

Collectives outside of the gradients are over the CPU (gloo), also on GPUs, so that they wait for no device. All that
decides what a process does next is agreed on (`agree`) or follows from the step alone; else they would wait for each
other forever. One process (`Alone`) makes no group, and its steps go through nothing of all this but these few calls.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from runctl import record
from runctl.errors import RunctlError
from runctl.train.control import Control
from runctl.train.job import Job, Metrics
from runctl.train.presence import Mark, PeerLost, Seat

PATIENCE = timedelta(days=7)  # whether a process hangs is for the supervisor to say
_MEET_SECONDS = 0.05
_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "gloo/transport", "ncclRemoteError")

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]


class Ranks(Protocol):
    """The processes of an attempt, as one of them sees them."""

    seat: Seat

    def wrap(self, job: Job) -> Loss:
        """The job's loss, whose backward pass leaves the same gradients in every process."""

    def share(self, part: Tensor) -> tuple[Tensor, int]:
        """The windows of a forward pass that this process reads, never none, and how many of them count."""

    def passing(self, last: bool) -> Any:
        """The context of one forward and backward pass; the `last` one of a step shares the gradients."""

    def arrive(self) -> None:
        """Say that the process comes now to where all must come."""

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes; of one alone, the tensor itself."""

    def agree(self, *flags: bool) -> list[bool]:
        """Each flag that any process has raised."""

    def stopping(self, control: Control) -> bool:
        """Whether an end was asked for; of several processes, as far as they have agreed on it."""

    def merge(self, metrics: Metrics) -> None:
        """Let the metrics hold what all processes have measured."""

    def gather(self, state: Tensor) -> list[Tensor]:
        """Bytes (uint8, on the CPU, as many everywhere) of each process, by rank."""

    def told(self, words: str | None = None) -> str:
        """Words of the first process, in all of them."""


class Alone:
    """One process: nothing to share."""

    seat = Seat()
    _nothing = nullcontext()

    def wrap(self, job: Job) -> Loss:
        return job.loss

    def share(self, part: Tensor) -> tuple[Tensor, int]:
        return part, len(part)

    def passing(self, last: bool) -> Any:
        return self._nothing

    def arrive(self) -> None:
        pass

    def total(self, values: Tensor) -> Tensor:
        return values

    def agree(self, *flags: bool) -> list[bool]:
        return list(flags)

    def stopping(self, control: Control) -> bool:
        return control.stopping

    def merge(self, metrics: Metrics) -> None:
        pass

    def gather(self, state: Tensor) -> list[Tensor]:
        return [state]

    def told(self, words: str | None = None) -> str:
        return words or ""


class Group:
    """One of several processes, after they have met. Raises PeerLost where one of the others is gone."""

    def __init__(self, seat: Seat, attempt: record.Attempt, mark: Mark) -> None:
        self.seat, self.mark = seat, mark
        self._wrapped: Any = None
        self._halted = False
        self._store: Any = None
        self._words = 0

    def meet(self, look: Callable[[str], None]) -> None:
        """Find the others' store; `look` is called while others are waited for and may raise."""
        from torch import distributed

        self._store, _, _ = next(distributed.rendezvous("env://", timeout=timedelta(minutes=5)))
        self._look = look

    def after_first(self) -> None:
        """Wait until the first process has said `done`: it makes what the others only read."""
        self._await(["runctl/made"], "waiting for what the first process makes")

    def done(self) -> None:
        self._store.set("runctl/made", "1")

    def join(self, device: torch.device) -> None:
        """Wait for all, without blocking, then make the group: gloo, and NCCL beside it on GPUs."""
        from torch import distributed

        self._store.set(f"runctl/here/{self.seat.rank}", "1")
        self._await([f"runctl/here/{rank}" for rank in range(self.seat.size)], "waiting for the other processes")
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        distributed.init_process_group(
            backend, store=self._store, rank=self.seat.rank, world_size=self.seat.size, timeout=PATIENCE
        )

    def wrap(self, job: Job) -> Loss:
        from torch.nn.parallel import DistributedDataParallel

        with _peers():
            self._wrapped = DistributedDataParallel(
                _LossOf(job), forward_sync_buffers=False, gradient_as_bucket_view=True
            )
        return self._wrapped  # type: ignore[no-any-return]

    def share(self, part: Tensor) -> tuple[Tensor, int]:
        mine = part.tensor_split(self.seat.size)[self.seat.rank]
        return (mine, len(mine)) if len(mine) else (part[:1], 0)

    @contextmanager
    def passing(self, last: bool) -> Iterator[None]:
        with _peers():
            if last:
                yield
                return
            with self._wrapped.no_sync():
                yield

    def arrive(self) -> None:
        self.mark.arrive()

    def total(self, values: Tensor) -> Tensor:
        from torch import distributed

        self.mark.arrive()
        summed = values.detach().clone()
        with _peers():
            distributed.all_reduce(summed)
        return summed

    def agree(self, *flags: bool) -> list[bool]:
        from torch import distributed

        self.mark.arrive()
        raised = torch.tensor(flags, dtype=torch.int32)
        with _peers():
            distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
        agreed = [bool(flag) for flag in raised.tolist()]
        self._halted = self._halted or agreed[0]
        return agreed

    def stopping(self, control: Control) -> bool:
        return self._halted

    def merge(self, metrics: Metrics) -> None:
        for sums in metrics.sums():
            sums.copy_(self.total(sums))

    def gather(self, state: Tensor) -> list[Tensor]:
        from torch import distributed

        self.mark.arrive()
        found = [torch.empty_like(state) for _ in range(self.seat.size)]
        with _peers():
            distributed.all_gather(found, state)
        return found

    def told(self, words: str | None = None) -> str:
        self._words += 1
        key = f"runctl/words/{self._words}"
        if self.seat.first:
            self._store.set(key, words or "")
        else:
            self._await([key], "waiting for the first process")
        return str(self._store.get(key).decode())

    def _await(self, keys: list[str], words: str) -> None:
        while not self._store.check(keys):
            time.sleep(_MEET_SECONDS)
            self._look(words)


class _LossOf(nn.Module):
    """A job's loss as a module's forward pass, which is what DistributedDataParallel prepares its buckets for."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.model = job.model
        self._loss = job.loss

    def forward(self, batch: Tensor, **facts: Any) -> tuple[Tensor, dict[str, Tensor]]:
        return self._loss(batch, **facts)


@contextmanager
def _peers() -> Iterator[None]:
    """Give the error of a lost connection its name; gloo and NCCL raise RuntimeErrors of several kinds."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if (known := next((one for one in _LOST if one in words), None)) is None:
            raise
        raise PeerLost(f"another process of the run is gone ({known})") from error


def seed(seed: int, rank: int, step: int = 0) -> int:
    """The seed of a process's random numbers; that of the first is the run's own."""
    if rank == 0:
        return seed
    digest = hashlib.sha256(f"rank:{seed}:{rank}:{step}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def check_device(device: torch.device, seat: Seat) -> torch.device:
    """The device of this process: on GPUs, the one of its rank. Raises RunctlError where there are too few."""
    if device.type != "cuda":
        return device
    there = torch.cuda.device_count()
    if there < seat.size:
        raise RunctlError(f"{seat.size} processes need a GPU each, and torch finds {there}", hint="ask for fewer")
    torch.cuda.set_device(seat.rank)
    return torch.device("cuda", seat.rank)
