"""Where: the spatial transformer of boxes, and maps of key points, on a grid of 16x16 cells.

A box (n, 4) is x, y, width, height and a key point (n, k, 3) is x, y, visible, in parts of the picture, x to the right
and y down. Cell i of 16 is the range i / 16 .. (i + 1) / 16, and has its value at its middle.

The transformer (Jaderberg et al. 2015) samples a map bilinearly on an affine grid, zeros outside. The grid of a box is
axis-aligned, so the sampling is separable: R X C^T with a matrix R for rows and C for columns, two batched products
whose gradient, R^T dY C, needs no scattered additions, and so is the same in every run.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CELLS = 16  # height and width of the maps that places are drawn on


class Sampling(NamedTuple):
    """Bilinear weights (n, 16, 16) of the cells that are read (last dimension) for each cell that is written."""

    rows: Tensor
    columns: Tensor


def paste(box: Tensor) -> Sampling:
    """Shrinks the whole map into the box: what lies outside of the box is 0. Sides shorter than a cell count as one."""
    corner, side = box[:, :2, None], box[:, 2:, None].clamp_min(1.0 / CELLS)  # (n, 2, 1)
    return _sampling((_middles(box) - corner) / side)


def crop(box: Tensor) -> Sampling:
    """Enlarges the inside of the box to the whole map."""
    corner, side = box[:, :2, None], box[:, 2:, None]
    return _sampling(corner + side * _middles(box))


def _middles(like: Tensor) -> Tensor:
    """Where the cells have their values, (16,), in parts of the map."""
    return (torch.arange(CELLS, device=like.device, dtype=like.dtype) + 0.5) / CELLS


def _sampling(places: Tensor) -> Sampling:
    """places (n, 2, 16): x and y, in parts of the map, of what is read for each column and row that is written."""
    steps = places[..., None] * CELLS - 0.5 - torch.arange(CELLS, device=places.device, dtype=places.dtype)
    columns, rows = (1.0 - steps.abs()).clamp_min(0.0).unbind(dim=1)  # (n, 16, 16) each
    return Sampling(rows, columns)


def resample(x: Tensor, by: Sampling) -> Tensor:
    """x (n, c, 16, 16) read at the places of `by`: R X C^T for each channel, in at least float32, returned like x."""
    n, c, h, w = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    rows, columns = (weights.to(wide) for weights in by)
    y = x.to(wide).permute(0, 2, 3, 1).reshape(n, h, w * c)  # as it lies in memory
    y = torch.bmm(rows, y).view(n, h, w, c)
    y = torch.matmul(columns[:, None], y)  # (n, 1, w, w) x (n, h, w, c)
    return y.permute(0, 3, 1, 2).to(x.dtype)


def covered(by: Sampling) -> Tensor:
    """What becomes of a map of ones, (n, 1, 16, 16): how much of each cell is read from inside the map."""
    return (by.rows.sum(dim=2)[:, :, None] * by.columns.sum(dim=2)[:, None, :])[:, None]


def point_maps(points: Tensor) -> Tensor:
    """Key points (n, k, 3) -> (n, k, 16, 16): 1 in the cell of a visible point (> 0.1), else 0. Its edges are cells."""
    cells = torch.arange(CELLS, device=points.device)
    at = (points[..., :2] * CELLS).floor().clamp(0, CELLS - 1)  # (n, k, 2)
    column, row = (at[..., i, None] == cells for i in range(2))  # (n, k, 16)
    seen = points[..., 2, None, None] > 0.1
    return (row[..., :, None] & column[..., None, :] & seen).to(points.dtype)
