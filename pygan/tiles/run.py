"""One picture through a network tile by tile, as if it had gone through whole."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pygan.errors import UserError, say_once
from pygan.nn import choose_kernels_
from pygan.tiles import cut, memory, nested, whole
from pygan.tiles.blend import Blend
from pygan.tiles.chain import Chain
from pygan.tiles.progress import Progress
from pygan.tiles.survey import Norm, Survey, survey
from pygan.use import Network, Trained

_LOOK = 16  # pixels of the small pictures that a network is surveyed with, at least
_MEASURE = 64  # pixels of the one whose memory is measured, at least
_OUTER_LEVELS = 2  # of a U-Net's encoder that are tiles: the maps behind them need a sixth of what the first ones do

Read = Callable[[np.ndarray, np.ndarray], Tensor]
Write = Callable[[int, int, Tensor], None]


@dataclass(frozen=True)
class Tiling:
    """How a picture is cut.

    pixels: height and width of a tile's own part, rounded up to what the network's maps can be cut at; 0: as large as
    the memory that is free allows, and not at all where the whole picture fits.
    overlap: pixels that are computed around it; None: as many as its result depends on, so that it is what the untiled
    picture would give. With less the result is an approximation, blended over the overlap.
    memory: bytes to make do with; 0: a part of what is free.
    """

    pixels: int = 0
    overlap: int | None = None
    memory: int = 0

    def __post_init__(self) -> None:
        if self.pixels < 0:
            raise UserError(f"--tile must be at least 1 pixel, got {self.pixels}")
        if self.overlap is not None and self.overlap < 0:
            raise UserError(f"--overlap must be at least 0 pixels, got {self.overlap}")


def run(
    network: Network,
    size: tuple[int, int],
    read: Read,
    write: Write,
    *,
    seed: int = 0,
    options: Mapping[str, str],
    tiling: Tiling,
    what: str = "the picture",
) -> None:
    """Compute a picture of size (h, w) part by part.

    read(rows, columns): the input (1, c, rows, columns) in [-1, 1], rows and columns being indices of the picture,
    which repeat where it is padded by reflection. write(top, left, image): takes a part of the result, (1, c, h', w')
    float32 on the CPU; the parts cover the picture, each pixel once. what: how to call the picture in what is said.

    Exact, up to the rounding of sums: a norm whose statistics are the picture's own gets them from a pass of all tiles
    up to its input, norm after norm; dropout draws by an element's place in the whole picture. Works on a copy of the
    network's modules that shares its weights, so others may use the network meanwhile.
    Errors: UserError for a network that cannot be taken apart.
    """
    if not isinstance(network, Trained):
        raise UserError(
            "--tile needs the network's parts, which this file does not show: give the run, or its .safetensors"
        )
    card = network.card
    padded = tuple(max(cut.up(side, card.multiple), card.least) for side in size)
    rows, columns = (cut.reflected(side, full) for side, full in zip(size, padded, strict=True))
    part = dataclasses.replace(network, net=_copy(network.net))
    channels = card.channels[card.direction(options)][0]

    def call(A: Tensor, net: Trained = part) -> Tensor:
        return net.translate(A, net.rng(seed), **options)

    def padded_read(y: slice, x: slice) -> Tensor:
        return read(rows[y], columns[x])

    def cropped_write(top: int, left: int, image: Tensor) -> None:
        image = image[:, :, : max(size[0] - top, 0), : max(size[1] - left, 0)]
        if image.numel():
            write(top, left, image)

    with torch.inference_mode():
        Work(part, call, channels, padded, padded_read, tiling, what).run(cropped_write, lambda A: call(A, network))


def _copy(net: nn.Module) -> nn.Module:
    """The same weights in modules of their own, whose convolutions are the library's."""
    shared = {id(t): t for t in itertools.chain(net.parameters(), net.buffers())}
    net = copy.deepcopy(net, shared)
    choose_kernels_(net, "library")
    return net


class Work:
    """A picture on its way through a network of its own: what of it is known already lives here.

    call: the network on (1, c, h, w); read(rows, columns): the input, padded; size: (h, w) of it, padded.
    """

    def __init__(
        self,
        part: Trained,
        call: Callable[[Tensor], Tensor],
        channels: int,
        size: tuple[int, int],
        read: Callable[[slice, slice], Tensor],
        tiling: Tiling,
        what: str,
    ) -> None:
        self._part, self._call, self._channels, self._size = part, call, channels, size
        self._read, self._tiling, self._what = read, tiling, what
        self._place = whole.Place(size)
        self._budget = tiling.memory or int(memory.free(part.device) * memory.PART[part.device.type])
        self._step = part.card.multiple

    def run(self, write: Write, uncut: Callable[[Tensor], Tensor]) -> None:
        """All of it. uncut: the network itself, for a picture that fits."""
        card = self._part.card
        side = cut.up(max(_LOOK, card.least), card.multiple)
        per_pixel = 0.0 if self._tiling.pixels else self._bytes_per_pixel(max(_MEASURE, side))
        if self._fits(per_pixel):
            write(0, 0, uncut(self._read(slice(None), slice(None))))
            return
        found = survey(self._part.net, self._call, self._channels, side, card.multiple)
        inner = None
        if found.unet is not None and len(found.unet.downs) > 1:
            inner = nested.take_apart(found, self._place, least=_OUTER_LEVELS, bytes_=self._budget / 2)
            self._step = inner.step
            side = cut.up(_LOOK, self._step)
            inner.pretend(side)
            found = survey(self._part.net, self._call, self._channels, side, multiple=0)
            if not self._tiling.pixels:
                side = cut.up(_MEASURE, self._step)
                inner.pretend(side)
                per_pixel = self._bytes_per_pixel(side)
        whole.keep_places(self._part.net, self._place)
        self._go(found, inner, self._side(found, per_pixel), write)

    def _go(self, found: Survey, inner: nested.Inner | None, side: int, write: Write) -> None:
        """The passes: one for each norm of the whole picture's statistics, one for a U-Net's inner maps, the last."""
        wanted = found.reach if self._tiling.overlap is None else min(self._tiling.overlap, found.reach)
        halo = cut.up(max(wanted, self._part.card.least), self._step)
        exact = halo >= found.reach
        if not exact:
            say_once(
                f"--overlap {self._tiling.overlap}: a pixel of this network sees {found.reach} pixels far, so that "
                "tiles are blended and the result is an approximation; without --overlap it is exact"
            )
        passes = len(found.norms) + (inner is not None) + 1
        count = len(list(cut.tiles(self._size, tile=side, halo=0, step=self._step)))
        with Progress(self._what, passes * count, math.prod(self._size) * passes) as progress:

            def tiles(reach: int) -> Iterator[cut.Tile]:
                around = min(halo, cut.up(reach, self._step))
                for tile in cut.tiles(self._size, tile=side, halo=around, step=self._step):
                    self._place.tile = tile
                    yield tile
                    progress.add(tile.own_pixels)

            progress.say(f"{count} tiles of {side} pixels with up to {halo} around them, passes: {passes}")
            waiting = list(found.norms)
            chain = Chain(found.parts if inner is None else (), self._place)
            if inner is not None:
                behind = [norm for norm in waiting if norm.reach > found.levels[-1].reach]
                for norm in waiting[: len(waiting) - len(behind)]:
                    self._fix(norm, tiles(norm.reach))
                inner.finish(self._gather(inner, tiles(found.levels[-1].reach)))
                waiting = behind
            if chain.parts and waiting and 2 * chain.least_bytes > self._budget / 2:
                say_once(
                    f"{self._what}: a map between two parts of the network takes {chain.least_bytes / 2**20:,.0f} MiB, "
                    "more than is free: every norm begins at the picture again, which is several times slower"
                )
            for norm in waiting:
                number = chain.of(norm.module) if chain.parts else 0
                around = tiles(norm.reach - chain.reach)
                if number > chain.start and 2 * chain.bytes_before(number) <= self._budget / 2:
                    with chain.keeping(number):
                        self._fix(norm, around)
                else:
                    self._fix(norm, around)
            if exact or halo == 0:
                for tile in tiles(found.reach - chain.reach):
                    image = self._through(tile)
                    write(tile.rows.begin, tile.columns.begin, self._place.core(image))
                return
            blend = Blend(self._size, side, halo, self._step, write)
            for tile in tiles(found.reach):
                blend.add(tile, self._through(tile))
            blend.close()

    def _fix(self, norm: Norm, tiles: Iterator[cut.Tile]) -> None:
        """Find a norm's statistics over the whole picture, those of all norms before it being known."""
        moments = whole.Moments()
        for tile in tiles:
            moments.add(self._place.core(whole.entering(norm.module, lambda tile=tile: self._through(tile))))
        whole.tell(norm.module, moments)

    def _gather(self, inner: nested.Inner, tiles: Iterator[cut.Tile]) -> Tensor:
        """The whole map that enters the inner levels of a U-Net."""
        entered = None
        for tile in tiles:
            part = whole.entering(inner, lambda tile=tile: self._through(tile))
            scale = self._place.scale(part)
            core = self._place.core(part)
            if entered is None:
                shape = (1, part.shape[1], *(side // scale for side in self._size))
                entered = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
            top, left = tile.rows.begin // scale, tile.columns.begin // scale
            entered[:, :, top : top + core.shape[2], left : left + core.shape[3]] = core
        return entered

    def _through(self, tile: cut.Tile) -> Tensor:
        rows, columns = (slice(one.before, one.behind) for one in tile)
        return self._call(self._read(rows, columns))

    def _fits(self, per_pixel: float) -> bool:
        """Does the picture go through as one?"""
        if self._tiling.pixels:
            return self._tiling.pixels >= max(self._size)
        return per_pixel * math.prod(self._size) <= self._budget

    def _bytes_per_pixel(self, side: int) -> float:
        side = cut.up(side, self._step)
        return memory.bytes_per_pixel(self._call, self._channels, side, self._part.device)

    def _side(self, found: Survey, per_pixel: float) -> int:
        """Pixels of a tile's own side."""
        if self._tiling.pixels:
            return cut.up(self._tiling.pixels, self._step)
        halo = cut.up(found.reach, self._step)
        side = max(memory.side(self._budget / 2, per_pixel, halo), halo)  # smaller tiles are mostly what is around them
        return max(side // self._step, 1) * self._step
