"""Edges and colours: features without a network, good for finding pictures that look alike."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pygan.features.kind import Features, resized, to_bytes

_SIZE, _CELL, _ANGLES, _LEVELS = 64, 8, 9, 4  # pixels; pixels; bins of half a turn; levels of each colour
_GREY = (0.299, 0.587, 0.114)


def load() -> Features:
    """Histograms of oriented gradients (Dalal & Triggs, CVPR 2005) and a colour histogram, 1764 + 64 numbers.

    Pictures are resized to 64x64 pixels. Gradients: cells of 8x8 pixels, 9 unsigned directions, blocks of 2x2 cells
    that overlap, each of length 1. Colours: 4x4x4 bins. Each half has length 1.
    """
    blocks = (_SIZE // _CELL - 1) ** 2
    dim = 4 * _ANGLES * blocks + _LEVELS**3

    def compute(images: Tensor) -> tuple[Tensor, None]:
        pixels = to_bytes(resized(images, (_SIZE, _SIZE))).float()
        return torch.cat([F.normalize(half) for half in (edges(pixels), colours(pixels))], dim=1), None

    facts = {"kind": "histograms of oriented gradients and of colours"}
    return Features("edges and colours (HOG)", dim, compute, facts, judges=False)


def edges(pixels: Tensor) -> Tensor:
    """(n, 3, 64, 64) of 0..255 -> (n, 1764): where edges run, and which way."""
    grey = (pixels * pixels.new_tensor(_GREY).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)  # (n, 1, h, w)
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    strength = (right.square() + down.square()).sqrt()
    angle = torch.atan2(down, right).remainder(math.pi) * (_ANGLES / math.pi) - 0.5  # in bins, from the first's centre
    low = angle.floor()
    share = angle - low  # of the next bin
    votes = pixels.new_zeros(len(pixels), _ANGLES, *grey.shape[2:])
    votes.scatter_add_(1, low.long() % _ANGLES, strength * (1 - share))
    votes.scatter_add_(1, (low.long() + 1) % _ANGLES, strength * share)
    cells = F.avg_pool2d(votes, _CELL)  # (n, 9, 8, 8)
    blocks = F.unfold(cells, kernel_size=2)  # (n, 36, 49)
    return F.normalize(blocks, dim=1, eps=1e-3).flatten(1)


def colours(pixels: Tensor) -> Tensor:
    """(n, 3, h, w) of 0..255 -> (n, 64): how many pixels have each colour."""
    level = (pixels * (_LEVELS / 256)).long().flatten(2)  # (n, 3, h w)
    index = (level[:, 0] * _LEVELS + level[:, 1]) * _LEVELS + level[:, 2]
    counts = pixels.new_zeros(len(pixels), _LEVELS**3)
    return counts.scatter_add_(1, index, torch.ones_like(index, dtype=counts.dtype))
