"""Peak memory of a run on its device: the traced tensors, what the allocator adds, and what CUDA takes for itself.

    tensors         traced: `estimate/traced.py` (0.1 % off the measured peak of a step on the CPU, `benchmarks/`)
    allocator       rounding and fragmentation as a model of PyTorch's caching allocator gives them for the traced
                    events of a spread of shapes (`data/memory.json`, `slack`)
    CUDA            context and libraries: an assumption, the same for every GPU; cuBLAS's workspaces as documented

On a GPU the low end is what tensors take without a gap between them, the likely value the smallest device on which
the modelled allocator gets through in the middle of those shapes, and the high end the same for the worst of them, with
5 % for the scratch memory of kernels, which a trace does not see. None of this has been measured on CUDA yet
(`docs/gpu-checks.md`).

On the CPU the copy that a checkpoint is written from is counted too (weights and optimizer once more, from the first
checkpoint on); on a GPU that copy lies in the host's memory. The process itself (Python and torch, about 0.3 GB) is
not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runctl.estimate import parameters, traced
from runctl.hardware import Gpu
from runctl.light import dataclass, replace

if TYPE_CHECKING:
    from runctl.estimate import family_peak

CUDA_CONTEXT = (300 << 20, 500 << 20, 1000 << 20)  # low, likely, high: an assumption
CUBLAS_WORKSPACE = {"hopper and later": 32 << 20, "before": 8_519_680}  # for each of the two threads that multiply
SCRATCH = 1.05
CPU_BAR = 0.01
MOST_KNOWN = 4096  # shapes whose peak is kept
OUTSIDE = 0.25  # added to both sides where the shape lies beyond what was traced
RESIDENT_SHARE = 0.4  # the trainer keeps a dataset on the GPU up to this share of what is free
BASIS = ("traced", "traced, not measured on CUDA")  # on the CPU, on a GPU


@dataclass(frozen=True)
class Request:
    """What is asked about. `gpu` None stands for the CPU; `frames` are those of the dataset, 0 if not known. Where
    several `processes` share the run, `shape` is what one of them computes: its batch is a piece."""

    shape: traced.Shape
    gpu: Gpu | None
    frames: int = 0
    processes: int = 1

    @property
    def precision(self) -> str:
        return self.shape.precision

    def change(self, gpu: Gpu | None = None, **shape: object) -> Request:
        """The same with another GPU or another shape."""
        changed = replace(self.shape, **shape) if shape else self.shape  # type: ignore[arg-type]
        return replace(self, shape=changed, gpu=gpu or self.gpu)


@dataclass(frozen=True)
class Memory:
    """Bytes. `parts` sum to the likely peak, which is held in `phase`."""

    request: Request | family_peak.Request
    parts: Mapping[str, int]
    low: int
    likely: int
    high: int
    phase: str
    basis: str

    @property
    def fits(self) -> bool:
        """Whether even the high end fits into the GPU; on the CPU nothing says what there is."""
        return self.request.gpu is None or self.high <= self.request.gpu.usable_bytes


_known: dict[tuple[traced.Shape, str, int], Memory] = {}


def peak(request: Request) -> Memory:
    """The peak of a whole run: loading, training, validation. Raises ValueError where no model has this shape.

    The configs of a sweep differ in what changes no byte: a shape that was asked for is kept."""
    key = (request.shape, request.gpu.name if request.gpu else "", request.frames)
    found = _known.get(key)
    if found is None or found.request != request:
        if len(_known) >= MOST_KNOWN:
            _known.clear()
        found = _known[key] = _peak(request)
    return found


def _peak(request: Request) -> Memory:
    shape, gpu = request.shape, request.gpu
    held = traced.peak(shape, "cuda" if gpu else "cpu")
    parts = dict(held.parts)
    if gpu is None:
        copy = 12 * parameters.count(shape.encoding, shape.model)
        running = traced.peak(shape, "cpu", (*traced.STEP, "evaluate"))
        if running.total + copy > held.total:
            held, parts = running, {**running.parts, "checkpoint copy": copy}
        total = sum(parts.values())
        ends = (total * (1 - CPU_BAR), float(total), total * (1 + CPU_BAR))
    else:
        dataset = request.frames * 4 * traced.atoms(shape)["R"]
        if not 0 < dataset <= RESIDENT_SHARE * (gpu.usable_bytes - CUDA_CONTEXT[1]):
            dataset = 0
        spaces, slack = workspaces(gpu), traced.slack(shape.recompute)
        tensors = held.total + spaces
        fixed = [context + dataset for context in CUDA_CONTEXT]
        ends = (
            float(tensors + fixed[0]),
            tensors * slack.likely + fixed[1],
            tensors * slack.most * SCRATCH + slack.extra + fixed[2],
        )
        parts |= {"dataset": dataset, "cuBLAS workspaces": spaces, "CUDA context": CUDA_CONTEXT[1]}
        parts["allocator"] = round(ends[1]) - sum(parts.values())
    if request.processes > 1:
        buckets = ddp_buckets(parameters.count(shape.encoding, shape.model), 4)
        parts["DDP buckets"] = buckets
        ends = (ends[0], ends[1] + buckets, ends[2] + buckets)
    strange = traced.outside(shape)
    bar = OUTSIDE if strange else 0.0
    return Memory(
        request=request,
        parts={name: size for name, size in parts.items() if size},
        low=round(ends[0] * (1 - bar)),
        likely=round(ends[1]),
        high=round(ends[2] * (1 + bar)),
        phase=held.phase,
        basis="; ".join([BASIS[gpu is not None], *(f"wider because {why}" for why in strange)]),
    )


def workspaces(gpu: Gpu) -> int:
    """Bytes that cuBLAS keeps for its two threads."""
    return 2 * CUBLAS_WORKSPACE["hopper and later" if _capability(gpu) >= 9 else "before"]


def ddp_buckets(parameters: int, bytes_per: float, *, views: bool = False) -> int:
    """Bytes on each rank that DistributedDataParallel adds to a training step: its buckets hold every gradient of
    `bytes_per` bytes once more. How they are cut (1 MiB for the first, 25 MiB for the others) does not change the sum.

    With `gradient_as_bucket_view` the gradients lie in the buckets from the second step on; the first step has both,
    but no optimizer's state yet, so nothing is added where that state is as large as the gradients (Adam).

    Source: torch's documentation of DistributedDataParallel, `gradient_as_bucket_view`; measured on the CPU with gloo
    (1.00 and 0.00 gradients). Buffers of NCCL are not in it. runctl's own trainer uses views, and is judged as if it
    did not: its trace frees the gradients between two steps, where the buckets stay."""
    return 0 if views else round(parameters * bytes_per)


def _capability(gpu: Gpu) -> float:
    try:
        return float(gpu.capability)
    except ValueError:  # AMD's names
        return 0.0
