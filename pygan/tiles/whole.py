"""What belongs to the whole picture while only a part of it is computed: statistics of norms, places of dropout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pygan.nn import Given, NormAct
from pygan.ops.philox import philox
from pygan.tiles.cut import Tile

_WORD = 0xFFFFFFFF


class _Stop(Exception):
    """Enough was computed."""


class Moments:
    """Mean and variance of each channel over parts that come one after the other, in float64 (Chan et al. 1979)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Tensor | None = None
        self._squares: Tensor | None = None  # sum of squares about the mean

    def add(self, x: Tensor) -> None:
        """x: (1, c, h, w)."""
        count = x.shape[2] * x.shape[3]
        var, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        mean, squares = mean.double(), var.double() * count
        if self._mean is None:
            self._count, self._mean, self._squares = count, mean, squares
            return
        total, apart = self._count + count, mean - self._mean
        self._squares += squares + apart.square() * (self._count * count / total)
        self._mean += apart * (count / total)
        self._count = total

    @property
    def mean(self) -> Tensor:
        """float32 (c,)."""
        return self._mean.float()

    @property
    def var(self) -> Tensor:
        """float32 (c,), biased."""
        return (self._squares / self._count).float()


@dataclass
class Place:
    """Which tile is being computed, of a picture of which size (h, w)."""

    size: tuple[int, int]
    tile: Tile | None = None

    def core(self, x: Tensor) -> Tensor:
        """The part of a map (1, c, h, w) of the tile that is the tile's own."""
        rows, columns = self.tile
        scale = self.scale(x)
        top, left = (rows.begin - rows.before) // scale, (columns.begin - columns.before) // scale
        height, width = (rows.end - rows.begin) // scale, (columns.end - columns.begin) // scale
        return x[:, :, top : top + height, left : left + width]

    def scale(self, x: Tensor) -> int:
        """Pixels of the picture to one of the map."""
        return (self.tile.columns.behind - self.tile.columns.before) // x.shape[3]


def entering(module: nn.Module, call: Callable[[], object]) -> Tensor:
    """What `module` is given in `call`, which goes no further."""
    seen: list[Tensor] = []

    def look(_module: nn.Module, args: tuple) -> None:
        seen.append(args[0])
        raise _Stop

    handle = module.register_forward_pre_hook(look)
    try:
        call()
    except _Stop:
        return seen[0]
    finally:
        handle.remove()
    raise RuntimeError("a module that the survey saw was not called")


def tell(norm: NormAct, moments: Moments) -> None:
    """From now on the norm uses these statistics."""
    known = norm.given or Given()
    norm.given = dataclasses.replace(known, mean=moments.mean, var=moments.var)


def keep_places(net: nn.Module, place: Place) -> None:
    """Let every dropout draw the elements of its mask by their place in the whole picture."""
    for module in net.modules():
        if isinstance(module, NormAct) and module.dropout_p > 0:
            _keep_places(module, place)


def _keep_places(norm: NormAct, place: Place) -> None:
    shape: list[int] = []
    norm.register_forward_pre_hook(lambda _module, args: shape.__setitem__(slice(None), args[0].shape))

    def keep(p: float, rng: Tensor, stream: int) -> Tensor:
        return keep_mask(tuple(shape), p, rng, stream, place)

    norm.given = dataclasses.replace(norm.given or Given(), keep=keep)


def keep_mask(shape: tuple[int, int, int, int], p: float, rng: Tensor, stream: int, place: Place) -> Tensor:
    """The part of `ops.philox.keep_mask` of the whole picture's map that lies in a tile's map, bool (1, c, h, w).

    shape: of that map. Element e of the whole map, in NHWC order, is dropped where word e < p 2^32.
    """
    _, c, h, w = shape
    rows, columns = place.tile
    scale = (columns.behind - columns.before) // w
    width = place.size[1] // scale
    on = {"device": rng.device, "dtype": torch.int64}
    y = torch.arange(rows.before // scale, rows.before // scale + h, **on)
    x = torch.arange(columns.before // scale, columns.before // scale + w, **on)
    element = (y[:, None] * width + x) * c  # (h, w), of the first channel
    element = element[:, :, None] + torch.arange(c, **on)  # (h, w, c)
    seed, offset = rng[0], rng[1]
    quad = (element[..., ::4] if c % 4 == 0 else element) // 4  # of neighbours, or of each by itself
    counter = (quad & _WORD, quad >> 32, offset & _WORD, torch.full_like(offset, stream & _WORD))
    words = philox(counter, (seed & _WORD, (seed >> 32) & _WORD))  # (h, w, quads, 4)
    word = words.flatten(2) if c % 4 == 0 else words.gather(-1, (element % 4)[..., None])[..., 0]  # (h, w, c)
    return (word >= math.ceil(p * 2**32)).permute(2, 0, 1)[None]
