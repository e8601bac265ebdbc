"""How large a tile may be: the memory that is free, and what the network's maps need for a pixel."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

PART = {"cpu": 0.25, "cuda": 0.6}  # of what is free: a library's own buffers and other programs need some too
LARGEST = 2048  # pixels; beyond it a larger tile saves little, and nothing is heard for long
_UNKNOWN = 2 << 30  # bytes, where the system does not say
_GROUP = Path("/sys/fs/cgroup")


def free(device: torch.device) -> int:
    """Bytes that are free on a device; of a container those that it may still take.

    Of a GPU also those that PyTorch keeps for the next tensors.
    """
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    found = [_meminfo(), _of_group()]
    return min((bytes_ for bytes_ in found if bytes_ is not None), default=_UNKNOWN)


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _of_group() -> int | None:
    try:
        return int((_GROUP / "memory.max").read_text()) - int((_GROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no limit ("max"), or no such files
        return None


class _Live(TorchDispatchMode):
    """Counts the bytes of the tensors that live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def bytes_per_pixel(call: Callable[[Tensor], Tensor], channels: int, side: int, device: torch.device) -> float:
    """That `call` needs at its peak for each pixel of a picture (1, channels, side, side), beside the weights."""
    A = torch.zeros((1, channels, side, side))
    if device.type == "cuda":
        call(A)  # libraries take memory of their own the first time, whatever the size
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call(A)
        return (torch.cuda.max_memory_allocated(device) - before) / side**2
    live = _Live()
    with live:
        call(A)
    return live.peak / side**2


def side(bytes_: float, per_pixel: float, halo: int) -> int:
    """Pixels of a tile's side so that it and the `halo` around it need that many bytes; LARGEST at most."""
    return min(LARGEST, int(math.sqrt(bytes_ / per_pixel)) - 2 * halo)
