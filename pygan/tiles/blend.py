"""Tiles that know too little of each other, blended over what they share, so that no seam shows."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pygan.tiles import cut
from pygan.tiles.cut import Span, Tile


class Blend:
    """Takes tiles row after row, each with `overlap` pixels around it, and writes bands of the picture (h, w).

    write(top, left, image): image (1, c, h', w') float32; each pixel of the picture once.
    """

    def __init__(
        self, size: tuple[int, int], tile: int, overlap: int, step: int, write: Callable[[int, int, Tensor], None]
    ) -> None:
        self._write = write
        self._width = size[1]
        self._weights: list[dict[Span, Tensor]] = []  # of rows, of columns
        for side in size:
            parts = cut.spans(side, tile=tile, halo=overlap, step=step)
            weights = map(torch.from_numpy, cut.ramps(parts, overlap))
            self._weights.append(dict(zip(parts, weights, strict=True)))
        self._rows: Span | None = None  # of the band that is being filled
        self._band: Tensor | None = None  # (1, c, rows, w), from the row self._top on
        self._top = 0

    def add(self, tile: Tile, image: Tensor) -> None:
        """image: the tile's result (1, c, h', w'), with what is around it."""
        if tile.rows != self._rows:
            self._begin(tile.rows, image)
        down, across = (weights[span] for weights, span in zip(self._weights, tile, strict=True))
        at = tile.rows.before - self._top
        place = self._band[:, :, at : at + image.shape[2], tile.columns.before : tile.columns.behind]
        place += image * down[:, None] * across

    def close(self) -> None:
        """Write what is left."""
        self._write(self._top, 0, self._band)

    def _begin(self, rows: Span, image: Tensor) -> None:
        """Write the rows above these, which nothing is added to any more, and make room for these."""
        room = image.new_zeros((1, image.shape[1], rows.behind - rows.before, self._width))
        if self._band is not None:
            done = rows.before - self._top
            if done:
                self._write(self._top, 0, self._band[:, :, :done])
            left = self._band[:, :, done:]
            room[:, :, : left.shape[2]] = left
        self._rows, self._band, self._top = rows, room, rows.before
