"""Where a picture is cut: cores that cover it without overlap, each with as much around it as a result can see."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Span(NamedTuple):
    """One dimension of a tile, in pixels: [begin, end) is its own, [before, behind) is computed."""

    begin: int
    end: int
    before: int
    behind: int


class Tile(NamedTuple):
    """A tile by its rows and columns."""

    rows: Span
    columns: Span

    @property
    def own_pixels(self) -> int:
        """That are its own."""
        return (self.rows.end - self.rows.begin) * (self.columns.end - self.columns.begin)


def spans(length: int, *, tile: int, halo: int, step: int) -> list[Span]:
    """A side of `length` pixels in parts of at most `tile`, all equal but the last: few shapes to prepare for.

    All are multiples of `step`. At the ends of the picture a part ends where the picture does, so that what the network
    does at a border is done there and nowhere else.
    """
    cells = length // step
    count = -(-cells // max(tile // step, 1))
    each = -(-cells // count)
    cuts = [min(each * i, cells) * step for i in range(count + 1)]
    return [Span(a, b, max(a - halo, 0), min(b + halo, length)) for a, b in itertools.pairwise(cuts)]


def tiles(size: tuple[int, int], *, tile: int, halo: int, step: int) -> Iterator[Tile]:
    """The tiles of a picture (h, w), row after row."""
    columns = spans(size[1], tile=tile, halo=halo, step=step)
    for rows in spans(size[0], tile=tile, halo=halo, step=step):
        for one in columns:
            yield Tile(rows, one)


def up(pixels: int, step: int) -> int:
    """The next multiple of `step`."""
    return pixels + -pixels % step


def reflected(length: int, padded: int) -> np.ndarray:
    """int (padded,): which pixel of a side stands at each place once it is padded by reflection at its end."""
    return np.pad(np.arange(length), (0, padded - length), mode="reflect")


def window(indices: np.ndarray) -> tuple[slice, np.ndarray | None]:
    """Which range of a side those indices are in, and their places in it; None where they are the range itself."""
    first, last = int(indices.min()), int(indices.max())
    plain = len(indices) == last - first + 1 and indices[0] == first  # one after the other, nothing reflected
    return slice(first, last + 1), None if plain else indices - first


def ramps(parts: list[Span], overlap: int) -> list[np.ndarray]:
    """float32 weights of the pixels [before, behind) of each part of a side, which sum up to 1 at every pixel.

    They rise and fall in straight lines over the `overlap` pixels, at least 1, to each side of where two parts meet.
    """
    length, weights = parts[-1].end, []
    for part in parts:
        at = np.arange(part.before, part.behind) + 0.5
        rise = (at - (part.begin - overlap)) / (2 * overlap) if part.begin > 0 else np.ones_like(at)
        fall = (part.end + overlap - at) / (2 * overlap) if part.end < length else np.ones_like(at)
        weights.append(np.clip(np.minimum(rise, fall), 0, 1))
    total = np.zeros(length)
    for part, weight in zip(parts, weights, strict=True):
        total[part.before : part.behind] += weight
    return [(w / total[p.before : p.behind]).astype(np.float32) for p, w in zip(parts, weights, strict=True)]
