"""crop_flip: the batch of a set that lies decoded on the device, in one launch that a CUDA graph can hold.

Contract: csrc/ops/crop_flip/crop_flip.h. The reference below is the specification.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pygan.ops._impl import choose, compiled

_MAX_SETS = 4
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def crop_flip_ref(
    sets: Sequence[Tensor], draws: Sequence[Tensor], crop_size: int, *, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """`crop_flip` in plain PyTorch: what the kernels must equal, bit for bit. No argument checks."""
    return tuple(_one_set(pixels, draw, crop_size, dtype) for pixels, draw in zip(sets, draws, strict=True))


def _one_set(pixels: Tensor, draw: Tensor, crop: int, dtype: torch.dtype) -> Tensor:
    items, h, w, _ = pixels.shape
    item, top, left, flip = draw.unbind(1)
    fits = (item >= 0) & (item < items) & (top >= 0) & (top <= h - crop) & (left >= 0) & (left <= w - crop)
    fits &= (flip >= 0) & (flip <= 1)
    item, top, left, flip = torch.where(fits[:, None], draw, 0).long().unbind(1)  # what does not fit is not read
    along = torch.arange(crop, device=draw.device)
    rows = top[:, None] + along  # (n, crop)
    columns = left[:, None] + torch.where(flip[:, None] == 1, crop - 1 - along, along)
    if items == 0:
        pixels = pixels.new_zeros((1, h, w, pixels.shape[3]))
    window = pixels[item[:, None, None], rows[:, :, None], columns[:, None, :]]  # (n, crop, crop, c)
    # Multiplied, not divided: PyTorch divides by a number in two ways on CPU and GPU, which differ in the last bit.
    values = window.to(torch.float32).mul_(1 / 127.5).sub_(1.0)
    return torch.where(fits[:, None, None, None], values, math.nan).to(dtype).permute(0, 3, 1, 2)


def check_draws(draws: Tensor, shape: Sequence[int], crop_size: int) -> None:
    """Raise unless every draw fits a set of the given shape. For draws in main memory: it looks at each of them.

    Args:
        draws: (n, 4) integers {item, top, left, flip}, on the CPU.
        shape: (items, h, w, c) of the set, pixels.
        crop_size: side of the window, pixels.

    Raises:
        ValueError: names the first draw that does not fit.
    """
    items, h, w, _ = shape
    for i, (item, top, left, flip) in enumerate(draws.tolist()):
        inside = 0 <= item < items and 0 <= top <= h - crop_size and 0 <= left <= w - crop_size
        if not inside or flip not in (0, 1):
            raise ValueError(
                f"crop_flip: draw {i} {{item {item}, top {top}, left {left}, flip {flip}}} does not fit a set of "
                f"{items} pictures of {h} x {w} pixels, crop_size {crop_size}"
            )


def crop_flip(
    sets: Sequence[Tensor],
    draws: Sequence[Tensor],
    crop_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    out: Sequence[Tensor] | None = None,
    impl: str = "auto",
) -> tuple[Tensor, ...]:
    """Windows of decoded pictures, mirrored or not, from bytes to [-1, 1]: x * (1 / 127.5) - 1, in one launch.

    The draws are read on the device when the kernel runs, and nothing waits: a CUDA graph that holds this op makes
    another batch at each replay, once new draws were copied to the same place.

    Args:
        sets: 1 to 4 uint8 tensors (items, h, w, c), contiguous, on one device: the A and the B of a paired set.
        draws: for each set int32 (n, 4), contiguous, on the device of the sets: {item, top, left, flip} of each
            sample, top and left in pixels, flip 1 for mirrored left to right, else 0. The same tensor may stand for
            several sets.
        crop_size: side of the windows, pixels.
        dtype: float32, bfloat16 or float16.
        out: for each set (n, c, crop_size, crop_size) of `dtype`, channels_last, to write into; None: new tensors.
        impl: "native" (the kernels), "ref" (plain PyTorch) or "auto" (the faster one).

    Returns:
        For each set (n, c, crop_size, crop_size), channels_last, in [-1, 1]; `out` where it was given. float32 has the
        bits of `pygan.data.feeds.normalise`, the other dtypes are those values rounded.

    Raises:
        ValueError: an argument does not fit the description above. Draws on the CPU are looked at (`check_draws`); on
            a GPU that would mean to wait for it, so there the sample of a draw that does not fit is NaN: call
            `check_draws` before the draws go to the device.
    """
    _check(sets, draws, crop_size, dtype)
    if out is None:
        new = [(len(draw), pixels.shape[3], crop_size, crop_size) for pixels, draw in zip(sets, draws, strict=True)]
        options = {"dtype": dtype, "device": sets[0].device, "memory_format": torch.channels_last}
        out = [torch.empty(shape, **options) for shape in new]
    else:
        _check_out(out, sets, draws, crop_size, dtype)
    if choose("crop_flip", sets[0], impl) == "ref":
        for to, values in zip(out, crop_flip_ref(sets, draws, crop_size, dtype=dtype), strict=True):
            to.copy_(values)
    else:
        torch.ops.pygan.crop_flip(list(sets), list(draws), crop_size, list(out))
    return tuple(out)


def _check(sets: Sequence[Tensor], draws: Sequence[Tensor], crop: int, dtype: torch.dtype) -> None:
    if isinstance(sets, Tensor) or not 1 <= len(sets) <= _MAX_SETS:
        raise ValueError(f"crop_flip: sets must be a sequence of 1 to {_MAX_SETS} tensors")
    if isinstance(draws, Tensor) or len(draws) != len(sets):
        raise ValueError(f"crop_flip: draws must be a sequence of {len(sets)} tensors, one for each set")
    if dtype not in _DTYPES:
        raise ValueError(f"crop_flip: dtype must be float32, bfloat16 or float16, got {dtype}")
    if crop < 1:
        raise ValueError(f"crop_flip: crop_size must be at least 1, got {crop}")
    device = sets[0].device
    for i, (pixels, draw) in enumerate(zip(sets, draws, strict=True)):
        if pixels.dtype != torch.uint8 or pixels.dim() != 4 or not pixels.is_contiguous():
            raise ValueError(
                f"crop_flip: sets[{i}] must be contiguous uint8 of shape (items, h, w, c), "
                f"got {pixels.dtype} {list(pixels.shape)}"
            )
        if min(pixels.shape[1:3]) < crop or pixels.shape[3] < 1:
            raise ValueError(
                f"crop_flip: sets[{i}] must have pictures of at least {crop} x {crop} pixels, got {list(pixels.shape)}"
            )
        if draw.dtype != torch.int32 or draw.dim() != 2 or draw.shape[1] != 4 or not draw.is_contiguous():
            raise ValueError(
                f"crop_flip: draws[{i}] must be contiguous int32 of shape (n, 4), got {draw.dtype} {list(draw.shape)}"
            )
        if pixels.device != device or draw.device != device:
            raise ValueError(
                f"crop_flip: sets and draws must be on one device, got {device}, and {pixels.device} and "
                f"{draw.device} at {i}"
            )
        if device.type == "cpu":
            check_draws(draw, pixels.shape, crop)


def _check_out(
    out: Sequence[Tensor], sets: Sequence[Tensor], draws: Sequence[Tensor], crop: int, dtype: torch.dtype
) -> None:
    if isinstance(out, Tensor) or len(out) != len(sets):
        raise ValueError(f"crop_flip: out must be a sequence of {len(sets)} tensors, one for each set")
    for i, (to, pixels, draw) in enumerate(zip(out, sets, draws, strict=True)):
        shape = (len(draw), pixels.shape[3], crop, crop)
        if to.shape != shape or not to.is_contiguous(memory_format=torch.channels_last):
            raise ValueError(
                f"crop_flip: out[{i}] must be channels_last of shape (n, c, crop_size, crop_size) = {list(shape)}, "
                f"got {list(to.shape)}"
            )
        if to.dtype != dtype or to.device != pixels.device:
            raise ValueError(f"crop_flip: out[{i}] must be {dtype} on {pixels.device}, got {to.dtype} on {to.device}")


if compiled("crop_flip"):
    torch.library.register_fake("pygan::crop_flip", lambda sets, draws, crop_size, out: None)
