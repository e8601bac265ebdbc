"""A network that is a chain: each part reads nothing but what the one before it made.

Then a map between two parts, once it is known whole, stands for everything before it: what comes later starts from
there, instead of from the picture, and sees less far. A residual generator's norms would otherwise be found by as many
passes from the picture on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygan.nn import NormAct
from pygan.tiles.whole import Place


@dataclass(frozen=True)
class Part:
    """A module of a chain. reach: pixels that its input has seen beyond its cell; scale: pixels of the picture to one.

    channels: of its input. borders: of what it returns, one for each: 0 for the map, p for the map with p reflected
    pixels around it, None for nothing. alone: it returns one tensor, no tuple.
    """

    module: nn.Module
    reach: int
    scale: int
    channels: int
    borders: tuple[int | None, ...]
    alone: bool


def borders(outputs: Sequence[Tensor | None]) -> tuple[int | None, ...] | None:
    """`Part.borders` of what a module returned; None where it is not one map and reflections of it."""
    tensors = [one for one in outputs if one is not None]
    if not tensors:
        return None
    smallest = min(tensors, key=lambda one: one.shape[3])
    found = []
    for one in outputs:
        if one is None:
            found.append(None)
            continue
        border = (one.shape[3] - smallest.shape[3]) // 2
        if border >= smallest.shape[3] or not torch.equal(_bordered(smallest, border), one):
            return None
        found.append(border)
    return tuple(found)


def _bordered(x: Tensor, border: int) -> Tensor:
    return F.pad(x, (border,) * 4, mode="reflect") if border else x


class Chain:
    """The parts of a network, in order, and the map that everything starts from, if one is known whole."""

    def __init__(self, parts: Sequence[Part], place: Place) -> None:
        self.parts = tuple(parts)
        self._place = place
        self.start = 0
        self._map: Tensor | None = None  # on the CPU

    @property
    def reach(self) -> int:
        """Of what everything starts from."""
        return self.parts[self.start].reach if self.start else 0

    def of(self, norm: NormAct) -> int:
        """The number of the part that a norm is in."""
        return next(i for i, part in enumerate(self.parts) if any(norm is one for one in part.module.modules()))

    def bytes_before(self, number: int) -> int:
        """Of the whole map that a part reads."""
        part = self.parts[number]
        height, width = self._place.size
        return 4 * part.channels * (height // part.scale) * (width // part.scale)

    @property
    def least_bytes(self) -> int:
        """Of the smallest whole map between two parts."""
        return min(self.bytes_before(number) for number in range(1, len(self.parts)))

    @contextmanager
    def keeping(self, number: int) -> Iterator[None]:
        """Inside, all tiles go at least into that part; afterwards everything starts from the map that it was given."""
        part = self.parts[number]
        height, width = (side // part.scale for side in self._place.size)
        kept = torch.empty((1, part.channels, height, width), memory_format=torch.channels_last)

        def keep(_module: nn.Module, args: tuple) -> None:
            core = self._place.core(min((x for x in args if isinstance(x, Tensor)), key=lambda x: x.shape[3]))
            top, left = (span.begin // part.scale for span in self._place.tile)
            kept[:, :, top : top + core.shape[2], left : left + core.shape[3]] = core

        handle = part.module.register_forward_pre_hook(keep)
        try:
            yield
        finally:
            handle.remove()
        self._map, self.start = kept, number
        for before in self.parts[: number - 1]:
            before.module.forward = _nothing(before)
        self.parts[number - 1].module.forward = self._known

    def _known(self, x: Tensor | None, *args: object, **kwargs: object) -> Tensor | tuple[Tensor | None, ...]:
        """The part of the map that belongs to a tile, in the place of the module that makes it."""
        made, scale = self.parts[self.start - 1], self.parts[self.start].scale
        (_, _, top, bottom), (_, _, left, right) = self._place.tile
        cut = self._map[:, :, top // scale : bottom // scale, left // scale : right // scale]
        cut = cut.to(next(self.parts[-1].module.parameters()).device)
        widest = max(border for border in made.borders if border is not None)
        whole = _bordered(cut, widest).contiguous(memory_format=torch.channels_last)
        found = tuple(None if border is None else _inner(whole, widest - border) for border in made.borders)
        return found[0] if made.alone else found


def _inner(x: Tensor, less: int) -> Tensor:
    return x[:, :, less : x.shape[2] - less, less : x.shape[3] - less]


def _nothing(part: Part):
    """In the place of a module whose result nobody reads: something of its structure."""

    def forward(*args: object, **_more: object) -> object:
        x = next(one for one in args if isinstance(one, Tensor))
        return x if part.alone else (x,) * len(part.borders)

    return forward
