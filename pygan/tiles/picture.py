"""A picture, or a tensor, through a network in tiles: parts are read and written, the whole stays in pixels."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from pygan import apply, pixels
from pygan.errors import UserError
from pygan.pixels import Picture
from pygan.tiles import cut, memory, run
from pygan.tiles.run import Tiling
from pygan.use import Network

MOST_PIXELS = 1 << 30
"""Largest picture opened where it goes through in tiles: 32768 x 32768."""

_IN_MEMORY = 0.5  # of what is free, that a result may take there
_BY_PIXEL = ("none", "labels", "grey", "lab")  # ways to prepare a picture that look at one pixel at a time


def through(
    network: Network,
    A: Tensor,
    *,
    tiling: Tiling,
    seed: int = 0,
    options: Mapping[str, str] = MappingProxyType({}),
    what: str = "the picture",
) -> Tensor:
    """(1, c, h, w) in [-1, 1] of any height and width -> the network's image of that size, float32 on the CPU.

    What `apply.through` gives, but for rounding, in the memory of a tile. seed: of dropout. Errors: UserError for a
    network that cannot be taken apart.
    """
    size = tuple(A.shape[2:])
    card = network.card
    out = torch.zeros((1, card.channels[card.direction(options)][1], *size))

    def read(rows: np.ndarray, columns: np.ndarray) -> Tensor:
        return _at(A, rows, columns)

    def write(top: int, left: int, image: Tensor) -> None:
        out[:, :, top : top + image.shape[2], left : left + image.shape[3]] = image

    run.run(network, size, read, write, seed=seed, options=options, tiling=tiling, what=what)
    return out


def translated(
    network: Network,
    given: Picture,
    *,
    tiling: Tiling,
    seed: int = 0,
    options: Mapping[str, str] = MappingProxyType({}),
    name: str = "the picture",
    depth: np.dtype | type | None = None,
) -> Picture:
    """What `apply.translated` makes of one picture, but for rounding, in the memory of its pixels and of a tile.

    The result stands in a file that is mapped into memory where it would take a larger part of what is free. name: for
    errors and progress. depth: of the result; None: that of the picture. Errors: UserError as there, and for a network
    that cannot be taken apart.
    """
    whole = None if network.card.prepare in _BY_PIXEL else apply.network_input(network, given, options, name)
    out: np.ndarray | None = None

    def read(rows: np.ndarray, columns: np.ndarray) -> Tensor:
        if whole is None:
            return apply.network_input(network, _part(given, rows, columns), options, name)
        return _at(whole, rows, columns)

    def write(top: int, left: int, image: Tensor) -> None:
        nonlocal out
        height, width = image.shape[2:]
        beside = read(np.arange(top, top + height), np.arange(left, left + width))[0]
        made = apply.result(network, image[0], beside, Picture(given.pixels[:1, :1]), depth=depth).pixels
        if out is None:
            out = _room((*given.size, made.shape[2]), made.dtype)
        out[top : top + height, left : left + width] = made

    run.run(network, given.size, read, write, seed=seed, options=options, tiling=tiling, what=name)
    return Picture(out, None if given.alpha is None else pixels.to_depth(given.alpha, out.dtype))


def _at(A: Tensor, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """The rows and columns of (1, c, h, w)."""
    for dim, indices in ((2, rows), (3, columns)):
        near, places = cut.window(indices)
        A = A.narrow(dim, near.start, near.stop - near.start)
        if places is not None:
            A = A.index_select(dim, torch.from_numpy(places).to(A.device))
    return A


def _part(given: Picture, rows: np.ndarray, columns: np.ndarray) -> Picture:
    """The picture of those rows and columns of another."""

    def of(pixels: np.ndarray | None) -> np.ndarray | None:
        if pixels is None:
            return None
        for axis, indices in enumerate((rows, columns)):
            near, places = cut.window(indices)
            pixels = pixels[near] if axis == 0 else pixels[:, near]
            pixels = pixels if places is None else pixels.take(places, axis)
        return pixels

    return Picture(of(given.pixels), of(given.alpha), of(given.indices))


def _room(shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray:
    """Room for a result: in memory, or where that is scarce in a file without a name that goes with it."""
    size = math.prod(shape) * dtype.itemsize
    if size <= _IN_MEMORY * memory.free(torch.device("cpu")):
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is found out now, not by a signal in the middle
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise UserError(
            f"{tempfile.gettempdir()} has no room for a result of {size / 2**30:.1f} GiB ({error.strerror}); make "
            "some, or set TMPDIR to another folder"
        ) from error
