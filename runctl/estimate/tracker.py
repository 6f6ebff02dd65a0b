"""Who holds how much memory, and since when: storages followed from birth to death under a dispatch mode.

Every storage that an operation brings forth is a `Block`; a weak reference tells when its last tensor is gone. What
an operation takes inside itself (a kernel's scratch memory) is not seen. Works on any device, and needs no memory
at all on `meta`.

Autocast does nothing for meta tensors, so `Casting` does what it does: it casts the arguments of the operations on
its lists, and keeps the casts of weights until the region ends. The lists are those of torch 2.13
(`aten/src/ATen/autocast_mode.h`), as far as operations of networks like ours are on them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

LOWER = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm", "conv1d", "conv2d", "conv3d"}
LOWER |= {"scaled_dot_product_attention"}
_LOSSES = {"mse_loss", "cross_entropy", "nll_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div"}
_LOSSES |= {"binary_cross_entropy_with_logits"}
WIDER = {
    "cpu": _LOSSES,
    "cuda": _LOSSES | {"exp", "log", "log1p", "expm1", "pow", "rsqrt", "reciprocal", "softplus", "layer_norm", "norm"},
}
_FLOATS = (torch.bfloat16, torch.float16)


@dataclass
class Block:
    """One storage. `shape` and `itemsize` are those of the tensor that it was made for; `born` and `died` are places
    in the tracker's list of events, `died` None while it lives."""

    size: int
    shape: tuple[int, ...]
    itemsize: int
    born: int
    died: int | None = None
    category: str = "workspace"


@dataclass(frozen=True)
class Event:
    """A block is born (`change` +1) or dies (-1). `phase` and `part` say when, as the tracker was told."""

    block: int
    change: int
    phase: str
    part: str


@dataclass(frozen=True)
class Mark:
    """A phase or part begins while `held` bytes are held."""

    phase: str
    part: str
    held: int


class Tracker(TorchDispatchMode):
    """Records `blocks` and `events` of one kind of device while it is entered."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.blocks: list[Block] = []
        self.events: list[Event] = []
        self.marks: list[Mark] = []
        self.held = 0
        self.phase, self.part = "load", ""
        self._live: dict[int, tuple[Any, int]] = {}  # id of a storage → its weak reference, its block

    def enter(self, phase: str, part: str) -> None:
        """Events from here on belong to this phase, and to this part of the model."""
        self.phase, self.part = phase, part
        self.marks.append(Mark(phase, part, self.held))

    def label(self, tensor: Tensor, category: str) -> None:
        """Say what a tensor's storage is for."""
        if tensor.device.type == self.device:
            self.blocks[self.see(tensor)].category = category

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(one, Tensor) and one.device.type == self.device:
                self.see(one)
        return out

    def relabel(self, before: str, after: str) -> None:
        """Give every living block of one category another one."""
        for _, index in self._live.values():
            if self.blocks[index].category == before:
                self.blocks[index].category = after

    def see(self, tensor: Tensor) -> int:
        """The block of a tensor's storage, which is new if nobody has seen it yet."""
        storage = tensor.untyped_storage()
        key = id(storage)
        known = self._live.get(key)
        if known is not None:
            return known[1]
        index = len(self.blocks)
        self._live[key] = (weakref.ref(storage, lambda _: self._gone(key)), index)
        self.blocks.append(Block(storage.nbytes(), tuple(tensor.shape), tensor.element_size(), len(self.events)))
        self.held += storage.nbytes()
        self.events.append(Event(index, 1, self.phase, self.part))
        return index

    def _gone(self, key: int) -> None:
        _, index = self._live.pop(key)
        self.blocks[index].died = len(self.events)
        self.held -= self.blocks[index].size
        self.events.append(Event(index, -1, self.phase, self.part))


class Casting(TorchFunctionMode):
    """Autocast to bf16 as it would be on `device` (`cpu` or `cuda`), and that device's form of dropout.

    `created` is called with every cast of a weight that is kept for the region."""

    def __init__(self, device: str, created: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.device, self.created = device, created
        self.enabled, self._depth, self._aside = False, 0, False
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        before, self._aside = self._aside, True  # torch takes a mode off its stack while it handles a call
        try:
            return self._call(func, args, kwargs)
        finally:
            self._aside = before

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func, "__name__", "")
        if self.enabled and name in LOWER:
            args, kwargs = tuple(map(self._lower, args)), {key: self._lower(value) for key, value in kwargs.items()}
        elif self.enabled and name in WIDER[self.device]:
            args = tuple(map(_wide, args))
        elif name == "dropout" and self.device == "cuda":
            return _fused_dropout(*args, **kwargs)
        return func(*args, **kwargs)

    def is_enabled(self, device: str = "") -> bool:
        """What stands in for `torch.is_autocast_enabled`."""
        return self.enabled

    @contextmanager
    def region(self, enabled: bool) -> Iterator[None]:
        """What stands in for `with torch.autocast(…)`; casts of weights live until the outermost region ends. A
        region within a call (a block that is recomputed by `backward`) puts the mode back to work."""
        before = self.enabled, self._aside
        self.enabled = enabled
        self._depth += 1
        try:
            with self if self._aside else nullcontext():
                self._aside = False
                yield
        finally:
            self.enabled, self._aside = before
            self._depth -= 1
            if not self._depth:
                self._kept.clear()

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32:
            return value
        if not (value.requires_grad and value.is_leaf and value._base is None):
            return value.to(torch.bfloat16)
        if id(value) not in self._kept:
            self._kept[id(value)] = (value, value.to(torch.bfloat16))
            self.created(self._kept[id(value)][1])
        return self._kept[id(value)][1]


def _wide(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype in _FLOATS else value


def _fused_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """CUDA keeps a mask of one byte a value, where the CPU keeps one in the dtype of the input."""
    if not training or p == 0:
        return input
    return torch.native_dropout(input, p, True)[0]
